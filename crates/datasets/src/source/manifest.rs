//! A list of images in a text or CSV file.

use super::{Content, ImageSource, Stamp, classes_of, no_image};
use crate::Error;
use crate::file::{contents, text};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Images named by a text file (one path per line) or by a CSV or TSV file: the column `path`, `file`,
/// `filename`, `file_name`, `image`, `image_path`, `img_path`, `filepath`, `file_path`, `image_name` or
/// `img`, and the class in `label`, `class`, `target`, `class_name`, `species` or `category`. Without
/// such a header the first column is the path and the second, if any, the class. Excel's first line `sep=;` is
/// understood.
///
/// The list is UTF-8, or UTF-16 with a byte-order mark; its lines end as on any system. Paths may be in quotes, and
/// have backslashes where no file has such a name. They are relative to the folder of the list and may not leave it,
/// not through links either.
#[derive(Clone, Debug)]
pub struct Manifest {
    root: PathBuf,
    /// The root without links.
    real_root: PathBuf,
    files: Vec<PathBuf>,
    classes: Vec<String>,
    labels: Vec<Option<u32>>,
}

impl Manifest {
    /// Reads the list. Refuses an empty one, and paths that leave its folder, with their line.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let root = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_path_buf();
        let real_root = fs::canonicalize(&root).map_err(|e| Error::io(&root, e))?;
        let rows = match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("csv") => table(path, b',')?,
            Some("tsv") => table(path, b'\t')?,
            _ => lines(path)?,
        };
        let (mut files, mut texts) = (Vec::new(), Vec::new());
        for Row { line, name, class } in rows {
            let fail = |reason: &str| Error::layout(path, format!("line {line}: {name}: {reason}"));
            let plain = as_path(&root, &name);
            let relative = Path::new(&plain);
            let relative = relative.strip_prefix(&real_root).or(relative.strip_prefix(&root)).unwrap_or(relative);
            let inside = |c: Component| matches!(c, Component::Normal(_) | Component::CurDir);
            if !relative.components().all(inside) {
                return Err(fail("leaves the folder of the list"));
            }
            files.push(relative.to_path_buf());
            texts.push(class);
        }
        if files.is_empty() {
            return Err(Error::layout(path, "names no images"));
        }
        let (classes, labels) = classes_of(&texts);
        Ok(Self { root, real_root, files, classes, labels })
    }
}

impl ImageSource for Manifest {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn name(&self, index: usize) -> String {
        self.files.get(index).map_or_else(|| format!("image {index}"), |p| p.display().to_string())
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.labels.get(index).copied().flatten()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn stamp(&self, index: usize) -> Option<Stamp> {
        Stamp::of(&self.root.join(self.files.get(index)?))
    }

    fn read(&self, index: usize) -> Result<Content, Error> {
        let path = self.root.join(self.files.get(index).ok_or_else(|| no_image(index, self.files.len()))?);
        let real = fs::canonicalize(&path).map_err(|e| Error::io(&path, e))?;
        if !real.starts_with(&self.real_root) {
            return Err(Error::layout(&path, "leads out of the folder of its list"));
        }
        Ok(Content::File(contents(&real)?))
    }
}

/// An entry of the list.
struct Row {
    line: u64,
    name: String,
    class: Option<String>,
}

/// One path per line; empty lines and those that begin with # are passed over.
fn lines(path: &Path) -> Result<Vec<Row>, Error> {
    let text = text(path)?.replace("\r\n", "\n").replace('\r', "\n");
    let rows = text.lines().zip(1..).map(|(name, line)| Row { line, name: trimmed(name).into(), class: None });
    Ok(rows.filter(|r| !r.name.is_empty() && !r.name.starts_with('#')).collect())
}

/// A text without space around it, and without the byte-order mark of a list that was put behind another.
fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}')
}

/// The path that a list means by `name`: that name if there is such a file, else without quotes around it and with
/// slashes for the backslashes of Windows.
fn as_path(root: &Path, name: &str) -> String {
    let quoted = |quote: char| name.strip_prefix(quote).and_then(|n| n.strip_suffix(quote));
    let bare = quoted('"').or(quoted('\'')).unwrap_or(name);
    if (bare == name && !name.contains('\\')) || root.join(name).exists() {
        return name.into();
    }
    match root.join(bare).exists() {
        true => bare.into(),
        false => bare.replace('\\', "/"),
    }
}

/// Names of the column of paths.
const PATHS: [&str; 12] = [
    "path",
    "file",
    "filename",
    "file_name",
    "image",
    "image_path",
    "imagepath",
    "img_path",
    "filepath",
    "file_path",
    "image_name",
    "img",
];

/// Names of the column of classes.
const CLASSES: [&str; 6] = ["label", "class", "target", "class_name", "species", "category"];

fn table(path: &Path, delimiter: u8) -> Result<Vec<Row>, Error> {
    let fail = |e: csv::Error| Error::layout(path, e.to_string());
    let text = text(path)?;
    // Excel writes into a line of its own what is between columns.
    let stated = text.strip_prefix("sep=").and_then(|rest| rest.split_once('\n'));
    let stated = stated.and_then(|(mark, rest)| match mark.trim_end_matches('\r').as_bytes() {
        [mark] => Some((*mark, rest)),
        _ => None,
    });
    let (text, before) = stated.map_or((text.as_str(), 0), |(_, rest)| (rest, 1));
    let first = text.lines().next().unwrap_or_default();
    // Spreadsheets write semicolons where a comma is for decimals.
    let semicolons = delimiter == b',' && !first.contains(',') && first.contains(';');
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(match stated {
            Some((mark, _)) => mark,
            None if semicolons => b';',
            None => delimiter,
        })
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes());
    let mut rows = Vec::new();
    let (mut name_column, mut class_column) = (0, 1);
    for (number, record) in reader.records().enumerate() {
        let record = record.map_err(fail)?;
        let line = record.position().map_or(number as u64 + 1, csv::Position::line) + before;
        if number == 0 {
            let find =
                |names: &[&str]| record.iter().position(|c| names.contains(&trimmed(c).to_ascii_lowercase().as_str()));
            if let Some(column) = find(&PATHS) {
                name_column = column;
                class_column = find(&CLASSES).unwrap_or(usize::MAX);
                continue;
            }
        }
        let cell = |column: usize| record.get(column).map(trimmed).filter(|c| !c.is_empty());
        let name = cell(name_column).ok_or_else(|| Error::layout(path, format!("line {line}: names no file")))?;
        rows.push(Row { line, name: name.into(), class: cell(class_column).map(Into::into) });
    }
    Ok(rows)
}
