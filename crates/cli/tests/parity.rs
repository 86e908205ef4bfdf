//! The fixtures of all crates, through the program itself. Each crate has a test of its own for its part.

use std::path::Path;
use std::process::{Command, Output};

/// Fixtures with small files.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../optim/tests/fixtures/selfpatch");

/// `parity` in the repository, where it finds the fixtures by itself.
fn parity(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selfpatch"));
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).arg("parity").args(args);
    command.output().expect("the program runs")
}

#[test]
fn every_fixture_passes() {
    let output = parity(&["--json"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let rows = report["checks"].as_array().expect("rows");
    assert!(rows.len() >= 95 && rows.iter().all(|r| r["verdict"] == "ok"), "{text}");
}

#[test]
fn only_limits_and_unknown_names_are_refused() {
    let output = parity(&["--only", "dino"]);
    assert!(output.status.success());
    assert!(!String::from_utf8_lossy(&output.stdout).contains("vit_p8"));
    let output = parity(&["--only", "vit_p9"]);
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("did you mean \"vit_p8\"?"), "{error}");
}

/// A fixture in which a check finds none of its values must not pass in silence.
#[test]
fn an_empty_fixture_fails() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let other = Path::new(SOURCE).join("../../../../vit/tests/fixtures/selfpatch");
    for (source, name) in
        [(Path::new(SOURCE), "schedules.safetensors"), (&other, "droppath.json"), (&other, "droppath.safetensors")]
    {
        std::fs::copy(source.join(name), folder.path().join(name)).expect("copied");
    }
    std::fs::write(folder.path().join("schedules.json"), r#"{"fixture": "schedules", "values": {}}"#).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_selfpatch"));
    let output = command.arg("parity").arg("--fixtures").arg(folder.path()).output().expect("the program runs");
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success() && table.contains("nothing to compare"), "{table}");
}

/// A wrong number must fail: the check of the checks.
#[test]
fn a_changed_value_fails() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = Path::new(SOURCE);
    std::fs::copy(source.join("schedules.json"), folder.path().join("schedules.json")).expect("copied");
    let mut bytes = std::fs::read(source.join("schedules.safetensors")).expect("read");
    let last = bytes.len() - 2; // the exponent of the last f64
    bytes[last] ^= 0x10;
    std::fs::write(folder.path().join("schedules.safetensors"), bytes).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_selfpatch"));
    let output = command.arg("parity").arg("--fixtures").arg(folder.path()).output().expect("the program runs");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("FAIL"));
}
