//! What `train` and `eval-linear` show while they run: one line that changes on a terminal, lines one after the other elsewhere.

use console::Term;
use selfpatch_figures::words::duration;
use selfpatch_output::lost;
use selfpatch_run::{Estimate, Event, Measured, Record, Sheet, Shorter};
use std::cell::{Cell, RefCell};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Columns of a line at most: terminals of 80 do not wrap it.
const WIDTH: usize = 79;
/// Time between two lines that are not on a terminal.
const PAUSE: Duration = Duration::from_secs(5);
/// Time between two changes of the line on a terminal.
const BLINK: Duration = Duration::from_millis(100);
/// Steps after which the time of the run is estimated anew, from how long they took.
const FEW: u64 = 5;

/// Goes to the beginning of the line and removes it.
const CLEAR: &str = "\r\x1b[K";

/// Shows the events of a run.
pub struct Show {
    /// Where the line that changes is; none where standard error is no terminal.
    terminal: Option<Term>,
    /// The line that the terminal shows now.
    shown: RefCell<String>,
    /// Steps at which the run ends.
    steps: u64,
    /// Steps that were done before this session.
    first: u64,
    /// When the first step of this session was done.
    begun: Option<Instant>,
    estimate: Option<Estimate>,
    last_line: Option<Instant>,
    /// When measurements were told last.
    last_measured: Option<Instant>,
    /// Running mean of images per second.
    speed: f64,
    /// Running mean of the part of the time that is spent waiting for data.
    wait: f64,
    /// What the task shows.
    sheet: Sheet,
    /// The last value of each measurement of the sheet.
    measured: Vec<Option<f64>>,
    /// Whether it was told that lines are lost.
    told: Cell<bool>,
    /// Whether standard output is left to the result, and only what is wrong is said, on standard error.
    quiet: bool,
}

impl Show {
    /// Display of a task with this sheet, with nothing shown yet.
    pub fn new(sheet: Sheet) -> Self {
        // Dumb terminals cannot remove a line.
        let terminal = std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|name| name != "dumb");
        Self {
            terminal: terminal.then(Term::stderr),
            shown: RefCell::default(),
            steps: 0,
            first: 0,
            begun: None,
            estimate: None,
            last_line: None,
            last_measured: None,
            speed: 0.,
            wait: 0.,
            measured: vec![None; sheet.measured.len()],
            sheet,
            told: Cell::new(false),
            quiet: false,
        }
    }

    /// Display of only what is wrong, on standard error: standard output is left to the result.
    pub fn quiet(sheet: Sheet) -> Self {
        let mut show = Self::new(sheet);
        (show.terminal, show.quiet) = (None, true);
        show
    }

    /// Shows what has happened.
    pub fn event(&mut self, event: Event) {
        match event {
            Event::Start { .. } | Event::Estimate(_) | Event::Step(_) | Event::Saved(_) | Event::Notice(_)
                if self.quiet => {}
            Event::Start { images, about, first_step, steps, steps_per_epoch } => {
                (self.steps, self.first) = (steps as u64, first_step as u64);
                self.say(&format!("{images} images per epoch, {steps_per_epoch} steps per epoch, {steps} steps"));
                about.iter().for_each(|line| self.say(line));
                if first_step > 0 {
                    self.say(&format!("continuing after step {first_step}"));
                }
            }
            Event::Estimate(estimate) => {
                let steps = self.steps - self.first;
                let left = if self.first > 0 { " left" } else { "" };
                self.say(&format!("the {steps} steps{left} take about {}", about(estimate.left)));
                advice(&estimate.shorter).iter().for_each(|line| self.say(line));
                self.estimate = Some(estimate.clone());
            }
            Event::Step(record) => self.step(record),
            Event::Saved(path) => self.say(&format!("saved {}", path.display())),
            Event::Fault(fault) => {
                let what = if fault.bad { "skipped" } else { "note:" };
                self.say(&format!("{what} {}: {}", fault.name, fault.reason));
            }
            Event::Alarm(alarm) => {
                self.say(&format!("ALARM ({}) after step {}: {}", alarm.kind, alarm.step, alarm.text))
            }
            Event::Notice(text) => self.say(text),
            Event::Warning(text) => self.say(&format!("warning: {text}")),
        }
    }

    fn step(&mut self, r: &Record) {
        let speed = r.number("images_per_second");
        self.speed = if self.speed == 0. { speed } else { 0.95 * self.speed + 0.05 * speed };
        self.wait = 0.95 * self.wait + 0.05 * r.get("data_wait").unwrap_or(0.);
        for (value, m) in self.measured.iter_mut().zip(self.sheet.measured) {
            *value = r.get(m.field).or(*value);
        }
        // The line that changes may have no room for them.
        let lines = measured(&self.sheet, r);
        let is_time = self.last_measured.is_none_or(|t| t.elapsed() > PAUSE) || r.step == self.steps;
        if !lines.is_empty() && (is_time || !self.sheet.often) {
            self.last_measured = Some(Instant::now());
            lines.iter().for_each(|line| self.say(line));
        }
        let left = self.left(r.step);
        let parts = self.parts(r, left);
        let pause = if self.terminal.is_some() { BLINK } else { PAUSE };
        if self.last_line.is_none_or(|t| t.elapsed() > pause) || r.step == self.steps {
            self.last_line = Some(Instant::now());
            match &self.terminal {
                Some(terminal) => self.show(joined(&parts, columns(terminal))),
                None => self.line(&joined(&parts, WIDTH)),
            }
        }
        if r.step == self.first + FEW && r.step < self.steps {
            let all =
                if self.first == 0 { format!(", {} in all", about(r.number("seconds") + left)) } else { String::new() };
            self.say(&format!("after {FEW} steps: about {} left{all}", about(left)));
        }
    }

    /// Seconds that the steps after `step` take, if they take as long as those of this session on average. The first
    /// one, which makes buffers, does not count.
    fn left(&mut self, step: u64) -> f64 {
        let Some(begun) = self.begun else {
            self.begun = Some(Instant::now());
            return self.estimate.as_ref().map_or(0., |e| e.step) * (self.steps - step) as f64;
        };
        let done = (step - self.first).saturating_sub(1).max(1);
        begun.elapsed().as_secs_f64() / done as f64 * (self.steps - step) as f64
    }

    /// The parts of a line, the most important ones first.
    fn parts(&self, r: &Record, left: f64) -> Vec<String> {
        let mut parts = vec![
            format!("{} %", (100 * r.step).checked_div(self.steps).unwrap_or(100)),
            format!("left {}", clock(left)),
            format!("loss {}", digits(r.number(self.sheet.loss))),
            format!("{} images/s", digits(self.speed)),
            format!("elapsed {}", clock(r.number("seconds"))),
        ];
        parts.extend(r.get("skipped").filter(|n| *n > 0.).map(|n| format!("{n} bad images")));
        if self.wait >= 0.02 {
            parts.push(format!("data wait {:.0} %", 100. * self.wait));
        }
        parts.push(format!("step {}/{}", r.step, self.steps));
        let last = self.sheet.measured.iter().zip(&self.measured);
        parts.extend(last.filter_map(|(m, value)| Some(format!("{} {:.2}", m.label, 100. * (*value)?))));
        parts.push(format!("epoch {:.2}", r.number("epoch")));
        parts.push(format!("lr {:.1e}", r.number("train_lr")));
        parts
    }

    /// Says a line beside the progress.
    pub fn say(&self, line: &str) {
        match &self.terminal {
            // A terminal that is gone ends no run.
            Some(terminal) => _ = terminal.write_str(&format!("{CLEAR}{line}\n{}", self.shown.borrow())),
            None if self.quiet => note!("{line}"),
            None => self.line(line),
        }
    }

    /// Puts a line in place of that which the terminal shows.
    fn show(&self, line: String) {
        if let Some(terminal) = &self.terminal {
            let _ = terminal.write_str(&format!("{CLEAR}{line}"));
            self.shown.replace(line);
        }
    }

    /// Whether there was anything to train.
    pub fn has_begun(&self) -> bool {
        self.steps > 0
    }

    /// Leaves the line that changes as it is now: what is said afterwards begins another one.
    pub fn finish(&self) {
        if let Some(terminal) = self.terminal.as_ref().filter(|_| !self.shown.take().is_empty()) {
            let _ = terminal.write_str("\n");
        }
    }

    /// Prints to standard output. That lines are lost is told once; the run goes on, and has its log.
    pub fn line(&self, line: &str) {
        say!("{line}");
        if let Some(e) = lost().filter(|_| !self.told.replace(true)) {
            note!("note: standard output: {e}; training goes on");
        }
    }
}

impl Drop for Show {
    /// Ends the line that changes, so that what is said afterwards, such as an error, begins a new one.
    fn drop(&mut self) {
        self.finish();
    }
}

/// Measurements after a step, a line each.
fn measured(sheet: &Sheet, r: &Record) -> Vec<String> {
    let line = |m: &Measured| {
        Some(format!("{} after step {}: {} {:.2}", sheet.subject, r.step, m.label, 100. * r.get(m.field)?))
    };
    sheet.measured.iter().filter_map(line).collect()
}

/// Columns that a line may have on this terminal.
fn columns(terminal: &Term) -> usize {
    // A terminal without a size is taken for a usual one. A full line would move the cursor to the next.
    terminal.size_checked().map_or(WIDTH, |(_, columns)| usize::from(columns).saturating_sub(1)).min(WIDTH)
}

/// The first parts that fit into `width` columns; the first one always.
fn joined(parts: &[String], width: usize) -> String {
    let mut line = parts.first().cloned().unwrap_or_default();
    for part in parts.iter().skip(1) {
        if console::measure_text_width(&line) + 2 + console::measure_text_width(part) > width {
            break;
        }
        line += "  ";
        line += part;
    }
    line
}

/// What would shorten a long run.
fn advice(shorter: &[Shorter]) -> Vec<String> {
    let mut lines = Vec::new();
    for (i, way) in shorter.iter().enumerate() {
        if i == 0 {
            lines.push("to shorten that:".into());
        }
        let mut line = format!("  about {} with", about(way.seconds));
        for flag in way.flags.split(" --") {
            let flag = if flag.starts_with("--") { flag.to_string() } else { format!("--{flag}") };
            if line.len() + 1 + flag.len() > WIDTH {
                lines.push(std::mem::replace(&mut line, " ".repeat(4)));
            }
            line += " ";
            line += &flag;
        }
        lines.push(line);
        lines.extend(way.then.map(|then| format!("    ({then})")));
    }
    lines
}

/// Words for a time whose exact length nobody knows.
fn about(seconds: f64) -> String {
    duration(seconds.max(1.))
}

/// A time as clocks show it, days in words.
fn clock(seconds: f64) -> String {
    let whole = if seconds.is_finite() { seconds.max(0.).round() as u64 } else { 0 };
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours, minutes, seconds) if hours < 100 => format!("{hours}:{minutes:02}:{seconds:02}"),
        (hours, ..) => format!("{} d {} h", hours / 24, hours % 24),
    }
}

/// Four digits of a number, three of one that is large, in few columns.
fn digits(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if !value.is_finite() => "-".into(),
        _ if size < 10. => format!("{value:.3}"),
        _ if size < 100. => format!("{value:.2}"),
        _ if size < 1e6 => format!("{value:.0}"),
        _ => format!("{value:.2e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfpatch_train::SHEET;

    fn show(steps: u64) -> Show {
        let mut show = Show::new(SHEET);
        (show.steps, show.speed, show.wait) = (steps, 1234.5, 0.4);
        show.measured = vec![Some(0.41), Some(0.8)];
        show
    }

    fn record(step: u64, seconds: f64) -> Record {
        let numbers = [("epoch", 299.99), ("train_loss", 12.34567), ("train_lr", 5e-4), ("seconds", seconds)];
        let record = numbers.into_iter().fold(Record::new(step), |r, (name, value)| r.with(name, value));
        record.with("skipped", 123_456_u64)
    }

    #[test]
    fn a_line_fits_and_drops_whole_parts_from_its_end() {
        for (steps, seconds, left) in [(10, 1., 2.), (640, 4000., 359_999.), (99_999_999, 9e6, 9e7)] {
            let show = show(steps);
            let parts = show.parts(&record(steps - 1, seconds), left);
            let whole = joined(&parts, usize::MAX);
            for width in [1, 4, 20, 39, 59, 79, 200] {
                let line = joined(&parts, width);
                assert!(line.len() <= width.max(parts[0].len()), "{width}: {line}");
                assert!(whole.starts_with(&line), "{line}");
                assert!(line == whole || whole[line.len()..].starts_with("  "), "cut within a part: {line}");
            }
            let line = joined(&parts, WIDTH);
            for part in [" %", "left ", "loss 12.35", "images/s", "elapsed "] {
                assert!(line.contains(part), "{part}: {line}");
            }
            let place = |part: &str| line.find(part);
            assert!(place(" %") < place("left") && place("left") < place("loss") && place("loss") < place("images/s"));
        }
    }

    #[test]
    fn a_usual_line_has_the_step_too() {
        let mut show = Show::new(SHEET);
        (show.steps, show.speed) = (640, 741.26);
        let r = Record::new(120).with("epoch", 0.19).with("train_loss", 5.12345).with("seconds", 3723.);
        let line = joined(&show.parts(&r, 45_000.), WIDTH);
        assert_eq!(line, "18 %  left 12:30:00  loss 5.123  741 images/s  elapsed 1:02:03  step 120/640");
        // Non-finite numbers, as of a step that was left out.
        let r = r.with("train_loss", f64::NAN);
        assert!(joined(&show.parts(&r, f64::NAN), 40).starts_with("18 %  left 0:00  loss -  741 images/s"));
    }

    #[cfg(unix)]
    #[test]
    fn the_last_line_stays_on_a_terminal() -> std::io::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        let terminal = Term::read_write_pair(file.reopen()?, file.reopen()?);
        let mut show = show(2);
        show.terminal = Some(terminal);
        (1..=2).for_each(|step| show.step(&record(step, 1.)));
        show.finish();
        show.finish();
        drop(show);
        let text = std::fs::read_to_string(file.path())?;
        let last = text.strip_suffix('\n').and_then(|text| text.rsplit(CLEAR).next()).unwrap_or_default();
        assert!(last.starts_with("100 %  left 0:00  loss 12.35"), "{text:?}");
        Ok(())
    }

    #[test]
    fn what_was_measured_has_a_line_of_its_own() {
        let r = Record::new(640).with("davis_jf", 0.387_71).with("knn_top1", 0.5);
        let lines = measured(&SHEET, &r);
        assert_eq!(lines, ["teacher after step 640: J&F 38.77", "teacher after step 640: k-NN top-1 50.00"]);
        assert!(measured(&SHEET, &Record::default()).is_empty());
    }

    #[test]
    fn advice_fits_too() {
        let ways = ["--epochs 7", "--out-dim 4096 --out-dim-selfpatch 1024 --set head.hidden_dim=512"];
        let then = Some("smaller images first; then few epochs of the full size with --init-from");
        let ways = ways.map(|flags| Shorter { flags: flags.into(), seconds: 1e7, then });
        let lines = advice(&ways);
        assert!(lines.iter().all(|line| line.len() <= WIDTH), "{lines:#?}");
        let text = lines.join("\n");
        assert!(text.contains("about 115 d 17 h with --epochs 7\n"), "{text}");
        assert!(text.contains("--set head.hidden_dim=512"), "{text}");
        assert!(advice(&[]).is_empty());
    }

    #[test]
    fn times_read_well() {
        let shown = [0., 44.4, 59.6, 3599., 3600., 86_399., 360_000., f64::INFINITY].map(clock);
        assert_eq!(shown, ["0:00", "0:44", "1:00", "59:59", "1:00:00", "23:59:59", "4 d 4 h", "0:00"]);
    }
}
