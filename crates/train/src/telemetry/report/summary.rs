//! What matters most, above the charts: where the run is, what is wrong, how it feels.

use crate::telemetry::alarms::Alarm;
use crate::telemetry::health::Reading;
use crate::telemetry::html::escape;
use crate::telemetry::words::{duration, number};
use crate::telemetry::{Outline, Progress, Record};

/// Alarms shown; of more, the newest.
const ALARMS: usize = 20;

/// The newest numbers as a grid.
pub fn tiles(progress: &Progress, outline: &Outline, records: &[Record], last: &Record) -> String {
    let newest = |field: fn(&Record) -> Option<f64>| records.iter().rev().find_map(field);
    let of = |value: String, all: Option<u64>| match all {
        Some(all) => format!("{value} of {all}"),
        None => value,
    };
    let left = match progress.seconds_left {
        _ if progress.is_finished() => Some(progress.cut().unwrap_or_else(|| "finished".to_owned())),
        left => left.map(duration),
    };
    let percent = |part: f64| if part.is_finite() { format!("{:.1} %", part * 100.0) } else { number(part) };
    let all = [
        ("Steps", Some(of(last.step.to_string(), progress.steps))),
        ("Epochs", Some(of(number(last.epoch), outline.epochs))),
        ("Time left", left),
        ("Loss", Some(number(last.train_loss))),
        ("Images/s", Some(number(last.images_per_second))),
        ("Training time", Some(duration(last.seconds))),
        ("J&amp;F", newest(|r| r.davis_jf).map(percent)),
        ("k-NN top-1", newest(|r| r.knn_top1).map(percent)),
        ("Skipped samples", last.skipped.map(|n| n.to_string())),
    ];
    let tile = |(label, value): (&str, Option<String>)| Some(format!("<div><dt>{label}</dt><dd>{}</dd></div>", value?));
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
