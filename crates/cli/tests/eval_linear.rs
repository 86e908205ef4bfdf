//! `eval-linear` on a folder of two colours: what it measures, that it goes on where it stopped, and what it refuses.

mod common;

use common::{TRAIN, colours, done, err, json, out, refused, said, selfpatch};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// 3 steps per epoch.
const PROBE: [&str; 5] = ["eval-linear", "--data-path", "colours", "--batch-size", "8"];

/// A folder with a run `runs/default` and 20 images to learn from and 6 to be judged by in `colours`.
fn begun() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    colours(&root.join("colours/train"), 10, &["blue", "red"]);
    colours(&root.join("colours/val"), 3, &["red", "blue"]);
    done(root, &[&TRAIN[..], &["--epochs=1"]].concat());
    folder
}

fn probe<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&PROBE[..], more].concat()
}

/// Every file below a folder, by its name.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        match entry.path() {
            path if path.is_dir() => all.extend(files(&path)),
            path => drop(all.insert(path.clone(), fs::read(path).expect("read"))),
        }
    }
    all
}

/// The log without what depends on the clock.
fn numbers(run: &Path) -> Vec<BTreeMap<String, Value>> {
    let log = fs::read_to_string(run.join("log.jsonl")).expect("a log");
    let names =
        ["step", "train_loss", "random_loss", "train_lr", "top1", "top5", "rate", "held_out_top1", "random_top1"];
    let line = |text: &str| serde_json::from_str::<BTreeMap<String, Value>>(text).expect("JSON");
    log.lines().map(|text| line(text).into_iter().filter(|(name, _)| names.contains(&&**name)).collect()).collect()
}

#[test]
fn two_colours_are_told_apart_by_a_linear_classifier() {
    let folder = begun();
    let root = folder.path();
    let report = json(&done(root, &probe(&["--epochs=4", "--json"])));
    assert_eq!(report["feature"], "class token after class attention");
    assert_eq!([&report["classes"], &report["train_images"], &report["val_images"]], [2, 20, 6]);
    assert_eq!([&report["skipped"], &report["protocol"]["epochs"]], [0, 4]);
    let scores = &report["scores"];
    assert_eq!([&scores["top1"], &scores["top5"], &scores["held_out_top1"]], [1., 1., 1.], "{report}");
    assert!(scores["rate"].is_number() && report["random_initialisation"]["top1"].is_number(), "{report}");
    assert_eq!([&report["run"], &report["data"]["train"]], ["runs/linear-default", "colours/train"]);
    assert!(report["weights"]["file"].as_str().is_some_and(|f| f.ends_with("export/backbone.safetensors")), "{report}");
    assert!(report["protocol"]["max_steps"].is_null() && report["date"].is_string(), "{report}");

    let run = root.join("runs/linear-default");
    assert!(run.join("report.html").is_file() && run.join("features/random-val.safetensors").is_file());
    assert_eq!(numbers(&run).len(), 12);
    let device = candle_core::Device::Cpu;
    let classifier = selfpatch_weights::read(&run.join("export/linear.safetensors"), &device).expect("an export");
    let shapes: Vec<_> = classifier.tensors.iter().map(|(name, t)| (&**name, t.dims().to_vec())).collect();
    assert_eq!(shapes, [("bias", vec![2]), ("weight", vec![2, 24])]);
    assert_eq!(classifier.metadata.get("classes").map(String::as_str), Some("blue\nred"));

    // The same command again finds it done, and leaves every number as it is.
    let before = numbers(&run);
    let again = json(&done(root, &probe(&["--epochs=4", "--json"])));
    assert_eq!([&again["scores"], &again["random_initialisation"]], [scores, &report["random_initialisation"]]);
    assert_eq!(numbers(&run), before);
    let screen = out(&done(root, &["watch", "runs/linear-default", "--once"]));
    assert!(screen.contains("step 12 of 12") && !screen.contains("non-finite"), "{screen}");

    // A bare backbone: what DINO's probe sees of it, the last blocks side by side.
    let backbone = "runs/default/export/backbone.safetensors";
    let table = out(&done(root, &probe(&["--epochs=1", "--weights", backbone])));
    assert!(table.contains("feature: means of the patch tokens of the last 2 blocks, at 48 pixels"), "{table}");
    assert!(table.contains("6 images judged by classifiers that learnt from 20 of 2 classes"), "{table}");
    assert!(table.contains("  weights\n") && table.contains("  random initialisation\n"), "{table}");
    assert!(table.contains("\nreport: runs/linear-backbone/report.html"), "{table}");
}

/// A probe that is cut by `--max-steps`, in the middle of an epoch, and continued ends as one that is not.
fn resumes(flags: &[&str]) {
    let folder = begun();
    let root = folder.path();
    let with = |more: &[&'static str]| [&probe(&["--epochs=3"])[..], flags, more].concat();
    done(root, &with(&["--name=whole"]));
    let cut = done(root, &with(&["--name=parts", "--max-steps=4"]));
    assert!(said(&cut).contains("note: 4 of 9 steps are done"), "{}", said(&cut));
    assert!(said(&cut).contains(", max steps 4"), "{}", said(&cut));
    let rest = done(root, &with(&["--name=parts"]));
    assert!(said(&rest).contains("continuing after step 4"), "{}", said(&rest));
    let [whole, parts] = ["whole", "parts"].map(|name| root.join("runs").join(name));
    let last = |run: &Path| files(&run.join("checkpoints/step-000009"));
    let tensors = |run: &Path| -> Vec<Vec<u8>> {
        let is_tensors = |path: &Path| path.extension().is_some_and(|end| end == "safetensors");
        last(run).into_iter().filter(|(path, _)| is_tensors(path)).map(|(_, bytes)| bytes).collect()
    };
    assert_eq!(tensors(&whole).len(), 2);
    assert!(tensors(&whole) == tensors(&parts), "classifiers differ");
    assert_eq!(files(&whole.join("export")).into_values().next(), files(&parts.join("export")).into_values().next());
    // The end of the first session was measured too.
    let unmeasured = |mut all: Vec<BTreeMap<String, Value>>| {
        all[3].retain(|name, _| ["step", "train_loss", "random_loss", "train_lr"].contains(&&**name));
        all
    };
    assert_eq!(unmeasured(numbers(&whole)), unmeasured(numbers(&parts)));
}

#[test]
fn a_probe_goes_on_as_if_it_had_not_been_stopped() {
    resumes(&["--lr", "0.03", "0.1"]);
}

#[test]
fn a_probe_on_random_views_goes_on_as_if_it_had_not_been_stopped() {
    resumes(&["--augment", "--num-workers=2"]);
}

#[test]
fn a_probe_of_other_settings_is_refused_until_it_is_discarded() {
    let folder = begun();
    let root = folder.path();
    done(root, &probe(&["--epochs=2"]));
    for (flags, place) in [
        (&["--seed=3"][..], "seed: 0 -> 3"),
        (&["--lr=0.1"][..], "optim.rates: "),
        (&["--augment"][..], "optim.rates: [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1] -> [0.001]"),
        (&["--image-size=24"][..], "model.image_size: 48 -> 24"),
    ] {
        let says = refused(root, &[&probe(&["--epochs=2"])[..], flags].concat());
        let is_whole = says.contains("runs/linear-default holds a probe with other settings: ") && says.contains(place);
        // Not a flag of this command.
        assert!(is_whole && says.contains("--overwrite") && !says.contains("--override"), "{says}");
    }
    let random_views = done(root, &probe(&["--epochs=2", "--augment", "--overwrite"]));
    assert!(out(&random_views).contains("augment true"), "{}", said(&random_views));
    let run = root.join("runs/linear-default");
    assert!(!run.join("features/train.safetensors").exists(), "a random view is not kept");
    // Longer than before: it goes on.
    let longer = done(root, &probe(&["--epochs=3", "--augment"]));
    assert!(said(&longer).contains("continuing after step 6"), "{}", said(&longer));
    // Of a run that was trained on, the probe is another one.
    done(root, &[&TRAIN[..], &["--epochs=2"]].concat());
    let says = refused(root, &probe(&["--epochs=3", "--augment"]));
    assert!(says.contains("model.digest: "), "{says}");
}

#[test]
fn an_image_that_cannot_be_read_is_named_by_every_session() {
    let folder = begun();
    let root = folder.path();
    fs::write(root.join("colours/val/red/1.png"), "no image").expect("written");
    for session in ["makes features", "finds them", "is complete"] {
        let steps = if session == "makes features" { "--max-steps=2" } else { "--max-steps=3" };
        let output = selfpatch(root, &probe(&["--epochs=1", "--json", steps]));
        assert_eq!(output.status.code(), Some(1), "{session}: {}", said(&output));
        assert!(err(&output).contains("error: skipped red/1.png: "), "{session}: {}", err(&output));
        let report = json(&output);
        assert!(report["skipped"] == 1 && report["scores"]["top1"].is_number(), "{session}: {report}");
    }
}

#[test]
fn what_is_wrong_does_not_mix_with_the_one_object() {
    let folder = begun();
    let root = folder.path();
    colours(&root.join("colours/train"), 60, &["blue", "red"]);
    // A broken image among the random views, and a file that a folder of images does not read.
    fs::write(root.join("colours/train/red/1.png"), "no image").expect("written");
    fs::write(root.join("colours/train/more.tar"), "").expect("written");
    let output = selfpatch(root, &probe(&["--epochs=1", "--augment", "--json"]));
    let says = err(&output);
    assert!(json(&output)["scores"]["top1"].is_number());
    assert!(says.contains("skipped red/1.png: ") && says.contains("more.tar"), "{says}");
    assert!(!says.contains("images/s"), "{says}");
}

#[test]
fn images_none_of_which_can_be_read_are_refused_by_name() {
    let folder = begun();
    let root = folder.path();
    for colour in ["blue", "red"] {
        fs::create_dir_all(root.join("broken").join(colour)).expect("made");
        fs::write(root.join("broken").join(colour).join("1.png"), "no image").expect("written");
    }
    let says = refused(root, &["eval-linear", "--train=colours/train", "--val=broken", "--epochs=1"]);
    assert!(says.contains("data: no image can be read; blue/1.png: "), "{says}");
}

#[test]
fn a_run_that_exported_no_class_attention_is_read_from_its_checkpoint() {
    let folder = begun();
    let root = folder.path();
    let measured = |command: &[&str]| {
        let output = done(root, &[command, &["--data-path=colours", "--json"]].concat());
        (err(&output), json(&output))
    };
    let commands = [&["eval-knn", "--k=5"][..], &["eval-linear", "--epochs=1", "--overwrite"]];
    let before = commands.map(measured);
    fs::remove_file(root.join("runs/default/export/class_attention.safetensors")).expect("removed");
    for ((_, before), (says, after)) in before.iter().zip(commands.map(measured)) {
        let note = "note: runs/default: of an older version; its class attention is that of \
                    runs/default/checkpoints/step-000002/teacher.safetensors";
        assert!(says.contains(note), "{says}");
        assert_eq!([&after["feature"], &after["scores"]], [&before["feature"], &before["scores"]]);
        assert_eq!(after["feature"], "class token after class attention");
    }
    fs::remove_dir_all(root.join("runs/default/checkpoints")).expect("removed");
    let says = refused(root, &["eval-knn", "--k=5", "--data-path=colours", "--run=runs/default"]);
    assert!(says.contains("neither class_attention.safetensors nor a checkpoint"), "{says}");
    assert!(says.contains("say --weights runs/default/export/backbone.safetensors"), "{says}");
}

#[test]
fn what_cannot_be_probed_is_refused_before_anything_is_done() {
    let folder = begun();
    let root = folder.path();
    let says = |more: &[&str]| refused(root, &[&["eval-linear"][..], more].concat());
    assert!(says(&[]).contains("--train"));
    let blue = says(&["--train=colours/train/blue"]);
    assert!(blue.contains("--train: no image has a class"), "{blue}");
    colours(&root.join("alone"), 8, &["red"]);
    assert!(says(&["--train=alone"]).contains("--train: has images of 1 class alone"));
    colours(&root.join("few"), 2, &["red", "blue"]);
    assert!(says(&["--train=few"]).contains("--train: has too few images to classify every fifth of them"));
    let other = says(&["--train=alone", "--val=colours/val"]);
    assert!(other.contains("--val: no training image is of class \"blue\""), "{other}");
    let more = |flags: &[&str]| refused(root, &probe(flags));
    assert!(more(&["--image-size=50"]).contains("--image-size: 50 pixels cannot be cut into patches of 8"));
    assert!(more(&["--lr", "0.1", "0.1"]).contains("optim.rates: holds a rate twice"));
    assert!(more(&["--run=nothing"]).contains("nothing: not a run"));
    assert!(more(&["--weights=nothing.pth"]).contains("nothing.pth: cannot open"));
    fs::create_dir(root.join("mine")).expect("made");
    fs::write(root.join("mine/letter.txt"), "dear").expect("written");
    assert!(more(&["--output-dir=mine"]).contains("mine: is not empty and holds no run"));
    let training = more(&["--output-dir=runs/default", "--overwrite"]);
    assert!(training.contains("runs/default/config.toml: is not the configuration of a linear probe"), "{training}");
    let names: Vec<_> = fs::read_dir(root.join("runs")).expect("runs").flatten().map(|e| e.file_name()).collect();
    assert_eq!(names, ["default"]);
}
