//! The samples of a page: its strips or tiles, unpacked and put in their places.

use super::layout::{Kind, Layout, photometric};
use crate::decode::values::Stored;
use crate::decode::{libjpeg, scan};
use fax::decoder::{DecodeStatus, Group4Decoder, pels};
use std::io::Read;
use weezl::{BitOrder, LzwStatus};

/// The samples of a page, interleaved. Strictly: every chunk is whole, or this is an error.
pub(super) fn read(file: &[u8], l: &Layout) -> Result<Stored, String> {
    if l.photometric == photometric::YCBCR && l.compression != 7 {
        return Err("holds YCbCr colours that are not compressed as JPEG, which cannot be read; store it as RGB".into());
    }
    if l.bits <= 8 && l.kind == Kind::Unsigned {
        let unpack = |row: &[u8], out: &mut [u8]| match l.bits {
            8 => out.copy_from_slice(&row[..out.len()]),
            bits => out.iter_mut().enumerate().for_each(|(i, out)| *out = bits_at(row, i, bits) as u8),
        };
        return Ok(Stored::Bytes(placed(file, l, unpack)?));
    }
    let value = reader(l)?;
    let unpack = |row: &[u8], out: &mut [f32]| out.iter_mut().enumerate().for_each(|(i, out)| *out = value(row, i));
    Ok(Stored::Wide(placed(file, l, unpack)?))
}

/// All chunks in their places: `unpack` makes samples of the bytes of a row.
fn placed<T: Copy + Default>(file: &[u8], l: &Layout, unpack: impl Fn(&[u8], &mut [T])) -> Result<Vec<T>, String> {
    let planes = if l.planar { l.samples } else { 1 };
    let per = l.samples / planes;
    if l.chunk.0 == 0 || l.chunk.1 == 0 {
        return Err("has strips or tiles without pixels".into());
    }
    let (across, down) = (l.width.div_ceil(l.chunk.0), l.height.div_ceil(l.chunk.1));
    if l.offsets.len() != planes * across * down || l.lengths.len() != l.offsets.len() {
        return Err(format!("has {} strips or tiles, not {}", l.offsets.len(), planes * across * down));
    }
    let bits = l.chunk.0.checked_mul(per).and_then(|n| n.checked_mul(l.bits));
    let stride = bits.ok_or("has strips or tiles that are too large")?.div_ceil(8);
    let mut out = vec![T::default(); l.width * l.height * l.samples];
    let mut row = vec![T::default(); l.chunk.0 * per];
    for chunk in 0..l.offsets.len() {
        let (plane, place) = (chunk / (across * down), chunk % (across * down));
        let (left, top) = (place % across * l.chunk.0, place / across * l.chunk.1);
        let (columns, rows) = (l.chunk.0.min(l.width - left), l.chunk.1.min(l.height - top));
        // A tile has all its rows, also those beyond the image; a last strip may have fewer.
        let stored = if l.tiled { l.chunk.1 } else { rows };
        let wanted = stride.checked_mul(stored).ok_or("has strips or tiles that are too large")?;
        let mut data = expanded(file, l, chunk, (per, stored, wanted))
            .map_err(|e| format!("{} {} of {} {e}", l.word(), chunk + 1, l.offsets.len()))?;
        for (y, bytes) in data.chunks_exact_mut(stride).take(rows).enumerate() {
            undo_predictor(bytes, l, per)?;
            unpack(bytes, &mut row);
            let at = ((top + y) * l.width + left) * l.samples;
            if per == l.samples {
                out[at..at + columns * per].copy_from_slice(&row[..columns * per]);
            } else {
                let places = out[at + plane..].iter_mut().step_by(l.samples);
                places.zip(&row[..columns]).for_each(|(out, value)| *out = *value);
            }
        }
    }
    Ok(out)
}

impl Layout {
    /// What its chunks are called.
    fn word(&self) -> &'static str {
        if self.tiled { "tile" } else { "strip" }
    }
}

/// The bytes of a chunk: `rows` rows of `per` samples per pixel, `wanted` bytes in all.
fn expanded(
    file: &[u8],
    l: &Layout,
    chunk: usize,
    (per, rows, wanted): (usize, usize, usize),
) -> Result<Vec<u8>, String> {
    let range = usize::try_from(l.offsets[chunk]).ok().zip(usize::try_from(l.lengths[chunk]).ok());
    let data =
        range.and_then(|(at, len)| file.get(at..at.checked_add(len)?)).ok_or("lies beyond the end of the file")?;
    let short = "is truncated";
    let turned: Vec<u8>;
    let data = match l.reversed_bits && l.compression != 7 {
        true => {
            turned = data.iter().map(|b| b.reverse_bits()).collect();
            &turned[..]
        }
        false => data,
    };
    if l.compression == 1 {
        return Ok(data.get(..wanted).ok_or(short)?.to_vec());
    }
    if l.compression == 7 {
        let pixels = jpeg(data, l, (per, rows))?;
        return if pixels.len() < wanted { Err(short.into()) } else { Ok(pixels) };
    }
    let mut out = vec![0; wanted];
    match l.compression {
        4 => group_4(data, l, rows, &mut out)?,
        5 => {
            let mut decoder = weezl::decode::Decoder::with_tiff_size_switch(BitOrder::Msb, 8);
            let (mut from, mut to) = (data, &mut out[..]);
            while !to.is_empty() {
                let step = decoder.decode_bytes(from, to);
                (from, to) = (&from[step.consumed_in..], &mut to[step.consumed_out..]);
                match step.status.map_err(|_| "is damaged (LZW)")? {
                    LzwStatus::Ok => {}
                    _ if to.is_empty() => {}
                    _ => return Err(short.into()),
                }
            }
        }
        8 | 32946 => flate2::read::ZlibDecoder::new(data).read_exact(&mut out).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => short.to_string(),
            _ => format!("is damaged (Deflate): {e}"),
        })?,
        32773 => pack_bits(data, &mut out).ok_or(short)?,
        other => {
            let name = match other {
                2 | 3 => "CCITT group 3",
                6 => "old-style JPEG",
                34925 => "LZMA",
                33003 | 33005 | 34712 => "JPEG 2000",
                50000 | 34926 => "Zstandard",
                50001 | 34927 => "WebP",
                50002 | 52546 => "JPEG XL",
                34887 => "LERC",
                _ => "a way that is not known",
            };
            return Err(format!(
                "is compressed by {name} ({other}), which cannot be read; store it with Deflate or LZW"
            ));
        }
    }
    Ok(out)
}

fn pack_bits(mut data: &[u8], out: &mut [u8]) -> Option<()> {
    let mut at = 0;
    while at < out.len() {
        let (&head, rest) = data.split_first()?;
        data = rest;
        match head {
            0..128 => {
                let count = usize::from(head) + 1;
                let run = data.get(..count)?;
                let take = count.min(out.len() - at);
                out[at..at + take].copy_from_slice(&run[..take]);
                data = &data[count..];
                at += take;
            }
            128 => {}
            129.. => {
                let (&value, rest) = data.split_first()?;
                let take = (257 - usize::from(head)).min(out.len() - at);
                out[at..at + take].fill(value);
                data = rest;
                at += take;
            }
        }
    }
    Some(())
}

/// Black is 1, as in the stored code; what that means is for the photometric interpretation to say.
fn group_4(data: &[u8], l: &Layout, rows: usize, out: &mut [u8]) -> Result<(), String> {
    let width = u16::try_from(l.chunk.0).map_err(|_| "is too wide for CCITT group 4")?;
    let bytes = data.iter().map(|b| Ok::<u8, std::convert::Infallible>(*b));
    let mut decoder = Group4Decoder::new(bytes, width).map_err(|_| "is damaged (CCITT group 4)")?;
    for row in out.chunks_exact_mut(l.chunk.0.div_ceil(8)).take(rows) {
        match decoder.advance().map_err(|_| "is damaged (CCITT group 4)")? {
            DecodeStatus::Incomplete => {}
            DecodeStatus::End => return Err("is truncated".into()),
        }
        for (x, colour) in pels(decoder.transition(), width).enumerate() {
            row[x / 8] |= u8::from(colour == fax::Color::Black) << (7 - x % 8);
        }
    }
    Ok(())
}

/// A JPEG of its own, but for tables that all chunks share. Colours that are stored as brightness and
/// differences become RGB.
fn jpeg(data: &[u8], l: &Layout, (per, rows): (usize, usize)) -> Result<Vec<u8>, String> {
    let joined: Vec<u8>;
    let file = match l.tables.len() {
        0..4 => data,
        len => {
            joined = [&l.tables[..len - 2], data.get(2..).ok_or("is truncated")?].concat();
            &joined[..]
        }
    };
    scan::check(file)?;
    let to_rgb = l.photometric == photometric::YCBCR && per == 3;
    let libjpeg::Stored { width, height, channels, samples: pixels } = libjpeg::samples(file, to_rgb)?;
    if width != l.chunk.0 || height < rows || channels != per || l.bits != 8 {
        return Err(format!(
            "is a JPEG of {width} x {height} pixels and {channels} channels, not of {} x {rows} and {per}",
            l.chunk.0
        ));
    }
    Ok(pixels)
}

/// Sums up differences along a row.
fn undo_predictor(row: &mut [u8], l: &Layout, per: usize) -> Result<(), String> {
    match (l.predictor, l.bits) {
        (1, _) => {}
        (2, 8) => (per..row.len()).for_each(|i| row[i] = row[i].wrapping_add(row[i - per])),
        (2, 16 | 32 | 64) => {
            let (size, big) = (l.bits / 8, l.big_endian);
            let get = |bytes: &[u8]| {
                let add = |sum: u64, b: &u8| sum << 8 | u64::from(*b);
                if big { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) }
            };
            for i in per * size..row.len() / size * size {
                if !i.is_multiple_of(size) {
                    continue;
                }
                let value = get(&row[i..i + size]).wrapping_add(get(&row[i - per * size..][..size]));
                match big {
                    true => row[i..i + size].copy_from_slice(&value.to_be_bytes()[8 - size..]),
                    false => row[i..i + size].copy_from_slice(&value.to_le_bytes()[..size]),
                }
            }
        }
        (3, 16 | 24 | 32 | 64) if l.kind == Kind::Float => {
            (per..row.len()).for_each(|i| row[i] = row[i].wrapping_add(row[i - per]));
            let (size, planes) = (l.bits / 8, row.to_vec());
            let count = planes.len() / size;
            for (i, value) in row.chunks_exact_mut(size).enumerate() {
                for (k, byte) in value.iter_mut().enumerate() {
                    // The most significant bytes of all values come first.
                    let significance = if l.big_endian { k } else { size - 1 - k };
                    *byte = planes[significance * count + i];
                }
            }
        }
        (predictor, bits) => {
            return Err(format!("has samples of {bits} bits with the predictor {predictor}, which cannot be read"));
        }
    }
    Ok(())
}

/// Sample `i` of a row of samples of `bits` bits, the first in the highest bits.
fn bits_at(row: &[u8], i: usize, bits: usize) -> u32 {
    let first = i * bits;
    (first..first + bits).fold(0, |value, bit| value << 1 | u32::from(row[bit / 8] >> (7 - bit % 8) & 1))
}

/// Sample `i` of a row as a number; exact up to 24 bits.
type Sample = Box<dyn Fn(&[u8], usize) -> f32>;

/// How the samples of a file become numbers.
fn reader(l: &Layout) -> Result<Sample, String> {
    fn bytes<const N: usize>(row: &[u8], i: usize, big: bool) -> [u8; N] {
        let mut value = [0; N];
        value.copy_from_slice(&row[i * N..][..N]);
        if big {
            value.reverse();
        }
        value
    }
    let big = l.big_endian;
    let bits = l.bits;
    Ok(match (l.kind, bits) {
        (Kind::Unsigned, 16) => Box::new(move |row, i| f32::from(u16::from_le_bytes(bytes(row, i, big)))),
        (Kind::Unsigned, 24) => Box::new(move |row, i| {
            let [a, b, c] = bytes(row, i, big);
            u32::from_le_bytes([a, b, c, 0]) as f32
        }),
        (Kind::Unsigned, 32) => Box::new(move |row, i| u32::from_le_bytes(bytes(row, i, big)) as f32),
        (Kind::Unsigned, 64) => Box::new(move |row, i| u64::from_le_bytes(bytes(row, i, big)) as f32),
        (Kind::Unsigned, 9..=31) => Box::new(move |row, i| bits_at(row, i, bits) as f32),
        (Kind::Signed, 8) => Box::new(move |row, i| f32::from(row[i] as i8)),
        (Kind::Signed, 16) => Box::new(move |row, i| f32::from(i16::from_le_bytes(bytes(row, i, big)))),
        (Kind::Signed, 32) => Box::new(move |row, i| i32::from_le_bytes(bytes(row, i, big)) as f32),
        (Kind::Signed, 64) => Box::new(move |row, i| i64::from_le_bytes(bytes(row, i, big)) as f32),
        (Kind::Float, 16) => Box::new(move |row, i| half(u16::from_le_bytes(bytes(row, i, big)))),
        (Kind::Float, 32) => Box::new(move |row, i| f32::from_le_bytes(bytes(row, i, big))),
        (Kind::Float, 64) => Box::new(move |row, i| f64::from_le_bytes(bytes(row, i, big)) as f32),
        (kind, bits) => {
            let kind = match kind {
                Kind::Unsigned => "integers",
                Kind::Signed => "integers with a sign",
                Kind::Float => "floating-point numbers",
            };
            return Err(format!("holds {kind} of {bits} bits, which cannot be read"));
        }
    })
}

/// The value of a number of half precision.
fn half(bits: u16) -> f32 {
    let (exponent, fraction) = (bits >> 10 & 31, f32::from(bits & 1023));
    let size = match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0. => f32::INFINITY,
        31 => f32::NAN,
        _ => (1024. + fraction) * 2f32.powi(i32::from(exponent) - 25),
    };
    if bits >> 15 == 1 { -size } else { size }
}
