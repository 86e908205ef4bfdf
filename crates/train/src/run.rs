//! A whole pre-training.

use crate::config::Precision;
use crate::init::init_from;
use crate::overlay::check_field;
use crate::pretraining::{Judge, Pretraining};
use crate::{Config, Error, Memory, data, older};
use candle_core::Device;
use selfpatch_datasets::{LoaderConfig, batch_memory};
use selfpatch_run::{Event, Resume, Session, Summary, checkpoint};
use std::cell::RefCell;
use std::path::Path;
use std::sync::atomic::Ordering;

/// Trains as `config` says, or continues where an earlier session of the same run stopped.
///
/// Data and settings are checked before anything is written. `judge` measures the teacher whenever
/// `eval.davis` or `eval.knn` says so.
///
/// # Errors
/// Impossible settings or data, a folder that holds another run, and whatever keeps the run from going on.
pub fn run(
    config: &Config,
    session: &Session,
    device: &Device,
    judge: Judge,
    mut tell: impl FnMut(Event),
) -> Result<Summary, Error> {
    config.check()?;
    let overrides: Vec<String> = session.overrides.iter().map(|name| older::place_now(name)).collect();
    overrides.iter().try_for_each(|name| check_field(name))?;
    for (then, now) in session.overrides.iter().zip(&overrides).filter(|(then, now)| then != now) {
        tell(Event::Warning(format!("--override {then}: its place is {now} now")));
    }
    let session = &Session { overrides: &overrides, resume: session.resume.clone(), ..*session };
    if device.is_cpu() && config.optim.precision != Precision::F32 {
        let text = "optim.precision: half precisions are for GPUs; on the CPU they are much slower than f32";
        tell(Event::Warning(text.into()));
    }
    let images = {
        let tell = RefCell::new(&mut tell);
        let say = |text: &str| (tell.borrow_mut())(Event::Notice(text));
        data::source(config, &say, &|| session.stop.load(Ordering::Relaxed))?
    };
    if device.is_cpu() {
        let made = LoaderConfig { ahead: config.data.prefetch, ..LoaderConfig::new(config.optim.batch_size, 0) };
        let prefetch = batch_memory(&config.crops, &config.data.decoding(), &made);
        // The order of an epoch, and what is known of each image.
        Memory::admit(config, prefetch.saturating_add(24 * images.len() as u64))?;
    }
    let mut task = Pretraining::new(config, images, device, judge)?;
    let begins = matches!(session.resume, Resume::Auto | Resume::Never)
        && (session.overwrite || checkpoint::list(&config.output_dir)?.is_empty());
    if begins && !config.init_from.is_empty() {
        // Before an earlier run gives way: it may be the one that the weights are of.
        let begun = init_from(Path::new(&config.init_from), &task.trainer, &config.data)?;
        tell(Event::Notice(&begun.told));
        if let Some(images) = begun.images {
            tell(Event::Warning(images));
        }
    }
    selfpatch_run::run(config, &mut task, session, &mut tell)
}
