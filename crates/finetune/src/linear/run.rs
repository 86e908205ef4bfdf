//! A whole linear probe.

use super::features::Noticed;
use super::probe::{Probe, Sets, Subject};
use super::settings::Config;
use candle_core::Device;
use selfpatch_run::{Error, Event, Record, Session, Summary, log};
use serde::Serialize;

/// What a probe found out.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// How the session ended.
    pub summary: Summary,
    /// A row for each subject, in order; empty for a session that was stopped before the first epoch had ended.
    pub rows: Vec<Row>,
    /// Images that could not be read, and the like, in this session or in the one that made the features.
    pub noticed: Noticed,
}

/// How well the features of one model are classified.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The subject's name.
    #[serde(skip)]
    pub name: &'static str,
    /// How often the class is the first guess, 0 to 1.
    pub top1: f64,
    /// How often the class is among the first five guesses, 0 to 1.
    pub top5: f64,
    /// Learning rate of the classifier, for 256 images per step.
    pub rate: f64,
    /// Top-1 of a classifier of the same rate on the held-out tenth, 0 to 1; `None` where there was no choice.
    pub held_out_top1: Option<f64>,
}

/// Probes as `config` says, or continues where an earlier session of the same run stopped.
///
/// # Errors
/// Impossible settings, a folder that holds another run, and whatever keeps the run from going on.
pub fn run(
    config: &Config,
    session: &Session,
    sets: &Sets,
    subjects: &[Subject],
    device: &Device,
    tell: &mut dyn FnMut(Event),
) -> Result<Verdict, Error> {
    config.check()?;
    let mut probe = Probe::new(config, sets, subjects, device)?;
    let summary = selfpatch_run::run(config, &mut probe, session, tell)?;
    let last = log::read(&summary.folder)?.into_iter().rev().find(|record| record.get("top1").is_some());
    let rows = last.iter().flat_map(|record| subjects.iter().map(|subject| Row::of(subject.name, record)));
    Ok(Verdict { rows: rows.collect(), noticed: Noticed::of(&summary.folder)?, summary })
}

impl Row {
    fn of(name: &'static str, record: &Record) -> Self {
        let number = |what: &str| match name {
            "" => record.get(what),
            name => record.get(&format!("{name}_{what}")),
        };
        let known = |what: &str| number(what).unwrap_or(f64::NAN);
        Self {
            name,
            top1: known("top1"),
            top5: known("top5"),
            rate: known("rate"),
            held_out_top1: number("held_out_top1"),
        }
    }
}
