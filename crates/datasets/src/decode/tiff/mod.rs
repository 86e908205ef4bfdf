//! TIFF files: their bands as they are stored, or RGB as Pillow makes it. The directories are read by the
//! `tiff` crate; strips and tiles are unpacked here, because samples that the crate has no name for must come
//! out as they went in.

mod axes;
mod chunks;
mod colour;
mod layout;
#[cfg(test)]
mod tests;

use super::values::{self, Shape, Stored};
use super::{Decoding, Notes};
use crate::{Image, Samples};
use image::metadata::Orientation;
use layout::{Layout, photometric};
use std::io::Cursor;
use tiff::decoder::{Decoder, Limits};

/// More pages are no image.
const MOST_PAGES: usize = 1 << 16;

/// A TIFF file as an image, its orientation, and what was left out of it.
pub(super) fn decode(bytes: &[u8], want: &Decoding) -> Result<(Image, Orientation, Notes), String> {
    let pages = File::open(bytes, want)?;
    let orientation = Orientation::from_exif(pages.first().orientation).unwrap_or(Orientation::NoTransforms);
    if !want.is_rgb() {
        let (shape, stored) = pages.bands(Some(want.channels))?;
        let (image, notes) = values::used(shape, stored, want)?;
        return Ok((image, orientation, notes));
    }
    let (image, notes) = pages.rgb()?;
    Ok((image, orientation, notes))
}

/// The values of a TIFF file, whatever they are, and their bits: pages of one channel are channels unless the
/// file says otherwise.
pub(super) fn stored(bytes: &[u8], want: &Decoding) -> Result<(Shape, Stored, usize), String> {
    let file = File::open(bytes, want)?;
    let bits = file.first().bits;
    let (shape, stored) = file.bands(None)?;
    Ok((shape, stored, bits))
}

/// The pages of a file, without those that are smaller copies of others.
struct File<'a> {
    bytes: &'a [u8],
    pages: Vec<Layout>,
    want: &'a Decoding,
}

impl<'a> File<'a> {
    fn open(bytes: &'a [u8], want: &'a Decoding) -> Result<Self, String> {
        let say = |e: tiff::TiffError| e.to_string();
        let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(say)?;
        let mut limits = Limits::default();
        limits.ifd_value_size = bytes.len().max(1 << 20);
        decoder = decoder.with_limits(limits);
        let layout = |decoder: &mut _| Layout::of(decoder, |w, h| want.admit(w, h));
        let mut pages = vec![layout(&mut decoder)?];
        let mut number = 1;
        while decoder.more_images() {
            number += 1;
            if number > MOST_PAGES {
                return Err(format!("has more than {MOST_PAGES} pages"));
            }
            let page = decoder.next_image().map_err(say).and_then(|()| layout(&mut decoder));
            pages.push(page.map_err(|e| format!("cannot be read as a whole: page {number}: {e}"))?);
        }
        if pages[0].subordinate && pages[0].sub_images {
            return Err("begins with a small copy of its image, as camera raw files do; develop it first".into());
        }
        // A file of masks or small copies alone has them for images.
        if pages.iter().any(|p| !p.subordinate) {
            pages.retain(|p| !p.subordinate);
        }
        let file = Self { bytes, pages, want };
        // A hostile header may promise more than the pixels themselves that were admitted.
        let l = file.first();
        let most = want.max_pixels.saturating_mul(want.channels.max(8) as u64);
        if (l.width as u64).saturating_mul(l.height as u64).saturating_mul(l.samples as u64) > most {
            return Err(format!("has {} samples per pixel; all are more than data.max_pixels allows", l.samples));
        }
        Ok(file)
    }

    fn first(&self) -> &Layout {
        &self.pages[0]
    }

    /// The pages that are the channels of one image: one page, or as many as there are channels on pages of
    /// their own. `channels` is how many are asked for, by someone who knows.
    fn channels(&self, channels: Option<usize>) -> Result<Vec<Layout>, String> {
        let (first, count) = (self.first(), self.pages.len());
        let axes = axes::of(&first.description);
        if let Some(axes) = axes {
            if let ("OME", Some(other)) = (axes.by, axes::several_files(&first.description)) {
                return Err(format!(
                    "is a part of an OME-TIFF of several files ({other} is another), and one file is one image here; \
                     write all planes to one file, or each to a file of its own that says nothing of others"
                ));
            }
            // OME and tifffile count the samples of a pixel among the channels.
            let own = if axes.by == "ImageJ" { 1 } else { first.samples.max(1) };
            let pages = (axes.channels / own).max(1);
            let planes = pages.saturating_mul(axes.slices).saturating_mul(axes.frames);
            if axes.slices.saturating_mul(axes.frames) > 1 && (count > 1 || planes > 1) {
                return Err(format!(
                    "is a stack of {} slices (Z) and {} frames (T), as {} says, and one file is one image here; write \
                     each plane to a file of its own (tiffsplit, or Stack to Images in ImageJ)",
                    axes.slices, axes.frames, axes.by
                ));
            }
            if planes != count {
                if count == 1 && planes > 1 && axes.by != "OME" {
                    return self.behind_each_other(planes);
                }
                return Err(format!("has {count} pages, but {} speaks of {planes}", axes.by));
            }
            return Ok(self.pages.clone());
        }
        if count > 1 && channels != Some(count) && channels.is_some() {
            let grey = self.pages.iter().all(|page| page.samples == 1 && page.photometric != photometric::PALETTE);
            let or = match grey {
                true => format!(
                    ", or, if they are the channels of one image, --set data.channels={count} --set \
                     data.range=[low,high]"
                ),
                false => String::new(),
            };
            return Err(format!(
                "has {count} pages, and nothing says what they are; one file is one image here: write each page to a \
                 file of its own (tiffsplit){or}"
            ));
        }
        Ok(self.pages.clone())
    }

    /// The planes of a file with one directory for all of them, as ImageJ writes large ones.
    fn behind_each_other(&self, planes: usize) -> Result<Vec<Layout>, String> {
        let first = self.first();
        let size: u64 = first.lengths.iter().sum();
        let follow = first.offsets.iter().zip(&first.lengths).zip(first.offsets.iter().skip(1));
        if first.compression != 1 || first.tiled || !follow.into_iter().all(|((at, len), next)| at + len == *next) {
            return Err(format!("speaks of {planes} planes but has one page"));
        }
        let plane = |number: usize| {
            let by = size.checked_mul(number as u64)?;
            let offsets = first.offsets.iter().map(|at| at.checked_add(by)).collect::<Option<Vec<u64>>>()?;
            Some(Layout { offsets, ..first.clone() })
        };
        (0..planes).map(plane).collect::<Option<_>>().ok_or("has planes beyond the end of the file".into())
    }

    /// All samples as they are stored. Palettes are looked up.
    fn bands(&self, channels: Option<usize>) -> Result<(Shape, Stored), String> {
        let pages = self.channels(channels)?;
        let first = &pages[0];
        if photometric::LAB.contains(&first.photometric) {
            return Err("holds Lab colours, which cannot be read".into());
        }
        if pages.iter().any(|p| (p.width, p.height) != (first.width, first.height)) {
            return Err("has pages of different sizes, which cannot be its channels".into());
        }
        if pages.len() > 1 && pages.iter().any(|p| p.samples != 1 || p.photometric == photometric::PALETTE) {
            return Err("has pages of several samples per pixel, which cannot be its channels".into());
        }
        let found = match first.photometric {
            photometric::PALETTE => 3,
            _ => first.samples * pages.len(),
        };
        if let Some(wanted) = channels {
            values::expect(found, wanted)?;
        }
        let mut shape = (first.width, first.height, first.samples);
        if pages.len() == 1 {
            let mut stored = self.page(first)?;
            if let (photometric::PALETTE, Stored::Bytes(indices)) = (first.photometric, &stored) {
                stored = Stored::Bytes(colour::looked_up(first, indices)?);
                shape.2 = 3;
            }
            return Ok((shape, stored));
        }
        shape.2 = pages.len();
        let planes = pages.iter().map(|page| self.page(page)).collect::<Result<_, _>>()?;
        Ok((shape, values::stacked(planes, shape)?))
    }

    /// The samples of a page. Grey of few bits is spread over all levels where values are bytes, and of grey of 8
    /// bits in which 0 is white 0 becomes black, both as Pillow does.
    fn page(&self, l: &Layout) -> Result<Stored, String> {
        let stored = chunks::read(self.bytes, l)?;
        Ok(match stored {
            Stored::Bytes(v) if l.samples == 1 && l.photometric == photometric::WHITE_IS_ZERO && l.bits == 8 => {
                Stored::Bytes(v.into_iter().map(|v| 255 - v).collect())
            }
            Stored::Bytes(v) if matches!(l.photometric, 0 | 1) && l.bits < 8 && self.want.range.is_none() => {
                Stored::Bytes(colour::spread(v.into_iter(), l))
            }
            stored => stored,
        })
    }

    /// RGB, as Pillow makes it of the first page; channels on pages of their own are red, green and blue.
    fn rgb(&self) -> Result<(Image, Notes), String> {
        let mut pages = self.channels(Some(1))?;
        let mut notes = Notes::default();
        let (width, height) = (pages[0].width, pages[0].height);
        let pixels = match pages.len() {
            1 => {
                let l = pages.remove(0);
                colour::to_rgb(&l, &chunks::read(self.bytes, &l)?, &mut notes)?
            }
            3 if pages.iter().all(|p| p.samples == 1 && matches!((p.photometric, p.bits), (1, 8 | 16))) => {
                let bits = pages[0].bits;
                let ((_, _, channels), stored) = self.bands(Some(3))?;
                let l = Layout { samples: channels, photometric: photometric::RGB, bits, ..pages.remove(0) };
                colour::to_rgb(&l, &stored, &mut notes)?
            }
            count => {
                return Err(format!(
                    "has {count} channels on pages of their own; --set data.channels={count} --set \
                     data.range=[low,high] takes them as they are (`inspect-data --write-config FILE` finds the range)"
                ));
            }
        };
        Ok((Image { width, height, channels: 3, samples: Samples::Bytes(pixels) }, notes))
    }
}
