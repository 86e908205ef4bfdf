//! Frames of video files, taken out once by the `ffmpeg` program and kept in the cache.

use super::folder::{ImageFolder, files_below};
use crate::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Extensions of video files.
const EXTENSIONS: [&str; 9] = ["mp4", "m4v", "mov", "avi", "mkv", "webm", "mpg", "mpeg", "ts"];

/// Whether a name is that of a video file.
pub(super) fn is_clip(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension))
}

/// The frames of `clips`, which lie below `root`, `fps` per second or all of them for 0. Each clip
/// becomes a folder of JPEG files below `cache`, made at the first call.
pub(super) fn frames(
    root: &Path,
    clips: &[PathBuf],
    fps: f32,
    cache: &Path,
    say: &dyn Fn(&str),
) -> Result<ImageFolder, Error> {
    let folder = cache.join("frames").join(super::open::fingerprint(clips, &format!("fps {fps}"))?);
    for clip in clips {
        let below = clip.strip_prefix(root).ok();
        let target = folder.join(below.or(clip.file_name().map(Path::new)).unwrap_or(Path::new("video")));
        if !target.is_dir() {
            say(&format!("taking the frames out of {}", clip.display()));
            extract(clip, fps, &target)?;
        }
    }
    let frames = files_below(&folder, super::folder::is_image)?;
    if frames.is_empty() {
        return Err(Error::layout(root, "ffmpeg found no frames in the videos"));
    }
    Ok(ImageFolder::of(folder, frames))
}

/// Runs ffmpeg into a folder that gets its name when it is whole.
fn extract(clip: &Path, fps: f32, target: &Path) -> Result<(), Error> {
    let mut partial = target.as_os_str().to_owned();
    partial.push(format!(".partial-{}", std::process::id()));
    let partial = PathBuf::from(partial);
    fs::create_dir_all(&partial).map_err(|e| Error::io(&partial, e))?;
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-i"]).arg(clip);
    match fps > 0. {
        true => command.args(["-vf", &format!("fps={fps}")]),
        false => command.args(["-fps_mode", "passthrough"]),
    };
    command.args(["-q:v", "2", "-f", "image2"]).arg(partial.join("%06d.jpg"));
    let output = command.stdin(Stdio::null()).output();
    let result = match output {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::layout(
            clip,
            "is a video, and there is no ffmpeg on the PATH to read it; install ffmpeg, or give a folder of frames",
        )),
        Err(e) => Err(Error::io(Path::new("ffmpeg"), e)),
        Ok(output) if !output.status.success() => {
            let text = String::from_utf8_lossy(&output.stderr);
            let last = text.lines().last().unwrap_or("no reason given");
            Err(Error::decode(clip, format!("ffmpeg: {last}")))
        }
        Ok(_) => fs::rename(&partial, target).map_err(|e| Error::io(target, e)),
    };
    if result.is_err() {
        // What is left of a failed attempt is of no use; the first error is the one to report.
        let _ = fs::remove_dir_all(&partial);
    }
    result
}
