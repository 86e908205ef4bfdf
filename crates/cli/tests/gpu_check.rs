//! `gpu-check` tried on the CPU: what it writes, and what it says where there is no GPU.

mod common;

use common::{err, out, said, selfpatch};
use serde_json::Value;
use std::path::Path;

/// The crates, beside which the fixtures lie.
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn report(folder: &Path) -> Value {
    let text = std::fs::read_to_string(folder.join("o/gpu-report.json")).expect("a report");
    serde_json::from_str(&text).expect("JSON")
}

/// All parts, but with no PyTorch: a program that is no Python.
#[test]
fn a_quick_check_on_the_cpu_writes_report_and_tables() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let check = ["gpu-check", "--device", "cpu", "--quick", "--out", "o", "--python", "no-python", "--threads", "2"];
    let ran = selfpatch(folder.path(), &[&check[..], &["--fixtures", FIXTURES]].concat());
    assert!(ran.status.success(), "{}", said(&ran));
    let found = report(folder.path());
    assert_eq!((&found["passed"], &found["complete"], &found["quick"]), (&true.into(), &true.into(), &true.into()));
    for (i, precision) in ["f32", "bf16"].into_iter().enumerate() {
        let (parity, run) = (&found["parity"][i], &found["training"]["runs"][i]);
        assert_eq!((&parity["precision"], &run["precision"]), (&precision.into(), &precision.into()));
        assert!(parity["checks"].as_array().is_some_and(|rows| rows.len() > 40), "{parity}");
        assert_eq!(run["losses"].as_array().map(Vec::len), Some(5));
        assert!(run["largest_relative"].as_f64().is_some_and(|d| d <= run["rule"]["relative"].as_f64().unwrap_or(0.)));
    }
    assert!(found["pytorch"]["error"].as_str().is_some_and(|e| e.contains("no-python could not be started")));
    let rows = found["speed"].as_array().expect("rows");
    assert_eq!(rows.len(), 2);
    for row in rows {
        let ours = &row["programs"]["selfpatch"];
        assert!(ours["images_per_second"].as_f64().is_some_and(|n| n > 0.), "{row}");
        assert!(ours["fraction_of_measured"].is_number() && ours["phases"]["backward"].is_number(), "{row}");
        assert!(row["programs"].get("tuned").is_none() && row["ratio"].is_null(), "{row}");
    }
    let tables = std::fs::read_to_string(folder.path().join("o/gpu-report.md")).expect("tables");
    for text in ["| parity in bf16 | ", "| loss curve in f32 | ok", "Without PyTorch (no-python", "| toy, 2 | "] {
        assert!(tables.contains(text), "{text}: {tables}");
    }
    assert!(out(&ran).contains(&tables), "{}", out(&ran));
    let left: Vec<_> = std::fs::read_dir(folder.path().join("o")).expect("a folder").flatten().collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

/// What is over time is left out, and then nothing has passed.
#[test]
fn it_ends_in_time_with_what_it_has() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let check = ["gpu-check", "--device", "cpu", "--only", "train", "--minutes", "0.2", "--out", "o"];
    let ran = selfpatch(folder.path(), &[&check[..], &["--fixtures", FIXTURES]].concat());
    assert_eq!(ran.status.code(), Some(1), "{}", said(&ran));
    let found = report(folder.path());
    assert_eq!((&found["passed"], &found["complete"]), (&false.into(), &true.into()));
    let error = found["training"]["runs"][0]["error"].as_str().unwrap_or_default().to_string();
    assert!(error.contains("stopped after"), "{found}");
}

#[test]
fn without_a_gpu_it_says_so_in_one_sentence() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ran = selfpatch(folder.path(), &["gpu-check", "--out", "o"]);
    let error = err(&ran);
    assert_eq!((ran.status.code(), error.lines().count()), (Some(1), 1), "{}", said(&ran));
    assert!(error.starts_with("error: --device cuda: "), "{error}");
    assert!(!folder.path().join("o").exists(), "nothing was found, so nothing is written");

    let ran = selfpatch(folder.path(), &["gpu-check", "--minutes", "0"]);
    assert!(err(&ran).starts_with("error: --minutes: "), "{}", err(&ran));
}
