//! Images in parquet files, as data sets on the Hugging Face hub have them.
//!
//! Parquet is read front to back, training reads in random order: the images are copied once into a
//! plain tar file in the cache, which is then read in place.

use crate::Error;
use crate::decode::Format;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use tar::{Builder, Header};

/// Copies the images of `files` into the tar file `target`, with their classes, and returns the names of
/// the classes, if the files tell them.
///
/// The image is the first column that holds binary data, by itself or as `bytes` in a group (the
/// hub's `Image` feature); the class is the integer column `label`, or the first whose name ends in
/// `label`.
pub fn pack(files: &[PathBuf], target: &Path, say: &dyn Fn(&str)) -> Result<Vec<String>, Error> {
    let mut name = target.as_os_str().to_owned();
    name.push(format!(".partial-{}", std::process::id()));
    let partial = PathBuf::from(name);
    let result = copy(files, &partial, say).and_then(|names| {
        fs::rename(&partial, target).map_err(|e| Error::io(target, e))?;
        Ok(names)
    });
    if result.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&partial);
    }
    result
}

fn copy(files: &[PathBuf], partial: &Path, say: &dyn Fn(&str)) -> Result<Vec<String>, Error> {
    let io = |e| Error::io(partial, e);
    let mut tar = Builder::new(BufWriter::new(File::create(partial).map_err(io)?));
    let mut classes = Vec::new();
    let mut number = 0usize;
    for path in files {
        say(&format!("reading {}", path.display()));
        let fail = |e: parquet::errors::ParquetError| Error::layout(path, format!("cannot be read as parquet: {e}"));
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let reader = SerializedFileReader::new(file).map_err(fail)?;
        if classes.is_empty() {
            classes = class_names(&reader);
        }
        for row in reader.get_row_iter(None).map_err(fail)? {
            let row = row.map_err(fail)?;
            let bytes = image(&row).ok_or_else(|| {
                Error::layout(path, "has no column of images: binary data, or a group with binary `bytes`")
            })?;
            let extension = Format::of(bytes).map_or("img.jpg", |f| match f {
                Format::Jpeg => "jpg",
                Format::Png => "png",
                Format::WebP => "webp",
                Format::Bmp => "bmp",
                Format::Tiff => "tif",
            });
            let mut add = |extension: &str, data: &[u8]| {
                let mut header = Header::new_gnu();
                header.set_size(data.len() as u64);
                header.set_mode(0o644);
                tar.append_data(&mut header, format!("{number:09}.{extension}"), data).map_err(io)
            };
            add(extension, bytes)?;
            if let Some(label) = label(&row) {
                add("cls", label.to_string().as_bytes())?;
            }
            number += 1;
        }
    }
    tar.into_inner().and_then(|b| b.into_inner().map_err(|e| e.into_error())?.sync_all()).map_err(io)?;
    Ok(classes)
}

/// The image of a row; an empty slice where it is absent, which the decoder refuses.
fn image(row: &Row) -> Option<&[u8]> {
    row.get_column_iter().find_map(|(_, field)| match field {
        Field::Bytes(bytes) => Some(bytes.data()),
        Field::Group(group) => group.get_column_iter().find_map(|(name, field)| match (name.as_str(), field) {
            ("bytes", Field::Bytes(bytes)) => Some(bytes.data()),
            ("bytes", Field::Null) => Some([].as_slice()),
            _ => None,
        }),
        _ => None,
    })
}

fn label(row: &Row) -> Option<i64> {
    let integer = |field: &Field| match field {
        Field::Byte(v) => Some(i64::from(*v)),
        Field::Short(v) => Some(i64::from(*v)),
        Field::Int(v) => Some(i64::from(*v)),
        Field::Long(v) => Some(*v),
        Field::UByte(v) => Some(i64::from(*v)),
        Field::UShort(v) => Some(i64::from(*v)),
        Field::UInt(v) => Some(i64::from(*v)),
        Field::ULong(v) => i64::try_from(*v).ok(),
        _ => None,
    };
    let of = |wanted: fn(&str) -> bool| {
        row.get_column_iter().find(|(name, _)| wanted(name)).and_then(|(_, field)| integer(field))
    };
    of(|name| name == "label").or_else(|| of(|name| name.ends_with("label")))
}

/// The names of the classes in the description that the hub's library writes into a file.
fn class_names(reader: &SerializedFileReader<File>) -> Vec<String> {
    let metadata = reader.metadata().file_metadata().key_value_metadata();
    let text = metadata.into_iter().flatten().find(|kv| kv.key == "huggingface").and_then(|kv| kv.value.as_deref());
    let json: Option<serde_json::Value> = text.and_then(|t| serde_json::from_str(t).ok());
    let Some(features) = json.as_ref().and_then(|j| j["info"]["features"].as_object()) else { return Vec::new() };
    let label = features.get("label").or_else(|| features.iter().find(|(k, _)| k.ends_with("label")).map(|(_, v)| v));
    let names = label.and_then(|l| l["names"].as_array());
    names.into_iter().flatten().filter_map(|n| n.as_str().map(Into::into)).collect()
}
