//! Weight files of others and of ours, evaluated: what is said of them, and how their images are shown.

mod common;

use candle_core::{DType, Device};
use common::{err, selfpatch};
use selfpatch_nn::Params;
use selfpatch_vit::{Vit, VitConfig};
use selfpatch_weights as weights;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// A random backbone with patches of 8 pixels for images of 32.
fn backbone(path: &Path, channels: usize, metadata: &[(&str, &str)]) {
    let config = VitConfig { in_channels: channels, ..VitConfig::new(12, 1, 3, 8).with_image_size(32) };
    let params = Params::frozen(3);
    Vit::new(&config, params.builder(DType::F32, &Device::Cpu)).expect("a backbone");
    let metadata: Vec<_> = metadata.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    weights::write_safetensors(path, &params.tensors(), &metadata).expect("written");
}

/// Grey images of 16 bits in two classes, dark and light; a light one is far below the 16 bits' end.
fn sixteen_bits(root: &Path) {
    for (class, light) in [("dark", 300u16), ("light", 1500)] {
        fs::create_dir_all(root.join(class)).expect("made");
        for i in 0..6u16 {
            let picture: image::ImageBuffer<image::Luma<u16>, Vec<u16>> =
                image::ImageBuffer::from_fn(40, 40, |x, y| image::Luma([light + i * 7 + ((x * y) % 50) as u16]));
            picture.save(root.join(class).join(format!("{i}.png"))).expect("written");
        }
    }
}

const STATED: [(&str, &str); 7] = [
    ("num_heads", "3"),
    ("channels", "1"),
    ("range", "[0,4095]"),
    ("mean", "[0.2]"),
    ("std", "[0.1]"),
    ("image_size", "16"),
    ("patch_size", "8"),
];

#[test]
fn images_are_shown_as_the_file_states() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    sixteen_bits(&root.join("grey"));
    backbone(&root.join("w.safetensors"), 1, &STATED);
    let args = ["eval-knn", "--train", "grey", "--k", "3", "--json", "--weights", "w.safetensors"];
    let output = selfpatch(root, &args);
    assert!(output.status.success(), "{}", err(&output));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["image_size"], 16);
    assert_eq!(report["notes"], Value::Array(Vec::new()));
    let says = err(&output);
    assert!(says.contains("images by its metadata: 1 channels, values 0 to 4095, mean 0.2, deviation 0.1"), "{says}");
    // Flags win, and must fit.
    let says = err(&selfpatch(root, &[&args[..], &["--mean", "0.3", "--std", "0.2"]].concat()));
    assert!(says.contains("by --mean and --std: 1 channels, values 0 to 4095, mean 0.3"), "{says}");
    let output = selfpatch(root, &[&args[..], &["--mean", "0.3,0.3", "--std", "0.2,0.2"]].concat());
    assert!(!output.status.success() && err(&output).contains("takes 1 channels"), "{}", err(&output));
    // Nothing states it, and one channel has no usual values.
    backbone(&root.join("w.safetensors"), 1, &[("num_heads", "3")]);
    let output = selfpatch(root, &args);
    assert!(!output.status.success() && err(&output).contains("say --mean and --std"), "{}", err(&output));
    // RGB has some, which is said.
    backbone(&root.join("w.safetensors"), 3, &[("num_heads", "3")]);
    let output = selfpatch(root, &args);
    assert!(output.status.success(), "{}", err(&output));
    assert!(err(&output).contains("ImageNet's mean 0.485, 0.456, 0.406"), "{}", err(&output));
    // It is shown bytes, of which these images are white: that is counted for both sets and said once.
    let notes: Value = serde_json::from_slice::<Value>(&output.stdout).expect("JSON")["notes"].take();
    let cut = |images: usize, first: &str| {
        format!(
            "{images} of {images} images hold values of more than 8 bits (up to 16), read as bytes: grey above 255 is \
             white, colours keep their high byte; {} values were cut off (the first is {first})",
            images * 1600
        )
    };
    let both = [("--train", cut(10, "dark/0.png")), ("--train", cut(2, "dark/4.png"))];
    assert_eq!(notes, serde_json::to_value(&both).expect("JSON"));
    for (set, text) in &both {
        assert_eq!(err(&output).matches(&format!("note: {set}: {text}\n")).count(), 1, "{}", err(&output));
    }
    // Values outside of the range are cut off, too.
    backbone(&root.join("w.safetensors"), 1, &STATED.map(|(k, v)| (k, if k == "range" { "[310,4095]" } else { v })));
    let says = err(&selfpatch(root, &args));
    assert!(says.contains("note: --train: 2 of 10 images hold values outside of data.range"), "{says}");
}

#[test]
fn videos_are_shown_to_backbones_that_can_see_them() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    backbone(&root.join("five.safetensors"), 5, &[("num_heads", "3"), ("channels", "5")]);
    let output = selfpatch(root, &["eval-davis", "--weights", "five.safetensors"]);
    assert!(!output.status.success());
    assert!(err(&output).contains("5 channels") && err(&output).contains("eval-knn"), "{}", err(&output));
    // A rule of positions that there is not.
    let output = selfpatch(root, &["eval-davis", "--weights", "five.safetensors", "--positions", "cubic"]);
    assert!(!output.status.success() && err(&output).contains("dino, timm or transformers"), "{}", err(&output));
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_not_waited_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    sixteen_bits(&root.join("grey"));
    assert!(std::process::Command::new("mkfifo").arg(root.join("pipe")).status().expect("mkfifo").success());
    for args in [
        &["eval-knn", "--train", "grey", "--k", "3", "--weights", "pipe"][..],
        &["eval-davis", "--weights", "pipe"],
        &["train", "--config", "pipe"],
        &["train", "--init-from", "pipe", "--max-steps", "1"],
    ] {
        let output = selfpatch(root, args);
        assert!(!output.status.success(), "{args:?}");
        assert!(err(&output).contains("named pipe") && err(&output).contains("pipe:"), "{args:?}: {}", err(&output));
    }
}
