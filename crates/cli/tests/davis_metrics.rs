//! Masks of any program, scored from their files.

use selfpatch_datasets::{Mask, write_mask};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn metrics(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selfpatch"));
    command.current_dir(folder).args(["davis-metrics", "--annotations", "truth", "--results", "guess"]).args(args);
    command.output().expect("the program runs")
}

/// Object `id` fills columns `left..left + 4` of a mask of 12 x 8.
fn bar(left: usize, id: u8) -> Mask {
    let inside = |x: usize| (left..left + 4).contains(&x);
    Mask { width: 12, height: 8, ids: (0..96).map(|i| if inside(i % 12) { id } else { 0 }).collect() }
}

fn write(folder: &Path, sequence: &str, frame: usize, mask: &Mask) {
    let folder = folder.join(sequence);
    fs::create_dir_all(&folder).expect("a folder");
    write_mask(folder.join(format!("{frame:05}.png")), mask).expect("a mask");
}

/// `bear` is right in frame 1 and half right in frame 2, `dog` is right; `short` has two frames.
fn videos() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (truth, guess) = (folder.path().join("truth"), folder.path().join("guess"));
    for frame in 0..4 {
        write(&truth, "bear", frame, &bar(2, 1));
        write(&truth, "dog", frame, &bar(frame, 2));
    }
    // Nobody asks for a result of the first and the last frame.
    for frame in 1..3 {
        write(&guess, "bear", frame, &bar(2 * frame, 1));
        write(&guess, "dog", frame, &bar(frame, 2));
    }
    (0..2).for_each(|frame| write(&truth, "short", frame, &bar(2, 1)));
    fs::create_dir(truth.join("empty")).expect("a folder");
    fs::write(truth.join("readme.txt"), "no sequence").expect("a file");
    folder
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)))
}

#[test]
fn scores_are_printed_and_written() {
    let folder = videos();
    let output = metrics(folder.path(), &["--output_dir", "out/scores"]);
    let (table, notes) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{notes}");
    assert_eq!(notes, "note: short has fewer than three annotated frames and is not scored\n");
    let rows: Vec<&str> = table.lines().map(|row| row.split_whitespace().next().unwrap_or_default()).collect();
    assert_eq!(rows, ["J&F", "guess", "bear", "dog"], "{table}");

    let read = |name: &str| fs::read_to_string(folder.path().join("out/scores").join(name)).expect("written");
    // Bars 4 wide, 2 apart: 2 of 6 columns are common, and no outline is within one pixel.
    let rows = read("per-sequence_results-val.csv");
    assert_eq!(rows, "Sequence,J-Mean,F-Mean\nbear_1,0.667,0.500\ndog_1,1.000,1.000\ndog_2,1.000,1.000\n");
    let global = read("global_results-val.csv");
    assert_eq!(global.lines().nth(1), Some("0.861,0.889,0.833,0.222,0.833,0.833,0.333"));
    let scores: serde_json::Value = serde_json::from_str(&read("scores.json")).expect("JSON");
    assert_eq!(scores["unscored"][0], "short");

    let report = json(&metrics(folder.path(), &["--json"]));
    assert_eq!(report, scores["report"]);
    assert_eq!(report["sequences"]["bear"]["frames"], serde_json::json!(["00001", "00002"]));
    assert_eq!(report["sequences"]["bear"]["objects"][0]["j_per_frame"], serde_json::json!([1.0, 1.0 / 3.0]));
}

#[test]
fn sequences_are_chosen_by_name() {
    let folder = videos();
    let report = json(&metrics(folder.path(), &["--json", "--sequences", "dog,short"]));
    assert_eq!(report["sequences"].as_object().map(|s| s.len()), Some(1));
    assert_eq!(report["global"]["JF"], 1.0);
    let unknown = metrics(folder.path(), &["--sequences", "bare"]);
    assert_eq!(text(&unknown.stderr), "error: --sequences: there is no sequence \"bare\"; did you mean \"bear\"?\n");
    let nothing = metrics(folder.path(), &["--sequences", "short"]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(text(&nothing.stderr).ends_with("error: no sequence could be scored\n"), "{}", text(&nothing.stderr));
}

#[test]
fn a_single_object_in_2016() {
    let folder = videos();
    // Someone else's id for the same object, and white for the other.
    (1..3).for_each(|frame| write(&folder.path().join("guess"), "dog", frame, &bar(frame, 255)));
    let report = json(&metrics(folder.path(), &["--json", "--year", "2016", "--sequences", "dog"]));
    assert_eq!(report["sequences"]["dog"]["objects"].as_array().map(Vec::len), Some(1));
    assert_eq!(report["global"]["JF"], 1.0);
    let report = json(&metrics(folder.path(), &["--json", "--sequences", "dog"]));
    assert_eq!(report["global"]["J"], 0.5); // object 1 is nowhere, object 2 was missed
}

#[test]
fn the_root_of_davis_will_do() {
    let folder = videos();
    let annotations = folder.path().join("davis/Annotations");
    fs::create_dir_all(&annotations).expect("a folder");
    fs::rename(folder.path().join("truth"), annotations.join("480p")).expect("moved");
    fs::rename(folder.path().join("davis"), folder.path().join("truth")).expect("moved");
    assert!(metrics(folder.path(), &[]).status.success());
}

/// One faulty sequence is named with its file; the others are scored all the same.
#[test]
fn faults_do_not_stop_the_others() {
    type Damage = fn(&Path);
    let cases: [(Damage, &[&str]); 5] = [
        (|f| fs::remove_file(f.join("guess/bear/00002.png")).expect("removed"), &["guess/bear/00002.png is missing"]),
        (|f| fs::remove_dir_all(f.join("guess/bear")).expect("removed"), &["guess/bear/00001.png is missing"]),
        (|f| fs::write(f.join("guess/bear/00001.png"), "no PNG").expect("written"), &["guess/bear/00001.png"]),
        (
            |f| write(&f.join("guess"), "bear", 2, &Mask { width: 6, height: 4, ids: vec![1; 24] }),
            &["truth/bear/00002.png has 12 x 8 pixels, but", "guess/bear/00002.png has 6 x 4"],
        ),
        (
            |f| write(&f.join("truth"), "bear", 0, &bar(2, 0)),
            &["truth/bear/00000.png shows no object, so there is nothing to score"],
        ),
    ];
    for (damage, expected) in cases {
        let folder = videos();
        damage(folder.path());
        let output = metrics(folder.path(), &["--json"]);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        let error = errors.lines().find(|l| l.starts_with("error: sequence bear: ")).unwrap_or_default();
        assert!(expected.iter().all(|part| error.contains(part)), "{errors}");
        assert_eq!(json(&output)["global"]["JF"], 1.0);
    }
}

#[test]
fn wrong_folders_are_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(folder.path().join("truth")).expect("a folder");
    assert_eq!(text(&metrics(folder.path(), &[]).stderr), "error: guess: is no folder\n");
    fs::create_dir(folder.path().join("guess")).expect("a folder");
    let error = text(&metrics(folder.path(), &[]).stderr);
    assert_eq!(error, "error: truth: has no folders of PNG masks; SEQUENCE/FRAME.png is expected\n");
}
