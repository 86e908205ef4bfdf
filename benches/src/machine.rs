//! What this machine can do, and what this process took of it.

use anyhow::Result;
use rayon::prelude::*;
use std::time::Instant;

/// Sets the number of threads of rayon's pool, in which our kernels compute; an error once there is such a pool. candle's
/// own pool has one thread, which `main` sees to.
pub fn set_threads(threads: usize) -> Result<()> {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    Ok(())
}

/// The default of `--threads`: one per core.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// Largest resident memory of this process so far, in bytes; `None` where the system does not tell.
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// CPU time that all threads of this process have used, in seconds; 0 where the system does not tell.
pub fn cpu_seconds() -> f64 {
    // Fields 14 and 15, counted from the process's name, in hundredths of a second.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let rest = stat.rsplit(')').next().unwrap_or_default();
    rest.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum::<f64>() / 100.
}

/// Best rate of a matrix product, in FLOP/s, over some shapes of the step that leave room for it.
pub fn gemm_peak() -> f64 {
    [(2048, 2048, 2048), (2720, 192, 768), (2720, 2048, 2048)].into_iter().map(product_rate).fold(0., f64::max)
}

fn product_rate((m, n, k): (usize, usize, usize)) -> f64 {
    let (a, b, mut c) = (vec![0.5f32; m * k], vec![0.25f32; k * n], vec![0f32; m * n]);
    let threads = rayon::current_num_threads();
    let parallelism = if threads > 1 { gemm::Parallelism::Rayon(threads) } else { gemm::Parallelism::None };
    let mut once = || {
        let start = Instant::now();
        // SAFETY: the three matrices are row-major, dense and of the stated sizes.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                c.as_mut_ptr(),
                1,
                n as isize,
                false,
                a.as_ptr(),
                1,
                k as isize,
                b.as_ptr(),
                1,
                n as isize,
                1f32,
                1f32,
                false,
                false,
                false,
                parallelism,
            )
        };
        start.elapsed().as_secs_f64()
    };
    let best = (0..12).map(|_| once()).fold(f64::INFINITY, f64::min);
    (2 * m * n * k) as f64 / best
}

/// Rate at which large arrays are copied, bytes read plus bytes written, in bytes per second.
pub fn bandwidth() -> f64 {
    const N: usize = 1 << 24;
    let (from, mut to) = (vec![1f32; N], vec![0f32; N]);
    let mut once = || {
        let start = Instant::now();
        to.par_chunks_mut(1 << 16).zip(from.par_chunks(1 << 16)).for_each(|(to, from)| to.copy_from_slice(from));
        start.elapsed().as_secs_f64()
    };
    let best = (0..8).map(|_| once()).fold(f64::INFINITY, f64::min);
    (8 * N) as f64 / best
}

/// Median of at least one value.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.
}
