//! What asks a probe to end while features are made ends it there.

mod common;

use candle_core::Device;
use common::{WIDTH, config, encode, sets};
use selfpatch_datasets::Samples;
use selfpatch_finetune::linear::{FOLDER, Subject, run};
use selfpatch_run::{End, Error, Resume, Session};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn a_stop_while_features_are_made_ends_the_probe_and_keeps_whole_sets() -> Result<(), Error> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (sets, config) = (sets(64, 40), config(folder.path(), 1));
    let (stop, batches) = (AtomicBool::new(false), Cell::new(0));
    // Two batches of test images, then the first of the training images.
    let asked = |squares: &[Samples]| {
        batches.set(batches.get() + 1);
        stop.store(batches.get() == 3, Ordering::Relaxed);
        encode(squares)
    };
    let session = Session { overwrite: false, resume: Resume::Auto, overrides: &[], asked: &[], stop: &stop };
    let subjects = [Subject { name: "", encode: &asked, width: WIDTH }];
    let go = || run(&config, &session, &sets, &subjects, &Device::Cpu, &mut |_| ());
    let stopped = go()?;
    assert_eq!((stopped.summary.end, stopped.rows.len()), (End::Stopped(0), 0));
    assert_eq!(batches.get(), 3);
    let made = folder.path().join("probe").join(FOLDER);
    assert!(made.join("val.safetensors").is_file() && !made.join("train.safetensors").exists());
    // The same command makes the others and goes on.
    stop.store(false, Ordering::Relaxed);
    batches.set(10);
    let verdict = go()?;
    assert_eq!((batches.get(), verdict.summary.end, verdict.rows.len()), (12, End::Complete, 1));
    Ok(())
}
