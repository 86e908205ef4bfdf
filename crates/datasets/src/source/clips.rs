//! Frames of video files, taken out once by the `ffmpeg` program and kept in the cache.

use super::folder::{ImageFolder, below, is_image};
use super::left::LeftOut;
use super::{Content, ImageSource, Stamp, no_image};
use crate::Error;
use crate::file::contents;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Extensions of video files.
const EXTENSIONS: [&str; 9] = ["mp4", "m4v", "mov", "avi", "mkv", "webm", "mpg", "mpeg", "ts"];

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

impl Clips {
    /// The frames of `clips`, which lie below `root`, `fps` per second or all of them for 0. Each clip
    /// becomes a folder of JPEG files below `cache`, made when it is first met. A clip that ffmpeg cannot
    /// read is told of and passed over, unless no other is left; of a damaged one, what it can read counts.
    pub fn open(root: &Path, clips: &[PathBuf], fps: f32, cache: &Path, say: &dyn Fn(&str)) -> Result<Self, Error> {
        let cache = cache.join("frames");
        let (mut frames, mut first) = (Vec::new(), None);
        for (number, clip) in clips.iter().enumerate() {
            match frames_of(clip, fps, &cache, say) {
                Ok(files) => frames.extend(files.into_iter().map(|file| (number, file))),
                // Anything else than an unreadable clip would happen to the next one, too.
                Err(e @ Error::Decode { .. }) => {
                    say(&format!("warning: skipping a video: {e}"));
                    first.get_or_insert(e);
                }
                Err(e) => return Err(e),
            }
        }
        match first {
            Some(e) if frames.is_empty() => Err(e),
            _ => Ok(Self { videos: ImageFolder::of(root.to_path_buf(), clips.to_vec()), frames }),
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
        Stamp::of(&self.frames.get(index)?.1)
    }

    fn read(&self, index: usize) -> Result<Content, Error> {
        let (_, path) = self.frames.get(index).ok_or_else(|| no_image(index, self.len()))?;
        Ok(Content::File(contents(path)?))
    }
}

/// The images of a clip in the cache. Only an [`Error::Decode`] is the clip's fault.
fn frames_of(clip: &Path, fps: f32, cache: &Path, say: &dyn Fn(&str)) -> Result<Vec<PathBuf>, Error> {
    let name = super::open::fingerprint(&[clip.to_path_buf()], &format!("frames {fps}"));
    let folder = cache.join(name.map_err(|e| Error::decode(clip, e))?);
    if !folder.is_dir() {
        say(&format!("taking the frames out of {}", clip.display()));
        let partial = folder.with_extension(format!("partial-{}", std::process::id()));
        fs::create_dir_all(&partial).map_err(|e| Error::io(&partial, e))?;
        let made = extract(clip, fps, &partial, say).and_then(|()| match fs::rename(&partial, &folder) {
            // Another process was faster.
            Err(_) if folder.is_dir() => Ok(()),
            renamed => renamed.map_err(|e| Error::io(&folder, e)),
        });
        // What is left of a failed attempt is of no use; the first error is the one to report.
        let _ = fs::remove_dir_all(&partial);
        made?;
    }
    let [files] = below(&folder, [is_image], &mut LeftOut::default())?;
    Ok(files)
}

/// Runs ffmpeg in the folder that takes the images.
fn extract(clip: &Path, fps: f32, folder: &Path, say: &dyn Fn(&str)) -> Result<(), Error> {
    let whole = std::path::absolute(clip).map_err(|e| Error::io(clip, e))?;
    // A colon in the path would name a protocol otherwise, and a playlist could lead into the network.
    let mut input = OsString::from("file:");
    input.push(&whole);
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-protocol_whitelist", "file", "-i"]).arg(&input);
    match fps > 0. {
        true => command.args(["-vf", &format!("fps={fps}")]),
        // Frames at even times, so that each is written once, whatever times the clip has for them.
        false => command.args(["-vf", "setpts=N/25/TB", "-r", "25"]),
    };
    // Below the folder, because a percent sign in the path would be part of the pattern.
    command.args(["-q:v", "2", "-f", "image2", "%06d.jpg"]).current_dir(folder);
    let output = match command.stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let reason = "is a video, and there is no ffmpeg on the PATH to read it; install ffmpeg, or give a folder \
                          of frames";
            return Err(Error::layout(clip, reason));
        }
        Err(e) => return Err(Error::io(Path::new("ffmpeg"), e)),
    };
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text.lines().last().map(|l| l.strip_prefix(&*format!("{}: ", input.display())).unwrap_or(l));
    if !output.status.success() {
        return Err(Error::decode(clip, format!("ffmpeg: {}", last.unwrap_or("no reason given"))));
    }
    if below(folder, [is_image], &mut LeftOut::default())?[0].is_empty() {
        return Err(Error::decode(clip, "ffmpeg finds no frames in it"));
    }
    if let Some(last) = last {
        say(&format!("warning: {}: not all of it can be read; ffmpeg: {last}", clip.display()));
    }
    Ok(())
}
