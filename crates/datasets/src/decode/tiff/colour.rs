//! RGB of a page, as Pillow's `convert("RGB")` makes it.

use super::layout::{Kind, Layout, photometric};
use crate::decode::Notes;
use crate::decode::cut::cut;
use crate::decode::libjpeg::from_cmyk;
use crate::decode::values::Stored;

/// RGB bytes of a page, or why it has none.
pub(super) fn to_rgb(l: &Layout, stored: &Stored, notes: &mut Notes) -> Result<Vec<u8>, String> {
    let colours = l.colours();
    let alpha = l.extra.first().copied().filter(|_| l.samples > colours);
    match l.photometric {
        tag if photometric::LAB.contains(&tag) => {
            return Err("holds Lab colours, which cannot be read as RGB; convert it to RGB".into());
        }
        photometric::RGB | photometric::CMYK | photometric::PALETTE | photometric::YCBCR => {}
        // One channel, or one and alpha; Pillow knows no others.
        0 | 1 if l.samples == 1 || (l.samples == 2 && alpha == Some(2)) => {}
        0 | 1 if l.samples == 2 && alpha == Some(1) => {
            return Err("holds grey premultiplied by alpha, which cannot be read as RGB".into());
        }
        0 | 1 => {
            return Err(format!(
                "cannot be read as RGB: it has {} channels, which nothing calls red, green and blue; --set \
                 data.channels={} takes them as they are (and --set data.range=[low,high] values of more than 8 bits)",
                l.samples, l.samples
            ));
        }
        other => return Err(format!("holds colours of a kind that cannot be read as RGB ({other})")),
    }
    if l.samples < colours {
        return Err(format!("has {} samples per pixel, too few for its colours", l.samples));
    }
    notes.unused = l.samples - colours;
    if let (Stored::Wide(v), Kind::Float) = (stored, l.kind) {
        notes.fractions = v.iter().filter(|v| v.fract() != 0.).count() as u64;
        notes.black = notes.fractions > 0 && v.iter().all(|v| *v <= 1.);
    }
    if matches!(l.photometric, 0 | 1) {
        return Ok(grey(l, stored, notes).into_iter().flat_map(|v| [v; 3]).collect());
    }
    let bytes = match stored {
        Stored::Bytes(v) if l.photometric == photometric::PALETTE => return looked_up(l, v),
        Stored::Bytes(v) if l.bits == 8 => std::borrow::Cow::Borrowed(&v[..]),
        Stored::Wide(v) if l.bits == 16 && l.kind == Kind::Unsigned && l.photometric != photometric::PALETTE => {
            notes.bits = 16;
            v.iter().map(|&v| (v as u16 >> 8) as u8).collect()
        }
        Stored::Wide(v) if l.kind == Kind::Float && l.photometric == photometric::RGB => {
            notes.bits = l.bits;
            v.iter().map(|&v| cut(v, &mut notes.cut)).collect()
        }
        _ => return Err(format!("holds colours of {} bits, which cannot be read as RGB", l.bits)),
    };
    let pixels = bytes.chunks_exact(l.samples);
    Ok(match l.photometric {
        photometric::CMYK => pixels.flat_map(|p| from_cmyk([p[0], p[1], p[2], p[3]])).collect(),
        _ if alpha == Some(1) => pixels.flat_map(|p| divided([p[0], p[1], p[2]], p[3])).collect(),
        _ => pixels.flat_map(|p| [p[0], p[1], p[2]]).collect(),
    })
}

/// The first sample of each pixel as Pillow makes bytes of it: few bits are spread over all levels, deeper
/// values cut off.
fn grey(l: &Layout, stored: &Stored, notes: &mut Notes) -> Vec<u8> {
    match stored {
        Stored::Bytes(v) => spread(v.iter().step_by(l.samples).copied(), l),
        // Pillow takes the bits of bytes with a sign for those of bytes without.
        Stored::Wide(v) if l.bits == 8 => v.iter().step_by(l.samples).map(|&v| v as i8 as u8).collect(),
        Stored::Wide(v) => {
            notes.bits = l.bits;
            // Pillow takes 32 bits without a sign for 32 bits with one.
            let wraps = (l.kind, l.bits) == (Kind::Unsigned, 32);
            let value = |v: f32| if wraps && v >= 2f32.powi(31) { -1. } else { v };
            v.iter().step_by(l.samples).map(|&v| cut(value(v), &mut notes.cut)).collect()
        }
    }
}

/// Values of up to 8 bits over all levels of a byte, 0 being black.
pub(super) fn spread(values: impl Iterator<Item = u8>, l: &Layout) -> Vec<u8> {
    let factor = 255 / ((1u32 << l.bits) - 1).max(1);
    let exact = 255 % ((1u32 << l.bits) - 1).max(1) == 0;
    let invert = l.photometric == photometric::WHITE_IS_ZERO;
    let level = |v: u8| {
        let of = |v: u32| if exact { v * factor } else { v * 255 / ((1 << l.bits) - 1) };
        let level = of(v.into()) as u8;
        if invert { 255 - level } else { level }
    };
    let table: [u8; 256] = std::array::from_fn(|v| level(v as u8));
    values.map(|v| table[usize::from(v)]).collect()
}

/// The colours of a palette.
pub(super) fn looked_up(l: &Layout, indices: &[u8]) -> Result<Vec<u8>, String> {
    let count = l.palette.len() / 3;
    let palette: Vec<[u8; 3]> = (0..count).map(|i| [0, 1, 2].map(|c| (l.palette[c * count + i] >> 8) as u8)).collect();
    let colour = |i: &u8| palette.get(usize::from(*i)).ok_or(format!("has a pixel of colour {i}, but {count} colours"));
    let mut pixels = Vec::with_capacity(indices.len() / l.samples.max(1) * 3);
    for index in indices.iter().step_by(l.samples) {
        pixels.extend(colour(index)?);
    }
    Ok(pixels)
}

/// A colour that was multiplied by its alpha, as Pillow takes that back.
fn divided(colour: [u8; 3], alpha: u8) -> [u8; 3] {
    match alpha {
        0 => [0; 3],
        255 => colour,
        _ => colour.map(|v| (u32::from(v) * 255 / u32::from(alpha)).min(255) as u8),
    }
}
