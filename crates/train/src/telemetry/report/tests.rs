//! The page as a whole.

use super::super::LogWriter;
use super::super::testing::{Scratch, record};
use super::chart::MAX_POINTS;
use super::*;
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
    write_report(&dir.0)?;
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
    assert_eq!(points(&html), [1; 6]);
    assert_eq!(html.matches("h5\"").count(), 6);
    assert!(!html.contains("entropy"));
    Ok(())
}

#[test]
fn many_records_are_thinned_and_a_spike_survives() -> Outcome {
    let mut records: Vec<Record> = (1..=5000).map(record).collect();
    records[3001].train_loss = 77.0;
    for r in records.iter_mut().step_by(10) {
        r.teacher_entropy = Some(6.0);
    }
    let html = report("report-5000", "", &records)?;
    let counts = points(&html);
    assert_eq!(counts.len(), 7);
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
        r.train_loss = f64::NAN;
    }
    for (r, bad) in records.iter_mut().zip([f64::NAN, f64::INFINITY, f64::NEG_INFINITY]) {
        r.images_per_second = bad;
    }
    for r in &mut records {
        r.train_wd = f64::NAN;
        r.seconds = f64::NAN;
        r.teacher_entropy = Some(f64::NAN);
    }
    let html = report("report-nan", "", &records)?;
    assert!(html.contains("<small>500 values were not finite"));
    assert!(html.contains("<small>3 values were not finite"));
    assert!(html.contains("weight decay not finite"));
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
    let kind = write_report(&dir.0).err().map(|e| e.kind());
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
    let full = |step| Record {
        teacher_entropy: Some(0.001),
        teacher_student_kl: Some(0.8),
        prototypes_used: Some(0.5),
        feature_std: Some(0.9),
        feature_rank: Some(12.0),
        grad_norm: Some(1.0),
        patch_agreement: Some(0.4),
        data_wait: Some(0.01),
        skipped: Some(3),
        davis_jf: (step % 10 == 0).then_some(0.41),
        knn_top1: (step % 10 == 0).then_some(0.63),
        ..record(step)
    };
    let records: Vec<Record> = (1..=30).map(full).collect();
    let html = report("report-full", &settings(1), &records)?;
    assert_eq!(html.matches("<svg").count(), 4 + 11);
    assert_eq!(html.matches("class=\"mark\"").count(), 2);
    // The scale reaches ln 512 = 6.24, far above the values.
    assert!(html.contains(">ln K: no answer</text>") && html.contains(">6</text>"));
    assert_eq!(html.matches(">fine</i>").count(), 8);
    assert!(html.contains("look: near 0: the teacher gives one answer"));
    assert_eq!(html.matches("<small>healthy: ").count(), 9);
    assert!(html.contains("<small>healthy: 0.12 to 5.9</small>"));
    assert!(html.contains("<dd>41.0 %</dd>") && html.contains("<dd>63.0 %</dd>"));
    assert!(html.contains("<dt>Skipped samples</dt><dd>3</dd>"));
    Ok(())
}

#[test]
fn alarms_are_listed_newest_first_and_harmless() -> Outcome {
    let dir = Scratch::new("report-alarms")?;
    LogWriter::append(&dir.0)?.write(&record(1))?;
    let line = |step| format!("{{\"step\":{step},\"kind\":\"collapse\",\"text\":\"<b>all</b> alike\"}}\n");
    fs::write(dir.0.join(alarms::FILE_NAME), (0..25).map(line).collect::<String>() + "{\"step\":")?;
    write_report(&dir.0)?;
    let html = fs::read_to_string(dir.0.join(FILE_NAME))?;
    assert_balanced(&html);
    assert_eq!(html.matches("&lt;b&gt;all&lt;/b&gt; alike").count(), 20);
    assert!(html.contains("Alarms before these: 5."));
    assert!(html.find("at step 24:").zip(html.find("at step 5:")).is_some_and(|(new, old)| new < old));
    Ok(())
}

#[test]
fn pictures_are_data_in_the_page() -> Outcome {
    let dir = Scratch::new("report-pictures")?;
    let views = dir.0.join(crate::views::FOLDER);
    fs::create_dir_all(&views)?;
    for crop in [0, 2] {
        fs::write(views.join(crate::views::positives_name(crop)), b"\x89PNG\r\n\x1a\nx")?;
        fs::write(views.join(crate::views::attention_name(crop, 1)), b"\x89PNG\r\n\x1a\ny")?;
    }
    fs::write(views.join(crate::views::attention_name(0, 0)), b"no picture")?;
    fs::write(views.join("other.png"), b"\x89PNG\r\n\x1a\nz")?;
    write_report(&dir.0)?;
    let html = fs::read_to_string(dir.0.join(FILE_NAME))?;
    assert_balanced(&html);
    assert_eq!(html.matches("src=\"data:image/png;base64,").count(), 4);
    assert!(html.contains("<b>Crop 1</b>") && html.contains("<b>Crop 3</b>") && !html.contains("<b>Crop 2</b>"));
    assert!(html.contains("img-src data:") && html.contains("rgb(255,80,70)"));
    Ok(())
}
