//! All that a run writes as it goes, but for checkpoints.

use crate::{Alarm, AlarmLog, Error, EventWriter, FaultLog, LogWriter, Record, log};
use selfpatch_datasets::Fault;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Numbers of the log that are no curves of their own.
const NO_CURVES: [&str; 4] = ["epoch", "momentum", "seconds", "overflow"];

/// Log, faults, alarms and event files of a run.
pub(crate) struct Books {
    /// Seconds of all earlier sessions.
    pub earlier: f64,
    run: PathBuf,
    log: LogWriter,
    faults: FaultLog,
    alarms: AlarmLog,
    board: EventWriter,
}

impl Books {
    /// The books of the run in `run`, which goes on after `first` steps: what was written later is dropped.
    pub fn open(run: &Path, first: usize) -> Result<Self, Error> {
        log::truncate_after(run, first as u64)?;
        let earlier = log::read(run)?.last().map_or(0., |r| r.number("seconds"));
        let board = run.join("tb");
        let board = match first {
            0 => EventWriter::create(&board),
            step => EventWriter::resume(&board, step as i64 + 1),
        };
        Ok(Self {
            earlier,
            run: run.into(),
            log: LogWriter::append(run)?,
            faults: FaultLog::append(run)?,
            alarms: AlarmLog::append(run, first as u64)?,
            board: board.map_err(Error::io(run.join("tb")))?,
        })
    }

    /// Writes the numbers of a step into log and event file.
    pub fn record(&mut self, record: &Record) -> Result<(), Error> {
        self.log.write(record)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0., |d| d.as_secs_f64());
        let curves = record.numbers.iter().filter(|(name, _)| !NO_CURVES.contains(name));
        let values: Vec<(&str, f32)> = curves.map(|(name, number)| (name, number.value() as f32)).collect();
        self.board.scalars(record.step as i64, now, &values).map_err(Error::io(self.run.join("tb")))
    }

    /// Writes what is wrong with a sample, met in `step`.
    pub fn fault(&mut self, step: usize, fault: &Fault) -> Result<(), Error> {
        Ok(self.faults.write(step, fault)?)
    }

    /// Writes an alarm.
    pub fn alarm(&mut self, alarm: &Alarm) -> Result<(), Error> {
        Ok(self.alarms.write(alarm)?)
    }
}
