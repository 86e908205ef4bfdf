//! Seeing a run: `watch` in the terminal, and the report in a browser.

mod common;

use common::{err, out, selfpatch};
use selfpatch_nn::random::normal;
use selfpatch_run::write_report;
use selfpatch_train::candle_core::{DType, Device};
use selfpatch_train::{Config, SHEET, Settings, Trainer, views};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Four steps of a small network, in runs/default.
fn train(root: &Path) {
    let settings = ["data.procedural_images=32", "model.embed_dim=24", "model.depth=2", "head.hidden_dim=16"];
    let mut args = vec!["train", "--out_dim=32", "--out_dim_selfpatch=16", "--batch_size=8"];
    settings.iter().for_each(|s| args.extend(["--set", s]));
    let output = selfpatch(root, &args);
    assert!(output.status.success(), "{}", err(&output));
}

#[test]
fn a_finished_run_is_told_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    train(root);
    let run = root.join("runs/default");
    fs::write(run.join("alarms.jsonl"), "{\"step\":3,\"kind\":\"collapse\",\"text\":\"all alike\"}\n{\"st")
        .expect("written");
    let named = selfpatch(root, &["watch", "runs/default", "--once"]);
    let text = out(&named);
    assert!(named.status.success(), "{}", err(&named));
    for part in [
        "default  runs/default",
        "step 4 of 4 | epoch 1.000 of 1 | ",
        " images/s",
        "loss ",
        "learning rate ",
        "teacher entropy ",
        "skipped samples   0",
        "collapse at step 3: all alike",
        "The run is complete: all 4 steps are done.",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // Without a terminal it is the same, and without a name the newest run is taken.
    assert_eq!(out(&selfpatch(root, &["watch"])), text);
    // A run in its middle: the last line is torn.
    let log = fs::read_to_string(run.join("log.jsonl")).expect("a log");
    let lines: Vec<&str> = log.lines().collect();
    fs::write(run.join("log.jsonl"), format!("{}\n{}\n{}", lines[0], lines[1], &lines[2][..30])).expect("written");
    let text = out(&selfpatch(root, &["watch", "--once"]));
    assert!(
        text.contains("step 2 of 4") && text.contains(" left | ") && text.contains("The last record came"),
        "{text}"
    );
}

#[test]
fn what_is_no_run_gets_one_clear_line() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    fs::create_dir(root.join("begun")).expect("made");
    fs::write(root.join("begun/config.toml"), "name = \"begun\"\n").expect("written");
    fs::create_dir(root.join("damaged")).expect("made");
    fs::write(root.join("damaged/config.toml"), [0xff, 0xfe]).expect("written");
    fs::write(root.join("damaged/log.jsonl"), [0, 255, 10, 13, 10]).expect("written");
    for (args, expected) in [
        (&["watch"][..], "runs: holds no run"),
        (&["watch", "absent"], "absent: is not the folder of a run"),
        (&["watch", "begun"], "begun: the run has logged nothing yet"),
        (&["watch", "damaged"], "damaged/log.jsonl: holds no line that is a record"),
        (&["watch", "begun", "--every", "0"], "--every: 0 is not"),
    ] {
        let output = selfpatch(root, args);
        let error = err(&output);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {error}");
        assert!(error.starts_with(&format!("error: {expected}")) && error.lines().count() == 1, "{args:?}: {error}");
    }
}

/// What a browser makes of `page` at the width of a phone: the widths of the page and of its window, and how
/// many pictures it has and how many of them load. `None` without a browser.
///
/// The page may run no script, so it is shown in a frame of another page that measures it.
fn measured(root: &Path, page: &Path) -> Option<[usize; 4]> {
    let page = format!("file://{}", page.canonicalize().expect("a page").display());
    let outer = format!(
        r#"<!DOCTYPE html><iframe id="f" src="{page}" style="width:390px;height:844px;border:0"></iframe><p id="p"></p>
        <script>onload = () => {{
            const d = document.getElementById("f").contentDocument, e = d.documentElement, images = [...d.images];
            const loaded = images.filter(i => i.complete && i.naturalWidth > 0);
            const all = [e.scrollWidth, e.clientWidth, images.length, loaded.length];
            document.getElementById("p").textContent = "measured " + all.join(" ") + " end";
        }}</script>"#
    );
    fs::write(root.join("outer.html"), outer).expect("written");
    let mut command = Command::new("chromium");
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]);
    command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
    command.args(["--allow-file-access-from-files", "--window-size=800,900", "--dump-dom"]);
    command.arg(format!("--user-data-dir={}", root.join("profile").display()));
    let output = command.arg(format!("file://{}", root.join("outer.html").display())).output().ok()?;
    let dom = out(&output);
    let numbers = dom.split("<p id=\"p\">measured ").nth(1).and_then(|rest| rest.split(" end").next());
    let numbers = numbers.unwrap_or_else(|| panic!("nothing measured: {dom} {}", err(&output)));
    let numbers: Vec<usize> = numbers.split(' ').map(|n| n.parse().expect("a number")).collect();
    Some(numbers.try_into().expect("four numbers"))
}

#[test]
fn a_browser_shows_the_report_as_wide_as_a_phone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    train(root);
    let run = root.join("runs/default");
    let path = run.join("config.toml");
    let config = Config::parse(&path, &fs::read_to_string(&path).expect("a configuration")).expect("valid");
    let trainer = Trainer::new(Settings::of(&config).expect("settings"), DType::F32, &Device::Cpu).expect("a trainer");
    let crops = normal(1, (4, 3, 48, 48)).expect("random");
    views::write(&run, &trainer, &crops, &config).expect("written");
    let long = "x".repeat(300);
    fs::write(run.join("alarms.jsonl"), format!("{{\"step\":3,\"kind\":\"{long}\",\"text\":\"{long}\"}}\n"))
        .expect("written");
    write_report(&run, &SHEET).expect("a report");
    let Some([wide, window, pictures, loaded]) = measured(root, &run.join("report.html")) else {
        println!("no chromium on the PATH: not tried");
        return;
    };
    assert!(window > 300 && window <= 390 && wide <= window, "{wide} pixels in a window of {window}");
    assert_eq!((pictures, loaded), (16, 16));
}
