//! What is known of a video before it is unpacked: by `ffprobe`, else by what `ffmpeg` says of its input.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a video says of itself, as far as it does.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Probe {
    /// Length of the video in seconds.
    pub seconds: Option<f64>,
    /// Frames per second.
    pub rate: Option<f64>,
    /// All frames.
    pub frames: Option<f64>,
    /// Pixels of a frame.
    pub pixels: Option<f64>,
}

/// A path as ffmpeg takes it: a colon in it would name a protocol otherwise.
pub(super) fn input(clip: &Path) -> OsString {
    let mut input = OsString::from("file:");
    input.push(std::path::absolute(clip).unwrap_or_else(|_| clip.to_path_buf()));
    input
}

/// What can be told of a video; nothing of one that cannot be read, and without ffprobe and ffmpeg.
pub(super) fn probe(clip: &Path) -> Probe {
    let ask = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        // A playlist could lead into the network.
        command.args(["-v", "error", "-protocol_whitelist", "file"]).args(args).arg(input(clip));
        command.stdin(Stdio::null()).output().ok()
    };
    const ENTRIES: &str = "stream=width,height,avg_frame_rate,nb_frames,duration:format=duration";
    let Some(output) = ask("ffprobe", &["-select_streams", "v:0", "-show_entries", ENTRIES, "-of", "json"]) else {
        // Without an output ffmpeg tells of the input and fails.
        let output = ask("ffmpeg", &["-v", "info", "-nostdin", "-hide_banner", "-i"]);
        return output.map_or(Probe::default(), |output| of_banner(&String::from_utf8_lossy(&output.stderr)));
    };
    let mut probe = of_json(&output.stdout);
    if probe.seconds.is_none() && output.status.success() {
        // Some files do not say how long they are: the last of their frames does.
        let times = ask("ffprobe", &["-select_streams", "v:0", "-show_entries", "packet=pts_time", "-of", "csv=p=0"]);
        of_times(&mut probe, &times.map_or(Vec::new(), |output| output.stdout));
    }
    probe
}

fn of_json(text: &[u8]) -> Probe {
    let json: serde_json::Value = serde_json::from_slice(text).unwrap_or_default();
    let (stream, format) = (&json["streams"][0], &json["format"]);
    let number = |value: &serde_json::Value| positive(value.as_f64().or_else(|| value.as_str()?.parse().ok()));
    let rate = stream["avg_frame_rate"].as_str().and_then(|text| {
        let (frames, seconds) = text.split_once('/')?;
        Some(frames.parse::<f64>().ok()? / seconds.parse::<f64>().ok()?)
    });
    let pixels = number(&stream["width"]).zip(number(&stream["height"])).map(|(width, height)| width * height);
    let seconds = number(&stream["duration"]).or(number(&format["duration"]));
    Probe { seconds, rate: positive(rate), frames: number(&stream["nb_frames"]), pixels }
}

/// From the times of all frames, a line for each.
fn of_times(probe: &mut Probe, text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    let times: Vec<f64> = text.lines().filter_map(|line| line.trim_end_matches(',').parse().ok()).collect();
    let (least, most) = times.iter().fold((f64::INFINITY, 0_f64), |(l, m), t| (l.min(*t), m.max(*t)));
    probe.seconds = positive(Some(most - least));
    probe.frames = probe.frames.or(positive(Some(times.len() as f64)));
}

/// From the lines `Duration: 00:01:02.50, ...` and `Stream ...: Video: ..., 64x48 [...], 25 fps, ...`.
fn of_banner(text: &str) -> Probe {
    let length = text.lines().find_map(|line| line.trim().strip_prefix("Duration: ")?.split(',').next());
    let seconds = length.and_then(|length| {
        let parts: Option<Vec<f64>> = length.split(':').map(|part| part.parse().ok()).collect();
        match parts?[..] {
            [hours, minutes, seconds] => Some(3600. * hours + 60. * minutes + seconds),
            _ => None,
        }
    });
    let stream = text.lines().find(|line| line.contains("Video: ")).unwrap_or_default();
    let pixels = stream.split([',', ' ']).find_map(|word| {
        let (width, height) = word.split_once('x')?;
        Some(width.parse::<u32>().ok()? as f64 * height.parse::<u32>().ok()? as f64)
    });
    let rate = stream.split(',').find_map(|part| part.trim().strip_suffix(" fps")?.parse().ok());
    Probe { seconds: positive(seconds), rate: positive(rate), frames: None, pixels: positive(pixels) }
}

fn positive(number: Option<f64>) -> Option<f64> {
    number.filter(|n| n.is_finite() && *n > 0.)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_programs_say_is_understood() {
        let json = br#"{"streams":[{"width":64,"height":48,"avg_frame_rate":"30000/1001","nb_frames":"90"}],
            "format":{"duration":"3.003000"}}"#;
        let probe = of_json(json);
        assert_eq!((probe.seconds, probe.frames, probe.pixels), (Some(3.003), Some(90.), Some(3072.)));
        assert!((probe.rate.unwrap() - 29.97).abs() < 0.01);
        let none = br#"{"streams":[{"avg_frame_rate":"0/0","nb_frames":"N/A"}],"format":{}}"#;
        assert_eq!([of_json(none), of_json(b"")], [Probe::default(), Probe::default()]);
        let mut probe = Probe::default();
        of_times(&mut probe, b"0.5\n2.0,\nN/A\n1.5\n");
        assert_eq!((probe.seconds, probe.frames), (Some(1.5), Some(3.)));
        let banner = "  Duration: 01:02:03.50, start: 0.000000, bitrate: 33 kb/s\n  Stream #0:0[0x1](und): Video: h264 \
                      (High) (avc1 / 0x31637661), yuv444p(progressive), 640x480 [SAR 1:1 DAR 4:3], 20 kb/s, 12.5 fps";
        let probe = of_banner(banner);
        assert_eq!((probe.seconds, probe.rate, probe.pixels), (Some(3723.5), Some(12.5), Some(307200.)));
    }
}
