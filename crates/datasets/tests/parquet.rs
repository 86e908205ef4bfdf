//! Images in parquet files, written here.
#![cfg(feature = "parquet")]

use std::cell::RefCell;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use selfpatch_datasets::{Access, Content, Error, ImageSource, open};

/// Values of a column; where there is none, the definition level that says so.
enum Column {
    Bytes(Vec<Result<Vec<u8>, i16>>),
    Int(Vec<Result<i32, i16>>),
    Long(Vec<Result<i64, i16>>),
}

/// As the hub's library writes images.
const HUB: &str = "message schema {
    optional group image { optional binary bytes; optional binary path (UTF8); }
    optional int64 label;
}";
const NAMES: &str = r#"{"info": {"features": {
    "image": {"_type": "Image"}, "label": {"names": ["dog", "cat", "bird"], "_type": "ClassLabel"}}}}"#;

fn put<T: DataType>(group: &mut SerializedRowGroupWriter<'_, fs::File>, values: Vec<Result<T::T, i16>>) {
    let mut column = group.next_column().unwrap().unwrap();
    let present = column.typed::<T>().get_descriptor().max_def_level();
    let levels: Vec<i16> = values.iter().map(|v| v.as_ref().map_or_else(|level| *level, |_| present)).collect();
    let values: Vec<T::T> = values.into_iter().flatten().collect();
    column.typed::<T>().write_batch(&values, Some(&levels), None).unwrap();
    column.close().unwrap();
}

/// Writes groups of rows.
fn write(path: &Path, schema: &str, codec: Compression, about: Option<&str>, groups: Vec<Vec<Column>>) {
    let about = about.map(|text| vec![KeyValue::new("huggingface".into(), text.to_string())]);
    let properties = WriterProperties::builder().set_compression(codec).set_key_value_metadata(about).build();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut file = SerializedFileWriter::new(fs::File::create(path).unwrap(), schema, properties.into()).unwrap();
    for columns in groups {
        let mut group = file.next_row_group().unwrap();
        for column in columns {
            match column {
                Column::Bytes(v) => {
                    put::<ByteArrayType>(&mut group, v.into_iter().map(|v| v.map(ByteArray::from)).collect())
                }
                Column::Int(v) => put::<Int32Type>(&mut group, v),
                Column::Long(v) => put::<Int64Type>(&mut group, v),
            }
        }
        group.close().unwrap();
    }
    file.close().unwrap();
}

fn png(value: u8) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    image::RgbImage::from_pixel(5, 4, image::Rgb([value; 3])).write_to(&mut out, image::ImageFormat::Png).unwrap();
    out.into_inner()
}

/// Rows `from` to `to` as the hub has them; row i is of class i % 3.
fn rows(from: u8, to: u8) -> Vec<Column> {
    vec![
        Column::Bytes((from..to).map(|v| Ok(png(v))).collect()),
        Column::Bytes((from..to).map(|v| Ok(format!("{v}.png").into())).collect()),
        Column::Long((from..to).map(|v| Ok(i64::from(v % 3))).collect()),
    ]
}

/// A folder of files and a cache.
struct Place {
    data: tempfile::TempDir,
    cache: tempfile::TempDir,
    said: RefCell<Vec<String>>,
}

impl Place {
    fn new() -> Self {
        let folder = || tempfile::tempdir().unwrap();
        Self { data: folder(), cache: folder(), said: RefCell::default() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.data.path().join(name)
    }

    fn open(&self, spec: impl AsRef<Path>) -> Result<Arc<dyn ImageSource>, Error> {
        let say = |text: &str| self.said.borrow_mut().push(text.into());
        let access = Access { cache: self.cache.path().into(), say: &say, ..Access::usual() };
        open(spec.as_ref().to_str().unwrap(), &access)
    }

    /// The refusal, after which nothing may be left in the cache.
    fn refused(&self, spec: impl AsRef<Path>) -> String {
        let error = self.open(spec).map(|_| ()).unwrap_err().to_string();
        assert_eq!(self.cached(), 0, "{error}");
        error
    }

    fn cached(&self) -> usize {
        fs::read_dir(self.cache.path().join("parquet")).map_or(0, Iterator::count)
    }
}

fn file(source: &dyn ImageSource, index: usize) -> Vec<u8> {
    let Content::File(bytes) = source.read(index).unwrap() else { panic!("no file") };
    bytes
}

/// Name and class of each image.
fn all(source: &dyn ImageSource) -> Vec<(String, Option<&str>)> {
    let class = |i| source.label(i).map(|l| source.classes()[l as usize].as_str());
    (0..source.len()).map(|i| (source.name(i), class(i))).collect()
}

#[test]
fn images_and_classes_come_as_they_were_written() {
    let place = Place::new();
    let path = place.at("train-00000-of-00001.parquet");
    // More rows than are read at once, and more than a group of them.
    write(&path, HUB, Compression::SNAPPY, Some(NAMES), vec![rows(0, 130), rows(130, 131), rows(131, 200)]);
    let source = place.open(&path).unwrap();
    assert_eq!(source.len(), 200);
    assert_eq!(source.classes(), ["dog", "cat", "bird"]);
    for i in 0..200 {
        assert_eq!(source.name(i), format!("train-00000-of-00001/{i:09}.png"));
        assert_eq!(source.label(i), Some(i as u32 % 3));
        assert_eq!(file(&*source, i), png(i as u8));
    }
    assert_eq!(place.said.borrow().len(), 1);
    // From the cache.
    let again = place.open(place.data.path()).unwrap();
    assert_eq!((all(&*again), file(&*again, 199)), (all(&*source), png(199)));
    assert_eq!((place.said.borrow().len(), place.cached()), (1, 2));
    // A copy whose names got lost is made again, one of another file beside it.
    let json = fs::read_dir(place.cache.path().join("parquet")).unwrap().map(|e| e.unwrap().path());
    let json = json.filter(|p| p.extension().is_some_and(|e| e == "json")).collect::<Vec<_>>();
    fs::write(&json[0], "[\"do").unwrap();
    assert_eq!(place.open(&path).unwrap().classes(), ["dog", "cat", "bird"]);
    write(&path, HUB, Compression::SNAPPY, None, vec![rows(7, 9)]);
    let other = place.open(&path).unwrap();
    assert_eq!((other.len(), file(&*other, 0), other.classes()), (2, png(7), &["1".to_string(), "2".into()][..]));
}

#[test]
fn names_stay_when_files_come() {
    let place = Place::new();
    write(&place.at("b.parquet"), HUB, Compression::UNCOMPRESSED, None, vec![rows(0, 2)]);
    let one = place.open(place.data.path()).unwrap();
    write(&place.at("a.parquet"), HUB, Compression::UNCOMPRESSED, None, vec![rows(2, 4)]);
    let two = place.open(place.data.path()).unwrap();
    let names = |s: &dyn ImageSource| (0..s.len()).map(|i| s.name(i)).collect::<Vec<_>>();
    assert_eq!(names(&*one), ["b/000000000.png", "b/000000001.png"]);
    assert_eq!(names(&*two)[2..], names(&*one));
    assert_eq!((two.id(2), file(&*two, 2)), (one.id(0), png(0)));
    // Files of one name in two folders.
    for (folder, from) in [("x", 0), ("y", 2)] {
        fs::create_dir(place.at(folder)).unwrap();
        write(&place.at(folder).join(".0.parquet"), HUB, Compression::UNCOMPRESSED, None, vec![rows(from, from + 1)]);
    }
    let both = place.open(place.at("{x,y}/.0.parquet")).unwrap();
    assert_eq!(all(&*both), [("x/_.0/000000000.png".into(), Some("0")), ("y/_.0/000000000.png".into(), Some("2"))]);
}

#[test]
fn compressed_files_are_read() {
    let place = Place::new();
    for codec in [
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
        Compression::UNCOMPRESSED,
    ] {
        let path = place.at("x.parquet");
        write(&path, HUB, codec, Some(NAMES), vec![rows(3, 80)]);
        let source = place.open(&path).unwrap();
        assert_eq!((source.len(), file(&*source, 76)), (77, png(79)), "{codec}");
    }
}

#[test]
fn a_missing_image_is_a_bad_sample() {
    let place = Place::new();
    let path = place.at("x.parquet");
    let nothing = || Ok(Vec::new());
    let columns = vec![
        Column::Bytes(vec![Ok(png(0)), Err(0), Err(1), nothing(), Ok(png(4))]),
        Column::Bytes(vec![Err(1), Err(0), Ok("somewhere.png".into()), Err(1), Err(1)]),
        Column::Long(vec![Ok(2), Ok(1), Err(0), Ok(1), Ok(-1)]),
    ];
    write(&path, HUB, Compression::UNCOMPRESSED, Some(NAMES), vec![columns]);
    let source = place.open(&path).unwrap();
    // The class below 0 is none.
    let labels: Vec<_> = (0..5).map(|i| source.label(i).map(|l| source.classes()[l as usize].as_str())).collect();
    assert_eq!(labels, [Some("bird"), Some("cat"), None, Some("cat"), None]);
    assert_eq!((file(&*source, 0), file(&*source, 4)), (png(0), png(4)));
    (1..4).for_each(|i| assert!(file(&*source, i).is_empty()));
}

#[test]
fn images_that_are_only_named_are_refused() {
    let place = Place::new();
    let path = place.at("x.parquet");
    let columns = vec![Column::Bytes(vec![Err(1)]), Column::Bytes(vec![Ok("a.png".into())]), Column::Long(vec![Ok(0)])];
    write(&path, HUB, Compression::UNCOMPRESSED, None, vec![columns]);
    let error = place.refused(&path);
    assert!(error.contains("x.parquet: holds no images; if it only names them by path"), "{error}");
    write(&path, HUB, Compression::UNCOMPRESSED, None, vec![]);
    assert!(place.refused(&path).contains("holds no images"));
}

#[test]
fn the_column_of_images_is_found() {
    let place = Place::new();
    let path = place.at("x.parquet");
    let (image, other) = (|| Column::Bytes(vec![Ok(png(1))]), || Column::Bytes(vec![Ok(b"no".to_vec())]));
    let text = |t: &str| Column::Bytes(vec![Ok(t.into())]);
    let long = Column::Long;
    let cases: [(&str, Vec<Column>, Option<&str>); 7] = [
        ("required binary data; required int32 label;", vec![image(), Column::Int(vec![Ok(5)])], Some("5")),
        ("optional binary raw; optional binary img;", vec![other(), image()], None),
        ("optional binary raw; optional group scan { optional binary bytes; }", vec![other(), image()], None),
        (
            "optional group mask { optional binary bytes; } optional group image { optional binary bytes; }",
            vec![other(), image()],
            None,
        ),
        (
            "required binary label (UTF8); required binary image; required int64 fine_label;",
            vec![text(" red fox "), image(), long(vec![Ok(3)])],
            Some("red fox"),
        ),
        (
            "optional binary image; optional int64 size; optional int64 fine_label; optional int64 coarse_label;",
            vec![image(), long(vec![Ok(9)]), long(vec![Ok(3)]), long(vec![Ok(4)])],
            Some("3"),
        ),
        (
            "optional binary image; optional group label { optional int64 label; } optional int64 labels;",
            vec![image(), long(vec![Err(0)]), long(vec![Ok(4)])],
            Some("4"),
        ),
    ];
    for (columns, values, class) in cases {
        let schema = format!("message schema {{ {columns} }}");
        write(&path, &schema, Compression::SNAPPY, None, vec![values]);
        let source = place.open(&path).unwrap();
        assert_eq!(all(&*source), [("x/000000000.png".to_string(), class)], "{columns}");
        assert_eq!(file(&*source, 0), png(1), "{columns}");
    }
    let place = Place::new();
    let path = place.at("x.parquet");
    for columns in [
        "required int64 label;",
        "required binary image (UTF8);",
        "repeated binary image;",
        "required group image { required binary path (UTF8); }",
    ] {
        write(&path, &format!("message schema {{ {columns} }}"), Compression::SNAPPY, None, vec![]);
        let error = place.refused(&path);
        assert!(error.contains("x.parquet: has no column of images"), "{error}");
    }
}

#[test]
fn damaged_files_are_refused_and_leave_nothing() {
    let place = Place::new();
    write(&place.at("a.parquet"), HUB, Compression::UNCOMPRESSED, Some(NAMES), vec![rows(0, 70), rows(70, 140)]);
    let whole = fs::read(place.at("a.parquet")).unwrap();
    let b = place.at("b.parquet");
    for len in [0, 3, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&b, &whole[..len]).unwrap();
        let error = place.refused(place.data.path());
        assert!(error.contains("b.parquet: cannot be read as parquet"), "{error}");
    }
    // Whole but for one byte, of the description at the end and of the first page.
    let mut refusals = 0;
    for at in (whole.len() - 600..whole.len()).step_by(3).chain((0..300).step_by(3)) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        fs::write(&b, &bytes).unwrap();
        match place.open(&b) {
            Ok(source) => assert!(source.len() <= 140),
            Err(error) => {
                refusals += 1;
                assert!(error.to_string().contains("b.parquet"), "{error}");
            }
        }
    }
    assert!(refusals > 50, "{refusals}");
}
