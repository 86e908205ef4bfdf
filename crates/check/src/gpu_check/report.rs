//! `gpu-report.json`, written anew after every part, and the tables beside it.

use super::facts::Facts;
use super::job::Speed;
use super::peers::Versions;
use super::speed::Measured;
use super::training::Comparison;
use super::worker::Answer;
use crate::parity::Outcome;
use anyhow::Result;
use selfpatch_train::config::Precision;
use selfpatch_train::work;
use serde::Serialize;
use std::collections::BTreeMap;

use std::time::{SystemTime, UNIX_EPOCH};

/// Everything that was found. `docs/gpu-check.md` describes the fields.
#[derive(Serialize)]
pub struct GpuReport {
    schema: u32,
    program: String,
    /// When the check was started, UTC.
    pub date: String,
    quick: bool,
    minutes: f64,
    /// Seconds from the start of the check until the report was written.
    pub seconds: f64,
    /// Whether the check came to its end.
    pub complete: bool,
    /// Whether parity and training were passed, those that were wanted.
    pub passed: bool,
    /// Facts of the device.
    pub device: Option<Facts>,
    /// Comparisons with the original program.
    pub parity: Vec<Parity>,
    /// Loss curves.
    pub training: Option<Training>,
    /// The peer's versions, or why there is none.
    pub pytorch: Option<Answer<Versions>>,
    /// Training steps.
    pub speed: Vec<Row>,
}

/// All fixtures in one precision.
#[derive(Serialize)]
pub struct Parity {
    /// Precision of the comparisons.
    pub precision: Precision,
    /// Results of the checks.
    #[serde(flatten)]
    pub outcome: Answer<Outcome>,
}

/// Loss curves beside the CPU's.
#[derive(Serialize)]
pub struct Training {
    /// Number of steps.
    pub steps: usize,
    /// The CPU's losses in f32.
    pub cpu: Answer<Vec<f64>>,
    /// Loss curves of the device.
    pub runs: Vec<Run>,
}

/// One curve.
#[derive(Serialize)]
pub struct Run {
    /// Precision of the run.
    pub precision: Precision,
    /// How far the curve is from the CPU's.
    #[serde(flatten)]
    pub outcome: Answer<Comparison>,
}

/// Whose step is timed, and how it is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Program {
    /// This program.
    Selfpatch,
    /// PyTorch, as the original program computes.
    Reference,
    /// PyTorch by its fast paths.
    Tuned,
    /// PyTorch by its fast paths, through `torch.compile`.
    Compiled,
}

impl Program {
    /// All programs that do not compile.
    pub const EAGER: [Self; 3] = [Self::Selfpatch, Self::Reference, Self::Tuned];

    /// Flags that the peer is given.
    pub fn flags(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Selfpatch => &[],
            Self::Reference => &[("variant", "reference")],
            Self::Tuned => &[("variant", "tuned")],
            Self::Compiled => &[("variant", "compiled")],
        }
    }
}

/// Steps of one size.
#[derive(Serialize)]
pub struct Row {
    #[serde(flatten)]
    pub job: Speed,
    /// GFLOP of the products of matrices for one image, counted by hand.
    pub gflop_per_image: f64,
    /// Measured and derived values of each program.
    pub programs: BTreeMap<Program, Answer<Timed>>,
    /// Our images per second over those of the faster of `reference` and `tuned`.
    pub ratio: Option<f64>,
    /// Our peak memory over that of the faster of `reference` and `tuned`.
    pub memory_ratio: Option<f64>,
}

/// Steps of one program.
#[derive(Clone, Serialize)]
pub struct Timed {
    /// Images per second at the median of all timed steps.
    pub images_per_second: f64,
    /// Fraction of the peak that the maker states.
    pub fraction_of_peak: Option<f64>,
    /// Fraction of the measured rate of a large product.
    pub fraction_of_measured: Option<f64>,
    /// Number of rounds in which the program was measured.
    pub rounds: usize,
    #[serde(flatten)]
    pub measured: Measured,
}

impl Row {
    /// A row with nothing measured yet.
    pub fn of(job: &Speed) -> Self {
        let config = job.config();
        let gflop = config.vit().map_or(f64::NAN, |vit| work::flops(&config, &vit) / 1e9);
        Self {
            gflop_per_image: gflop / job.batch as f64,
            job: job.clone(),
            programs: BTreeMap::new(),
            ratio: None,
            memory_ratio: None,
        }
    }

    /// Whether it is of no use to measure `program` again.
    pub fn fails(&self, program: Program) -> bool {
        matches!(self.programs.get(&program), Some(Answer::Failed { .. }))
    }

    /// Measurements of `program`, if there are any.
    pub fn timed(&self, program: Program) -> Option<&Timed> {
        match self.programs.get(&program) {
            Some(Answer::Done(timed)) => Some(timed),
            _ => None,
        }
    }

    /// Measurements of the faster of `reference` and `tuned`.
    pub fn eager(&self) -> Option<&Timed> {
        let all = [Program::Reference, Program::Tuned].into_iter().filter_map(|program| self.timed(program));
        all.max_by(|a, b| a.images_per_second.total_cmp(&b.images_per_second))
    }

    /// Adds what was measured in one more round. A failure does not undo what was measured before.
    pub fn add(&mut self, program: Program, outcome: Result<Measured, String>, device: Option<&Facts>) {
        let before = self.timed(program).cloned();
        let outcome = match (outcome, before) {
            (Err(_), Some(before)) => Ok(before),
            (Err(error), None) => Err(error),
            (Ok(measured), before) => Ok(self.joined(measured, before, device)),
        };
        self.programs.insert(program, outcome.into());
        if let (Some(ours), Some(theirs)) = (self.timed(Program::Selfpatch), self.eager()) {
            let ratio = ours.images_per_second / theirs.images_per_second;
            let memory = ours.measured.peak_memory_bytes.zip(theirs.measured.peak_memory_bytes);
            let memory = memory.map(|(ours, theirs)| ours as f64 / theirs as f64);
            (self.ratio, self.memory_ratio) = (Some(ratio), memory);
        }
    }

    fn joined(&self, mut measured: Measured, before: Option<Timed>, device: Option<&Facts>) -> Timed {
        let rounds = 1 + before.as_ref().map_or(0, |before| before.rounds);
        if let Some(before) = before {
            measured.seconds.splice(0..0, before.measured.seconds);
            measured.phases = measured.phases.or(before.measured.phases);
        }
        let images_per_second = self.job.batch as f64 / median(&measured.seconds);
        let tflops = images_per_second * self.gflop_per_image / 1e3;
        Timed {
            images_per_second,
            fraction_of_peak: device.and_then(|d| d.peak_tflops).map(|peak| tflops / peak),
            fraction_of_measured: device.map(|d| tflops / d.measured_tflops),
            rounds,
            measured,
        }
    }
}

/// The median of at least one value.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n => (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.,
    }
}

impl GpuReport {
    /// A report with nothing found yet.
    pub fn new(minutes: f64, quick: bool) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        Self {
            schema: 1,
            program: format!("selfpatch {}", env!("CARGO_PKG_VERSION")),
            date: date(now),
            quick,
            minutes,
            seconds: 0.,
            complete: false,
            passed: false,
            device: None,
            parity: Vec::new(),
            training: None,
            pytorch: None,
            speed: Vec::new(),
        }
    }

    /// Decides whether what was wanted has passed.
    pub fn finish(&mut self, parity: bool, training: bool) -> bool {
        let exact = |p: &Parity| matches!(&p.outcome, Answer::Done(outcome) if outcome.passed);
        let close = |r: &Run| matches!(&r.outcome, Answer::Done(comparison) if comparison.passed);
        let runs = self.training.as_ref().map_or(&[][..], |t| &t.runs);
        let all_exact = !self.parity.is_empty() && self.parity.iter().all(exact);
        let all_close = !runs.is_empty() && runs.iter().all(close);
        (self.complete, self.passed) = (true, (!parity || all_exact) && (!training || all_close));
        self.passed
    }
}

/// Seconds since 1970 as a date and time in UTC.
fn date(seconds: u64) -> String {
    let (mut days, time) = (seconds / 86400, seconds % 86400);
    let leap = |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let length = |year: u64| if leap(year) { 366 } else { 365 };
    let mut year = 1970;
    while days >= length(year) {
        days -= length(year);
        year += 1;
    }
    let mut month = 1;
    for n in [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < n {
            break;
        }
        days -= n;
        month += 1;
    }
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_seconds() {
        assert_eq!(date(0), "1970-01-01T00:00:00Z");
        assert_eq!(date(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(date(1_798_761_599), "2026-12-31T23:59:59Z");
    }
}
