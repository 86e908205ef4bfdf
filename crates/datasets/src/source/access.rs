//! How sources are reached.

use std::path::PathBuf;

/// How sources are reached.
pub struct Access<'a> {
    /// Frames of a video per second of it; 0 for all; none for every frame of a video of up to a minute, and 2 per
    /// second of a longer one.
    pub video_fps: Option<f32>,
    /// Frames of a video are left out in which nothing differs by as many levels of 255 from the last one before them
    /// that is not; 0 for none.
    pub video_dedup: f32,
    /// Where frames of videos and copies of parquet files are kept.
    pub cache: PathBuf,
    /// Told what takes long.
    pub say: &'a dyn Fn(&str),
    /// Asked whether to stop what takes long, which then ends with [`Error::Stopped`](crate::Error::Stopped).
    pub stop: &'a dyn Fn() -> bool,
}

impl Access<'_> {
    /// As many frames as suit the length of a video, the user's cache folder (`SELFPATCH_CACHE`, else `selfpatch` in
    /// `XDG_CACHE_HOME` or `~/.cache`), nothing said, no stop.
    pub fn usual() -> Self {
        let of = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let cache = of("SELFPATCH_CACHE")
            .or_else(|| of("XDG_CACHE_HOME").map(|p| p.join("selfpatch")))
            .or_else(|| of("HOME").map(|p| p.join(".cache").join("selfpatch")))
            .unwrap_or_else(|| std::env::temp_dir().join("selfpatch-cache"));
        Self { video_fps: None, video_dedup: 0., cache, say: &|_| (), stop: &|| false }
    }
}
