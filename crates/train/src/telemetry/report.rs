//! `report.html`: a run on one page that can be sent to someone.
//!
//! One file without scripts and without a single outside resource: the charts are inline
//! SVG, the style follows the reader's light or dark setting and fits a phone. The page
//! depends on `log.jsonl` and `config.toml` alone, so writing it again is always safe.

use std::fs;
use std::io;
use std::path::Path;

use super::log::{self, LogError, Record};

/// The page's name in the run folder.
pub const FILE_NAME: &str = "report.html";

/// A curve of more points than this is thinned.
const MAX_POINTS: usize = 500;

/// Writes `report.html` into `run_dir`, in place of an older one.
///
/// A missing log or configuration is said on the page. The title is the configuration's
/// `name` (at the top, or in `[run]`), else the folder's name.
///
/// # Errors
/// When a file cannot be read or written, and [`io::ErrorKind::InvalidData`] for a damaged
/// log (see [`log::read`]).
pub fn write_report(run_dir: &Path) -> io::Result<()> {
    let records = log::read(run_dir).map_err(|error| match &error {
        LogError::Io { source, .. } => io::Error::new(source.kind(), error.to_string()),
        LogError::Line { .. } => io::Error::new(io::ErrorKind::InvalidData, error),
    })?;
    let path = run_dir.join("config.toml");
    let config = match fs::read(&path) {
        Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(super::name_file(&path)(error)),
    };
    let name = config.as_deref().and_then(run_name).map(str::to_owned);
    let name = name.unwrap_or_else(|| folder_name(run_dir));
    let path = run_dir.join(FILE_NAME);
    super::replace_file(&path, page(&name, config.as_deref(), &records).as_bytes()).map_err(super::name_file(&path))
}

/// The value of `name = "…"` before the first section or in `[run]`; good enough for a
/// title, so no TOML reader is asked.
fn run_name(config: &str) -> Option<&str> {
    let mut here = true;
    for line in config.lines().map(str::trim) {
        if line.starts_with('[') {
            here = line.starts_with("[run]");
        } else if here && let Some(rest) = line.strip_prefix("name") {
            let Some(value) = rest.trim_start().strip_prefix('=').map(str::trim_start) else {
                continue;
            };
            let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
            let name = value.get(1..)?.split(quote).next()?.trim();
            return (!name.is_empty()).then_some(name);
        }
    }
    None
}

fn folder_name(run_dir: &Path) -> String {
    let whole = run_dir.canonicalize();
    let whole = whole.as_deref().unwrap_or(run_dir);
    whole.file_name().map_or_else(|| "run".into(), |n| n.to_string_lossy().into_owned())
}

fn page(name: &str, config: Option<&str>, records: &[Record]) -> String {
    let name = escape(name);
    let body = if let Some(last) = records.last() {
        format!("{}\n{}", tiles(last), charts(records, last))
    } else {
        "<p>The log holds no record yet.</p>".to_owned()
    };
    let settings = config.map_or_else(
        || "<p>There is no <code>config.toml</code> in the run folder.</p>".to_owned(),
        |text| format!("<pre>{}</pre>", escape(text.trim())),
    );
    format!(
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{name} · training report</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{name}</h1>
{body}
<h2>Settings</h2>
{settings}
</body>
</html>
"#
    )
}

const STYLE: &str = "
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--dim:#57606a;--line:#d8dee4;--card:#f6f8fa;--c0:#0b5fd0;--c1:#c2410c;--c2:#0a7d5c}
@media(prefers-color-scheme:dark){:root{--bg:#0f1216;--fg:#e6e8eb;--dim:#9aa4af;--line:#30363d;--card:#171b21;--c0:#6cb0ff;--c1:#ff9a5c;--c2:#4fd1a5}}
body{margin:0 auto;padding:1rem;max-width:68rem;background:var(--bg);color:var(--fg);font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.5rem;line-height:1.25;overflow-wrap:anywhere}h2{font-size:1.1rem;margin:1.5rem 0 .5rem}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(7.5rem,1fr));gap:.5rem;margin:0 0 1rem}
dl div,figure,pre{background:var(--card);border:1px solid var(--line);border-radius:.5rem}
dl div{padding:.5rem .75rem}dt{color:var(--dim);font-size:.85rem}dd{margin:0;font-size:1.1rem;font-variant-numeric:tabular-nums}
main{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:.75rem}
figure{margin:0;padding:.75rem}figcaption b{display:block}figcaption{font-size:.9rem}
figcaption span{display:inline-block;margin-right:1rem;font-variant-numeric:tabular-nums}
figcaption i{display:inline-block;width:1rem;height:.2rem;margin-right:.35rem;vertical-align:middle}
figcaption small{display:block}figcaption small,.note{color:var(--dim);font-size:.85rem}
svg{display:block;width:100%;height:auto;margin-top:.25rem}svg text{font-size:12px;fill:var(--dim)}
svg path{fill:none;stroke-width:1.5;stroke-linejoin:round;stroke-linecap:round}svg .grid{stroke:var(--line);stroke-width:1}
.c0{stroke:var(--c0)}.c1{stroke:var(--c1)}.c2{stroke:var(--c2)}i.c0{background:var(--c0)}i.c1{background:var(--c1)}i.c2{background:var(--c2)}
pre{padding:.75rem;overflow:auto;font:.85rem/1.45 ui-monospace,monospace}
";

fn tiles(last: &Record) -> String {
    let tile = |label: &str, value: String| format!("<div><dt>{label}</dt><dd>{value}</dd></div>");
    [
        "<dl>".to_owned(),
        tile("Steps", last.step.to_string()),
        tile("Epochs", number(last.epoch)),
        tile("Loss", number(last.train_loss)),
        tile("Images/s", number(last.images_per_second)),
        tile("Training time", duration(last.seconds)),
        "</dl>".to_owned(),
    ]
    .concat()
}

fn charts(records: &[Record], last: &Record) -> String {
    let curve = |label, value: fn(&Record) -> f64| Curve {
        label,
        last: value(last),
        points: records.iter().map(|r| (r.step as f64, value(r))).collect(),
    };
    let mut charts = vec![
        (
            "Training loss",
            "loss",
            vec![
                curve("total", |r| r.train_loss),
                curve("class", |r| r.train_clsloss),
                curve("patch", |r| r.train_patchloss),
            ],
        ),
        ("Learning rate", "learning rate", vec![curve("learning rate", |r| r.train_lr)]),
        ("Weight decay", "weight decay", vec![curve("weight decay", |r| r.train_wd)]),
        ("Throughput", "images per second", vec![curve("images/s", |r| r.images_per_second)]),
    ];
    // Not every record needs to carry the entropy; those without it are no gap.
    let entropy: Vec<(f64, f64)> = records.iter().filter_map(|r| Some((r.step as f64, r.teacher_entropy?))).collect();
    if let Some(&(_, last)) = entropy.last() {
        let curve = Curve { label: "entropy", last, points: entropy };
        charts.push(("Teacher entropy", "nats", vec![curve]));
    }
    let jf: Vec<(f64, f64)> = records.iter().filter_map(|r| Some((r.step as f64, r.davis_jf?))).collect();
    if let Some(&(_, last)) = jf.last() {
        charts.push(("Teacher on videos", "J&F", vec![Curve { label: "J&F", last, points: jf }]));
    }
    let steps = Axis::of_steps(records.iter().map(|r| r.step).max().unwrap_or(0));
    let figures: Vec<String> = charts.iter().map(|(title, unit, curves)| figure(title, unit, curves, &steps)).collect();
    let note = if records.len() > MAX_POINTS {
        "\n<p class=\"note\">Long curves are thinned to the lowest and highest of neighbouring values.</p>"
    } else {
        ""
    };
    format!("<main>\n{}\n</main>{note}", figures.join("\n"))
}

struct Curve {
    label: &'static str,
    /// The newest value, finite or not.
    last: f64,
    /// Step and value, in order.
    points: Vec<(f64, f64)>,
}

// The view box, small so that its text stays legible when a phone scales it, and the
// plot's edges within.
const VIEW: (f64, f64) = (420.0, 250.0);
const LEFT: f64 = 68.0;
const RIGHT: f64 = 408.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 208.0;

fn figure(title: &str, unit: &str, curves: &[Curve], steps: &Axis) -> String {
    let mut legend = String::new();
    let mut lines = String::new();
    let mut gaps = 0;
    let values = Axis::of_values(curves.iter().flat_map(|c| &c.points).map(|p| p.1));
    for (index, curve) in curves.iter().enumerate() {
        let (label, last) = (curve.label, number(curve.last));
        legend += &format!(r#"<span><i class="c{index}"></i>{label} {last}</span>"#);
        gaps += curve.points.iter().filter(|p| !drawable(p.1)).count();
        let path = path(&thin(&curve.points), steps, &values);
        lines += &format!(r#"<path class="c{index}" d="{path}"></path>"#);
    }
    let note = match gaps {
        0 => String::new(),
        1 => "<small>1 value was not finite and is left out.</small>".to_owned(),
        n => format!("<small>{n} values were not finite and are left out.</small>"),
    };
    let mut grid = String::new();
    let mut labels = String::new();
    for (value, text) in &steps.ticks {
        let x = steps.place(*value, LEFT, RIGHT);
        grid += &format!("M{x:.1} {TOP}V{BOTTOM}");
        let y = BOTTOM + 16.0;
        labels += &format!(r#"<text x="{x:.1}" y="{y}" text-anchor="middle">{text}</text>"#);
    }
    for (value, text) in &values.ticks {
        let y = values.place(*value, BOTTOM, TOP);
        grid += &format!("M{LEFT} {y:.1}H{RIGHT}");
        let (x, y) = (LEFT - 6.0, y + 4.0);
        labels += &format!(r#"<text x="{x}" y="{y:.1}" text-anchor="end">{text}</text>"#);
    }
    let (width, height) = VIEW;
    let (x, y) = ((LEFT + RIGHT) / 2.0, (TOP + BOTTOM) / 2.0);
    let base = height - 6.0;
    format!(
        r#"<figure><figcaption><b>{title}</b>{legend}{note}</figcaption>
<svg viewBox="0 0 {width} {height}" role="img" aria-label="{title} over finished steps">
<path class="grid" d="{grid}"></path>
{labels}
<text x="{x}" y="{base}" text-anchor="middle">finished steps</text>
<text transform="translate(11 {y}) rotate(-90)" text-anchor="middle">{unit}</text>
{lines}
</svg></figure>"#
    )
}

/// Not NaN, not infinite, and small enough that differences stay finite too.
fn drawable(value: f64) -> bool {
    value.abs() < 1e100
}

/// At most [`MAX_POINTS`] of `points`. Of each group of neighbours the lowest and the
/// highest stay, so that a spike is never lost; a group with nothing drawable stays a gap.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= MAX_POINTS {
        return points.to_vec();
    }
    let mut kept = Vec::with_capacity(MAX_POINTS);
    for group in points.chunks(points.len().div_ceil(MAX_POINTS / 2)) {
        let good = || group.iter().enumerate().filter(|(_, p)| drawable(p.1));
        let low = good().min_by(|a, b| a.1.1.total_cmp(&b.1.1));
        let high = good().max_by(|a, b| a.1.1.total_cmp(&b.1.1));
        match (low, high) {
            (Some((i, &low)), Some((j, &high))) => {
                kept.push(if i <= j { low } else { high });
                if i != j {
                    kept.push(if i <= j { high } else { low });
                }
            }
            _ => kept.extend(group.first()),
        }
    }
    kept
}

/// The path's drawing commands: a new stroke after each gap, a dash for a lone point.
fn path(points: &[(f64, f64)], steps: &Axis, values: &Axis) -> String {
    let mut path = String::new();
    for stroke in points.split(|p| !drawable(p.1)) {
        for (index, &(step, value)) in stroke.iter().enumerate() {
            let command = if index == 0 { 'M' } else { 'L' };
            let x = steps.place(step, LEFT, RIGHT);
            let y = values.place(value, BOTTOM, TOP);
            path += &format!("{command}{x:.1} {y:.1}");
        }
        if stroke.len() == 1 {
            path += "m-2.5 0h5";
        }
    }
    path
}

/// A range and the round numbers in it, with their labels.
struct Axis {
    low: f64,
    high: f64,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    fn of_steps(last: u64) -> Self {
        Self::new(0.0, last.max(1) as f64, 1.0)
    }

    fn of_values(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values
            .filter(|&v| drawable(v))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        if low > high {
            return Self::new(0.0, 1.0, 0.0);
        }
        let size = low.abs().max(high.abs());
        let room = if high - low > size * 1e-6 {
            (high - low) * 0.04
        } else if size > 1e-100 {
            size * 0.05
        } else {
            1.0
        };
        Self::new(low - room, high + room, 0.0)
    }

    /// About five ticks at multiples of 1, 2 or 5 times a power of ten, at least `closest`
    /// apart.
    fn new(low: f64, high: f64, closest: f64) -> Self {
        let raw = ((high - low) / 5.5).max(closest);
        let mut exponent = raw.log10().floor() as i32;
        let mut digit = [1.0, 2.0, 5.0].into_iter().find(|d| d * 10_f64.powi(exponent) >= raw * 0.999_999);
        if digit.is_none() {
            exponent += 1;
            digit = Some(1.0);
        }
        let gap = digit.unwrap_or(1.0) * 10_f64.powi(exponent);
        let start = (low / gap).ceil();
        let ticks = (0..=8)
            .map(|i| (start + f64::from(i)) * gap)
            .filter(|&v| v >= low && v <= high)
            .map(|v| (v, tick(v, exponent)))
            .collect();
        Self { low, high, ticks }
    }

    /// Where `value` falls when the range is laid over `from..to`.
    fn place(&self, value: f64, from: f64, to: f64) -> f64 {
        from + (value - self.low) / (self.high - self.low) * (to - from)
    }
}

/// `value` with the digits needed where ticks are multiples of ten to the `exponent`.
fn tick(value: f64, exponent: i32) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let size = value.abs().log10().floor() as i32;
    if !(-3..9).contains(&exponent) {
        format!("{value:.*e}", (size - exponent).clamp(0, 6) as usize)
    } else if exponent >= 6 {
        format!("{:.0}M", value / 1e6)
    } else if exponent >= 3 {
        format!("{:.0}k", value / 1e3)
    } else {
        format!("{value:.*}", (-exponent).max(0) as usize)
    }
}

/// A number for reading: four digits, or a word where there is none.
fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        "not finite".to_owned()
    } else if size == 0.0 {
        "0".to_owned()
    } else if !(1e-3..1e6).contains(&size) {
        format!("{value:.3e}")
    } else {
        format!("{value:.*}", (3 - size.log10().floor() as i32).max(0) as usize)
    }
}

fn duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "unknown".to_owned();
    }
    let whole = seconds.max(0.0) as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

/// `text` as HTML text or attribute value. Control characters other than line breaks and
/// tabs have no place in HTML and become U+FFFD.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            '\r' => {}
            c if c.is_control() => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::LogWriter;
    use super::super::testing::{Scratch, record};
    use super::*;

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
            } else if name != "meta" {
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
        let config = "[run]\nname = '</title><script>alert(\"1\")</script>&\u{1b}'\n# <b onload=\"x\">\n";
        let html = report("report-markup", config, &[record(1)])?;
        assert!(html.contains("<h1>&lt;/title&gt;&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;\u{fffd}</h1>"));
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

    #[test]
    fn names_are_found_where_they_count() {
        assert_eq!(run_name("x = 1\nname = \"a\" # b\n"), Some("a"));
        assert_eq!(run_name("[model]\nname = \"vit\"\n[run]\nname='b'"), Some("b"));
        assert_eq!(run_name("[model]\nname = \"vit\""), None);
        assert_eq!(run_name("names = \"x\"\nname = \"\""), None);
        assert_eq!(run_name("name = \"\u{e9}"), Some("\u{e9}"));
    }

    #[test]
    fn axes_survive_extreme_values() {
        let labels = |values: &[f64]| -> Vec<String> {
            let axis = Axis::of_values(values.iter().copied());
            assert!(axis.ticks.len() <= 9);
            let inside = |v: f64| (0.0..=1.0).contains(&axis.place(v, 0.0, 1.0));
            assert!(values.iter().all(|&v| !drawable(v) || inside(v)), "{values:?}");
            axis.ticks.into_iter().map(|t| t.1).collect()
        };
        assert_eq!(labels(&[0.0, 5e-4]), ["0", "1e-4", "2e-4", "3e-4", "4e-4", "5e-4"]);
        assert_eq!(labels(&[2.0, 9.0]), ["2", "4", "6", "8"]);
        assert_eq!(labels(&[0.04, 0.4]), ["0.1", "0.2", "0.3", "0.4"]);
        assert_eq!(labels(&[]), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        for values in [
            &[0.0][..],
            &[-3.0],
            &[1e300, f64::NAN],
            &[-1e99, 1e99],
            &[5e-324],
            &[0.0, 5e-324],
            &[1e-320, 3e-320],
            &[1e20, 1e20 + 16384.0],
            &[1e-99, 0.0],
        ] {
            labels(values);
        }
        assert_eq!(Axis::of_steps(0).ticks.len(), 2);
        assert!(Axis::of_steps(u64::MAX).place(1.0, 0.0, 1.0).is_finite());
    }

    #[test]
    fn numbers_read_well() {
        let shown = [5e-4, 0.04, 9.123456, 812.34, 999_999.9, 1e6, f64::INFINITY].map(number);
        assert_eq!(shown, ["5.000e-4", "0.04000", "9.123", "812.3", "1000000", "1.000e6", "not finite"]);
        assert_eq!([3.0, 75.0, 7322.0].map(duration), ["3 s", "1 min 15 s", "2 h 2 min"]);
    }
}
