//! Videos: with a stand-in for ffmpeg, without any, and with the real one where there is one.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use selfpatch_datasets::{Access, Content, Decoding, open};

/// The first line of a video says what its stand-ins do: `FRAMES [KIND [SECONDS]]`. This one writes so many frames, and
/// down what it was called with. After `half` it complains, after `bad` it fails; `slow` takes a minute, `killed` meets a
/// signal, `full` finds no space, and of `still` all frames are the same picture.
const FFMPEG: &str = r#"#!/bin/sh
echo "$PWD" "$@" >> "${0%/*}/calls"
echo $$ > "${0%/*}/process"
while [ "$1" != -i ]; do shift; done
read -r count kind seconds < "${2#file:}"
[ -n "$3" ] || { echo "  Duration: 00:02:00.00, start: 0" >&2; exit 1; }
case "$kind $*" in "short "*fps=*) exit 0 ;; esac
i=1
while [ $i -le $count ]; do
  if [ "$kind" = still ]; then /bin/cp "${0%/*}/still.png" "00000$i.jpg"; else echo "frame $i" > "00000$i.jpg"; fi
  i=$((i + 1))
done
case "$kind" in
  bad | half) echo "a reason" >&2; echo "$2: $kind data" >&2 ;;
  full) echo "av_interleaved_write_frame(): No space left on device" >&2; exit 228 ;;
  killed) kill -TERM $$ ;;
  told) exit 255 ;;
  slow) exec /bin/sleep 60 ;;
esac
[ "$kind" != bad ]
"#;

/// Tells of a video of 640 x 480 pixels and 25 frames per second.
const FFPROBE: &str = r#"#!/bin/sh
for last; do :; done
read -r count kind seconds < "${last#file:}"
[ "$kind" != bad ] || exit 1
echo '{"streams":[{"width":640,"height":480,"avg_frame_rate":"25/1"}],"format":{"duration":"'${seconds:-1}'"}}'
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
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<f32>().ok());
    let (video_fps, video_dedup) = (number("SELFPATCH_TEST_FPS"), number("SELFPATCH_TEST_DEDUP").unwrap_or(0.));
    let (begun, seconds) = (Instant::now(), number("SELFPATCH_TEST_STOP").unwrap_or(f32::INFINITY));
    let stop = || begun.elapsed().as_secs_f32() > seconds;
    let say = |text: &str| println!("\nsaid {text}");
    let access = Access { video_fps, video_dedup, say: &say, stop: &stop, ..Access::usual() };
    match open(spec.to_str().unwrap(), &access) {
        Ok(source) => (0..source.len()).for_each(|i| {
            let class = source.label(i).map_or("none", |l| &source.classes()[l as usize]);
            assert!(source.read(i).is_ok());
            println!("\nimage {} of {class}", source.name(i));
        }),
        Err(error) => println!("\nerror {error}"),
    }
}

/// What is told with these variables (`FPS`, `DEDUP`, `STOP`) set.
fn told(path: &Path, cache: &Path, spec: &Path, settings: &[(&str, f32)]) -> Told {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).env("PATH", path).env("SELFPATCH_CACHE", cache);
    command.env("SELFPATCH_TEST_SPEC", spec);
    command.envs(settings.iter().map(|(name, value)| (format!("SELFPATCH_TEST_{name}"), value.to_string())));
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
        for (name, text) in [("path/ffmpeg", FFMPEG), ("path/ffprobe", FFPROBE)] {
            fs::write(place.at(name), text).unwrap();
            fs::set_permissions(place.at(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
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
        self.told_with(&[("FPS", fps)])
    }

    fn told_with(&self, settings: &[(&str, f32)]) -> Told {
        told(&self.at("path"), &self.at("cache %d"), &self.at("videos"), settings)
    }

    /// Whether the stand-in that was called last still runs.
    fn is_running(&self) -> bool {
        let process = fs::read_to_string(self.at("path/process")).unwrap();
        Command::new("kill").args(["-0", process.trim()]).stderr(Stdio::null()).status().unwrap().success()
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
    let [begin, end, rate] = &first.said[..] else { panic!("{:?}", first.said) };
    let cache = place.at("cache %d/frames");
    let expected =
        format!("unpacking the frames of 2 videos into {}: about 50 frames, 4.6 MB (free: ", cache.display());
    assert!(begin.starts_with(&expected), "{begin}");
    assert_eq!((&**end, &**rate), ("unpacked 3 frames", "videos: 2 with every frame (data.video_fps = 0)"));
    let calls = place.calls();
    assert_eq!(calls.len(), 2);
    let input = format!("-i file:{}", place.at("videos/cat/12:30 a.MKV").display());
    assert!(calls[0].contains(&input) && calls[0].contains("-protocol_whitelist file"), "{}", calls[0]);
    assert!(calls[0].ends_with(" %06d.jpg"), "{}", calls[0]);

    // Again: nothing is done. One more: it alone. Changed: it alone.
    assert_eq!(place.told(0.), Told { images: first.images.clone(), said: vec![rate.clone()], ..Told::default() });
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
fn a_video_shorter_than_the_time_between_frames_gives_one() {
    let place = Place::with_stand_in();
    place.video("clip.3gp", "1 short 2\n");
    let told = place.told(0.1);
    assert_eq!((&told.images[..], &*told.error), (&["clip.3gp/000001.jpg of none".to_string()][..], ""), "{told:?}");
    let calls = place.calls();
    assert!(calls[0].contains("-vf fps=0.1 ") && calls[1].contains("-frames:v 1 "), "{calls:?}");
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
    ];
    assert_eq!(said.len(), expected.len(), "{said:?}");
    assert!(first.said[0].contains("1 links that lead nowhere (e.mp4)"), "{:?}", first.said);
    for (line, (name, reason)) in said.iter().zip(expected) {
        assert!(line.contains(&format!("{}: ", place.at("videos").join(name).display())), "{line}");
        assert!(line.ends_with(reason), "{line}");
    }
    // Bad ones are tried again, and leave nothing behind.
    assert_eq!((warnings(&place.told(0.)).len(), place.cached()), (2, 2));

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

#[test]
fn short_videos_give_every_frame_and_long_ones_two_per_second() {
    let place = Place::with_stand_in();
    place.video("short.mp4", "2 - 60\n");
    place.video("long.mp4", "2 - 61\n");
    place.video("endless.mp4", "2 - N/A\n");
    let told = place.told_with(&[]);
    assert_eq!((told.images.len(), &*told.error), (6, ""));
    let rate = "videos: 1 of up to a minute with every frame, 1 longer with 2 frames per second, 1 of unknown length \
                with 2 frames per second (data.video_fps = auto)";
    assert_eq!(told.said.last().map(String::as_str), Some(rate));
    // 60 s of 25 and 61 s of 2.
    let begin = &told.said[0];
    assert!(
        begin.contains("about 1622 frames, ") && begin.contains("; of 1 video nobody knows how many before"),
        "{begin}"
    );
    let calls = place.calls();
    let of = |name: &str| calls.iter().find(|call| call.contains(name)).unwrap();
    assert!(of("/long.mp4").contains("-vf fps=2 ") && of("endless.mp4").contains("-vf fps=2 "), "{calls:?}");
    assert!(!of("short.mp4").contains("fps="), "{calls:?}");
    // From the cache the same is said.
    assert_eq!(place.told_with(&[]).said, [rate]);
    // A video with fewer frames gives those that it has.
    let told = place.told(30.);
    let rate = "videos: 3 with every frame, as they have no more per second (data.video_fps = 30)";
    assert_eq!(told.said.last().map(String::as_str), Some(rate));
    assert!(place.calls().iter().all(|call| !call.contains("fps=")));
    // Without ffprobe it is ffmpeg that tells the length.
    fs::remove_file(place.at("path/ffprobe")).unwrap();
    fs::remove_dir_all(place.at("cache %d")).unwrap();
    let told = place.told_with(&[]);
    let rate = "videos: 3 longer with 2 frames per second (data.video_fps = auto)";
    assert_eq!((told.images.len(), told.said.last().map(String::as_str)), (6, Some(rate)));
}

#[test]
fn what_does_not_fit_the_disk_is_not_begun() {
    let place = Place::with_stand_in();
    place.video("a.mp4", "1\n");
    place.video("b.mp4", "1 - 1e12\n");
    let told = place.told(0.);
    let expected = ["data.video_fps: unpacking the frames of 2 videos", "GB are free", "SELFPATCH_CACHE"];
    assert!(expected.iter().all(|part| told.error.contains(part)), "{told:?}");
    assert_eq!((place.calls().len(), place.cached(), told.said.len()), (0, 0, 0));
    // A disk that fills up meanwhile is not the video's fault.
    place.video("b.mp4", "1 full\n");
    let told = place.told(0.);
    assert!(told.error.contains("b.mp4: the disk of ") && told.images.is_empty(), "{told:?}");
    assert_eq!(place.cached(), 1);
}

#[test]
fn a_stop_ends_it_and_leaves_nothing_behind() {
    let place = Place::with_stand_in();
    place.video("a.mp4", "2\n");
    place.video("b.mp4", "3 slow\n");
    place.video("c.mp4", "2\n");
    let begun = Instant::now();
    let told = place.told_with(&[("STOP", 8.)]);
    assert!(begun.elapsed() < Duration::from_secs(50));
    let expected = format!("stopped while {} was being unpacked; videos", place.at("videos/b.mp4").display());
    assert!(told.error.starts_with(&expected) && told.images.is_empty(), "{told:?}");
    // On the way it was told how far it was; the first video stays.
    let line = told.said.iter().find(|text| text.starts_with("unpacking: ")).unwrap();
    assert!(line.starts_with("unpacking: 5 of about 75 frames, video 2 of 3 ("), "{line}");
    assert_eq!((place.cached(), place.is_running()), (1, false));
    // Ended by somebody else it is no bad video either.
    for kind in ["killed", "told"] {
        place.video("b.mp4", &format!("3 {kind}\n"));
        let told = place.told_with(&[]);
        assert!(told.error.contains("b.mp4: ffmpeg was ended by ") && told.images.is_empty(), "{told:?}");
        assert_eq!(place.cached(), 1);
    }
}

#[test]
fn leftovers_go_at_the_next_start() {
    let place = Place::with_stand_in();
    place.video("a.mp4", "2\n");
    let at = |name: &str| place.at("cache %d/frames").join(name);
    let own = format!("b.partial-{}", std::process::id());
    for name in [&format!("a.partial-{}", u32::MAX), &own] {
        fs::create_dir_all(at(name)).unwrap();
        fs::write(at(name).join("000001.jpg"), "").unwrap();
    }
    assert_eq!(place.told(0.).images.len(), 2);
    // That of a process that lives, and the video.
    assert!(at(&own).is_dir() && place.cached() == 2);
}

#[test]
fn frames_that_are_nearly_the_same_are_left_out_on_request() {
    let place = Place::with_stand_in();
    let still = image::RgbImage::from_pixel(64, 48, image::Rgb([7, 8, 9]));
    still.save(place.at("path/still.png")).unwrap();
    place.video("a.mp4", "5 still\n");
    place.video("b.mp4", "2\n"); // no pictures: they stay
    let told = place.told_with(&[("FPS", 0.), ("DEDUP", 2.)]);
    let images = ["a.mp4/000001.jpg of none", "b.mp4/000001.jpg of none", "b.mp4/000002.jpg of none"];
    assert_eq!(told.images, images);
    let rate = "videos: 2 with every frame (data.video_fps = 0); 4 frames that are nearly the same as the one before are \
                left out (data.video_dedup = 2)";
    assert_eq!(told.said.last().map(String::as_str), Some(rate));
    assert_eq!(place.told_with(&[("FPS", 0.), ("DEDUP", 2.)]).said, [rate]);
    // Without the request all are there.
    assert_eq!(place.told(0.).images.len(), 7);
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
        let access = Access { cache: place.at("cache %d"), video_fps: Some(fps), ..Access::usual() };
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
