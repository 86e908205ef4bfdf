//! The report in Markdown, for people and for `docs/benchmarks.md`.

use super::facts::Facts;
use super::job::Speed;
use super::report::{GpuReport, Parity, Program, Row, Run, Timed, median};
use super::worker::Answer;
use selfpatch_train::config::Precision;
use std::fmt::Write;

/// The whole report in Markdown.
pub fn markdown(report: &GpuReport) -> String {
    let mut out = format!("## gpu-check, {}\n", report.date);
    if let Some(facts) = &report.device {
        let _ = writeln!(out, "{}.", device(facts));
    }
    if !report.complete {
        let _ = writeln!(out, "Not finished: this is what was known after {:.0} s.", report.seconds);
    }
    if !report.parity.is_empty() || report.training.is_some() {
        out += "\n| check | result |\n|---|---|\n";
    }
    for p in &report.parity {
        let _ = writeln!(out, "| parity in {} | {} |", name(p.precision), parity(p));
    }
    for run in report.training.iter().flat_map(|t| &t.runs) {
        let _ = writeln!(out, "| loss curve in {} | {} |", name(run.precision), curve(run));
    }
    match &report.pytorch {
        Some(Answer::Done(versions)) => drop(write!(out, "\nBeside {versions}")),
        Some(Answer::Failed { error }) => drop(write!(out, "\nWithout PyTorch ({error})")),
        None => return out,
    }
    let autocast = report.speed.first().map_or("", |row| name(row.job.autocast));
    let _ = writeln!(out, ", in {autocast}; peak is the maker's, product what one large product reached:\n");
    out += "| model, images | GFLOP per image | images/s | of peak | of product | GB | as published: images/s, GB | \
            tuned | compiled | ratio | of its memory |\n|---|---|---|---|---|---|---|---|---|---|---|\n";
    report.speed.iter().for_each(|row| out += &speed(row));
    out += "\n| model, images | step, ms | teacher | student | loss | backward | update | readings |\n\
            |---|---|---|---|---|---|---|---|\n";
    report.speed.iter().for_each(|row| out += &phases(row));
    out
}

/// What a precision is called.
pub fn name(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
        Precision::F16 => "fp16",
    }
}

/// The device in a line.
pub fn device(f: &Facts) -> String {
    let said = |what: &str, value: &Option<String>| value.as_ref().map(|v| format!(", {what} {v}")).unwrap_or_default();
    let memory = f.memory_bytes.map(|bytes| format!(", {:.0} GB", bytes as f64 / 1e9)).unwrap_or_default();
    let peak = f.peak_tflops.map(|t| format!(", peak {t} TFLOP/s in bf16")).unwrap_or_default();
    format!(
        "{}, {} multiprocessors{memory}{}{}{}{peak}, {:.3} TFLOP/s measured in a product ({})",
        f.name,
        f.multiprocessors,
        said("compute capability", &f.compute_capability),
        said("driver", &f.driver),
        said("CUDA", &f.cuda),
        f.measured_tflops,
        f.measured_with
    )
}

/// A precision's checks in a few words.
pub fn parity(p: &Parity) -> String {
    match &p.outcome {
        Answer::Done(outcome) => {
            let (ok, failed) = outcome.counts();
            format!("{ok} checks passed, {failed} failed")
        }
        Answer::Failed { error } => format!("FAIL: {error}"),
    }
}

/// A curve's differences in a few words.
pub fn curve(run: &Run) -> String {
    match &run.outcome {
        Answer::Done(c) => format!(
            "{}: largest difference {:.1e} of the loss (allowed {:.0e}), mean {:.1e} (allowed {:.0e})",
            if c.passed { "ok" } else { "FAIL" },
            c.largest_relative,
            c.rule.relative,
            c.mean_absolute,
            c.rule.mean_absolute
        ),
        Answer::Failed { error } => format!("FAIL: {error}"),
    }
}

/// One line about what was just measured.
pub fn line(cell: &Speed, program: Program, row: &Row) -> String {
    let what = match row.programs.get(&program) {
        Some(Answer::Done(timed)) => format!("{:.1} images/s{}", timed.images_per_second, memory(timed)),
        Some(Answer::Failed { error }) => error.clone(),
        None => "-".into(),
    };
    format!("{}, {} images, {}: {what}", cell.shape.arch, cell.batch, called(program))
}

fn called(program: Program) -> &'static str {
    match program {
        Program::Selfpatch => "selfpatch",
        Program::Reference => "PyTorch as published",
        Program::Tuned => "PyTorch tuned",
        Program::Compiled => "PyTorch compiled",
    }
}

fn memory(timed: &Timed) -> String {
    timed.measured.peak_memory_bytes.map(|bytes| format!(", {:.2} GB", bytes as f64 / 1e9)).unwrap_or_default()
}

fn speed(row: &Row) -> String {
    let ours = row.timed(Program::Selfpatch);
    let cell = |program: Program| match row.programs.get(&program) {
        Some(Answer::Done(timed)) => format!("{:.1}{}", timed.images_per_second, memory(timed)),
        Some(Answer::Failed { error }) => error.replace('|', "/"),
        None => "-".into(),
    };
    let number = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    let speed = match ours {
        Some(timed) => format!("{:.1}", timed.images_per_second),
        None => cell(Program::Selfpatch),
    };
    let percent = |part: Option<f64>| number(part.map(|part| format!("{:.0} %", 100. * part)));
    let ratio = |ratio: Option<f64>| number(ratio.map(|r| format!("{r:.2}")));
    format!(
        "| {}, {} | {:.1} | {speed} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
        row.job.shape.arch,
        row.job.batch,
        row.gflop_per_image,
        percent(ours.and_then(|t| t.fraction_of_peak)),
        percent(ours.and_then(|t| t.fraction_of_measured)),
        number(ours.and_then(|t| t.measured.peak_memory_bytes).map(|b| format!("{:.2}", b as f64 / 1e9))),
        cell(Program::Reference),
        cell(Program::Tuned),
        cell(Program::Compiled),
        ratio(row.ratio),
        ratio(row.memory_ratio),
    )
}

fn phases(row: &Row) -> String {
    let Some(timed) = row.timed(Program::Selfpatch) else { return String::new() };
    let Some(p) = timed.measured.phases else { return String::new() };
    format!(
        "| {}, {} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {} |\n",
        row.job.shape.arch,
        row.job.batch,
        1e3 * median(&timed.measured.seconds),
        p.teacher,
        p.student,
        p.loss,
        p.backward,
        p.update,
        timed.measured.transfers.unwrap_or(0)
    )
}
