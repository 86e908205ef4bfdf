//! Weight files: safetensors and `.pth`.

use crate::scratch;
use candle_core::{DType, Device, Tensor};
use selfpatch_weights as weights;
use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;
use zip::write::{SimpleFileOptions, ZipWriter};

/// Reads a weight file, and chooses the model in it.
pub fn read(bytes: &[u8]) -> bool {
    scratch::with_file("weights", bytes, |path| {
        let chosen = weights::read(path, &Device::Cpu).and_then(|found| found.select(None));
        chosen.is_ok_and(|chosen| !chosen.without_prefixes().tensors.is_empty())
    })
}

/// A file with tensors of several kinds, and one without metadata.
pub fn safetensors() -> anyhow::Result<Vec<Vec<u8>>> {
    let base = Tensor::arange(0f32, 12., &Device::Cpu)?.reshape((4, 3))?;
    let tensors = [
        ("teacher.backbone.a".to_string(), base.t()?),
        ("teacher.backbone.b".into(), base.to_dtype(DType::BF16)?),
        ("student.c".into(), base.to_dtype(DType::I64)?),
        ("student.empty".into(), Tensor::zeros((0, 3), DType::F32, &Device::Cpu)?),
        ("student.scalar".into(), Tensor::new(2.5f32, &Device::Cpu)?),
    ];
    let metadata = [("arch".to_string(), "vit_small".to_string())];
    let folder = scratch::folder()?;
    let written = |tensors: &[(String, Tensor)], metadata: &[(String, String)]| {
        let path = folder.path().join("seed.safetensors");
        weights::write_safetensors(&path, tensors, metadata)?;
        anyhow::Ok(fs::read(path)?)
    };
    Ok(vec![written(&tensors, &metadata)?, written(&tensors[..1], &[])?])
}

/// Files of `torch.save` (see `crates/weights/tests/data`), and one made here.
pub fn pth() -> anyhow::Result<Vec<Vec<u8>>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/weights/tests/data");
    let saved = ["small.pth", "flat.pth", "dino.pth", "protocol4.pth"].map(|name| fs::read(folder.join(name)));
    let mut seeds = saved.into_iter().collect::<Result<Vec<_>, _>>()?;
    let pickle = b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\n\
        X\x01\0\0\x000X\x03\0\0\0cpuK\x06tQK\0K\x02K\x03\x86K\x03K\x01\x86tRs.";
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in [("x/data.pkl", &pickle[..]), ("x/byteorder", b"little"), ("x/data/0", &[0; 24])] {
        zip.start_file(name, SimpleFileOptions::default())?;
        zip.write_all(bytes)?;
    }
    seeds.push(zip.finish()?.into_inner());
    Ok(seeds)
}
