//! The inspection as one page that needs nothing else.

use super::example::{Example, Stages, colour};
use crate::page::{document, escape};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::{ImageError, ImageFormat, RgbImage};
use selfpatch_datasets::{Drawn, Named, Op, Survey};
use std::io::Cursor;

/// The page of a survey as text.
///
/// # Errors
/// A picture that cannot be encoded.
pub fn page(
    title: &str,
    s: &Survey,
    stages: &Stages,
    examples: &[Example],
    globals: usize,
) -> Result<String, ImageError> {
    let title = escape(title);
    let mut body = String::new();
    body += &format!("<dl>{}</dl>", tiles(s, stages));
    for text in &s.advice {
        body += &format!("<p class=advice>{}</p>", escape(text));
    }
    body += "<h2>What the network sees</h2><p class=dim>Images and the views that epoch 0 of training draws from them. \
             Frames on the original: orange and blue for global views, white for local ones.</p>";
    for example in examples {
        body += &figure(example, globals)?;
    }
    let formats: Vec<(String, String)> = s.formats.iter().map(|(k, n)| (k.clone(), n.to_string())).collect();
    body += &table("Formats", ["Stored as", "Images"], &formats);
    let sides = [("Width", s.width), ("Height", s.height)];
    let sides = sides.map(|(k, v)| (k.to_string(), format!("{} · {} · {}", v.least, v.median, v.most)));
    body += &table("Pixels", ["Side", "Least · median · most"], &sides);
    let channels: Vec<(String, String)> =
        s.mean.iter().zip(&s.std).map(|(m, d)| (format!("{m:.4}"), format!("{d:.4}"))).collect();
    body += &table("Channels, between 0 and 1", ["Mean", "Standard deviation"], &channels);
    let classes: Vec<(String, String)> = s.classes.iter().map(|(k, n)| (k.clone(), n.to_string())).collect();
    body += &table("Classes", ["Class", "Images"], &classes);
    body += &table("Cannot be used", ["Image", "Reason"], &pairs(&s.bad));
    body += &table("Named as another format", ["Image", "Note"], &pairs(&s.mislabelled));
    Ok(document(
        &format!("{title} · data"),
        None,
        STYLE,
        &format!(
            "<h1>{title}</h1>
{body}"
        ),
    ))
}

const STYLE: &str = "
:root{--bg:#fff;--fg:#1b1f24;--dim:#57606a;--line:#d8dee4;--card:#f6f8fa}
@media(prefers-color-scheme:dark){:root{--bg:#0f1216;--fg:#e6e8eb;--dim:#9aa4af;--line:#30363d;--card:#171b21}}
body{margin:0 auto;padding:1rem;max-width:90rem;background:var(--bg);color:var(--fg);font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.5rem;overflow-wrap:anywhere}h2{font-size:1.1rem;margin:1.5rem 0 .5rem}.dim,figcaption{color:var(--dim)}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.5rem}
dl div,section,.advice{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.5rem .75rem}
dt{color:var(--dim);font-size:.85rem}dd{margin:0;font-size:1.1rem;font-variant-numeric:tabular-nums}
section{margin:.75rem 0;display:flex;flex-wrap:wrap;gap:.5rem;align-items:flex-start}
section h3{flex-basis:100%;margin:0;font-size:1rem;overflow-wrap:anywhere}
figure{margin:0;max-width:100%}figcaption{font-size:.75rem;line-height:1.3;max-width:16rem}.local figcaption{max-width:7rem}
.frame{position:relative;display:inline-block}.frame svg{position:absolute;inset:0;width:100%;height:100%}
img{display:block;max-width:100%;height:auto}
table{border-collapse:collapse;display:block;overflow:auto}td,th{border:1px solid var(--line);padding:.2rem .6rem;text-align:left}
td{overflow-wrap:anywhere}
";

fn tiles(s: &Survey, stages: &Stages) -> String {
    let tile = |label: &str, value: String| format!("<div><dt>{label}</dt><dd>{value}</dd></div>");
    let whole = stages.read + stages.decode + stages.views;
    [
        tile("Images", s.images.to_string()),
        tile("Read", s.read.to_string()),
        tile("Cannot be used", s.bad.len().to_string()),
        tile("Megabytes read", format!("{:.1}", s.bytes as f64 / 1e6)),
        tile("Read · decode · views, ms", format!("{:.2} · {:.2} · {:.2}", stages.read, stages.decode, stages.views)),
        tile("Images per core and second", format!("{:.0}", 1e3 / whole.max(1e-9))),
    ]
    .concat()
}

fn figure(e: &Example, globals: usize) -> Result<String, ImageError> {
    let (width, height) = e.size;
    let mut frames = String::new();
    for (number, (drawn, _)) in e.views.iter().enumerate().rev() {
        let (w, [r, g, b]) = (drawn.window, colour(number, globals));
        frames += &format!(
            r#"<rect x="{}" y="{}" width="{}" height="{}" fill="none" stroke="rgb({r},{g},{b})" stroke-width="2" vector-effect="non-scaling-stroke"/>"#,
            w.left, w.top, w.width, w.height
        );
    }
    let mut html = format!(
        r#"<section><h3>{}</h3><figure><div class="frame"><img alt="original" src="{}"><svg viewBox="0 0 {width} {height}" preserveAspectRatio="none">{frames}</svg></div><figcaption>{width} × {height}</figcaption></figure>"#,
        escape(&e.name),
        data_uri(&e.original)?
    );
    for (number, (drawn, view)) in e.views.iter().enumerate() {
        let kind = if number < globals { "global" } else { "local" };
        let caption = escape(&told(drawn));
        html += &format!(
            r#"<figure class="{kind}"><img alt="{kind} view" src="{}"><figcaption>{caption}</figcaption></figure>"#,
            data_uri(view)?
        );
    }
    Ok(html + "</section>")
}

/// What was drawn, in words.
fn told(drawn: &Drawn) -> String {
    let w = drawn.window;
    let mut parts = vec![format!("{}×{} at {},{}", w.width, w.height, w.left, w.top)];
    parts.extend(drawn.flip.then(|| "flipped".into()));
    parts.extend(drawn.ops.iter().map(|op| match op {
        Op::Brightness(f) => format!("brightness {f:.2}"),
        Op::Contrast(f) => format!("contrast {f:.2}"),
        Op::Saturation(f) => format!("saturation {f:.2}"),
        Op::Hue(t) => format!("hue {t:+.2}"),
        Op::Gain(_) => "channel gain".into(),
        Op::Grey => "grey".into(),
        Op::Blur(r) => format!("blur {r:.1}"),
        Op::Solarize => "solarized".into(),
    }));
    parts.join(", ")
}

fn pairs(list: &[Named]) -> Vec<(String, String)> {
    list.iter().map(|n| (n.name.clone(), n.reason.clone())).collect()
}

/// A table with a heading; nothing without rows.
fn table(heading: &str, [first, second]: [&str; 2], rows: &[(String, String)]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let row = |(a, b): &(String, String)| format!("<tr><td>{}</td><td>{}</td></tr>", escape(a), escape(b));
    let rows: String = rows.iter().map(row).collect();
    format!("<h2>{heading}</h2><table><tr><th>{first}</th><th>{second}</th></tr>{rows}</table>")
}

fn data_uri(picture: &RgbImage) -> Result<String, ImageError> {
    let mut png = Cursor::new(Vec::new());
    picture.write_to(&mut png, ImageFormat::Png)?;
    Ok(format!("data:image/png;base64,{}", STANDARD.encode(png.into_inner())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_become_markup() {
        let s = Survey {
            bad: vec![Named { name: "<script>x</script>.jpg".into(), reason: "a & b".into() }],
            ..Survey::default()
        };
        let page = page("\"t\"", &s, &Stages::default(), &[], 2).unwrap();
        assert!(page.contains("&lt;script&gt;x&lt;/script&gt;.jpg") && page.contains("a &amp; b"));
        assert!(!page.contains("<script"));
    }
}
