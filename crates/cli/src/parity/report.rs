//! The table of checks.

use super::computing::Computing;
use anyhow::{Result, bail};
use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

/// How an error is measured and how large it may be.
#[derive(Clone, Copy)]
pub enum Tolerance {
    /// |got - want| / max(1, max|want|): fixtures of the reference program; 1e-6 in f32, 1e-11 in f64.
    Scaled(f64),
    /// |got - want| / max(max|want|, 1e-3): fixtures of the objectives; 2e-5.
    Relative(f64),
    /// |got - want|.
    Absolute(f64),
}

impl Tolerance {
    /// The fixtures' own tolerance of the reference program for a precision.
    pub fn reference(dtype: DType) -> Self {
        Self::Scaled(if dtype == DType::F64 { 1e-11 } else { 1e-6 })
    }

    fn limit(self) -> f64 {
        match self {
            Self::Scaled(t) | Self::Relative(t) | Self::Absolute(t) => t,
        }
    }
}

/// One line of the table.
#[derive(Clone, Serialize, Deserialize)]
pub struct Row {
    fixture: String,
    check: String,
    tensors: usize,
    largest_error: Option<f64>,
    tolerance: Option<f64>,
    verdict: String,
}

/// All checks.
#[derive(Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// Whether all were passed, and there were any.
    pub passed: bool,
    /// One row for all checks of one name.
    pub checks: Vec<Row>,
}

/// Results so far.
pub struct Report {
    computing: Computing,
    fixture: String,
    rows: Vec<Row>,
}

impl Report {
    /// Nothing yet; `computing` may widen tolerances.
    pub fn new(computing: &Computing) -> Self {
        Self { computing: computing.clone(), fixture: String::new(), rows: Vec::new() }
    }

    /// Names the fixture that the next checks belong to.
    pub fn begin(&mut self, fixture: &str) {
        self.fixture = fixture.to_string();
    }

    /// Compares two tensors; checks of one name are joined into one row.
    pub fn close(&mut self, check: &str, got: &Tensor, want: &Tensor, tolerance: Tolerance) -> Result<()> {
        if got.elem_count() != want.elem_count() {
            bail!("{check}: shape {:?}, the fixture has {:?}", got.dims(), want.dims());
        }
        let flat = |t: &Tensor| t.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>();
        let (got, want) = (flat(got)?, flat(want)?);
        let size = want.iter().fold(0f64, |m, w| m.max(w.abs()));
        let error = got.iter().zip(&want).fold(0f64, |m, (g, w)| {
            // A value that is not a number must not pass as "not larger".
            let d = (g - w).abs();
            if d.is_nan() { f64::INFINITY } else { m.max(d) }
        });
        let error = match tolerance {
            Tolerance::Scaled(_) => error / size.max(1.),
            Tolerance::Relative(_) => error / size.max(1e-3),
            Tolerance::Absolute(_) => error,
        };
        self.error(check, error, tolerance.limit());
        Ok(())
    }

    /// Records an error measured elsewhere.
    pub fn error(&mut self, check: &str, error: f64, limit: f64) {
        let limit = self.computing.tolerance(&self.fixture, check, limit);
        let same = |r: &&mut Row| r.fixture == self.fixture && r.check == check;
        match self.rows.iter_mut().rev().find(same) {
            Some(row) => {
                row.tensors += 1;
                row.largest_error = row.largest_error.map(|e| e.max(error));
                if error > limit || error.is_nan() {
                    row.verdict = "FAIL".into();
                }
            }
            None => self.rows.push(Row {
                fixture: self.fixture.clone(),
                check: check.to_string(),
                tensors: 1,
                largest_error: Some(error),
                tolerance: Some(limit),
                verdict: if error <= limit { "ok" } else { "FAIL" }.into(),
            }),
        }
    }

    /// Integers or bytes that must be equal.
    pub fn same(&mut self, check: &str, got: &[i64], want: &[i64]) {
        let differing = got.iter().zip(want).filter(|(g, w)| g != w).count() + got.len().abs_diff(want.len());
        self.error(check, differing as f64, 0.);
    }

    /// The current fixture has no check.
    pub fn no_check(&mut self) {
        self.note("-", "no check yet");
    }

    /// Whether nothing was compared since [`Report::begin`].
    pub fn is_silent(&self) -> bool {
        !self.rows.iter().any(|r| r.fixture == self.fixture)
    }

    /// The current fixture has no check, but a namesake in another folder has.
    pub fn passed_over(&mut self) {
        self.note("-", "no check yet (a namesake was checked)");
    }

    /// The current fixture could not be checked.
    pub fn failed(&mut self, why: &str) {
        self.note(why, "FAIL");
    }

    fn note(&mut self, check: &str, verdict: &str) {
        self.rows.push(Row {
            fixture: self.fixture.clone(),
            check: check.to_string(),
            tensors: 0,
            largest_error: None,
            tolerance: None,
            verdict: verdict.into(),
        });
    }

    /// Everything.
    pub fn outcome(self) -> Outcome {
        let mut outcome = Outcome { passed: false, checks: self.rows };
        outcome.passed = outcome.count("FAIL") + outcome.count("no check yet") == 0 && outcome.count("ok") > 0;
        outcome
    }
}

impl Outcome {
    fn count(&self, verdict: &str) -> usize {
        self.checks.iter().filter(|r| r.verdict == verdict).count()
    }

    /// How many checks were passed, how many failed.
    pub fn counts(&self) -> (usize, usize) {
        (self.count("ok"), self.count("FAIL"))
    }

    /// Prints the table.
    pub fn print(&self) {
        let number = |n: Option<f64>| n.map_or("-".to_string(), |n| format!("{n:.1e}"));
        let width = |f: fn(&Row) -> usize, least: usize| self.checks.iter().map(f).max().unwrap_or(0).max(least);
        let (a, b) = (width(|r| r.fixture.len(), 7), width(|r| r.check.len(), 5).min(60));
        say!("{:a$}  {:b$}  tensors  largest error  tolerance  verdict", "fixture", "check");
        for r in &self.checks {
            say!(
                "{:a$}  {:b$}  {:>7}  {:>13}  {:>9}  {}",
                r.fixture,
                r.check,
                r.tensors,
                number(r.largest_error),
                number(r.tolerance),
                r.verdict
            );
        }
        let ((ok, failed), unchecked) = (self.counts(), self.count("no check yet"));
        say!("{ok} checks passed, {failed} failed, {unchecked} fixtures without a check");
    }
}
