//! How a page of a TIFF file is stored: what its tags say.

use std::io::Cursor;
use tiff::decoder::Decoder;
use tiff::tags::Tag;

/// What the numbers of a sample mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Unsigned,
    Signed,
    Float,
}

/// How colours are stored, by the number of the tag `PhotometricInterpretation`.
pub(super) mod photometric {
    pub const WHITE_IS_ZERO: u64 = 0;
    pub const RGB: u64 = 2;
    pub const PALETTE: u64 = 3;
    pub const CMYK: u64 = 5;
    pub const YCBCR: u64 = 6;
    pub const LAB: [u64; 3] = [8, 9, 10];
}

/// One page.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub width: usize,
    pub height: usize,
    /// Samples per pixel.
    pub samples: usize,
    /// Bits per sample.
    pub bits: usize,
    pub kind: Kind,
    pub photometric: u64,
    /// What the samples beside the colours are: 0 unknown, 1 premultiplied alpha, 2 alpha.
    pub extra: Vec<u64>,
    /// Red, green and blue of a palette, one after the other, 16 bits each.
    pub palette: Vec<u16>,
    pub compression: u64,
    pub predictor: u64,
    /// Each sample in chunks of its own.
    pub planar: bool,
    /// Bits of a byte in reverse order.
    pub reversed_bits: bool,
    pub big_endian: bool,
    /// Columns and rows of a strip or tile.
    pub chunk: (usize, usize),
    pub tiled: bool,
    pub offsets: Vec<u64>,
    pub lengths: Vec<u64>,
    /// Tables that all JPEG chunks share.
    pub tables: Vec<u8>,
    /// A smaller copy of another page, or a mask of it.
    pub subordinate: bool,
    /// Where the file holds further images outside of its chain of pages.
    pub sub_images: bool,
    pub orientation: u8,
    pub description: String,
}

impl Layout {
    /// The page at which `decoder` is, its size found small enough by `admit`.
    pub fn of(
        decoder: &mut Decoder<Cursor<&[u8]>>,
        admit: impl Fn(u64, u64) -> Result<(), String>,
    ) -> Result<Self, String> {
        use tiff::tags::ByteOrder;
        let say = |e: tiff::TiffError| e.to_string();
        let (width, height) = decoder.dimensions().map_err(say)?;
        admit(width.into(), height.into())?;
        let big_endian = decoder.byte_order() == ByteOrder::BigEndian;
        let mut list = |tag| decoder.find_tag_unsigned_vec::<u64>(tag).map_err(say).map(Option::unwrap_or_default);
        let mut one = |tag, usual| list(tag).map(|v| v.first().copied().unwrap_or(usual));
        let size = |v: u64| usize::try_from(v).map_err(|_| "has a tag that is too large".to_string());
        let (tile_width, tile_height) = (one(Tag::TileWidth, 0)?, one(Tag::TileLength, 0)?);
        let rows = one(Tag::RowsPerStrip, height.into())?.min(height.into());
        let tiled = tile_width > 0;
        let kind = match one(Tag::SampleFormat, 1)? {
            1 | 4 => Kind::Unsigned,
            2 => Kind::Signed,
            3 => Kind::Float,
            other => return Err(format!("holds numbers of an unknown kind (SampleFormat {other})")),
        };
        let mut layout = Self {
            width: width as usize,
            height: height as usize,
            samples: size(one(Tag::SamplesPerPixel, 1)?)?,
            bits: size(one(Tag::BitsPerSample, 1)?)?,
            kind,
            photometric: one(Tag::PhotometricInterpretation, 1)?,
            compression: one(Tag::Compression, 1)?,
            predictor: one(Tag::Predictor, 1)?,
            planar: one(Tag::PlanarConfiguration, 1)? == 2,
            reversed_bits: one(Tag::FillOrder, 1)? == 2,
            big_endian,
            chunk: match tiled {
                true => (size(tile_width)?, size(tile_height)?),
                false => (width as usize, size(rows)?),
            },
            tiled,
            subordinate: one(Tag::NewSubfileType, 0)? & 0b101 != 0,
            orientation: one(Tag::Orientation, 1)?.try_into().unwrap_or(1),
            extra: list(Tag::ExtraSamples)?,
            palette: list(Tag::ColorMap)?.into_iter().map(|v| v as u16).collect(),
            offsets: list(if tiled { Tag::TileOffsets } else { Tag::StripOffsets })?,
            lengths: list(if tiled { Tag::TileByteCounts } else { Tag::StripByteCounts })?,
            sub_images: !list(Tag::SubIfd)?.is_empty(),
            tables: Vec::new(),
            description: String::new(),
        };
        layout.planar &= layout.samples > 1;
        if let Ok(Some(tables)) = decoder.find_tag(Tag::JPEGTables) {
            layout.tables = tables.into_u8_vec().map_err(say)?;
        }
        if let Ok(Some(text)) = decoder.find_tag(Tag::ImageDescription) {
            layout.description = text.into_string().unwrap_or_default();
        }
        Ok(layout)
    }

    /// Samples that make up a colour; the others are alpha or further bands.
    pub fn colours(&self) -> usize {
        match self.photometric {
            photometric::RGB | photometric::YCBCR => 3,
            photometric::CMYK => 4,
            tag if photometric::LAB.contains(&tag) => 3,
            _ => 1,
        }
    }
}
