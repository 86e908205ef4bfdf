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
    let told = [
        "note: short has fewer than three annotated frames and is not scored",
        "note: sequence dog: its objects are the ids 2 of the first mask; the official evaluator counts all from 1 to 2",
    ];
    assert_eq!(notes.lines().collect::<Vec<_>>(), told);
    let rows: Vec<&str> = table.lines().map(|row| row.split_whitespace().next().unwrap_or_default()).collect();
    assert_eq!(rows, ["J&F", "guess", "bear", "dog"], "{table}");

    let read = |name: &str| fs::read_to_string(folder.path().join("out/scores").join(name)).expect("written");
    // Bars 4 wide, 2 apart: 2 of 6 columns are common, and no outline is within one pixel.
    let rows = read("per-sequence_results-val.csv");
    assert_eq!(rows, "Sequence,J-Mean,F-Mean\nbear_1,0.667,0.500\ndog_2,1.000,1.000\n");
    let global = read("global_results-val.csv");
    assert_eq!(global.lines().nth(1), Some("0.792,0.833,0.750,0.333,0.750,0.750,0.500"));
    let scores: serde_json::Value = serde_json::from_str(&read("scores.json")).expect("JSON");
    assert_eq!(scores["unscored"][0], "short");

    let report = json(&metrics(folder.path(), &["--json"]));
    for part in ["global", "sequences"] {
        assert_eq!(report[part], scores["report"][part]);
    }
    assert_eq!(report["notes"], scores["notes"]);
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
    assert_eq!(report["global"]["J"], 0.0); // object 2 was missed
}

/// A mask whose columns have the ids `columns`.
fn columns(columns: [u8; 12]) -> Mask {
    Mask { width: 12, height: 8, ids: (0..96).map(|i| columns[i % 12]).collect() }
}

#[test]
fn ids_with_gaps_count_once_each() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (truth, guess) = (folder.path().join("truth"), folder.path().join("guess"));
    // Ids in any order, undecided pixels; 5 appears later.
    for frame in 0..4 {
        let later = if frame == 2 { 5 } else { 0 };
        write(&truth, "a", frame, &columns([9, 9, 9, 0, 0, 255, 255, later, 1, 1, 1, 1]));
        write(&guess, "a", frame, &columns([0; 12]));
        write(&guess, "b", frame, &columns([9, 9, 9, 0, 0, 255, 7, 0, 1, 1, 1, 1]));
    }
    let output = metrics(folder.path(), &["--json"]);
    assert_eq!(json(&output)["global"]["JF"], 0.0);
    let ids: Vec<u64> = json(&output)["sequences"]["a"]["objects"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|object| object["id"].as_u64())
        .collect();
    assert_eq!(ids, [1, 9]);
    let told = json(&output)["notes"].to_string();
    assert!(told.contains("the ids 5 appear after the first frame and are not scored"), "{told}");
    let notes = text(&output.stderr);
    assert!(notes.contains("its objects are the ids 1, 9 of the first mask"), "{notes}");
    assert!(notes.contains("the ids 5 appear after the first frame and are not scored"), "{notes}");
    // The official evaluator takes 2 to 8 for perfectly tracked, except where 5 is.
    let official = json(&metrics(folder.path(), &["--json", "--official"]));
    let jf = official["global"]["JF"].as_f64().expect("a number");
    assert!((jf - 6.5 / 9.0).abs() < 1e-12, "{official}");

    // Other ids of a result are background, and said; the official evaluator gives no number for higher ones.
    fs::rename(truth.join("a"), truth.join("b")).expect("moved");
    let output = metrics(folder.path(), &["--json"]);
    assert_eq!(json(&output)["global"]["JF"], 1.0);
    assert!(text(&output.stderr).contains("the results have the ids 7, 255, which the first mask lacks"), "{output:?}");
    let refused = metrics(folder.path(), &["--official"]);
    assert!(
        text(&refused.stderr).contains("00001.png has the id 255, but the highest of the first mask is 9"),
        "{refused:?}"
    );
}

#[test]
fn frames_are_in_the_order_of_their_numbers() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (truth, guess) = (folder.path().join("truth/a"), folder.path().join("guess/a"));
    for folder in [&truth, &guess] {
        fs::create_dir_all(folder).expect("a folder");
    }
    // Frame 10 has another object; by text it would be the first.
    for (frame, id) in [("8", 1), ("9", 1), ("10", 2)] {
        write_mask(truth.join(format!("{frame}.png")), &bar(2, id)).expect("a mask");
        write_mask(guess.join(format!("{frame}.png")), &bar(2, 1)).expect("a mask");
    }
    let report = json(&metrics(folder.path(), &["--json"]));
    assert_eq!(report["sequences"]["a"]["frames"], serde_json::json!(["9"]));
    assert_eq!(report["global"]["JF"], 1.0);
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
