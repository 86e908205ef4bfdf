//! What matters most, above the charts: where the run is, what is wrong, how healthy it is.

use crate::alarms::Alarm;
use crate::health::Reading;
use crate::{Measured, Outline, Progress, Record, Sheet};
use selfpatch_figures::escape;
use selfpatch_figures::words::{duration, number};

/// Alarms shown; of more, the newest.
const ALARMS: usize = 20;

/// The newest numbers as a grid.
pub fn tiles(progress: &Progress, outline: &Outline, sheet: &Sheet, records: &[Record], last: &Record) -> String {
    let of = |value: String, all: Option<u64>| match all {
        Some(all) => format!("{value} of {all}"),
        None => value,
    };
    let left = match progress.seconds_left {
        _ if progress.is_finished() => Some(progress.cut().unwrap_or_else(|| "finished".to_owned())),
        left => left.map(duration),
    };
    let percent = |part: f64| if part.is_finite() { format!("{:.1} %", part * 100.0) } else { number(part) };
    let measured = |m: &Measured| {
        let newest = records.iter().rev().find_map(|r| r.get(m.field));
        (escape(m.label), newest.map(percent))
    };
    let tile = |label: &str, value: Option<String>| (label.to_owned(), value);
    let mut all = vec![
        tile("Steps", Some(of(last.step.to_string(), progress.steps))),
        tile("Epochs", Some(of(number(last.number("epoch")), outline.epochs))),
        tile("Time left", left),
        tile("Loss", Some(number(last.number(sheet.loss)))),
        tile("Images/s", Some(number(last.number("images_per_second")))),
        tile("Training time", Some(duration(last.number("seconds")))),
    ];
    all.extend(sheet.measured.iter().map(measured));
    all.push(tile("Skipped samples", last.get("skipped").map(|n| n.to_string())));
    let tile =
        |(label, value): (String, Option<String>)| Some(format!("<div><dt>{label}</dt><dd>{}</dd></div>", value?));
    format!("<dl>{}</dl>", all.into_iter().filter_map(tile).collect::<String>())
}

/// The alarms, newest first; nothing where there is none.
pub fn alarms(alarms: &[Alarm]) -> String {
    if alarms.is_empty() {
        return String::new();
    }
    let line = |a: &Alarm| format!("<li><b>{}</b> at step {}: {}</li>", escape(&a.kind), a.step, escape(&a.text));
    let lines: String = alarms.iter().rev().take(ALARMS).map(line).collect();
    let more = match alarms.len().checked_sub(ALARMS) {
        Some(more) if more > 0 => format!("<p class=\"note\">Alarms before these: {more}.</p>"),
        _ => String::new(),
    };
    format!("<h2>Alarms</h2>\n<ul class=\"alarms\">{lines}</ul>{more}")
}

/// Each health number with the range of healthy runs and its word.
pub fn health(readings: &[Reading]) -> String {
    let line = |r: &Reading| {
        let (word, why) = (r.word(), r.look.map_or(String::new(), |why| format!(": {why}")));
        let range = escape(&r.healthy);
        let value = number(r.value);
        format!(
            "<li><b>{}</b><span>{value}</span><small>healthy: {range}</small><i class=\"{word}\">{word}{why}</i></li>",
            r.label
        )
    };
    let lines: String = readings.iter().map(line).collect();
    format!("<h2>Health</h2>\n<ul class=\"health\">{lines}</ul>")
}
