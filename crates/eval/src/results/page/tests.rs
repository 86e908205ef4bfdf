//! Pages of results, drawn of scores that were made for it.

use super::*;
use crate::about::{About, facts};
use crate::scores::{DavisReport, SequenceReport};
use selfpatch_datasets::{Mask, ProceduralVideos, write_mask};
use serde_json::json;
use std::fs;
use tempfile::TempDir;

/// A run of synthetic scores whose masks are the true ones, moved to the right.
fn run(folder: &TempDir, label: &str, videos: &ProceduralVideos, shift: usize, score: fn(usize) -> f64) -> Run {
    let mut sequences = Vec::new();
    for name in videos.sequences() {
        let masks = folder.path().join("masks").join(&name);
        fs::create_dir_all(&masks).unwrap();
        let count = videos.frames(&name).unwrap();
        let names: Vec<String> = (0..count).map(|i| videos.frame_name(&name, i).unwrap()).collect();
        for (i, frame) in names.iter().enumerate() {
            let Mask { width, height, mut ids } = videos.mask(&name, i).unwrap().unwrap();
            ids.rotate_right(if i == 0 { 0 } else { shift });
            write_mask(masks.join(format!("{frame}.png")), &Mask { width, height, ids }).unwrap();
        }
        let scored = 1..count - 1;
        let values = [0.0, 0.1].map(|less| scored.clone().map(|i| (score(i) - less, score(i) - 2.0 * less)).collect());
        sequences.push((name, SequenceReport::of(names[scored].to_vec(), &[1, 9], &values)));
    }
    let report = DavisReport::of(sequences);
    let about = About { data: facts(json!({"videos": 2})), version: "1".into(), ..About::default() };
    let beside = vec![("random initialisation", Some(report.clone())), ("first mask copied", None)];
    let (label, folder) = (label.into(), folder.path().into());
    Run { label, folder, report, unscored: vec![], failed: vec![], notes: vec![], beside, about }
}

/// The page, checked for sound structure and for nothing from elsewhere.
fn sound(runs: &[Run], videos: &ProceduralVideos) -> String {
    let html = page(runs, videos).unwrap();
    for foreign in ["<script", "<link", "href=", "url(", "@import", "://", "NaN", "inf"] {
        assert!(!without_pictures(&html).contains(foreign), "{foreign}");
    }
    for tag in ["section", "figure", "figcaption", "table", "tr", "td", "th", "div", "details", "svg", "dl", "p", "h2"]
    {
        let opened = html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, html.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    html
}

fn without_pictures(html: &str) -> String {
    let mut pieces = html.split("base64,");
    let mut text = pieces.next().unwrap().to_owned();
    pieces.for_each(|piece| text += piece.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "+/=".contains(c)));
    text
}

#[test]
fn one_run_has_scores_charts_and_pictures() {
    let (folder, videos) = (tempfile::tempdir().unwrap(), ProceduralVideos::new(0, 2, 8, 96));
    let html = sound(&[run(&folder, "trained", &videos, 3, |i| 0.9 - i as f64 / 20.0)], &videos);
    assert_eq!(html.matches("<svg").count(), 2, "one a sequence");
    assert_eq!(html.matches("<details").count(), 2);
    assert_eq!(html.matches("<tr><th><span>9</span></th>").count(), 2, "objects have their ids");
    // A filmstrip of five and three bad frames beside the truth.
    assert_eq!(html.matches("data:image/jpeg;base64,/9j/").count(), 2 * (5 + 3 * 2));
    assert_eq!(html.matches("ground truth</figcaption>").count(), 2 * 3);
    assert!(html.contains("<h3>scene-01 · 00006</h3>"), "scores fall until the last scored frame");
    assert!(!html.contains("class=\"run") && !html.contains("best\""), "nothing is compared");
    assert!(html.contains("<span>random initialisation</span>") && !html.contains("<span>first mask copied</span>"));
    assert!(html.contains("<td>data</td><td>videos 2</td>") && html.contains("<td>program</td><td>selfpatch "));
}

#[test]
fn runs_stand_side_by_side() {
    let (one, two, videos) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), ProceduralVideos::new(0, 1, 8, 96));
    let runs = [run(&one, "before", &videos, 9, |_| 0.5), run(&two, "after", &videos, 2, |_| 0.75)];
    let html = sound(&runs, &videos);
    assert!(html.contains("before · after"));
    assert_eq!(html.matches("data:image/jpeg").count(), 2 * 5 + 3 * 3);
    assert!(html.contains(r#"<td class="lead">42.5</td><td class="best up">67.5<small>+25.0</small></td>"#), "J&F");
    assert!(html.contains(r#"<td class="lead">0.0</td><td class="">0.0<small>+0.0</small></td>"#), "decay");
    assert_eq!(html.matches("<path class=\"f c").count(), 2, "F of both in one chart");
}

#[test]
fn names_cannot_become_markup() {
    let (folder, videos) = (tempfile::tempdir().unwrap(), ProceduralVideos::new(0, 1, 4, 96));
    let mut bad = run(&folder, "<script>\"x\"</script>", &videos, 3, |_| 0.5);
    bad.report.sequences[0].0 = "<b>&".into();
    bad.failed.push(("<i>".into(), "a < b".into()));
    let html = sound(&[bad], &videos);
    assert!(html.contains("&lt;script&gt;&quot;x&quot;&lt;/script&gt;") && html.contains("<h3>&lt;b&gt;&amp;</h3>"));
    assert!(html.contains("<td>&lt;i&gt;</td><td>a &lt; b</td>"));
    assert!(!html.contains("<img"), "the videos lack this sequence");
}

#[test]
fn what_is_not_scored_is_shown_and_listed() {
    let (folder, videos) = (tempfile::tempdir().unwrap(), ProceduralVideos::new(0, 1, 4, 96));
    let mut empty = run(&folder, "empty", &videos, 3, |_| 0.5);
    empty.report = DavisReport::of(Vec::new());
    empty.unscored.push("scene-00".into());
    empty.notes.push(("scene-00".into(), "2 files too many".into()));
    let html = sound(&[empty], &videos);
    assert!(html.contains("<dd>– <span>") && html.contains(r#"<td class="lead">–</td>"#));
    assert!(
        html.contains("too few annotated frames")
            && html.contains("<td>2 files too many</td>")
            && html.contains("0 of 1 sequences")
    );
    assert!(!html.contains("<svg") && !html.contains("Worst frames"));
    assert_eq!(html.matches("data:image/jpeg").count(), 4, "its frames are still to be seen");
}

#[test]
fn gaps_in_curves_are_left_open() {
    let (folder, videos) = (tempfile::tempdir().unwrap(), ProceduralVideos::new(0, 1, 12, 96));
    let html = sound(&[run(&folder, "gap", &videos, 3, |i| if i == 2 { f64::NAN } else { 0.5 })], &videos);
    let curve = html.split("<path class=\"c0\" d=\"").nth(1).and_then(|p| p.split('"').next()).unwrap();
    assert_eq!((curve.matches('M').count(), curve.matches("m-2 0h4").count()), (2, 1), "{curve}");
}

#[test]
fn results_are_read_or_named() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |text: &str| {
        let Err(e) = crate::results::run::read(folder.path()) else { panic!("{text} was accepted") };
        let shown = format!("{e:#}");
        assert!(shown.contains("scores.json") && shown.contains(text), "{shown}");
    };
    refused("cannot be read");
    let path = folder.path().join("scores.json");
    fs::write(&path, r#"{"global": {}}"#).unwrap();
    refused("not the scores of eval-davis");
    let report = DavisReport::of(Vec::new());
    let saved = serde_json::json!({"label": "a", "report": report, "unscored": ["x"], "failed": {"y": "why"}});
    fs::write(&path, saved.to_string()).unwrap();
    let run = crate::results::run::read(folder.path()).unwrap();
    assert!(run.report.global.jf.is_nan());
    assert_eq!((run.unscored, run.failed), (vec!["x".to_owned()], vec![("y".to_owned(), "why".to_owned())]));
}

#[test]
fn what_cannot_be_read_is_said_in_place_of_the_picture() {
    let (folder, videos) = (tempfile::tempdir().unwrap(), ProceduralVideos::new(0, 1, 4, 96));
    let run = run(&folder, "broken", &videos, 3, |_| 0.5);
    let masks = folder.path().join("masks/scene-00");
    fs::write(masks.join("00000.png"), "no PNG").unwrap();
    fs::remove_file(masks.join("00003.png")).unwrap();
    let html = sound(&[run], &videos);
    assert!(html.contains("00000.png: not a readable PNG mask"));
    assert_eq!(html.matches("data:image/jpeg").count(), 2 + 2 * 2, "two of the strip, two bad ones beside the truth");
}
