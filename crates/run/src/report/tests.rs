//! The page as a whole.

use super::*;
use crate::LogWriter;
use crate::Numbers;
use crate::testing::{SHEET, Scratch, record};
use selfpatch_figures::MAX_POINTS;
use std::fs;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// The page of a run with these records, checked for sound structure.
fn report(test: &str, config: &str, records: &[Record]) -> Result<String, Box<dyn std::error::Error>> {
    let dir = Scratch::new(test)?;
    if !config.is_empty() {
        fs::write(dir.0.join("config.toml"), config)?;
    }
    let mut log = LogWriter::append(&dir.0)?;
    for r in records {
        log.write(r)?;
    }
    write_report(&dir.0, &SHEET)?;
    let html = fs::read_to_string(dir.0.join(FILE_NAME))?;
    assert_balanced(&html);
    for foreign in ["<script", "<link", "<img", "src=", "href=", "url(", "@import", "://"] {
        assert!(!html.contains(foreign), "{foreign}");
    }
    for nonsense in ["NaN", "inf\"", "inf ", "-0.0 "] {
        assert!(!html.contains(nonsense), "{nonsense}");
    }
    Ok(html)
}

/// Every element is closed in order, and no bare `<` or `>` is left between tags.
fn assert_balanced(html: &str) {
    let mut open = Vec::new();
    let body = html.strip_prefix("<!DOCTYPE html>\n").unwrap_or("");
    for piece in body.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').unwrap_or_default();
        let name = tag.split_whitespace().next().unwrap_or("");
        assert!(!name.is_empty() && !text.contains('>'), "{piece}");
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        if let Some(closed) = name.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed));
        } else if !["meta", "img"].contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty() && !body.is_empty());
}

/// The points of each curve in the page.
fn points(html: &str) -> Vec<usize> {
    html.lines()
        .flat_map(|line| line.split("<path class=\"c").skip(1))
        .map(|path| path.matches(['M', 'L']).count())
        .collect()
}

#[test]
fn no_record() -> Outcome {
    let html = report("report-0", "", &[])?;
    assert!(html.contains("no record yet") && html.contains("There is no <code>config.toml"));
    assert!(html.contains("-report-0</h1>"), "the folder's name");
    Ok(())
}

#[test]
fn one_record() -> Outcome {
    let html = report("report-1", "name = \"a b\"\nseed = 1", &[record(1)])?;
    assert!(html.contains("<h1>a b</h1>") && html.contains("seed = 1</pre>"));
    assert_eq!(points(&html), [1; 4]);
    assert_eq!(html.matches("h5\"").count(), 4);
    assert!(!html.contains("entropy"));
    Ok(())
}

#[test]
fn many_records_are_thinned_and_a_spike_survives() -> Outcome {
    let mut records: Vec<Record> = (1..=5000).map(record).collect();
    records[3001].numbers.set("train_loss", 77.0);
    for r in records.iter_mut().step_by(10) {
        r.numbers.set("teacher_entropy", 6.0);
    }
    let html = report("report-5000", "", &records)?;
    let counts = points(&html);
    assert_eq!(counts.len(), 5);
    assert!(counts.iter().all(|n| (250..=MAX_POINTS).contains(n)), "{counts:?}");
    assert!(html.contains(">80</text>") || html.contains(">60</text>"));
    assert!(html.contains(">5k</text>") && html.contains("Teacher entropy"));
    assert!(html.len() < 100_000, "{}", html.len());
    Ok(())
}

#[test]
fn what_is_not_finite_is_counted_and_left_out() -> Outcome {
    let mut records: Vec<Record> = (1..=1200).map(record).collect();
    for r in &mut records[600..1100] {
        r.numbers.set("train_loss", f64::NAN);
    }
    for (r, bad) in records.iter_mut().zip([f64::NAN, f64::INFINITY, f64::NEG_INFINITY]) {
        r.numbers.set("images_per_second", bad);
    }
    for r in &mut records {
        r.numbers.set("train_lr", f64::NAN);
        r.numbers.set("seconds", f64::NAN);
        r.numbers.set("teacher_entropy", f64::NAN);
    }
    let html = report("report-nan", "", &records)?;
    assert!(html.contains("<small>500 values were non-finite"));
    assert!(html.contains("<small>3 values were non-finite"));
    assert!(html.contains("learning rate non-finite"));
    let loss = html.split("<path class=\"c0\"").nth(1).and_then(|p| p.split("</path>").next());
    assert_eq!(loss.map(|p| p.matches('M').count()), Some(2), "one gap");
    Ok(())
}

#[test]
fn nothing_from_the_run_becomes_markup() -> Outcome {
    let config = "[run]\nname = \"</title><script>alert('1')</script>&\\u001b\"\n# <b onload=\"x\">\n";
    let html = report("report-markup", config, &[record(1)])?;
    assert!(html.contains("<h1>&lt;/title&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;\u{fffd}</h1>"));
    assert!(html.contains("# &lt;b onload=&quot;x&quot;&gt;"));
    Ok(())
}

#[test]
fn a_damaged_log_is_refused() -> Outcome {
    let dir = Scratch::new("report-damaged")?;
    fs::write(dir.0.join(log::FILE_NAME), "{}\n")?;
    let kind = write_report(&dir.0, &SHEET).err().map(|e| e.kind());
    assert_eq!(kind, Some(io::ErrorKind::InvalidData));
    Ok(())
}

/// Settings of a run of `epochs` epochs; a [`record`] is one of 100 steps per epoch.
fn settings(epochs: u64) -> String {
    format!("name = \"r\"\n[optim]\nepochs = {epochs}\n[head]\nout_dim = 512\n")
}

#[test]
fn the_page_refreshes_itself_until_the_end() -> Outcome {
    let records: Vec<Record> = (1..=100).map(record).collect();
    let running = report("report-running", &settings(2), &records)?;
    assert!(running.contains("<meta http-equiv=\"refresh\" content=\"30\">"));
    assert!(running.contains("<dd>100 of 200</dd>") && running.contains("<dt>Time left</dt><dd>30 s</dd>"));
    let begun = report("report-begun", &settings(2), &[])?;
    assert!(begun.contains("http-equiv=\"refresh\""));
    let finished = report("report-finished", &settings(1), &records)?;
    assert!(!finished.contains("http-equiv=\"refresh\"") && finished.contains("<dd>finished</dd>"));
    assert!(!report("report-unknown", "", &records)?.contains("http-equiv=\"refresh\""));
    Ok(())
}

#[test]
fn every_number_has_a_chart_and_a_word() -> Outcome {
    let full = |step: u64| {
        let r = record(step).with("teacher_entropy", 0.001).with("feature_rank", 12.0).with("grad_norm", 1.0);
        let r = r.with("data_wait", 0.01).with("skipped", 3u64);
        r.with_all(Numbers::default().with_some("top1", step.is_multiple_of(10).then_some(0.63)))
    };
    let records: Vec<Record> = (1..=30).map(full).collect();
    let html = report("report-full", &settings(1), &records)?;
    assert_eq!(html.matches("<svg").count(), 5);
    assert_eq!(html.matches("class=\"mark\"").count(), 2);
    // The scale reaches ln 512 = 6.24, far above the values.
    assert!(html.contains(">ln K: no answer</text>") && html.contains(">6</text>"));
    assert_eq!(html.matches(">fine</i>").count(), 4);
    assert!(html.contains("look: near 0: one answer"));
    assert_eq!(html.matches("<small>healthy: ").count(), 5);
    assert!(html.contains("<small>healthy: 0.12 to 5.9</small>"));
    assert!(html.contains("<dt>top-1</dt><dd>63.0 %</dd>"));
    assert!(html.contains("<dt>Skipped samples</dt><dd>3</dd>"));
    Ok(())
}

#[test]
fn alarms_are_listed_newest_first_and_harmless() -> Outcome {
    let dir = Scratch::new("report-alarms")?;
    LogWriter::append(&dir.0)?.write(&record(1))?;
    let line = |step| format!("{{\"step\":{step},\"kind\":\"collapse\",\"text\":\"<b>all</b> alike\"}}\n");
    fs::write(dir.0.join(alarms::FILE_NAME), (0..25).map(line).collect::<String>() + "{\"step\":")?;
    write_report(&dir.0, &SHEET)?;
    let html = fs::read_to_string(dir.0.join(FILE_NAME))?;
    assert_balanced(&html);
    assert_eq!(html.matches("&lt;b&gt;all&lt;/b&gt; alike").count(), 20);
    assert!(html.contains("Alarms before these: 5."));
    assert!(html.find("at step 24:").zip(html.find("at step 5:")).is_some_and(|(new, old)| new < old));
    Ok(())
}
