//! The program as its user meets it: the main job end to end, and what it says to mistakes.

mod common;

use common::selfpatch;

/// A few steps of a small network on the synthetic world.
const SMALL: [&str; 14] = [
    "train",
    "--set",
    "data.procedural_images=32",
    "--set",
    "model.embed_dim=24",
    "--set",
    "model.depth=1",
    "--set",
    "head.hidden_dim=16",
    "--out_dim",
    "32",
    "--out_dim_selfpatch=16",
    "--batch_size_per_gpu",
    "8",
];

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn train_then_eval_davis() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let trained = selfpatch(folder.path(), &SMALL);
    assert!(trained.status.success(), "{}", text(&trained.stderr));
    let lines = text(&trained.stdout);
    assert!(lines.contains("100 %  left 0:00") && lines.contains("images/s"), "{lines}");

    let again = selfpatch(folder.path(), &SMALL);
    assert!(again.status.success() && text(&again.stdout).contains("is complete"), "{}", text(&again.stdout));

    let quick = ["eval-davis", "--grid", "8", "--n_last_frames", "2", "--size_mask_neighborhood", "4"];
    let table = selfpatch(folder.path(), &quick);
    let rows = text(&table.stdout);
    assert!(table.status.success(), "{}", text(&table.stderr));
    let rest = [
        "data: source synthetic",
        "grid 8",
        "protocol: short side 64",
        "weights: file runs/default/",
        "date: ",
        "program: selfpatch ",
    ];
    for row in ["trained teacher", "random initialisation", "first mask copied"].into_iter().chain(rest) {
        assert!(rows.contains(row), "{row}: {rows}");
    }

    // A weight file has the same rows, in the table and in the JSON.
    let weights = [&quick[..], &["--weights", "runs/default/export/backbone.safetensors"]].concat();
    let rows = text(&selfpatch(folder.path(), &weights).stdout);
    assert!(["random initialisation", "first mask copied", "scene-11"].iter().all(|row| rows.contains(row)), "{rows}");
    let json = selfpatch(folder.path(), &[&weights[..], &["--json"]].concat());
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).expect("one JSON object");
    for row in [&report, &report["random_initialisation"], &report["first_mask_copied"]] {
        for key in ["JF", "J", "JR", "JD", "F", "FR", "FD"] {
            assert!(row["global"][key].is_number(), "{report}");
        }
        assert_eq!(row["sequences"].as_object().map(|s| s.len()), Some(12));
    }
    assert_eq!(
        [&report["data"]["grid"], &report["protocol"]["short_side"], &report["weights"]["patch_size"]],
        [8, 64, 8]
    );
    assert!(report["date"].as_str().is_some_and(|d| d.ends_with("UTC")) && report["version"].is_string(), "{report}");

    // Several runs: one row of random values for those that share them, and a report each.
    let again = selfpatch(folder.path(), &[&SMALL[..], &["--name=b", "--lambda=0"]].concat());
    assert!(again.status.success(), "{}", text(&again.stderr));
    let both = [&quick[..], &["--run", "runs/b", "runs/default"]].concat();
    let rows = text(&selfpatch(folder.path(), &both).stdout);
    assert_eq!(rows.matches("random initialisation").count(), 1, "{rows}");
    let json = selfpatch(folder.path(), &[&both[..], &["--json"]].concat());
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).expect("one JSON object");
    let first = &report["runs/b: trained teacher"];
    assert!(
        first["global"]["JF"].is_number() && first["random_initialisation"]["global"]["JF"].is_number(),
        "{report}"
    );
}

/// The same number of tokens whatever the patches; the size can be said in pixels, but not twice.
#[test]
fn synthetic_videos_follow_the_patches() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sixteen = [
        "--set",
        "model.patch_size=16",
        "--set",
        "model.image_size=48",
        "--set",
        "crops.locals.size=48",
        "--max-steps=1",
    ];
    let trained = selfpatch(folder.path(), &[&SMALL[..], &sixteen].concat());
    assert!(trained.status.success(), "{}", text(&trained.stderr));
    let eval = |args: &[&str]| {
        selfpatch(
            folder.path(),
            &[&["eval-davis", "--json", "--n_last_frames=1", "--size_mask_neighborhood=2"], args].concat(),
        )
    };
    let report: serde_json::Value = serde_json::from_slice(&eval(&["--grid", "12"]).stdout).expect("JSON");
    assert_eq!([&report["data"]["grid"], &report["protocol"]["short_side"]], [12, 192]);
    let pixels: serde_json::Value = serde_json::from_slice(&eval(&["--scale-size", "192"]).stdout).expect("JSON");
    assert_eq!(pixels["global"], report["global"]);
    for wrong in [
        &["--grid", "7"][..],
        &["--grid", "65"],
        &["--grid", "16", "--scale-size", "9"],
        &["--grid=16", "--data-path=."],
    ] {
        let output = eval(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {output:?}");
    }
    let refused = selfpatch(folder.path(), &["train", "--set", "eval.davis.grid=5"]);
    assert!(text(&refused.stderr).contains("eval.davis.grid: must be at least 8, is 5"), "{refused:?}");
}

#[test]
fn memory_saving_flags_reach_the_run() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let saving = [&SMALL[..], &["--accumulate", "3", "--recompute", "--max-steps", "2"]].concat();
    let trained = selfpatch(folder.path(), &saving);
    assert!(trained.status.success(), "{}", text(&trained.stderr));
    let first = text(&trained.stdout);
    assert!(first.contains(" k parameters, about ") && first.contains(" MB of memory"), "{first}");
    let config = std::fs::read_to_string(folder.path().join("runs/default/config.toml")).expect("the configuration");
    assert!(config.contains("accumulate = 3") && config.contains("recompute = true"), "{config}");
    let refused = selfpatch(folder.path(), &["train", "--accumulate", "64", "--name", "other"]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("optim.accumulate"), "{refused:?}");
}

#[test]
fn mistakes_get_one_clear_line() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    std::fs::create_dir(root.join("empty")).expect("made");
    std::fs::create_dir(root.join("broken")).expect("made");
    std::fs::write(root.join("broken/a.jpg"), b"\xff\xd8\xff\xe0 not a picture").expect("written");
    std::fs::write(root.join("w.pth"), b"PK not an archive").expect("written");
    std::fs::write(root.join("my.toml"), "[optim]\nepoch = 3\n").expect("written");
    std::fs::create_dir_all(root.join("thesis")).expect("made");
    std::fs::write(root.join("thesis/config.toml"), "x = 1").expect("written");
    let cases: [(&[&str], &str); 19] = [
        (&["train", "--set", "model.arch=vit_smal"], "did you mean \"vit_small\"?"),
        (&["train", "--data-path", "absent"], "absent"),
        (&["train", "--data-path", "empty"], "no images"),
        (&["train", "--data-path", "broken", "--batch-size", "1", "--output-dir", "b"], "a.jpg: the JPEG is truncated"),
        (&["train", "--k-num", "9"], "patch_loss.k_num"),
        (&["train", "--window", "4"], "patch_loss.window"),
        (&["train", "--local-crops-size", "25"], "crops.locals.size"),
        (&["train", "--set", "model.num_heads=5"], "num_heads"),
        (&["train", "--config", "my.toml"], "did you mean \"epochs\"?"),
        (&["train", "--config", "none.toml"], "none.toml"),
        (&["train", "--set", "optim.lrr=1"], "did you mean \"lr\"?"),
        (&["train", "--output-dir", "/proc/none"], "/proc/none"),
        (&["train", "--output-dir", "thesis", "--overwrite"], "thesis/config.toml"),
        (&["train", "--threads", "0"], "--threads"),
        (&["eval-davis"], "cargo xtask train"),
        (&["eval-davis", "--run", "empty"], "empty"),
        (&["eval-davis", "--weights", "w.pth"], "w.pth"),
        (&["eval-davis", "--data-path", "absent", "--weights", "w.pth"], "absent"),
        (&["parity", "--fixtures", "empty"], "no fixtures"),
    ];
    for (args, expected) in cases {
        let output = selfpatch(root, args);
        let error = text(&output.stderr);
        let line = error.lines().find(|l| l.starts_with("error: ")).unwrap_or_default();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {error}");
        assert!(line.contains(expected), "{args:?}: {error}");
        assert!(!error.contains("panicked") && !error.contains("   0: "), "{args:?}: {error}");
    }
    assert!(root.join("thesis/config.toml").exists());
    assert!(!root.join("runs").exists(), "a refused command must leave nothing behind");
}

#[test]
fn unknown_flags_get_the_nearest_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = selfpatch(folder.path(), &["train", "--pach_size", "8"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--patch-size"));
}

#[test]
fn a_wrong_choice_gets_the_nearest_one_and_all_of_them_in_one_line() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (args, expected) in [
        (
            ["train", "--preset", "papers"],
            "--preset: there is no \"papers\"; did you mean \"paper\"? Valid are default, paper, folder, multichannel",
        ),
        (
            ["train", "--arch", "vit_smal"],
            "--arch: there is no \"vit_smal\"; did you mean \"vit_small\"? Valid are vit_tiny, vit_small, vit_base, custom",
        ),
        (["train", "--optimizer", "xyz"], "--optimizer: there is no \"xyz\"; valid are adamw, sgd, lars"),
    ] {
        let output = selfpatch(folder.path(), &args);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(2), format!("error: {expected}\n")), "{args:?}");
    }
}

#[test]
fn settings_of_an_older_version_are_read_with_a_note() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    let older = concat!(env!("CARGO_MANIFEST_DIR"), "/../train/tests/older-run/config.toml");
    std::fs::copy(older, root.join("old.toml")).expect("copied");
    let note = |file: &str| format!("note: {file}: [image_loss] is now [objective]\n");
    let printed =
        selfpatch(root, &["train", "--config", "old.toml", "--set", "image_loss.teacher_temp=0.06", "--print-config"]);
    let (said, shown) = (text(&printed.stderr), text(&printed.stdout));
    assert!(said.contains(&note("old.toml")), "{said}");
    assert!(said.contains("note: image_loss.teacher_temp is now objective.teacher_temp\n"), "{said}");
    assert!(shown.contains("[objective]\nkind = \"dino\"\n") && shown.contains("\nteacher_temp = 0.06\n"), "{shown}");
    assert!(!shown.contains("image_loss"), "{shown}");
    // A run that never came to a checkpoint.
    std::fs::create_dir_all(root.join("runs/old")).expect("made");
    std::fs::copy(older, root.join("runs/old/config.toml")).expect("copied");
    let again = selfpatch(root, &["train", "--name", "old", "--print-config"]);
    assert!(again.status.success() && text(&again.stderr).contains(&note("runs/old/config.toml")), "{again:?}");
}
