//! Compiles the CUDA kernels beside the ops, if they are asked for.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "cuda")]
    if let Err(e) = kernels() {
        println!("cargo::error=the CUDA kernels do not compile: {e}");
    }
}

/// `src/**/*.cu` to PTX, for the compute capability in CUDA_COMPUTE_CAP.
#[cfg(feature = "cuda")]
fn kernels() -> cudaforge::Result<()> {
    println!("cargo:rerun-if-changed=src"); // a new kernel, too
    cudaforge::KernelBuilder::new()
        .source_dir("src")
        .watch(["src/cuda/common.cuh", "src/cuda/mma.cuh", "src/ops/attention/sequence.cuh"])
        .include_path("src/cuda")
        .arg("-std=c++17")
        .arg("-O3")
        .build_ptx()?;
    Ok(())
}
