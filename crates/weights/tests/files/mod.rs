//! Weight files to read: those beside the tests, and crafted ones.
#![allow(dead_code)] // each test program uses some of it

use candle_core::{DType, Device, Tensor};
use selfpatch_weights::{self as weights, Weights, WeightsError};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use zip::write::SimpleFileOptions;

pub type Outcome = Result<(), Box<dyn std::error::Error>>;

/// A file that came with the tests.
pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// A file of these tests alone.
pub fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", env!("CARGO_CRATE_NAME")))
}

/// Everything in a weight file.
pub fn read(path: &Path) -> Result<Weights, WeightsError> {
    weights::read(path, &Device::Cpu)
}

/// The error of something that has to fail, in words.
pub fn refusal<T>(outcome: Result<T, WeightsError>) -> String {
    match outcome {
        Ok(_) => "accepted".into(),
        Err(e) => e.to_string(),
    }
}

/// The values of a tensor.
pub fn f32s(found: &Weights, name: &str) -> candle_core::Result<Vec<f32>> {
    let tensor = found.tensors.get(name);
    let tensor = tensor.ok_or_else(|| candle_core::Error::Msg(format!("{name} is missing")))?;
    tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}

/// All tensors by name, with their shapes.
pub fn shapes(found: &Weights) -> Vec<(String, Vec<usize>)> {
    let shape = |(name, tensor): (&String, &Tensor)| (name.clone(), tensor.dims().to_vec());
    found.tensors.iter().map(shape).collect()
}

/// Comparable contents: dtype, shape and values (which are exact in f64).
pub fn contents(found: &Weights) -> candle_core::Result<Vec<(String, String, Vec<f64>)>> {
    let mut all = Vec::new();
    for (name, tensor) in &found.tensors {
        let kind = format!("{:?} {:?}", tensor.dtype(), tensor.dims());
        let values = tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
        all.push((name.clone(), kind, values));
    }
    Ok(all)
}

/// A `.pth` around a hand-written pickle, with storage `0` of 16 bytes.
pub fn craft(name: &str, pickle: &[u8]) -> Result<PathBuf, Box<dyn std::error::Error>> {
    craft_entries(name, &[("x/data.pkl", pickle), ("x/data/0", &[0; 16])])
}

/// An archive that holds `entries`.
pub fn craft_entries(name: &str, entries: &[(&str, &[u8])]) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let path = scratch(name);
    let mut zip = zip::ZipWriter::new(fs::File::create(&path)?);
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (entry, bytes) in entries {
        zip.start_file(*entry, stored)?;
        zip.write_all(bytes)?;
    }
    zip.finish()?;
    Ok(path)
}

/// `{"w": _rebuild_tensor_v2(storage 0 of floats, *rest)}`, where `rest` is given as pickle.
pub fn one_tensor(rest: &[u8]) -> Vec<u8> {
    [
        b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storage".as_slice(),
        b"ctorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQ",
        rest,
        b"tRs.",
    ]
    .concat()
}

/// A few tensors of every dtype.
pub fn sample() -> candle_core::Result<Vec<(String, Tensor)>> {
    let base = Tensor::arange(0f32, 12., &Device::Cpu)?.reshape((4, 3))?;
    Ok(vec![
        ("teacher.b".into(), base.t()?),
        ("teacher.a".into(), base.narrow(0, 1, 2)?),
        ("student.a\"\\\n\u{1}é".into(), base.to_dtype(DType::F16)?),
        ("student.b".into(), base.to_dtype(DType::BF16)?),
        ("student.c".into(), base.to_dtype(DType::F64)?),
        ("student.d".into(), base.to_dtype(DType::I64)?),
        ("student.e".into(), base.to_dtype(DType::U8)?),
        ("student.f".into(), base.to_dtype(DType::U32)?),
        ("student.scalar".into(), Tensor::new(2.5f32, &Device::Cpu)?),
        ("student.empty".into(), Tensor::zeros((0, 3), DType::F32, &Device::Cpu)?),
    ])
}
