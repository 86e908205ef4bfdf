//! The images of a run, and the batches that are made of them.

use crate::{Config, Error};
use selfpatch_datasets::{Access, ImageSource, Loader, LoaderConfig, ProceduralImages};
use selfpatch_run::place::PROCEDURAL;
use std::sync::Arc;

/// The images that a run reads. `say` is told what takes long, which ends in an error once `stop` says so.
pub fn source(config: &Config, say: &dyn Fn(&str), stop: &dyn Fn() -> bool) -> Result<Arc<dyn ImageSource>, Error> {
    let data = &config.data;
    if data.path == PROCEDURAL {
        return Ok(Arc::new(ProceduralImages::new(config.seed, data.procedural_images, data.procedural_size)));
    }
    let (video_fps, video_dedup) = (data.video_fps.per_second(), data.video_dedup);
    let access = Access { video_fps, video_dedup, say, stop, ..Access::usual() };
    Ok(selfpatch_datasets::open(&data.path, &access)?)
}

/// The data as batches of crops.
pub(crate) fn loader(config: &Config, source: Arc<dyn ImageSource>) -> Result<Loader, Error> {
    let data = &config.data;
    let settings = LoaderConfig {
        threads: data.workers,
        ahead: data.prefetch,
        drop_last: data.drop_last,
        max_bad: data.max_bad,
        pillow: data.resizing(),
        ..LoaderConfig::new(config.optim.batch_size, config.seed)
    };
    Ok(Loader::new(source, config.crops.clone(), data.decoding(), settings)?)
}
