//! A run on a terminal, as lines of text.

use crate::{Alarm, Measured, Outline, Progress, Record, Sheet, health};
use console::style;
use selfpatch_figures::braille::chart;
use selfpatch_figures::words::{duration, number};
use std::path::Path;
use std::time::Duration;

/// Rows of the loss chart.
const ROWS: usize = 6;
/// Most columns of the loss chart.
const COLUMNS: usize = 100;
/// Columns before the loss chart, for the numbers of its axis.
const MARGIN: usize = 12;
/// Records over which the speed is averaged.
const RECENT: usize = 20;
/// Alarms shown; of more, the newest.
const ALARMS: usize = 5;
/// Seconds without a record after which a run may have stopped, however short its steps are.
const QUIET: f64 = 60.0;

/// A run at one moment.
pub struct View<'a> {
    /// Folder of the run.
    pub run: &'a Path,
    /// What the task of the run shows.
    pub sheet: &'a Sheet,
    /// What the configuration of the run says.
    pub outline: Outline,
    /// What the run logged.
    pub records: &'a [Record],
    /// Lines of the log that could not be read.
    pub unreadable: usize,
    /// What the run found wrong.
    pub alarms: Vec<Alarm>,
    /// Time since the log was written last.
    pub quiet: Option<Duration>,
}

impl View<'_> {
    /// How far the run is.
    pub fn progress(&self) -> Progress {
        Progress::of(&self.outline, self.records)
    }

    /// The whole screen, for `width` columns. Lines may be longer; those of a terminal that shows colours have some.
    pub fn lines(&self, width: usize) -> Vec<String> {
        screen(self, width)
    }
}

fn screen(view: &View, width: usize) -> Vec<String> {
    let mut lines = vec![format!("{}  {}", style(clean(&view.name())).bold(), clean(&view.run.display().to_string()))];
    let Some(last) = view.records.last() else {
        lines.push("The run has logged nothing yet.".into());
        lines.extend(alarms(&view.alarms));
        return lines;
    };
    // On a low terminal the end is cut off, so what matters most comes first.
    lines.extend([place(view, last), losses(view.sheet, last), state(view)]);
    lines.extend(alarms(&view.alarms));
    lines.push(String::new());
    lines.extend(loss_chart(view, width));
    lines.push(format!("{:<18}{:<11}{}", "", "now", "healthy"));
    for r in health::readings(&view.outline, view.sheet, view.records) {
        let word = match r.look {
            Some(why) => format!("{}: {why}", style(r.word()).yellow().bold()),
            None => r.word().to_owned(),
        };
        lines.push(format!("{:<18}{:<11}{:<20} {word}", r.label, number(r.value), r.healthy));
    }
    lines.extend(measured(view));
    let skipped = last.get("skipped").unwrap_or(0.);
    let which = if skipped > 0. { "; faults.jsonl names them" } else { "" };
    lines.push(format!("{:<18}{skipped}{which}", "skipped samples"));
    if view.unreadable > 0 {
        lines.push(format!("{:<18}{} in log.jsonl, passed over", "unreadable lines", view.unreadable));
    }
    lines
}

impl View<'_> {
    fn name(&self) -> String {
        self.outline.name_or_folder(self.run)
    }
}

/// Step, epoch, time left and speed of the run in one line.
fn place(view: &View, last: &Record) -> String {
    let progress = view.progress();
    let of = |all: Option<u64>| all.map_or(String::new(), |all| format!(" of {all}"));
    let mut parts = vec![
        format!("step {}{}", last.step, of(progress.steps)),
        format!("epoch {}{}", number(last.number("epoch")), of(view.outline.epochs)),
    ];
    if let Some(left) = progress.seconds_left.filter(|_| !progress.is_finished()) {
        parts.push(format!("{} left", duration(left)));
    }
    let recent =
        view.records.iter().rev().take(RECENT).map(|r| r.number("images_per_second")).filter(|v| v.is_finite());
    let (sum, count) = recent.fold((0.0, 0), |(sum, n), v| (sum + v, n + 1));
    if count > 0 {
        parts.push(format!("{} images/s", number(sum / f64::from(count))));
    }
    parts.push(format!("trained for {}", duration(last.number("seconds"))));
    parts.join(" | ")
}

fn losses(sheet: &Sheet, last: &Record) -> String {
    let parts = sheet.parts.iter().map(|(label, field)| format!("{label} {}", number(last.number(field))));
    // A linear probe has one loss.
    let has_parts = sheet.parts.iter().any(|(_, field)| last.get(field).is_some());
    let parts = if has_parts { format!(" ({})", parts.collect::<Vec<_>>().join(", ")) } else { String::new() };
    format!("loss {}{parts} | learning rate {}", number(last.number(sheet.loss)), number(last.number("train_lr")))
}

/// The loss from the first record to the last.
fn loss_chart(view: &View, width: usize) -> Vec<String> {
    let values: Vec<f64> = view.records.iter().map(|r| r.number(view.sheet.loss)).collect();
    let columns = width.saturating_sub(MARGIN + 1).clamp(1, COLUMNS);
    let Some(chart) = chart(&values, columns, ROWS) else { return vec!["no loss to draw".into()] };
    let label = |row: usize| match row {
        0 => number(chart.high),
        _ if row + 1 == ROWS => number(chart.low),
        _ if row == ROWS / 2 => "loss".into(),
        _ => String::new(),
    };
    let margin = MARGIN - 1;
    chart.rows.iter().enumerate().map(|(row, dots)| format!("{:>margin$} {dots}", label(row))).collect()
}

/// The last value of each measurement, where there are any.
fn measured(view: &View) -> Vec<String> {
    let last = |Measured { label, field }: &Measured| {
        let (step, value) = view.records.iter().rev().find_map(|r| Some((r.step, r.get(field)?)))?;
        let value = if value.is_finite() { format!("{:.1} %", 100.0 * value) } else { number(value) };
        Some(format!("{label:<18}{value:<11}at step {step}"))
    };
    view.sheet.measured.iter().filter_map(last).collect()
}

fn alarms(alarms: &[Alarm]) -> Vec<String> {
    if alarms.is_empty() {
        return vec![format!("{:<18}none", "alarms")];
    }
    let line = |a: &Alarm| {
        let kind = clean(&a.kind);
        format!("{:<18}{} at step {}: {}", "ALARM", style(kind).red().bold(), a.step, clean(&a.text))
    };
    let mut lines: Vec<String> = alarms.iter().rev().take(ALARMS).map(line).collect();
    if alarms.len() > ALARMS {
        lines.push(format!("{:<18}{} before these", "", alarms.len() - ALARMS));
    }
    lines
}

/// Whether the run is complete, goes on, or seems to have stopped.
fn state(view: &View) -> String {
    let progress = view.progress();
    if let Some(cut) = progress.cut() {
        return format!("The run {cut}; its command without that flag goes on.");
    }
    if progress.is_finished() {
        return format!("The run is complete: all {} steps are done.", progress.step);
    }
    let Some(quiet) = view.quiet.map(|q| q.as_secs_f64()) else { return "The log is gone.".into() };
    let recent = &view.records[view.records.len().saturating_sub(RECENT)..];
    let pace = match recent {
        [first, .., last] => (last.number("seconds") - first.number("seconds")) / (recent.len() - 1) as f64,
        _ => 0.0,
    };
    match quiet > QUIET.max(10.0 * pace) {
        true => {
            style(format!("No new record for {}: the run seems to have stopped.", duration(quiet))).yellow().to_string()
        }
        false => format!("The last record came {} ago.", duration(quiet)),
    }
}

/// Text of a run's files without what would steer the terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Numbers;
    use crate::testing::SHEET;

    fn record(step: u64) -> Record {
        [
            ("epoch", step as f64 / 100.0),
            ("train_loss", 5.0 - step as f64 / 100.0),
            ("train_clsloss", 4.0),
            ("train_lr", 5e-4),
            ("images_per_second", 50.0),
            ("seconds", step as f64 * 0.5),
            ("teacher_entropy", 2.5),
            ("data_wait", 0.5),
            ("skipped", 2.),
        ]
        .into_iter()
        .fold(Record::new(step), |r, (name, value)| r.with(name, value))
        .with_all(Numbers::default().with_some("top1", (step == 40).then_some(0.412)))
    }

    /// The screen of a run of two epochs of 100 steps.
    fn screen(records: &[Record], alarms: Vec<Alarm>, quiet: u64) -> String {
        let outline = Outline { name: Some("a\x1b[2Jb".into()), epochs: Some(2), ..Outline::default() };
        let quiet = Some(Duration::from_secs(quiet));
        let view = View { run: Path::new("runs/x"), sheet: &SHEET, outline, records, unreadable: 1, alarms, quiet };
        view.lines(80).join("\n")
    }

    #[test]
    fn a_run_is_told_in_words() {
        let records: Vec<Record> = (1..=50).map(record).collect();
        let text = screen(&records, vec![], 3);
        for part in [
            "step 50 of 200 | epoch 0.5000 of 2 | 1 min 15 s left | 50.00 images/s | trained for 25 s",
            "loss 4.500 (class 4.000) | learning rate 5.000e-4",
            "teacher entropy   2.500      0.02 to 0.95 ln K    fine",
            "waiting for data  0.5000     at most 0.2          look: the data is slow",
            "top-1             41.2 %     at step 40",
            "skipped samples   2; faults.jsonl names them",
            "alarms            none",
            "unreadable lines  1 in log.jsonl",
            "The last record came 3 s ago.",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(text.lines().filter(|l| l.chars().any(|c| ('\u{2801}'..='\u{28ff}').contains(&c))).count(), ROWS);
        assert!(!text.contains('\x1b'), "nothing steers the terminal");
    }

    #[test]
    fn the_end_and_silence_are_said() {
        let records: Vec<Record> = (1..=200).map(record).collect();
        assert!(screen(&records, vec![], 999).contains("The run is complete: all 200 steps are done."));
        let silent = screen(&records[..150], vec![], 185);
        assert!(silent.contains("No new record for 3 min 5 s: the run seems to have stopped."), "{silent}");
        // Steps of a minute each are given ten.
        let slow: Vec<Record> = (1..=50).map(|s| record(s).with("seconds", s as f64 * 60.0)).collect();
        assert!(screen(&slow, vec![], 185).contains("The last record came 3 min 5 s ago."));
        assert!(screen(&[], vec![], 5).contains("logged nothing yet"));
    }

    #[test]
    fn the_newest_alarms_come_first() {
        let alarm = |step| Alarm { step, kind: "collapse".into(), text: "all\x07 alike".into() };
        let text = screen(&[record(9)], (1..=7).map(alarm).collect(), 1);
        assert_eq!(text.matches("ALARM             collapse at step").count(), ALARMS);
        assert!(text.contains("collapse at step 7: all\u{fffd} alike") && text.contains("2 before these"));
    }
}
