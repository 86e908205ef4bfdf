//! `eval-davis` on folders: what it writes, and what it says to broken sequences.

mod common;

use common::{TRAIN, done, err, out, said, selfpatch};
use selfpatch_datasets::{Mask, ProceduralVideos, VideoSource, decode_mask, write_mask};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Two synthetic videos of six frames in DAVIS's layout, called a and b.
fn davis(root: &Path) {
    let videos = ProceduralVideos::new(3, 2, 6, 64);
    for (name, own) in ["a", "b"].iter().zip(videos.sequences()) {
        let (frames, masks) = (root.join("JPEGImages/480p").join(name), root.join("Annotations/480p").join(name));
        fs::create_dir_all(&frames).expect("made");
        fs::create_dir_all(&masks).expect("made");
        for i in 0..6 {
            let frame = videos.frame(&own, i).expect("a frame");
            let picture = image::RgbImage::from_raw(64, 64, frame.pixels).expect("whole");
            picture.save(frames.join(format!("{i:05}.png"))).expect("written");
            let mask = videos.mask(&own, i).expect("read").expect("a mask");
            write_mask(masks.join(format!("{i:05}.png")), &mask).expect("written");
        }
    }
    fs::create_dir_all(root.join("ImageSets/2017")).expect("made");
    fs::write(root.join("ImageSets/2017/val.txt"), "a\nb\n").expect("written");
}

const EVAL: [&str; 8] = [
    "eval-davis",
    "--data-path",
    "davis",
    "--scale-size",
    "64",
    "--n_last_frames=2",
    "--size_mask_neighborhood=4",
    "--topk=3",
];

#[test]
fn everything_is_written_and_scored_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    davis(&root.join("davis"));
    done(root, &[&TRAIN[..], &["--max-steps=1"]].concat());
    let output = done(root, &[&EVAL[..], &["--output-dir", "out", "--json"]].concat());
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let at = |name: &str| root.join("out").join(name);
    // A mask for every frame, the first one being the annotation.
    for sequence in ["a", "b"] {
        let masks = (0..6).map(|i| decode_mask(at(&format!("masks/{sequence}/{i:05}.png"))).expect("a mask"));
        assert!(masks.into_iter().all(|m: Mask| (m.width, m.height) == (64, 64)));
        assert!(at(&format!("overlays/{sequence}.gif")).is_file());
    }
    let first = decode_mask(root.join("davis/Annotations/480p/a/00000.png")).expect("a mask");
    assert_eq!(decode_mask(at("masks/a/00000.png")).expect("a mask"), first);
    let csv = fs::read_to_string(at("global_results-val.csv")).expect("a table");
    assert!(csv.starts_with("J&F-Mean,J-Mean,J-Recall,J-Decay,F-Mean,F-Recall,F-Decay\n"), "{csv}");
    assert!(fs::read_to_string(at("per-sequence_results-val.csv")).expect("a table").contains("a_1,"));
    let page = fs::read_to_string(at("report.html")).expect("a page");
    assert!(page.contains("<svg") && page.contains("data:image/jpeg;base64,"));
    assert!(!page.contains("http:") && !page.contains("https:"), "the page needs nothing else");
    for row in [
        "random initialisation",
        "first mask copied",
        "<td>data</td><td>source davis,",
        "<td>date</td>",
        "<td>weights</td>",
    ] {
        assert!(page.contains(row), "{row}");
    }
    let scores: Value = serde_json::from_slice(&fs::read(at("scores.json")).expect("scores")).expect("JSON");
    assert_eq!(scores["report"]["global"], report["global"]);
    for row in ["random_initialisation", "first_mask_copied"] {
        assert!(report[row]["global"]["JF"].is_number() && scores[row] == report[row], "{scores}");
    }

    // The written masks, scored by themselves, have the same scores.
    let again = done(root, &["davis-metrics", "--annotations", "davis", "--results", "out/masks", "--json"]);
    let again: Value = serde_json::from_slice(&again.stdout).expect("JSON");
    assert_eq!(again["global"], report["global"]);
    assert_eq!(again["sequences"]["b"]["objects"], report["sequences"]["b"]["objects"]);

    // Another block, without norm, beside the first results.
    let other = [&EVAL[..], &["--layer", "1", "--norm", "false", "--output-dir", "other", "--compare", "out"]].concat();
    done(root, &other);
    let both = fs::read_to_string(root.join("other/report.html")).expect("a page");
    assert!(both.len() > page.len());
    let twice = ["eval-davis", "--run", "runs/default", "./runs/default", "--output-dir", "x"];
    assert!(err(&selfpatch(root, &twice)).contains("--output-dir: two of the runs have one name"));
    let refused = selfpatch(root, &[&EVAL[..], &["--layer", "3"]].concat());
    assert!(err(&refused).contains("layer: 3 is not one of the blocks 1 to 2"), "{}", err(&refused));
}

/// Opens a page as wide as a phone and returns what the browser makes of it; nothing without a browser.
fn browsed(page: &Path, profile: &Path) -> Option<String> {
    let url = format!("file://{}", page.canonicalize().expect("a page").display());
    let mut command = Command::new("chromium");
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]);
    command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
    command.args(["--window-size=390,844", "--dump-dom"]).arg(format!("--user-data-dir={}", profile.display()));
    let output = command.arg(url).output().ok()?;
    output.status.success().then(|| out(&output))
}

#[test]
fn a_browser_shows_the_report() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    davis(&root.join("davis"));
    done(root, &[&TRAIN[..], &["--max-steps=1"]].concat());
    for (dir, compare) in [("one", &[][..]), ("two", &["--compare", "one"])] {
        done(root, &[&EVAL[..], &["--output-dir", dir], compare].concat());
    }
    let Some(dom) = browsed(&root.join("two/report.html"), &root.join("profile")) else {
        println!("no chromium on the PATH: not tried");
        return;
    };
    // Both sequences have a chart, and there are pictures of both runs.
    assert!(dom.matches("<svg").count() >= 2 && dom.contains("Video label propagation"));
    assert!(dom.matches("data:image/jpeg;base64,").count() > 10);
}

#[test]
fn training_measures_its_teacher() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    davis(&root.join("davis"));
    let own = ["--epochs=2", "--set", "eval.davis.every=1", "--set", "eval.davis.data_path=davis"];
    let train = [&TRAIN[..], &own].concat();
    let output = done(root, &train);
    assert!(out(&output).contains("teacher after step 4: J&F "), "{}", out(&output));
    let log = fs::read_to_string(root.join("runs/default/log.jsonl")).expect("a log");
    let measured: Vec<f64> =
        log.lines().filter_map(|l| serde_json::from_str::<Value>(l).expect("JSON")["davis_jf"].as_f64()).collect();
    assert_eq!(measured.len(), 2);
    // The last value is that of the exported teacher.
    let output = selfpatch(root, &["eval-davis", "--data-path", "davis", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!((report["global"]["JF"].as_f64().expect("a number") - measured[1]).abs() < 1e-9, "{measured:?} {report}");
    assert!(fs::read_to_string(root.join("runs/default/report.html")).expect("a page").contains("Teacher on videos"));
    // Videos that are not there are found before the first step.
    let absent =
        [&TRAIN[..], &["--name=x", "--set", "eval.davis.every=1", "--set", "eval.davis.data_path=no"]].concat();
    let output = selfpatch(root, &absent);
    assert!(
        err(&output).contains("\nerror: eval.davis.data_path: ") && !root.join("runs/x").exists(),
        "{}",
        err(&output)
    );
}

#[test]
fn videos_with_a_first_mask_alone_are_carried_through() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    davis(&root.join("davis"));
    (1..6).for_each(|i| fs::remove_file(root.join(format!("davis/Annotations/480p/b/{i:05}.png"))).expect("removed"));
    done(root, &[&TRAIN[..], &["--max-steps=1"]].concat());
    let output = done(root, &[&EVAL[..], &["--output-dir", "out"]].concat());
    assert!(err(&output).contains("b has too few annotations to be scored"), "{}", err(&output));
    assert!(root.join("out/masks/b/00005.png").is_file());
}

#[test]
fn what_the_frames_hold_beyond_rgb_bytes_is_counted_and_said_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    davis(&root.join("davis"));
    for i in 0..4 {
        let path = root.join(format!("davis/JPEGImages/480p/b/{i:05}.png"));
        let picture = image::open(&path).expect("a frame");
        if i < 3 { picture.to_luma16().save(path) } else { picture.to_rgba8().save(path) }.expect("written");
    }
    let own = ["--name=deep", "--set", "eval.davis.every=1", "--set", "eval.davis.data_path=davis"];
    let trained = done(root, &[&TRAIN[..], &["--max-steps=1"], &own[..]].concat());
    let output = done(root, &[&EVAL[..], &["--json"]].concat());
    let lines = [
        "sequence b: 3 of 5 images hold values of more than 8 bits (up to 16), read as bytes: grey above 255 is white, \
         colours keep their high byte; ",
        "sequence b: 1 of 5 images have samples that RGB leaves out (alpha, or further bands; up to 1 per pixel) (the \
         first is davis/JPEGImages/480p/b/00003.png)",
    ];
    for line in lines {
        assert_eq!(err(&output).matches(&format!("note: {line}")).count(), 1, "{}", err(&output));
        assert_eq!(said(&trained).matches(&format!("note: eval.davis: {line}")).count(), 1, "{}", said(&trained));
    }
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["notes"].as_array().map(Vec::len), Some(2), "{report}");
}

#[test]
fn broken_sequences_are_named_and_the_others_scored() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    davis(&root.join("davis"));
    done(root, &[&TRAIN[..], &["--max-steps=1"]].concat());
    let masks = root.join("davis/Annotations/480p/b");
    let whole = fs::read(masks.join("00000.png")).expect("read");
    let mask =
        |width, ids: Vec<u8>| write_mask(masks.join("00000.png"), &Mask { width, height: 64, ids }).expect("written");
    type Damage<'a> = (&'a dyn Fn(), &'a str);
    let damages: [Damage; 5] = [
        (&|| fs::write(masks.join("00000.png"), &whole[..whole.len() / 2]).expect("written"), "00000.png"),
        (&|| mask(64, vec![0; 64 * 64]), "shows no object"),
        (&|| mask(32, vec![1; 32 * 64]), "00000.png"),
        (&|| fs::remove_file(masks.join("00000.png")).expect("removed"), "no mask"),
        (&|| fs::write(root.join("davis/ImageSets/2017/val.txt"), "a\nabsent\n").expect("written"), "absent"),
    ];
    for (damage, what) in damages {
        damage();
        let output = selfpatch(root, &EVAL);
        let error = err(&output);
        assert_eq!(output.status.code(), Some(1), "{error}");
        let line = error.lines().find(|l| l.starts_with("error: ")).unwrap_or_default();
        assert!(line.contains(what) && !error.contains("panicked"), "{what}: {error}");
        assert!(out(&output).contains("trained teacher"), "the other sequence is scored: {}", out(&output));
    }
}
