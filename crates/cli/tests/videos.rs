//! Ctrl-C while videos are unpacked: it ends the program, what it started, and what it had begun.
#![cfg(unix)]

mod common;

use common::{command, err, said};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Stands in for ffmpeg: one frame, then a minute of work.
const SLOW: &str =
    "#!/bin/sh\necho $$ > \"$0.new\"\necho frame > 000001.jpg\nmv \"$0.new\" \"${0%/*}/process\"\nexec sleep 60\n";

fn kill(signal: &str, process: &str) -> bool {
    Command::new("kill").args([signal, process]).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

#[test]
fn a_signal_while_a_video_is_unpacked_ends_all_of_it() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| root.path().join(name);
    for name in ["bin", "videos/a", "videos/b"] {
        fs::create_dir_all(at(name)).expect("made");
    }
    for (name, text) in [("bin/ffmpeg", SLOW), ("bin/ffprobe", "#!/bin/sh\nexit 1\n")] {
        fs::write(at(name), text).expect("written");
        fs::set_permissions(at(name), fs::Permissions::from_mode(0o755)).expect("made a program");
    }
    ["a/1.mp4", "b/2.mp4"].iter().for_each(|name| fs::write(at("videos").join(name), "").expect("written"));
    let path = format!("{}:{}", at("bin").display(), std::env::var("PATH").unwrap_or_default());
    // With a terminal ffmpeg meets the signal as well; its turn may come first.
    for (args, signal, code, to_ffmpeg) in [
        (&["train", "--data", "videos"][..], "-INT", 130, false),
        (&["train", "--data", "videos"], "-INT", 130, true),
        (&["train", "--data", "videos"], "-TERM", 143, false),
        (&["train", "--data", "videos"], "-USR1", 75, false),
        (&["inspect-data", "--data", "videos"], "-INT", 130, false),
        (&["eval-knn", "--weights", "none.pth", "--train", "videos"], "-INT", 130, true),
    ] {
        let mut child = command(root.path(), args);
        child.env("PATH", &path).env("SELFPATCH_CACHE", at("cache")).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = child.spawn().expect("the program runs");
        let begun = Instant::now();
        while !at("bin/process").exists() && begun.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let ffmpeg = fs::read_to_string(at("bin/process")).expect("it was called").trim().to_string();
        if to_ffmpeg {
            kill(signal, &ffmpeg);
            std::thread::sleep(Duration::from_millis(50));
        }
        kill(signal, &child.id().to_string());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(code), "{args:?} {signal}: {}", said(&output));
        assert!(err(&output).contains("stopped while videos/a/1.mp4 was being unpacked"), "{}", said(&output));
        assert!(begun.elapsed() < Duration::from_secs(50) && !kill("-0", &ffmpeg), "ffmpeg goes on");
        assert_eq!(entries(&at("cache/frames")), [""; 0]);
        assert!(!at("runs").exists(), "nothing was trained");
        fs::remove_file(at("bin/process")).expect("removed");
    }
}

fn entries(folder: &Path) -> Vec<String> {
    let all = fs::read_dir(folder).into_iter().flatten().flatten();
    all.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
