//! Scalars in the event files that TensorBoard reads.
//!
//! An event file is a row of frames, each holding one protobuf `Event`. Only the few
//! fields that scalars need are written, by hand:
//!
//! ```text
//! frame   := length u64 LE | masked CRC-32C of the 8 length bytes u32 LE
//!          | event bytes   | masked CRC-32C of the event bytes    u32 LE
//! Event   := 1: wall_time double | 2: step int64 | 3: file_version string
//!          | 5: Summary          | 7: SessionLog
//! Summary := 1: Value, repeated;  Value := 1: tag string | 2: simple_value float
//! SessionLog := 1: status (1 = START)
//! ```

use crate::name_file;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes one event file. Several may lie in one folder: TensorBoard joins them in the
/// order of their names, which is the order of their creation.
#[derive(Debug)]
pub struct EventWriter {
    file: File,
}

impl EventWriter {
    /// Starts a new `events.out.tfevents.<time>.<host>` for a run's beginning in `dir`,
    /// which is created if missing. Files of a former run in the same folder stay, but
    /// TensorBoard no longer shows them.
    ///
    /// An existing file is never written to; a second writer within the same second gets a
    /// number behind its name.
    ///
    /// # Errors
    /// When the folder or the file cannot be made or written.
    pub fn create(dir: &Path) -> io::Result<Self> {
        Self::resume(dir, 0)
    }

    /// Starts a new event file as [`EventWriter::create`] does, for a run that goes on from a checkpoint: `step` is
    /// the first step that will be written, and what earlier files hold of it and of later steps is no longer
    /// shown.
    ///
    /// # Errors
    /// When the folder or the file cannot be made or written.
    pub fn resume(dir: &Path, step: i64) -> io::Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let file = new_file(dir, now.as_secs())?;
        let mut writer = Self { file };
        let now = now.as_secs_f64();
        // The format's version comes first in every file. A session start follows even at
        // step 0: TensorBoard takes the first one it meets for the run's beginning, and
        // discards orphans only from the second on.
        writer.put(&event(now, 0, 3, b"brain.Event:2"))?;
        writer.put(&event(now, step, 7, &SESSION_START))?;
        Ok(writer)
    }

    /// Writes `values`, pairs of tag and number, as one event of `step`. `wall_time` is in
    /// seconds since 1970. Nothing is held back in a buffer.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn scalars(&mut self, step: i64, wall_time: f64, values: &[(&str, f32)]) -> io::Result<()> {
        self.put(&event(wall_time, step, 5, &summary(values)))
    }

    fn put(&mut self, event: &[u8]) -> io::Result<()> {
        self.file.write_all(&frame(event))
    }
}

/// Bytes of `SessionLog { status: START }`.
const SESSION_START: [u8; 2] = [0x08, 1];

fn new_file(dir: &Path, seconds: u64) -> io::Result<File> {
    fs::create_dir_all(dir).map_err(name_file(dir))?;
    let base = format!("events.out.tfevents.{seconds:010}.{}", host());
    let mut path = dir.join(&base);
    let mut number = 0_u32;
    loop {
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 999 => {
                number += 1;
                path = dir.join(format!("{base}.{number:03}"));
            }
            other => return other.map_err(name_file(&path)),
        }
    }
}

/// This machine's name, as far as the operating system tells it without a system call of
/// our own, reduced to what is safe in a file name.
fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| std::env::var("HOSTNAME"))
        .or_else(|_| std::env::var("COMPUTERNAME"))
        .unwrap_or_default();
    let name: String = name
        .trim()
        .chars()
        .take(64)
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '.' => c,
            _ => '-',
        })
        .collect();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// An event whose field `number` holds `content`.
fn event(wall_time: f64, step: i64, number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![0x09]; // field 1, eight bytes
    out.extend_from_slice(&wall_time.to_le_bytes());
    if step != 0 {
        out.push(0x10); // field 2, varint
        varint(&mut out, step as u64);
    }
    bytes_field(&mut out, number, content);
    out
}

fn summary(values: &[(&str, f32)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (tag, number) in values {
        let mut value = Vec::with_capacity(tag.len() + 7);
        bytes_field(&mut value, 1, tag.as_bytes());
        value.push(0x15); // field 2, four bytes
        value.extend_from_slice(&number.to_le_bytes());
        bytes_field(&mut out, 1, &value);
    }
    out
}

/// A string or message field; `number` is below 16, so its key is a single byte.
fn bytes_field(out: &mut Vec<u8>, number: u8, content: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

/// Seven bits a byte, lowest first; the top bit says that more follow.
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn frame(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    [&length[..], &masked(crc32c(&length)).to_le_bytes(), event, &masked(crc32c(event)).to_le_bytes()].concat()
}

/// The format's guard for checksums of data that contains checksums.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C bit by bit: a few hundred bytes a step need no table.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            // Castagnoli's polynomial, mirrored.
            (crc >> 1) ^ (0x82f6_3b78 * (crc & 1))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// RFC 3720, appendix B.4, and the check value of the CRC catalogues.
    #[test]
    fn crc32c_matches_published_values() {
        assert_eq!(crc32c(b""), 0);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    /// Golden bytes: TensorBoard 2.21.0, `RecordWriter` around the same `event_pb2.Event`s.
    #[test]
    fn frames_match_tensorboard_own_writer() {
        assert_eq!(
            hex(&frame(&event(1.5, 0, 3, b"brain.Event:2"))),
            "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c"
        );
        let values = [("train_loss", 2.5), ("images/s", f32::NAN), ("b", -0.0)];
        assert_eq!(
            hex(&frame(&event(1e9, 300, 5, &summary(&values)))),
            "3c00000000000000c8b7a352090000000065cdcd4110ac022a2e0a110a0a747261696e5f6c6f737315000020400a0f0a08696d616765732f73150000c07f0a080a016215000000801035c034"
        );
        assert_eq!(
            hex(&frame(&event(2.0, -1, 7, &SESSION_START))),
            "1800000000000000a37f4b2209000000000000004010ffffffffffffffffff013a020801a7fe87e7"
        );
    }

    #[test]
    fn a_file_is_whole_frames_and_never_reused() -> io::Result<()> {
        let dir = Scratch::new("tensorboard")?;
        let tb = dir.0.join("tb");
        for step in 0..3 {
            let mut writer = EventWriter::resume(&tb, step)?;
            writer.scalars(step, 4.0, &[("train_loss", 1.0)])?;
        }
        let mut files = 0;
        for entry in fs::read_dir(&tb)? {
            let entry = entry?;
            let name = entry.file_name();
            assert!(name.to_string_lossy().starts_with("events.out.tfevents."));
            let bytes = fs::read(entry.path())?;
            let mut rest = &bytes[..];
            let mut frames = 0;
            while let Some((head, tail)) = rest.split_first_chunk::<8>() {
                let length = u64::from_le_bytes(*head) as usize;
                assert_eq!(rest[..length + 16], frame(&tail[4..length + 4]));
                rest = &rest[length + 16..];
                frames += 1;
            }
            assert_eq!((frames, rest.len()), (3, 0));
            files += 1;
        }
        assert_eq!(files, 3);
        Ok(())
    }
}
