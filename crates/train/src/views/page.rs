//! The pictures of a run as data in its page.

use super::names::{COLOURS, CROPS, FOLDER, attention_name, positives_name};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use selfpatch_run::name_file;
use std::fs;
use std::io;
use std::path::Path;

/// How every PNG file begins.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// All pictures of the run folder `run` with a legend; nothing where there are none.
pub fn section(run: &Path) -> io::Result<String> {
    let mut figures = String::new();
    for crop in 0..CROPS {
        let Some(patches) = picture(run, &positives_name(crop), "query patches and their positives")? else { continue };
        let mut all = patches;
        for query in 0..COLOURS.len() {
            let what = format!("attention of query patch {}", query + 1);
            all += &picture(run, &attention_name(crop, query), &what)?.unwrap_or_default();
        }
        figures += &format!("<figure><figcaption><b>Crop {}</b></figcaption><div>{all}</div></figure>\n", crop + 1);
    }
    if figures.is_empty() {
        return Ok(figures);
    }
    let key = |(i, [r, g, b]): (usize, [u8; 3])| {
        format!("<span><i style=\"background:rgb({r},{g},{b})\"></i>patch {}</span>", i + 1)
    };
    let key = COLOURS.into_iter().enumerate().map(key).collect::<Vec<_>>().join(" ");
    Ok(format!(
        "<h2>What the teacher sees</h2>\n<p class=\"note key\">Three query patches of each crop in thick frames: {key}. \
         Thin frames of the same colour: the neighbours taken for its positives. The other pictures: what each query \
         patch attends to in the last block, mean over heads, from dark for the least to bright for the most within \
         the picture.</p>\n\
         <div class=\"views\">\n{figures}</div>"
    ))
}

/// One picture; `None` where there is no such file, or one that is no PNG.
fn picture(run: &Path, name: &str, what: &str) -> io::Result<Option<String>> {
    let path = run.join(FOLDER).join(name);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(name_file(&path)(error)),
    };
    let data = || format!(r#"<img alt="{what}" src="data:image/png;base64,{}">"#, STANDARD.encode(&bytes));
    Ok(bytes.starts_with(PNG).then(data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_data_in_the_page() -> io::Result<()> {
        let run = tempfile::tempdir()?;
        assert_eq!(section(run.path())?, "");
        let views = run.path().join(FOLDER);
        fs::create_dir_all(&views)?;
        for crop in [0, 2] {
            fs::write(views.join(positives_name(crop)), b"\x89PNG\r\n\x1a\nx")?;
            fs::write(views.join(attention_name(crop, 1)), b"\x89PNG\r\n\x1a\ny")?;
        }
        fs::write(views.join(attention_name(0, 0)), b"no picture")?;
        fs::write(views.join("other.png"), b"\x89PNG\r\n\x1a\nz")?;
        let html = section(run.path())?;
        assert_eq!(html.matches("src=\"data:image/png;base64,").count(), 4);
        assert!(html.contains("<b>Crop 1</b>") && html.contains("<b>Crop 3</b>") && !html.contains("<b>Crop 2</b>"));
        assert!(html.contains("rgb(255,80,70)"));
        Ok(())
    }
}
