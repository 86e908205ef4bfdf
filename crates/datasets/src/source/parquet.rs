//! Images in parquet files, as data sets on the Hugging Face hub have them.
//!
//! Parquet is read front to back, training reads in random order: the images are copied once into a
//! plain tar file in the cache, which is then read in place.

use super::folder::common_folder;
use super::partial::Partial;
use crate::Error;
use crate::decode::Format;
use parquet::basic::{ConvertedType, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};
use std::cell::Cell;
use std::fs::File;
use std::io::BufWriter;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Component, Path, PathBuf};
use std::sync::Once;
use tar::{Builder, Header};

/// Rows that are read at once.
const ROWS: usize = 64;

/// Most characters of a class that is a text.
const MAX_CLASS: usize = 1000;

/// Copies the images of `files` into the tar file `target`, with their classes, and returns the names of
/// the classes, if the files tell them.
///
/// The image is a column of binary data, by itself or as `bytes` in a group (the hub's `Image`
/// feature): the one called `image` or `img`, else the first group, else the first. The class is the
/// column of integers or texts called `label`, else the first whose name ends in `label` or `labels`;
/// numbers below 0 are none. A missing image becomes an empty file, which is refused when it is read.
///
/// An image is called by its file's name and its row, so that it keeps its name when others come.
pub fn pack(
    files: &[PathBuf],
    target: &Path,
    say: &dyn Fn(&str),
    stop: &dyn Fn() -> bool,
) -> Result<Vec<String>, Error> {
    let partial = Partial::of(target)?;
    let names = copy(files, partial.path(), say, stop)?;
    partial.keep_as(target)?;
    Ok(names)
}

fn copy(files: &[PathBuf], partial: &Path, say: &dyn Fn(&str), stop: &dyn Fn() -> bool) -> Result<Vec<String>, Error> {
    let io = |e| Error::io(partial, e);
    let mut tar = Builder::new(BufWriter::new(File::create(partial).map_err(io)?));
    let (mut classes, mut images) = (Vec::new(), 0);
    for (path, stem) in files.iter().zip(stems(files)) {
        say(&format!("reading {}", path.display()));
        let table = Table::open(path)?;
        if classes.is_empty() {
            classes = table.class_names();
        }
        let mut add = |row: usize, extension: &str, data: &[u8]| {
            let mut header = Header::new_gnu();
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, format!("{stem}/{row:09}.{extension}"), data).map_err(io)
        };
        images += table.rows(|row, image, class| {
            if stop() {
                return Err(Error::Stopped {
                    what: format!("while the images of {} were being copied", path.display()),
                });
            }
            let extension = Format::of(image).map_or("jpg", |f| match f {
                Format::Jpeg => "jpg",
                Format::Png => "png",
                Format::WebP => "webp",
                Format::Bmp => "bmp",
                Format::Tiff => "tif",
            });
            add(row, extension, image)?;
            class.map_or(Ok(()), |class| add(row, "cls", class.as_bytes()))
        })?;
    }
    if images == 0 {
        let path = files.first().map_or(partial, PathBuf::as_path);
        return Err(Error::layout(
            path,
            "holds no images; if it only names them by path, save it with the images inside",
        ));
    }
    tar.into_inner().and_then(|b| b.into_inner().map_err(|e| e.into_error())?.sync_all()).map_err(io)?;
    Ok(classes)
}

/// What the images of each file are called after: its path below the folder that all have in common.
fn stems(files: &[PathBuf]) -> Vec<String> {
    let common = common_folder(files);
    let stem = |file: &PathBuf| {
        let below = file.strip_prefix(common).unwrap_or(file).with_extension("");
        let part = |part: Component| {
            let text = part.as_os_str().to_string_lossy().into_owned();
            // A dot in front would hide the images in the tar file.
            if text.starts_with('.') { format!("_{text}") } else { text }
        };
        let inside = below.components().filter(|c| matches!(c, Component::Normal(_) | Component::ParentDir));
        inside.map(part).collect::<Vec<_>>().join("/")
    };
    files.iter().map(stem).collect()
}

/// A file and the places of what is wanted of it.
struct Table<'a> {
    path: &'a Path,
    reader: SerializedFileReader<File>,
    image: usize,
    label: Option<usize>,
}

impl<'a> Table<'a> {
    fn open(path: &'a Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let reader = guarded(path, || SerializedFileReader::new(file))?;
        let schema = reader.metadata().file_metadata().schema_descr();
        let image = image_column(schema).ok_or_else(|| {
            Error::layout(path, "has no column of images: binary data, or a group with binary `bytes`")
        })?;
        let label = label_column(schema);
        Ok(Self { path, reader, image, label })
    }

    /// Calls `each` with every row's number, image (empty for none) and class; returns the number of images.
    fn rows(&self, mut each: impl FnMut(usize, &[u8], Option<&str>) -> Result<(), Error>) -> Result<usize, Error> {
        let (mut row, mut images) = (0, 0);
        for number in 0..self.reader.num_row_groups() {
            let (mut image, mut label, rows) = guarded(self.path, || {
                let group = self.reader.get_row_group(number)?;
                let label = self.label.map(|column| Column::open(&*group, column)).transpose()?;
                Ok((Column::open(&*group, self.image)?, label, group.metadata().num_rows()))
            })?;
            let end = row + usize::try_from(rows).unwrap_or(0);
            while row < end {
                let most = ROWS.min(end - row);
                let (part, classes) = guarded(self.path, || {
                    let classes = label.as_mut().map_or_else(|| Ok(vec![None; most]), |label| label.classes(most));
                    Ok((image.binary(most)?, classes?))
                })?;
                if (part.len(), classes.len()) != (most, most) {
                    return Err(Error::layout(self.path, format!("is damaged: rows after {row} are missing")));
                }
                for (bytes, class) in part.iter().zip(&classes) {
                    images += usize::from(bytes.is_some());
                    each(row, bytes.as_ref().map_or(&[], ByteArray::data), class.as_deref())?;
                    row += 1;
                }
            }
        }
        Ok(images)
    }

    /// The names of the classes in the description that the hub's library writes into a file.
    fn class_names(&self) -> Vec<String> {
        let about = self.reader.metadata().file_metadata();
        let Some(label) = self.label.map(|c| about.schema_descr().column(c)) else { return Vec::new() };
        let entries = about.key_value_metadata().into_iter().flatten();
        let text = entries.filter(|e| e.key == "huggingface").find_map(|e| e.value.as_deref());
        let json: Option<serde_json::Value> = text.and_then(|t| serde_json::from_str(t).ok());
        let names = json.as_ref().and_then(|j| j["info"]["features"][label.name()]["names"].as_array());
        names.into_iter().flatten().filter_map(|n| n.as_str().map(Into::into)).collect()
    }
}

fn image_column(schema: &SchemaDescriptor) -> Option<usize> {
    let kind = |c: &ColumnDescriptor| {
        let text = c.logical_type_ref().is_some() || c.converted_type() != ConvertedType::NONE;
        if c.physical_type() != Type::BYTE_ARRAY || c.max_rep_level() > 0 || text {
            return None;
        }
        match c.path().parts() {
            [name, bytes] if bytes == "bytes" => Some((!matches!(name.as_str(), "image" | "img"), 0)),
            [name] => Some((!matches!(name.as_str(), "image" | "img"), 1)),
            _ => None,
        }
    };
    let columns = (0..schema.num_columns()).filter_map(|i| Some((kind(&schema.column(i))?, i)));
    columns.min().map(|(_, i)| i)
}

fn label_column(schema: &SchemaDescriptor) -> Option<usize> {
    let usable = |i: &usize| {
        let c = schema.column(*i);
        let text = c.converted_type() == ConvertedType::UTF8;
        let kind =
            matches!(c.physical_type(), Type::INT32 | Type::INT64) || c.physical_type() == Type::BYTE_ARRAY && text;
        kind && c.max_rep_level() == 0 && c.path().parts().len() == 1
    };
    let of =
        |wanted: fn(&str) -> bool| (0..schema.num_columns()).filter(usable).find(|i| wanted(schema.column(*i).name()));
    of(|name| name == "label").or_else(|| of(|name| name.ends_with("label") || name.ends_with("labels")))
}

/// A column of a row group.
struct Column {
    reader: ColumnReader,
    /// The definition level of values that are there.
    present: i16,
}

impl Column {
    fn open(group: &dyn RowGroupReader, column: usize) -> Result<Self, ParquetError> {
        let present = group.metadata().column(column).column_descr().max_def_level();
        Ok(Self { reader: group.get_column_reader(column)?, present })
    }

    /// The next values, at most `most`; fewer at the end of the group.
    fn binary(&mut self, most: usize) -> Result<Vec<Option<ByteArray>>, ParquetError> {
        match &mut self.reader {
            ColumnReader::ByteArrayColumnReader(reader) => next(reader, self.present, most),
            _ => Err(ParquetError::General("a column has another type in places".into())),
        }
    }

    /// The next classes as texts.
    fn classes(&mut self, most: usize) -> Result<Vec<Option<String>>, ParquetError> {
        let number = |v: i64| (v >= 0).then(|| v.to_string());
        let text = |v: ByteArray| {
            let text = String::from_utf8_lossy(v.data());
            let text: String = text.trim().chars().take(MAX_CLASS).collect();
            (!text.is_empty()).then_some(text)
        };
        Ok(match &mut self.reader {
            ColumnReader::Int32ColumnReader(reader) => {
                next(reader, self.present, most)?.into_iter().map(|v| number(v?.into())).collect()
            }
            ColumnReader::Int64ColumnReader(reader) => {
                next(reader, self.present, most)?.into_iter().map(|v| number(v?)).collect()
            }
            _ => self.binary(most)?.into_iter().map(|v| text(v?)).collect(),
        })
    }
}

fn next<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    present: i16,
    most: usize,
) -> Result<Vec<Option<T::T>>, ParquetError> {
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    reader.read_records(most, Some(&mut levels), None, &mut values)?;
    if present == 0 {
        return Ok(values.into_iter().map(Some).collect());
    }
    let mut values = values.into_iter();
    Ok(levels.iter().map(|&level| if level == present { values.next() } else { None }).collect())
}

/// What the library makes of a file, or the refusal of the file: it panics at some kinds of damage.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, Error> {
    thread_local!(static QUIET: Cell<bool> = const { Cell::new(false) });
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |about| {
            if !QUIET.get() {
                usual(about);
            }
        }));
    });
    QUIET.set(true);
    // Of what a panic leaves half done, nothing is used again.
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    QUIET.set(false);
    let reason = match result {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(e)) => e.to_string(),
        Err(_) => "it is damaged".into(),
    };
    let reason = reason.strip_prefix("Parquet error: ").unwrap_or(&reason);
    Err(Error::layout(
        path,
        match reason.strip_prefix("Disabled feature at compile time: ") {
            Some(codec) => format!("is compressed with {codec}; write it with zstd, snappy or gzip instead"),
            None => format!("cannot be read as parquet: {reason}"),
        },
    ))
}
