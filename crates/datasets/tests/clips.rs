//! Videos: with a stand-in for ffmpeg, without any, and with the real one where there is one.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use selfpatch_datasets::{Access, Content, Decoding, open};

/// Writes as many frames as the first word of the video says, and down what it was called with.
/// After `half` it complains, after `bad` it fails.
const STAND_IN: &str = r#"#!/bin/sh
echo "$PWD" "$@" >> "${0%/*}/calls"
while [ "$1" != -i ]; do shift; done
read -r count kind < "${2#file:}"
[ -z "$kind" ] || echo "a reason" >&2
[ -z "$kind" ] || echo "$2: $kind data" >&2
i=1
while [ $i -le $count ]; do echo "frame $i" > "00000$i.jpg"; i=$((i + 1)); done
[ "$kind" != bad ]
"#;

/// What is told in the process that opens videos with another PATH: a test's own is one for all threads.
#[derive(Debug, Default, PartialEq)]
struct Told {
    said: Vec<String>,
    /// Name and class.
    images: Vec<String>,
    error: String,
}

/// In a process of its own: opens what the environment names.
#[test]
fn child() {
    let Some(spec) = std::env::var_os("SELFPATCH_TEST_SPEC") else { return };
    let fps = std::env::var("SELFPATCH_TEST_FPS").unwrap().parse().unwrap();
    let access = Access { video_fps: fps, say: &|text| println!("\nsaid {text}"), ..Access::usual() };
    match open(spec.to_str().unwrap(), &access) {
        Ok(source) => (0..source.len()).for_each(|i| {
            let class = source.label(i).map_or("none", |l| &source.classes()[l as usize]);
            assert!(source.read(i).is_ok());
            println!("\nimage {} of {class}", source.name(i));
        }),
        Err(error) => println!("\nerror {error}"),
    }
}

fn told(path: &Path, cache: &Path, spec: &Path, fps: f32) -> Told {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).env("PATH", path).env("SELFPATCH_CACHE", cache);
    command.env("SELFPATCH_TEST_SPEC", spec).env("SELFPATCH_TEST_FPS", fps.to_string());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut told = Told::default();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        match line.split_once(' ') {
            Some(("said", text)) => told.said.push(text.into()),
            Some(("image", text)) => told.images.push(text.into()),
            Some(("error", text)) => told.error = text.into(),
            _ => {}
        }
    }
    told
}

/// A folder of videos, a cache, and a PATH.
struct Place {
    root: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        ["videos", "path"].iter().for_each(|name| fs::create_dir(root.path().join(name)).unwrap());
        Self { root }
    }

    fn with_stand_in() -> Self {
        let place = Self::new();
        fs::write(place.at("path/ffmpeg"), STAND_IN).unwrap();
        fs::set_permissions(place.at("path/ffmpeg"), fs::Permissions::from_mode(0o755)).unwrap();
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn video(&self, name: &str, content: &str) {
        let path = self.at("videos").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn told(&self, fps: f32) -> Told {
        told(&self.at("path"), &self.at("cache %d"), &self.at("videos"), fps)
    }

    /// Calls of the stand-in since the last time.
    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.at("path/calls")).unwrap_or_default();
        let _ = fs::remove_file(self.at("path/calls"));
        text.lines().map(String::from).collect()
    }

    /// Folders in the cache.
    fn cached(&self) -> usize {
        fs::read_dir(self.at("cache %d/frames")).map_or(0, Iterator::count)
    }
}

#[test]
fn each_video_is_taken_apart_once() {
    let place = Place::with_stand_in();
    place.video("dog/b.mp4", "2\n");
    place.video("cat/12:30 a.MKV", "1\n");
    let first = place.told(0.);
    let images = ["cat/12:30 a.MKV/000001.jpg of cat", "dog/b.mp4/000001.jpg of dog", "dog/b.mp4/000002.jpg of dog"];
    assert_eq!((&first.images[..], &*first.error), (&images.map(String::from)[..], ""));
    assert!(first.said.len() == 2 && first.said[0].contains("taking the frames out of"), "{:?}", first.said);
    let calls = place.calls();
    assert_eq!(calls.len(), 2);
    let input = format!("-i file:{}", place.at("videos/cat/12:30 a.MKV").display());
    assert!(calls[0].contains(&input) && calls[0].contains("-protocol_whitelist file"), "{}", calls[0]);
    assert!(calls[0].ends_with(" %06d.jpg"), "{}", calls[0]);

    // Again: nothing is done. One more: it alone. Changed: it alone.
    assert_eq!(place.told(0.), Told { images: first.images.clone(), ..Told::default() });
    assert!(place.calls().is_empty());
    place.video("dog/c.mp4", "3\n");
    assert_eq!(place.told(0.).images.len(), 6);
    assert_eq!(place.calls().len(), 1);
    place.video("dog/b.mp4", "4 \n");
    assert_eq!(place.told(0.).images.len(), 8);
    assert_eq!(place.calls().len(), 1);
    // At another rate: all.
    place.told(2.5);
    let calls = place.calls();
    assert!(calls.len() == 3 && calls.iter().all(|call| call.contains("-vf fps=2.5 ")), "{calls:?}");
    assert_eq!(place.cached(), 7);
}

#[test]
fn a_bad_video_is_passed_over() {
    let place = Place::with_stand_in();
    place.video("a.mp4", "1 bad\n");
    place.video("b.mp4", "2\n");
    place.video("c.mp4", "0\n");
    place.video("d.mp4", "1 half\n");
    std::os::unix::fs::symlink("nowhere", place.at("videos/e.mp4")).unwrap();
    let warnings = |told: &Told| told.said.iter().filter(|s| s.starts_with("warning: ")).cloned().collect::<Vec<_>>();
    let first = place.told(0.);
    // Clips that lie side by side have no classes.
    let images = ["b.mp4/000001.jpg of none", "b.mp4/000002.jpg of none", "d.mp4/000001.jpg of none"];
    assert_eq!((&first.images[..], &*first.error), (&images.map(String::from)[..], ""));
    let said = warnings(&first);
    let expected = [
        ("a.mp4", "ffmpeg: bad data"),
        ("c.mp4", "ffmpeg finds no frames in it"),
        ("d.mp4", "not all of it can be read; ffmpeg: half data"),
        ("e.mp4", "No such file"),
    ];
    assert_eq!(said.len(), expected.len(), "{said:?}");
    for (line, (name, reason)) in said.iter().zip(expected) {
        assert!(line.contains(&format!("{}: ", place.at("videos").join(name).display())), "{line}");
        assert!(line.ends_with(reason) || line.contains(reason) && name == "e.mp4", "{line}");
    }
    // Bad ones are tried again, and leave nothing behind.
    assert_eq!((warnings(&place.told(0.)).len(), place.cached()), (3, 2));

    ["b.mp4", "d.mp4"].iter().for_each(|name| fs::remove_file(place.at("videos").join(name)).unwrap());
    let none = place.told(0.);
    assert!(none.error.contains("a.mp4: ffmpeg: bad data") && none.images.is_empty(), "{none:?}");
}

#[test]
fn without_ffmpeg_there_is_advice() {
    let place = Place::new();
    place.video("a.mp4", "1\n");
    place.video("b.mp4", "1\n");
    let told = place.told(0.);
    assert!(told.error.contains("a.mp4: is a video, and there is no ffmpeg on the PATH"), "{told:?}");
    assert_eq!((told.said.len(), place.cached()), (1, 0));
}

/// Runs the real ffmpeg.
fn ffmpeg(args: &[&str], out: &Path) {
    let output = Command::new("ffmpeg").args(["-nostdin", "-v", "error", "-y"]).args(args).arg(out).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn frames_are_those_of_the_video() {
    if Command::new("ffmpeg").arg("-version").output().is_err() {
        println!("there is no ffmpeg here: not tested");
        return;
    }
    let place = Place::new();
    let at = |name: &str| place.at("videos").join(name);
    let read = |spec: &Path, fps| {
        let access = Access { cache: place.at("cache %d"), video_fps: fps, ..Access::usual() };
        open(spec.to_str().unwrap(), &access)
    };
    ffmpeg(&["-f", "lavfi", "-i", "testsrc=duration=1:size=64x48:rate=5"], &at("100%.mp4"));
    // Five frames at uneven times.
    let uneven =
        ["-f", "lavfi", "-i", "testsrc=duration=3:size=64x48:rate=5", "-vf", "select='not(mod(n*n,3))+lt(n,1)'"];
    ffmpeg(&[&uneven[..], &["-vsync", "vfr"]].concat(), &at("uneven.mkv"));
    let video = read(&at("100%.mp4"), 0.).unwrap();
    assert_eq!((video.len(), video.name(4)), (5, "100%.mp4/000005.jpg".into()));
    for i in 0..5 {
        let Content::File(bytes) = video.read(i).unwrap() else { panic!("no file") };
        let image = Decoding::default().image(&bytes).unwrap();
        assert_eq!((image.width, image.height, image.channels), (64, 48, 3));
    }
    assert_eq!(read(&at("uneven.mkv"), 0.).unwrap().len(), 5);
    assert_eq!(read(&at("100%.mp4"), 2.).unwrap().len(), 2);

    // Cut and damaged videos.
    let whole = fs::read(at("100%.mp4")).unwrap();
    fs::write(at("cut.mp4"), &whole[..whole.len() / 2]).unwrap();
    fs::write(at("noise.avi"), b"not a video at all").unwrap();
    for name in ["cut.mp4", "noise.avi"] {
        let error = read(&at(name), 0.).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(&format!("{name}: ffmpeg: ")), "{error}");
    }
    assert_eq!(read(&place.at("videos"), 0.).unwrap().len(), 10);
}
