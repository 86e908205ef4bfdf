//! Frames of video files, taken out once by the `ffmpeg` program and kept in the cache.

use super::alike::remove_alike;
use super::folder::{ImageFolder, below, is_image};
use super::left::LeftOut;
use super::partial::{Partial, sweep};
use super::probe::{Probe, input, probe};
use super::{Access, Content, ImageSource, Stamp, no_image};
use crate::Error;
use crate::file::contents;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Extensions of video files.
const EXTENSIONS: [&str; 16] =
    ["mp4", "m4v", "mov", "avi", "mkv", "webm", "mpg", "mpeg", "ts", "flv", "wmv", "mts", "m2ts", "3gp", "3g2", "ogv"];

/// Seconds up to which a video gives every frame by default.
const SHORT: f64 = 60.;

/// Frames per second of longer ones.
const USUAL: f32 = 2.;

/// Bytes of a JPEG file for each pixel, at the quality of the frames: a guess. A test picture takes 0.1, a fractal 0.28,
/// noise 0.73.
const BYTES: f64 = 0.3;

/// Bytes that stay free on the disk of the cache.
const RESERVE: u64 = 1 << 26;

/// Time between two lines that tell how far it is.
const EVERY: Duration = Duration::from_secs(3);

/// Whether a name is that of a video file.
pub(super) fn is_clip(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension))
}

/// The frames of some videos, called by their video and number, of the class of their video.
pub(super) struct Clips {
    videos: ImageFolder,
    /// The video of each frame and the image in the cache.
    frames: Vec<(usize, PathBuf)>,
}

/// What was made of a video, as the cache has it beside the frames.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct About {
    /// Length of the video in seconds, where it is known.
    seconds: Option<f64>,
    /// Frames that were taken out per second; none for every frame.
    fps: Option<f32>,
    /// Frames that were left out because they show nearly the same as the one before.
    alike: usize,
}

/// A video that is not in the cache yet.
struct Wanted<'a> {
    /// Among all videos.
    number: usize,
    clip: &'a Path,
    folder: PathBuf,
    probe: Probe,
    fps: Option<f32>,
}

impl Wanted<'_> {
    /// Frames that it will have.
    fn frames(&self) -> Option<f64> {
        let Probe { seconds, rate, frames, .. } = self.probe;
        match self.fps {
            Some(fps) => seconds.map(|seconds| (seconds * f64::from(fps)).max(1.)),
            None => frames.or(seconds.zip(rate).map(|(seconds, rate)| (seconds * rate).max(1.))),
        }
    }

    /// Bytes that these will take.
    fn bytes(&self) -> Option<f64> {
        self.frames().zip(self.probe.pixels).map(|(frames, pixels)| frames * (pixels * BYTES + 600.))
    }
}

impl Clips {
    /// The frames of `clips`, which lie below `root`, as many as `access` says. Each clip becomes a folder of JPEG
    /// files in the cache, made when it is first met. A clip that ffmpeg cannot read is told of and passed over,
    /// unless no other is left; of a damaged one, what it can read counts.
    ///
    /// # Errors
    /// Before anything is written, if the frames would not fit the disk; [`Error::Stopped`] if `access` says so, and
    /// whatever is no fault of the clip.
    pub fn open(root: &Path, clips: &[PathBuf], access: &Access) -> Result<Self, Error> {
        let cache = access.cache.join("frames");
        sweep(&cache);
        let (mut faults, mut wanted, mut folders) = (Vec::new(), Vec::new(), vec![None; clips.len()]);
        let mut bad = |number: usize, e: Error| {
            (access.say)(&format!("warning: skipping a video: {e}"));
            faults.push((number, e));
        };
        for ((number, clip), folder) in clips.iter().enumerate().zip(&mut folders) {
            stopped(access, clip)?;
            let how = match access.video_fps {
                Some(fps) => format!("frames {fps}"),
                None => "frames auto".into(),
            };
            let how = if access.video_dedup > 0. { format!("{how} alike {}", access.video_dedup) } else { how };
            match super::fingerprint::fingerprint(std::slice::from_ref(clip), &how) {
                Ok(name) => *folder = Some(cache.join(name)),
                Err(e) => bad(number, Error::decode(clip, e)),
            }
            if let Some(folder) = folder.as_ref().filter(|folder| !folder.is_dir()) {
                let probe = probe(clip);
                let fps = rate(access.video_fps, &probe);
                wanted.push(Wanted { number, clip, folder: folder.clone(), probe, fps });
            }
        }
        let free = foretell(&wanted, &cache, access)?;
        let mut progress = Progress::of(&wanted, access);
        for wanted in &wanted {
            progress.begin(wanted.clip);
            match unpack(wanted, free.is_some(), access, &mut progress) {
                Ok(()) => progress.end(),
                // Anything else than an unreadable clip would happen to the next one, too.
                Err(e @ Error::Decode { .. }) => bad(wanted.number, e),
                Err(e) => return Err(e),
            }
        }
        if !wanted.is_empty() {
            (access.say)(&format!("unpacked {} frames", progress.done));
        }
        let mut frames = Vec::new();
        let mut abouts = Vec::new();
        for (number, folder) in folders.iter().enumerate() {
            let Some(folder) = folder.as_ref().filter(|folder| folder.is_dir()) else { continue };
            let about = fs::read(folder.join(ABOUT)).ok().and_then(|text| serde_json::from_slice(&text).ok());
            abouts.push(about.unwrap_or(About { fps: access.video_fps.filter(|fps| *fps > 0.), ..About::default() }));
            frames.extend(images(folder)?.into_iter().map(|file| (number, file)));
        }
        match faults.into_iter().min_by_key(|(number, _)| *number) {
            Some((_, e)) if frames.is_empty() => Err(e),
            _ => {
                (access.say)(&summary(&abouts, access));
                Ok(Self { videos: ImageFolder::of(root.to_path_buf(), clips.to_vec()), frames })
            }
        }
    }
}

impl ImageSource for Clips {
    fn len(&self) -> usize {
        self.frames.len()
    }

    fn name(&self, index: usize) -> String {
        let Some((video, file)) = self.frames.get(index) else { return format!("image {index}") };
        let frame = file.file_name().unwrap_or_default().to_string_lossy();
        format!("{}/{frame}", self.videos.name(*video))
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.videos.label(self.frames.get(index)?.0)
    }

    fn classes(&self) -> &[String] {
        self.videos.classes()
    }

    fn stamp(&self, index: usize) -> Option<Stamp> {
        // Of the video: its frames may be taken out anew.
        Stamp::of(self.videos.paths().get(self.frames.get(index)?.0)?)
    }

    fn read(&self, index: usize) -> Result<Content, Error> {
        let (_, path) = self.frames.get(index).ok_or_else(|| no_image(index, self.len()))?;
        Ok(Content::File(contents(path)?))
    }
}

/// The file with an [`About`].
const ABOUT: &str = "about.json";

/// Images in a folder of the cache.
fn images(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let [files] = below(folder, [is_image], &mut LeftOut::default())?;
    Ok(files)
}

/// Frames per second to take of a video, none for all: what is wanted, or else what suits its length; never more
/// than it has.
fn rate(wanted: Option<f32>, probe: &Probe) -> Option<f32> {
    let fps = match wanted {
        Some(fps) => fps,
        None if probe.seconds.is_some_and(|seconds| seconds <= SHORT) => 0.,
        None => USUAL,
    };
    Some(fps).filter(|fps| *fps > 0. && probe.rate.is_none_or(|rate| f64::from(*fps) < rate))
}

/// Tells what the frames of the videos will take. Returns the space that is free, where that can be found out.
fn foretell(wanted: &[Wanted], cache: &Path, access: &Access) -> Result<Option<u64>, Error> {
    if wanted.is_empty() {
        return Ok(None);
    }
    fs::create_dir_all(cache).map_err(|e| Error::io(cache, e))?;
    let free = fs4::available_space(cache).ok();
    let frames: f64 = wanted.iter().filter_map(Wanted::frames).sum();
    let bytes: f64 = wanted.iter().filter_map(Wanted::bytes).sum();
    let unknown = wanted.iter().filter(|w| w.bytes().is_none()).count();
    let what = format!("the frames of {} into {}", videos(wanted.len()), cache.display());
    let mut about = Vec::new();
    if unknown < wanted.len() {
        about.push(format!("about {frames:.0} frames, {}", size(bytes)));
    }
    if unknown > 0 {
        about.push(format!("of {} nobody knows how many before", videos(unknown)));
    }
    let about = about.join("; ");
    let room = free.map_or(String::new(), |free| format!(" (free: {})", size(free as f64)));
    if let Some(free) = free.filter(|free| bytes > free.saturating_sub(RESERVE) as f64) {
        let reason = format!(
            "unpacking {what} would take {about}, and {} are free; take fewer frames (--set data.video_fps=1), or name \
             a folder on a larger disk by SELFPATCH_CACHE",
            size(free as f64)
        );
        return Err(Error::Config { field: "data.video_fps", reason });
    }
    (access.say)(&format!("unpacking {what}: {about}{room}"));
    Ok(free)
}

/// A number of bytes for people.
fn size(bytes: f64) -> String {
    match bytes {
        _ if bytes >= 1e9 => format!("{:.1} GB", bytes / 1e9),
        _ => format!("{:.1} MB", bytes / 1e6),
    }
}

fn videos(count: usize) -> String {
    if count == 1 { "1 video".into() } else { format!("{count} videos") }
}

/// How many frames of the videos are used, in one line.
fn summary(abouts: &[About], access: &Access) -> String {
    let is_long = |about: &&About| about.seconds.is_some_and(|seconds| seconds > SHORT);
    let per_second = |fps: f32| format!("{fps} frames per second");
    let count = |of: &dyn Fn(&&About) -> bool| abouts.iter().filter(of).count();
    let (every, some) = (count(&|about| about.fps.is_none()), count(&|about| about.fps.is_some()));
    let parts: Vec<String> = match access.video_fps {
        None => {
            let all_long = count(&|about| is_long(about) && about.fps.is_none());
            let unknown = count(&|about| about.seconds.is_none() && about.fps.is_some());
            let parts = [
                (every - all_long, "of up to a minute with every frame".to_string()),
                (some - unknown, format!("longer with {}", per_second(USUAL))),
                (all_long, "longer with every frame, as they have no more per second".to_string()),
                (unknown, format!("of unknown length with {}", per_second(USUAL))),
            ];
            parts.into_iter().filter(|(n, _)| *n > 0).map(|(n, text)| format!("{n} {text}")).collect()
        }
        Some(fps) => {
            let less = if fps > 0. { ", as they have no more per second" } else { "" };
            let parts = [(some, per_second(fps)), (every, format!("every frame{less}"))];
            parts.into_iter().filter(|(n, _)| *n > 0).map(|(n, text)| format!("{n} with {text}")).collect()
        }
    };
    let fps = access.video_fps.map_or("auto".into(), |fps| fps.to_string());
    let mut text = format!("videos: {} (data.video_fps = {fps})", parts.join(", "));
    if access.video_dedup > 0. {
        let alike: usize = abouts.iter().map(|about| about.alike).sum();
        text += &format!(
            "; {alike} frames that are nearly the same as the one before are left out (data.video_dedup = {})",
            access.video_dedup
        );
    }
    text
}

/// Tells how far it is, every few seconds.
struct Progress<'a> {
    access: &'a Access<'a>,
    said: Instant,
    /// Frames of the videos that are done.
    done: usize,
    /// Frames of all, as far as that is known.
    all: f64,
    videos: usize,
    number: usize,
    /// The video at hand and its frames.
    name: String,
    own: usize,
}

impl<'a> Progress<'a> {
    fn of(wanted: &[Wanted], access: &'a Access<'a>) -> Self {
        let (all, videos) = (wanted.iter().filter_map(Wanted::frames).sum(), wanted.len());
        Self { access, said: Instant::now(), done: 0, all, videos, number: 0, name: String::new(), own: 0 }
    }

    fn begin(&mut self, clip: &Path) {
        self.number += 1;
        self.own = 0;
        self.name = clip.display().to_string();
    }

    fn end(&mut self) {
        self.done += std::mem::take(&mut self.own);
    }

    /// Counts the numbered images of a folder, and tells if it is time.
    fn look(&mut self, folder: &Path) {
        while folder.join(format!("{:06}.jpg", self.own + 1)).exists() {
            self.own += 1;
        }
        if self.said.elapsed() >= EVERY {
            self.said = Instant::now();
            let have = self.done + self.own;
            let of = if self.all > 0. { format!(" of about {:.0}", self.all) } else { String::new() };
            let Self { number, videos, name, .. } = self;
            (self.access.say)(&format!("unpacking: {have}{of} frames, video {number} of {videos} ({name})"));
        }
    }
}

/// Refuses to go on if that is asked for.
fn stopped(access: &Access, clip: &Path) -> Result<(), Error> {
    match (access.stop)() {
        true => Err(Error::Stopped {
            what: format!("while {} was being unpacked; videos that were finished before are kept", clip.display()),
        }),
        false => Ok(()),
    }
}

/// Fills the folder of a video in the cache. Only an [`Error::Decode`] is the clip's fault.
fn unpack(wanted: &Wanted, is_metered: bool, access: &Access, progress: &mut Progress) -> Result<(), Error> {
    let partial = Partial::of(&wanted.folder)?;
    fs::create_dir(partial.path()).map_err(|e| Error::io(partial.path(), e))?;
    let usual = match wanted.fps {
        Some(fps) => vec!["-vf".to_string(), format!("fps={fps}")],
        // Frames at even times, so that each is written once, whatever times the clip has for them.
        None => ["-vf", "setpts=N/25/TB", "-r", "25"].map(String::from).to_vec(),
    };
    extract(wanted, &usual, is_metered, partial.path(), access, progress)?;
    if wanted.fps.is_some() && images(partial.path())?.is_empty() {
        // A clip that is shorter than the time between two frames still gives one.
        let one = ["-frames:v", "1"].map(String::from);
        extract(wanted, &one, is_metered, partial.path(), access, progress)?;
    }
    if images(partial.path())?.is_empty() {
        return Err(Error::decode(wanted.clip, "ffmpeg finds no frames in it"));
    }
    let mut about = About { seconds: wanted.probe.seconds, fps: wanted.fps, alike: 0 };
    if access.video_dedup > 0. {
        match remove_alike(&images(partial.path())?, access.video_dedup, access.stop) {
            Some(alike) => about.alike = alike,
            None => stopped(access, wanted.clip)?,
        }
    }
    stopped(access, wanted.clip)?;
    let path = partial.path().join(ABOUT);
    let text = serde_json::to_vec(&about).map_err(|e| Error::encode(&path, e))?;
    fs::write(&path, text).map_err(|e| Error::io(&path, e))?;
    partial.keep_as(&wanted.folder)
}

/// A program that ends with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What ffmpeg complained of.
#[derive(Default)]
struct Complaint {
    last: Option<String>,
    is_full: bool,
}

impl Complaint {
    /// From its standard error, to the end.
    fn read(from: impl Read) -> Self {
        let mut complaint = Self::default();
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim().to_string();
            complaint.is_full |= line.contains("No space left on device");
            complaint.last = Some(line).filter(|line| !line.is_empty()).or(complaint.last);
        }
        complaint
    }
}

/// Runs ffmpeg in the folder that takes the images; `frames` says which.
fn extract(
    wanted: &Wanted,
    frames: &[String],
    is_metered: bool,
    folder: &Path,
    access: &Access,
    progress: &mut Progress,
) -> Result<(), Error> {
    let clip = wanted.clip;
    let input = input(clip);
    let mut command = Command::new("ffmpeg");
    // A playlist could lead into the network.
    command.args(["-nostdin", "-v", "error", "-protocol_whitelist", "file", "-i"]).arg(&input);
    command.args(frames);
    // Below the folder, because a percent sign in the path would be part of the pattern.
    command.args(["-q:v", "2", "-f", "image2", "%06d.jpg"]).current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut running = match command.spawn() {
        Ok(child) => Running(child),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let reason = "is a video, and there is no ffmpeg on the PATH to read it; install ffmpeg, or give a folder \
                          of frames";
            return Err(Error::layout(clip, reason));
        }
        Err(e) => return Err(Error::io(Path::new("ffmpeg"), e)),
    };
    let errors = running.0.stderr.take();
    let listener = thread::spawn(move || errors.map_or_else(Complaint::default, Complaint::read));
    let full = || {
        let reason = format!("the disk of {} is full; what was being unpacked is removed again", folder.display());
        Error::layout(clip, reason)
    };
    let mut pause = Duration::from_millis(2);
    let status = loop {
        if let Some(status) = running.0.try_wait().map_err(|e| Error::io(Path::new("ffmpeg"), e))? {
            break status;
        }
        stopped(access, clip)?;
        progress.look(folder);
        if is_metered && fs4::available_space(folder).is_ok_and(|free| free < RESERVE) {
            return Err(full());
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    };
    progress.look(folder);
    let complaint = listener.join().unwrap_or_default();
    if let Some(how) = interrupted(status) {
        // Whoever pressed Ctrl-C meant this program as well, and its turn may come a moment later.
        let asked = Instant::now();
        while asked.elapsed() < Duration::from_millis(500) {
            stopped(access, clip)?;
            thread::sleep(Duration::from_millis(10));
        }
        return Err(Error::layout(clip, format!("ffmpeg was ended {how} while it read this video; start again")));
    }
    stopped(access, clip)?;
    if complaint.is_full {
        return Err(full());
    }
    let prefix = format!("{}: ", input.display());
    let last = complaint.last.as_deref().map(|l| l.strip_prefix(&*prefix).unwrap_or(l));
    if !status.success() {
        return Err(Error::decode(clip, format!("ffmpeg: {}", last.unwrap_or("no reason given"))));
    }
    if let Some(last) = last {
        (access.say)(&format!("warning: {}: not all of it can be read; ffmpeg: {last}", clip.display()));
    }
    Ok(())
}

/// How ffmpeg was ended by somebody else, if it was: by a signal that ends it, or one that it obeys.
fn interrupted(status: ExitStatus) -> Option<String> {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return Some(format!("by signal {signal}"));
    }
    (status.code() == Some(255)).then(|| "by a signal".into())
}
