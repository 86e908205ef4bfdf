//! `eval-knn` on a folder of two colours: alone, during training, and what it refuses.

mod common;

use common::{TRAIN, colours, done, err, json, refused, said, selfpatch};
use serde_json::Value;
use std::fs;

/// Measures the teacher by the two colours after each of two epochs.
const MEASURED: [&str; 9] = [
    "--epochs=2",
    "--set",
    "eval.knn.every=1",
    "--set",
    "eval.knn.train=colours/train",
    "--set",
    "eval.knn.val=colours/val",
    "--set",
    "eval.knn.k=5",
];

#[test]
fn two_colours_are_told_apart_during_training_and_after() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    colours(&root.join("colours/train"), 8, &["blue", "red"]);
    colours(&root.join("colours/val"), 3, &["red", "blue"]);
    let deep = image::open(root.join("colours/val/blue/2.png")).expect("a picture").to_rgba16();
    deep.save(root.join("colours/val/blue/2.png")).expect("written");
    let output = done(root, &[&TRAIN[..], &MEASURED].concat());
    // Measured twice, said once.
    let note = "note: eval.knn.val: 1 of 6 images have samples that RGB leaves out (alpha, or further bands; up to 1 per \
                pixel) (the first is blue/2.png)";
    assert_eq!(said(&output).matches(note).count(), 1, "{}", said(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("k-NN top-1 100.00"), "{}", err(&output));
    let log = fs::read_to_string(root.join("runs/default/log.jsonl")).expect("a log");
    let measured: Vec<f64> =
        log.lines().filter_map(|l| serde_json::from_str::<Value>(l).expect("JSON")["knn_top1"].as_f64()).collect();
    assert_eq!(measured, [1., 1.]);

    let output = done(root, &["eval-knn", "--data_path", "colours", "--nb_knn", "5", "16", "--json"]);
    let report = json(&output);
    assert_eq!(report["feature"], "class token after class attention");
    assert_eq!([&report["classes"], &report["train_images"], &report["val_images"]], [2, 16, 6]);
    assert_eq!([&report["image_size"], &report["scores"][1]["k"]], [48, 16]);
    assert_eq!(report["scores"][0]["top1"], 1.);
    assert_eq!(report["scores"][0]["top5"], 1.);
    let random = report["random_initialisation"].as_array().expect("a list");
    assert!(random.len() == 2 && random.iter().all(|s| s["top1"].is_number()), "{report}");
    assert_eq!(
        [&report["data"]["train"], &report["protocol"]["image_size"]],
        [&Value::from("colours/train"), &48.into()]
    );
    assert!(report["weights"]["file"].as_str().is_some_and(|f| f.ends_with("export/backbone.safetensors")), "{report}");
    assert!(report["date"].is_string() && report["version"].is_string(), "{report}");

    // A lone backbone has no class token; every fifth image is left to classify.
    let args = ["eval-knn", "--train", "colours/train", "--k=3", "--json", "--weights"];
    let report = json(&done(root, &[&args[..], &["runs/default/export/backbone.safetensors"]].concat()));
    assert!(report["feature"].as_str().is_some_and(|f| f.starts_with("mean of the patch tokens")), "{report}");
    assert_eq!([&report["train_images"], &report["val_images"]], [13, 3]);
    assert_eq!(report["scores"][0]["top1"], 1.);
    // A whole network has its class attention with it.
    let teacher = "runs/default/checkpoints/step-000004/teacher.safetensors";
    let report = json(&done(root, &[&args[..], &[teacher]].concat()));
    assert_eq!(report["feature"], "class token after class attention");

    // Broken images are named, the others classified.
    fs::write(root.join("colours/val/red/1.png"), "no image").expect("written");
    let output = selfpatch(root, &["eval-knn", "--data-path=colours"]);
    assert!(!output.status.success());
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table.contains("   10  100.00  100.00"), "{table}");
    assert!(!table.contains("  20 "), "{table}"); // there are 16 images
    assert!(table.contains("  trained teacher\n") && table.contains("  random initialisation\n"), "{table}");
    assert!(table.contains("\ndata: train colours/train") && table.contains("\nprogram: selfpatch "), "{table}");
    assert!(err(&output).contains("skipped red/1.png: "), "{}", err(&output));
}

#[test]
fn what_cannot_be_classified_is_refused_before_anything_is_done() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    colours(&root.join("train"), 3, &["red"]);
    colours(&root.join("val"), 1, &["red", "blue"]);
    let says = refused(root, &["eval-knn", "--train=train", "--val=val"]);
    assert!(says.contains("--val: no training image is of class \"blue\""), "{says}");
    let says = refused(root, &["eval-knn", "--train=train", "--val=train", "--k", "9"]);
    assert!(says.contains("--nb-knn: 9 neighbours cannot be chosen from 3"), "{says}");
    assert!(refused(root, &["eval-knn", "--train=train", "--val=train"]).contains("say --nb-knn"));
    let says = refused(root, &["eval-knn", "--train=train/red", "--val=val", "--k=1"]);
    assert!(says.contains("--train: no image has a class"), "{says}");
    assert!(refused(root, &["eval-knn"]).contains("--train"));

    fs::create_dir(root.join("broken")).expect("made");
    fs::create_dir(root.join("broken/red")).expect("made");
    fs::write(root.join("broken/red/1.png"), "no image").expect("written");
    done(root, &[&TRAIN[..], &["--epochs=1", "--output-dir=run"]].concat());
    for (flag, sources) in
        [("--val", ["--train=train", "--val=broken"]), ("--train", ["--train=broken", "--val=train"])]
    {
        let says = refused(root, &[&["eval-knn", "--run=run", "--k=1"][..], &sources].concat());
        assert!(says.contains(&format!("{flag}: no image can be read; red/1.png: ")), "{says}");
    }

    let train = |set: &[&str]| {
        let all: Vec<&str> = set.iter().flat_map(|s| ["--set", s]).collect();
        refused(root, &[&["train"][..], &all].concat())
    };
    assert!(train(&["eval.knn.every=1"]).contains("eval.knn.train: "));
    assert!(train(&["eval.knn.every=1", "eval.knn.train=nothing"]).contains("eval.knn.train: cannot access nothing"));
    let says = train(&["eval.knn.every=1", "eval.knn.train=train", "eval.knn.val=train"]);
    assert!(says.contains("eval.knn.k: 20 neighbours cannot be chosen from 3"), "{says}");
    assert!(!root.join("runs").exists());
}
