//! Coming back to a run: by its name or folder alone, from elsewhere, with other settings, on other data.

mod common;

use common::{said, selfpatch};
use std::fs;
use std::path::Path;
use std::process::Output;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// What makes a run small; given when it begins, and never again.
const SMALL: [&str; 20] = [
    "--set=model.arch=custom",
    "--set=model.embed_dim=12",
    "--set=model.depth=1",
    "--set=model.num_heads=3",
    "--patch-size=8",
    "--set=model.image_size=48",
    "--global-crops-size=48",
    "--local-crops-size=24",
    "--local-crops-number=1",
    "--set=head.hidden_dim=16",
    "--set=head.bottleneck_dim=8",
    "--out-dim=32",
    "--out-dim-selfpatch=16",
    "--batch-size=4",
    "--epochs=2",
    "--warmup-epochs=0",
    "--lr=0.01",
    "--num-workers=1",
    "--threads=1",
    "--set=checkpoint.every_minutes=0",
];

/// 8 images in `folder`, told apart by their colours.
fn photos(folder: &Path) -> Outcome {
    fs::create_dir_all(folder)?;
    for i in 0..8 {
        photo(&folder.join(format!("{i}.png")), i * 20)?;
    }
    Ok(())
}

/// A photo without compression, so that all have one size.
fn photo(path: &Path, value: u8) -> Outcome {
    let pixels: Vec<u8> = (0..64u32 * 64).flat_map(|p| [value, (p % 64) as u8, (p / 64) as u8]).collect();
    let mut file = b"BM".to_vec();
    let size = 54 + pixels.len() as u32;
    for word in [size, 0, 54, 40, 64, 64, 1 | 24 << 16, 0, pixels.len() as u32, 2835, 2835, 0, 0] {
        file.extend(u32::to_le_bytes(word));
    }
    file.extend(pixels);
    Ok(fs::write(path, file)?)
}

/// `train` with these arguments.
fn train(folder: &Path, args: &[&str]) -> Output {
    selfpatch(folder, &[&["train"], args].concat())
}

/// A run that is cut off after some steps of its 4.
fn begun(folder: &Path, args: &[&str]) -> Outcome {
    let output = train(folder, &[&SMALL[..], args].concat());
    assert!(output.status.success(), "{args:?}: {}", said(&output));
    Ok(())
}

fn goes_on(output: &Output, step: usize) {
    let text = said(output);
    assert!(output.status.success() && text.contains(&format!("continuing after step {step}")), "{text}");
}

/// The one line with which a command is refused.
fn refused(output: &Output) -> String {
    let text = said(output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(lines.len(), 1, "{text}");
    lines[0].into()
}

fn log(run: &Path) -> String {
    let text = fs::read_to_string(run.join("log.jsonl")).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines.map(|v| format!("{} {}\n", v["step"], v["train_loss"])).collect()
}

#[test]
fn a_name_or_a_folder_alone_continues_with_the_saved_settings_from_anywhere() -> Outcome {
    let folder = tempfile::tempdir()?;
    let root = folder.path();
    photos(&root.join("photos"))?;
    begun(root, &["--data=photos", "--name=straight"])?;
    let straight = log(&root.join("runs/straight"));
    assert_eq!(straight.lines().count(), 4);
    let elsewhere = root.join("elsewhere");
    fs::create_dir(&elsewhere)?;
    let whole = root.join("runs/mine").display().to_string();
    for (from, args) in [
        (root, ["--name=mine"]),
        (root, ["--resume=runs/mine"]),
        (root, ["--resume=runs/mine/checkpoints/step-000002"]),
        (root, ["--output-dir=runs/mine/"]),
        (&*elsewhere, [&*format!("--resume={whole}")]),
        (&*elsewhere, [&*format!("--output-dir={whole}")]),
    ] {
        let _ = fs::remove_dir_all(root.join("runs/mine"));
        begun(root, &["--data=photos", "--name=mine", "--max-steps=2"])?;
        goes_on(&train(from, &args), 2);
        assert_eq!(log(&root.join("runs/mine")), straight, "{args:?}");
        let config = fs::read_to_string(root.join("runs/mine/config.toml"))?;
        assert!(config.contains("epochs = 2") && config.contains("batch_size = 4"), "{config}");
        if args[0].contains("step-") {
            continue; // by now there are checkpoints beyond it
        }
        // Once more there is nothing left to do.
        let text = said(&train(from, &args));
        assert!(text.contains("is complete"), "{args:?}: {text}");
    }
    assert!(fs::read_dir(&elsewhere)?.next().is_none(), "nothing is begun elsewhere");
    // The whole project at another place: a run whose sessions were all started there, so that its path is relative.
    let moved = tempfile::tempdir()?;
    fs::rename(root.join("runs"), moved.path().join("runs"))?;
    fs::rename(root.join("photos"), moved.path().join("photos"))?;
    let text = said(&train(moved.path(), &["--name=straight", "--epochs=3"]));
    assert!(text.contains("continuing after step 4"), "{text}");
    Ok(())
}

#[test]
fn all_spellings_of_the_data_are_one_and_only_what_differs_is_refused() -> Outcome {
    let folder = tempfile::tempdir()?;
    let root = folder.path();
    photos(&root.join("photos"))?;
    photos(&root.join("other"))?;
    photo(&root.join("other/3.png"), 7)?;
    #[cfg(unix)]
    std::os::unix::fs::symlink("photos", root.join("link"))?;
    begun(root, &["--data", "photos", "--max-steps=1"])?;
    assert!(root.join("runs/photos/checkpoints").exists(), "the name is the data's");
    let whole = root.join("photos").display().to_string();
    for (steps, data) in [(2, "photos/"), (3, "./photos"), (4, &*whole)] {
        goes_on(&train(root, &["--data", data, "--max-steps", &steps.to_string()]), steps - 1);
    }
    #[cfg(unix)]
    assert!(said(&train(root, &["--data=link"])).contains("is complete"));

    let text = refused(&train(root, &["--name=photos", "--data=other"]));
    assert!(text.contains("--data other (photos/ -> other)") || text.contains("-> other)"), "{text}");
    assert!(!text.contains("optim.") && !text.contains("model.") && text.contains("--override data.path"), "{text}");
    let text = refused(&train(root, &["--name=photos", "--lr", "1e-4", "--set", "patch_loss.k_num=3", "--seed=5"]));
    assert!(text.contains("--lr 1e-4 (0.01 -> 1e-4)"), "{text}");
    assert!(text.contains("--seed 5 (0 -> 5)") && text.contains("patch_loss.k_num: 4 -> 3"), "{text}");
    assert!(text.contains("--override optim.lr") && !text.contains("data."), "{text}");
    let text = refused(&train(root, &["--name=photos", "--global_crops_size", "56"]));
    assert_eq!(text.matches("--global_crops_size 56 (48 -> 56)").count(), 1, "{text}");
    let text = refused(&train(root, &["--name=photos", "--arch", "vit_tiny"]));
    assert!(text.contains("No --override changes that") && text.contains("--init-from"), "{text}");
    assert!(text.contains("--arch vit_tiny (custom -> vit_tiny)") && !text.contains("embed_dim"), "{text}");
    for (name, near) in [("lr", "did you mean optim.lr?"), ("optim.batchsize", "did you mean optim.batch_size?")] {
        let text = refused(&train(root, &["--name=photos", "--override", name]));
        assert!(text.contains("--override") && text.contains(near), "{text}");
    }
    Ok(())
}

#[test]
fn an_override_is_remembered() -> Outcome {
    let folder = tempfile::tempdir()?;
    let root = folder.path();
    photos(&root.join("photos"))?;
    fs::write(root.join("my.toml"), "[optim]\nlr = 0.01\n[data]\npath = \"photos\"\n")?;
    begun(root, &["--data=photos", "--name=mine", "--max-steps=1"])?;
    refused(&train(root, &["--name=mine", "--lr=1e-4"]));
    let changed = ["--name=mine", "--lr=1e-4", "--override=optim.lr", "--max-steps=2"];
    goes_on(&train(root, &changed), 1);
    // Even if that session had been killed before it saved.
    fs::remove_dir_all(root.join("runs/mine/checkpoints/step-000002"))?;
    goes_on(&train(root, &["--name=mine", "--max-steps=2"]), 1);
    assert!(fs::read_to_string(root.join("runs/mine/config.toml"))?.contains("lr = 0.0001"));
    goes_on(&train(root, &["--data=photos/", "--name=mine", "--max-steps=3"]), 2);
    // The file still says what was overridden; another value of it is a difference.
    let text = said(&train(root, &["--config=my.toml", "--name=mine"]));
    assert!(text.contains("continuing after step 3") && text.contains("as it was overridden"), "{text}");
    fs::write(root.join("my.toml"), "[optim]\nlr = 0.02\n")?;
    let text = refused(&train(root, &["--config=my.toml", "--name=mine"]));
    assert!(text.contains("optim.lr: 0.0001 -> 0.02"), "{text}");
    Ok(())
}

#[test]
fn data_of_the_same_name_is_another_run() -> Outcome {
    let folder = tempfile::tempdir()?;
    let root = folder.path();
    photos(&root.join("a/train"))?;
    photos(&root.join("b/train"))?;
    begun(root, &["--data=a/train", "--max-steps=1"])?;
    let text = refused(&train(root, &[&SMALL[..], &["--data=b/train"]].concat()));
    assert!(text.contains("runs/train") && text.contains("--name") && text.contains("a/train"), "{text}");
    goes_on(&train(root, &["--data=a/train/", "--max-steps=2"]), 1);
    begun(root, &["--data=b/train", "--name=b", "--max-steps=1"])?;
    // A run on a folder called default is not the one that plain `train` continues.
    photos(&root.join("default"))?;
    begun(root, &["--data=default", "--max-steps=1"])?;
    let text = refused(&train(root, &[]));
    assert!(text.contains("runs/default") && text.contains("--name"), "{text}");
    // What older versions called after the preset.
    fs::rename(root.join("runs/train"), root.join("runs/folder"))?;
    let text = refused(&train(root, &["--data=a/train"]));
    assert!(text.contains("--name folder continues it"), "{text}");
    goes_on(&train(root, &["--name=folder", "--max-steps=3"]), 2);
    // Overwriting keeps no settings, so it must be told the data.
    let text = refused(&train(root, &["--name=b", "--overwrite"]));
    assert!(text.contains("--data"), "{text}");
    Ok(())
}

#[test]
fn data_that_changed_is_noticed_and_data_that_was_touched_is_not() -> Outcome {
    let folder = tempfile::tempdir()?;
    let root = folder.path();
    photos(&root.join("photos"))?;
    begun(root, &["--data=photos", "--name=mine", "--max-steps=1"])?;
    let again = |args: &[&str]| train(root, &[&["--name=mine"], args].concat());
    let image = |name: &str| root.join("photos").join(name);
    // Touched, and written anew with the same bytes.
    let bytes = fs::read(image("3.png"))?;
    fs::write(image("3.png"), &bytes)?;
    goes_on(&again(&["--max-steps=2"]), 1);
    // Other bytes, as many as before.
    photo(&image("3.png"), 7)?;
    assert_eq!(fs::read(image("3.png"))?.len(), bytes.len());
    let text = refused(&again(&[]));
    assert!(text.contains("data.path: 8 images as before, but not the same (1 with other bytes: 3.png)"), "{text}");
    assert!(text.contains("--override data.path"), "{text}");
    goes_on(&again(&["--override=data.path", "--max-steps=3"]), 2);
    // Once is enough.
    let text = said(&again(&["--max-steps=3"]));
    assert!(text.contains("stopped at step 3 of 4 by --max-steps"), "{text}");
    fs::rename(image("5.png"), image("x.png"))?;
    let text = refused(&again(&[]));
    assert!(text.contains("1 new: x.png") && text.contains("1 gone: 5.png"), "{text}");
    fs::rename(image("x.png"), image("5.png"))?;
    photo(&image("9.png"), 9)?;
    let text = refused(&again(&[]));
    assert!(text.contains("8 images -> 9 images (1 new: 9.png)"), "{text}");
    fs::remove_file(image("9.png"))?;
    // A run of an older version has no list.
    fs::remove_file(root.join("runs/mine/images.tsv"))?;
    fs::remove_file(root.join("runs/mine/resume.json"))?;
    let text = said(&again(&[]));
    assert!(text.contains("continuing after step 3") && text.contains("no list of its images"), "{text}");
    Ok(())
}

#[test]
fn a_branch_keeps_its_beginning_and_its_settings() -> Outcome {
    let folder = tempfile::tempdir()?;
    let root = folder.path();
    photos(&root.join("photos"))?;
    begun(root, &["--data=photos", "--name=mine", "--max-steps=2"])?;
    let text = refused(&train(root, &["--resume=runs/mine", "--name=b", "--lr=0.02"]));
    assert!(text.contains("--lr 0.02 (0.01 -> 0.02)"), "{text}");
    assert!(!root.join("runs/b").exists(), "a refused branch leaves nothing behind");
    let branch = ["--resume=runs/mine", "--name=b", "--lr=0.02", "--override=optim.lr", "--max-steps=3"];
    goes_on(&train(root, &branch), 2);
    // As if it had been killed before its first checkpoint.
    fs::remove_dir_all(root.join("runs/b/checkpoints"))?;
    fs::remove_dir_all(root.join("runs/b/export"))?;
    goes_on(&train(root, &["--name=b", "--max-steps=3"]), 2);
    goes_on(&train(root, &["--name=b"]), 3);
    assert!(fs::read_to_string(root.join("runs/b/config.toml"))?.contains("lr = 0.02"));
    goes_on(&train(root, &["--name=mine"]), 2);
    let text = refused(&train(root, &["--resume=runs/none"]));
    assert!(text.contains("runs/none: is neither a run nor a checkpoint"), "{text}");
    Ok(())
}

/// Every file of a run with its bytes.
fn kept(run: &Path) -> Result<std::collections::BTreeMap<std::path::PathBuf, Vec<u8>>, std::io::Error> {
    let mut files = std::collections::BTreeMap::new();
    let mut folders = vec![run.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            match path.is_dir() {
                true => folders.push(path),
                false => _ = files.insert(path.clone(), fs::read(&path)?),
            }
        }
    }
    Ok(files)
}

#[test]
fn a_refused_command_changes_nothing() -> Outcome {
    let folder = tempfile::tempdir()?;
    let root = folder.path();
    photos(&root.join("photos"))?;
    begun(root, &["--data=photos", "--name=mine", "--max-steps=2"])?;
    let run = root.join("runs/mine");
    let before = kept(&run)?;
    for (change, field) in [
        ("--out-dim=64", "head.out_dim"),
        ("--set=model.depth=2", "model.depth"),
        ("--set=model.embed_dim=24", "model.embed_dim"),
        ("--lambda=0", "patch_loss.lambda"),
    ] {
        let text = refused(&train(root, &["--name=mine", change, "--override", field]));
        assert!(text.contains("another shape") && text.contains("--name"), "{text}");
        assert!(kept(&run)? == before, "{change}");
    }
    Ok(())
}

#[test]
fn several_fields_pass_at_once_and_a_complete_run_stays_as_it_is() -> Outcome {
    let folder = tempfile::tempdir()?;
    let root = folder.path();
    photos(&root.join("photos"))?;
    begun(root, &["--data=photos", "--name=mine", "--max-steps=2"])?;
    let both = ["--name=mine", "--lr=1e-3", "--seed=5", "--override=optim.lr,seed"];
    goes_on(&train(root, &both), 2);
    let run = root.join("runs/mine");
    let settings = || [fs::read(run.join("config.toml")), fs::read(run.join("resume.json"))].map(Result::ok);
    let before = settings();
    let text = said(&train(root, &["--name=mine", "--lr=0.5", "--override=optim.lr"]));
    assert!(text.contains("is complete") && text.contains("--override has changed nothing"), "{text}");
    assert!(before == settings());
    goes_on(&train(root, &["--name=mine", "--epochs=3", "--max-steps=5"]), 4);
    Ok(())
}

#[test]
fn a_run_cut_by_max_steps_is_not_called_complete() -> Outcome {
    let folder = tempfile::tempdir()?;
    let root = folder.path();
    let cut = train(root, &[&SMALL[..], &["--set=data.procedural_images=8", "--max-steps=2"]].concat());
    let expected = "stopped at step 2 of 4 by --max-steps";
    assert!(
        said(&cut).contains(expected) && said(&cut).contains("the same command without it goes on"),
        "{}",
        said(&cut)
    );
    let again = train(root, &["--max-steps=2"]);
    assert!(again.status.success() && said(&again).contains(expected), "{}", said(&again));
    assert!(!said(&again).contains("complete"), "{}", said(&again));
    let watched = said(&selfpatch(root, &["watch", "--once"]));
    assert!(watched.contains(expected) && !watched.contains("complete"), "{watched}");
    let report = fs::read_to_string(root.join("runs/default/report.html"))?;
    assert!(report.contains(expected) && !report.contains("<dd>finished"), "the report says it too");
    Ok(())
}

#[test]
fn a_name_that_no_run_has_is_told() -> Outcome {
    let folder = tempfile::tempdir()?;
    let root = folder.path();
    begun(root, &["--name=flowers", "--set=data.procedural_images=8", "--data=procedural", "--max-steps=1"])?;
    let text = refused(&train(root, &["--name=flowres", "--lr=1e-4", "--override=optim.lr"]));
    assert!(text.contains("--override") && text.contains("has no checkpoint to go on from"), "{text}");
    assert!(!root.join("runs/flowres").exists());
    let output = train(root, &[&SMALL[..], &["--name=flowres", "--set=data.procedural_images=8"]].concat());
    let text = said(&output);
    let expected = "there is no run runs/flowres yet; it begins on synthetic images";
    assert!(text.contains(expected) && text.contains("did you mean \"flowers\"?"), "{text}");
    let text = said(&train(root, &["--name=flowres"]));
    assert!(!text.contains("there is no run"), "{text}");
    Ok(())
}

#[test]
fn pictures_of_runs_below_the_data_are_no_data() -> Outcome {
    let folder = tempfile::tempdir()?;
    let root = folder.path();
    photos(root)?;
    let name = ["--data=.", "--name=mine", "--max-steps=2"];
    begun(root, &name)?;
    let inspected = selfpatch(root, &["inspect-data", "--data=."]);
    assert!(inspected.status.success() && root.join("runs/inspect-data/contact-sheet.png").exists());
    let output = train(root, &["--name=mine", "--data=."]);
    goes_on(&output, 2);
    let text = said(&output);
    assert!(text.contains("2 folders that this program wrote (runs/inspect-data, runs/mine)"), "{text}");
    assert!(text.contains("8 images per epoch"), "{text}");
    Ok(())
}

#[test]
fn data_that_is_elsewhere_now_is_the_same_if_its_images_are() -> Outcome {
    let folder = tempfile::tempdir()?;
    let root = folder.path();
    photos(&root.join("photos"))?;
    begun(root, &["--data=photos", "--name=mine", "--max-steps=1"])?;
    fs::rename(root.join("photos"), root.join("moved"))?;
    let text = refused(&train(root, &["--name=mine"]));
    assert!(
        text.contains("data.path of runs/mine: ")
            && text.contains("photos")
            && text.contains("--data NEW --override data.path"),
        "{text}"
    );
    let output = train(root, &["--name=mine", "--data=moved", "--max-steps=2"]);
    goes_on(&output, 1);
    assert!(said(&output).contains("moved has the same 8 images as photos: names and bytes"), "{}", said(&output));
    goes_on(&train(root, &["--name=mine", "--max-steps=3"]), 2);
    photos(&root.join("other"))?;
    photo(&root.join("other/3.png"), 7)?;
    let text = refused(&train(root, &["--name=mine", "--data=other"]));
    assert!(text.contains("(moved -> other)"), "{text}");
    Ok(())
}

#[test]
fn braces_and_wildcards_name_the_same_data() -> Outcome {
    let folder = tempfile::tempdir()?;
    let root = folder.path();
    photos(&root.join("s"))?;
    begun(root, &["--data=s/{0..7}.png", "--max-steps=1"])?;
    goes_on(&train(root, &["--data=s/*.png", "--max-steps=2"]), 1);
    goes_on(&train(root, &["--data=s/[0-7].png", "--max-steps=3"]), 2);
    let text = refused(&train(root, &["--data=s/{0..3}.png"]));
    assert!(text.contains("holds a run on other data"), "{text}");
    Ok(())
}
