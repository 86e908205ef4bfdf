//! How often a step waits for its device; alone in its process, because the count is the process's.

mod common;

use common::{HYPER, crops, tiny};
use selfpatch_nn::transfer;
use selfpatch_train::candle_core::{DType, Device};
use selfpatch_train::config::Precision;
use selfpatch_train::{Error, Settings, Trainer};
use std::path::Path;

#[test]
fn every_step_reads_its_device_once() -> Result<(), Error> {
    for (precision, accumulate) in [(Precision::F32, 1), (Precision::Bf16, 2), (Precision::F16, 1)] {
        let mut config = tiny(Path::new("unused"));
        (config.optim.precision, config.optim.accumulate) = (precision, accumulate);
        let mut trainer = Trainer::new(Settings::of(&config)?, DType::F32, &Device::Cpu)?;
        let crops = crops(2);
        for step in 0..3 {
            let before = transfer::count();
            assert_eq!(trainer.step(&crops, 2, step, &HYPER)?.transfers, 1);
            assert_eq!(transfer::count() - before, 1);
        }
    }
    Ok(())
}
