//! Whether the data of a JPEG is whole: the codes of every scan are walked, and must make exactly as many
//! blocks as the image has.
//!
//! Decoders fill what is missing with grey and pass over what is too much, so that a damaged file looks
//! like an image. But a damaged code moves the beginning of those behind it, and with it their number.

/// Refuses a file whose segments do not lead to its end; and, where it is coded sequentially by Huffman (as
/// nearly all are), one whose scans hold too little, too much, or what is no code.
///
/// Progressive and arithmetic scans are only followed to their end; the decoder has to find the rest.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    let walk = Walk { bytes, at: 2, tables: Default::default(), steps: [1; 4], frame: None, interval: 0 };
    walk.run().map_err(|fault| match fault {
        Fault::Ends => "the JPEG is truncated".into(),
        Fault::Is(what) => format!("the JPEG is damaged: {what}"),
        Fault::Apart => "the JPEG has a scan for each channel, which is not supported; save it again".into(),
    })
}

/// Most scans of a file. Progressive ones have about ten; each is a pass over the whole image, whatever
/// little stands in it.
const MAX_SCANS: usize = 100;

#[derive(Debug)]
enum Fault {
    /// The file is cut off.
    Ends,
    /// Something is wrong.
    Is(&'static str),
    /// Channels are not interleaved. Legal and rare; zune-jpeg 0.5.15 makes wrong colours of it (its issues
    /// 422 and 448).
    Apart,
}

struct Walk<'a> {
    bytes: &'a [u8],
    /// Where to read on.
    at: usize,
    /// Four tables for DC, four for AC.
    tables: [Option<Box<Table>>; 8],
    /// The step of the mean of a block, by quantisation table.
    steps: [i32; 4],
    /// The frame of a sequential file.
    frame: Option<Frame>,
    /// MCUs between restart markers; 0 for none.
    interval: usize,
}

struct Frame {
    width: usize,
    height: usize,
    components: Vec<Component>,
}

/// Name and sampling factors.
#[derive(Clone, Copy)]
struct Component {
    name: u8,
    columns: usize,
    rows: usize,
    /// Number of its quantisation table.
    quantised: u8,
}

impl<'a> Walk<'a> {
    fn run(mut self) -> Result<(), Fault> {
        let mut scans = 0;
        loop {
            let (marker, next) = marker(self.bytes, self.at)?;
            self.at = next;
            if marker == 0xd9 {
                return Ok(());
            }
            if matches!(marker, 0x01 | 0xd0..=0xd8) {
                continue;
            }
            let segment = self.segment()?;
            match marker {
                0xc0 | 0xc1 => self.frame = Some(frame(segment)?),
                0xc4 => self.define(segment)?,
                0xdb => self.quantise(segment)?,
                0xc2..=0xcf => self.frame = None,
                0xdd => {
                    let &[high, low] = segment else { return Err(Fault::Is("a restart interval of no length")) };
                    self.interval = usize::from(u16::from_be_bytes([high, low]));
                }
                0xda if scans == MAX_SCANS => return Err(Fault::Is("it has more than 100 scans")),
                0xda => {
                    scans += 1;
                    self.scan(segment)?;
                }
                _ => {}
            }
        }
    }

    /// What stands in the segment that begins here with its length. Thumbnails, which have markers of their
    /// own, are in segments.
    fn segment(&mut self) -> Result<&'a [u8], Fault> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let &[high, low, ..] = rest else { return Err(Fault::Ends) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let inside = rest.get(2..length.max(2)).ok_or(Fault::Ends)?;
        self.at += length;
        Ok(inside)
    }

    /// Reads the first step of quantisation tables.
    fn quantise(&mut self, mut segment: &[u8]) -> Result<(), Fault> {
        const BAD: Fault = Fault::Is("a quantisation table");
        while let [head, rest @ ..] = segment {
            let wide = usize::from(head >> 4).min(1);
            let (values, rest) = rest.split_at_checked(64 << wide).ok_or(BAD)?;
            let step = if wide == 1 { u16::from_be_bytes([values[0], values[1]]) } else { values[0].into() };
            self.steps[usize::from(head & 3)] = step.into();
            segment = rest;
        }
        Ok(())
    }

    /// Reads Huffman tables.
    fn define(&mut self, mut segment: &[u8]) -> Result<(), Fault> {
        const BAD: Fault = Fault::Is("a Huffman table");
        while let [head, rest @ ..] = segment {
            let (counts, rest) = rest.split_at_checked(16).ok_or(BAD)?;
            let count = counts.iter().map(|&c| usize::from(c)).sum();
            let (symbols, rest) = rest.split_at_checked(count).ok_or(BAD)?;
            let (kind, number) = (head >> 4, head & 15);
            if kind > 1 || number > 3 {
                return Err(BAD);
            }
            let table = Table::new(counts, symbols, kind == 1).ok_or(BAD)?;
            self.tables[usize::from(kind * 4 + number)] = Some(Box::new(table));
            segment = rest;
        }
        Ok(())
    }

    /// Walks through the codes of a scan.
    fn scan(&mut self, segment: &[u8]) -> Result<(), Fault> {
        const BAD: Fault = Fault::Is("the head of a scan");
        let Some(frame) = &self.frame else { return Ok(()) };
        let &[count, ref rest @ ..] = segment else { return Err(BAD) };
        if frame.components.len() != usize::from(count) {
            return Err(Fault::Apart);
        }
        let selectors = rest.get(..usize::from(count) * 2).ok_or(BAD)?;
        let (mut blocks, mut limits) = (Vec::new(), Vec::new());
        let of = |number: u8, kind: usize| self.tables.get(kind + usize::from(number))?.as_deref();
        for selector in selectors.chunks_exact(2) {
            let component = frame.components.iter().find(|c| c.name == selector[0]).ok_or(BAD)?;
            let tables = of(selector[1] >> 4 & 3, 0).zip(of(selector[1] & 3, 4)).ok_or(BAD)?;
            let repeat = if count == 1 { 1 } else { component.columns * component.rows };
            blocks.extend(std::iter::repeat_n((limits.len(), tables.0, tables.1), repeat));
            limits.push(MEAN_MOST / self.steps[usize::from(component.quantised)].max(1) + 1);
        }
        let most = |of: fn(&Component) -> usize| frame.components.iter().map(of).max().unwrap_or(1);
        // A single channel has a block per unit, whatever its factors say.
        let (columns, rows) = if count == 1 { (1, 1) } else { (most(|c| c.columns), most(|c| c.rows)) };
        let mcus = frame.width.div_ceil(columns * 8) * frame.height.div_ceil(rows * 8);
        let interval = if self.interval == 0 { mcus } else { self.interval };
        let (mut left, mut at) = (mcus, self.at);
        for restart in (0u8..8).cycle() {
            let mut bits = Bits { bytes: self.bytes, at, window: 0, count: 0 };
            let mut means = vec![0i32; limits.len()];
            for _ in 0..interval.min(left) {
                for &(component, dc, ac) in &blocks {
                    let mean = &mut means[component];
                    *mean += bits.block(dc, ac)?;
                    if mean.abs() > limits[component] {
                        return Err(Fault::Is("a block brighter than white or darker than black"));
                    }
                }
            }
            left = left.saturating_sub(interval);
            at = bits.end()?;
            if left == 0 {
                break;
            }
            let (marker, next) = marker(self.bytes, at)?;
            if marker != 0xd0 + restart {
                return Err(Fault::Is("a restart marker is missing"));
            }
            at = next;
        }
        self.at = at;
        Ok(())
    }
}

/// The next marker from `at` on, and where it ends. Whatever is none is passed.
fn marker(bytes: &[u8], mut at: usize) -> Result<(u8, usize), Fault> {
    loop {
        let rest = bytes.get(at..).ok_or(Fault::Ends)?;
        at += rest.iter().position(|&b| b == 0xff).ok_or(Fault::Ends)? + 1;
        match *bytes.get(at).ok_or(Fault::Ends)? {
            0xff => {}
            0 => at += 1,
            marker => return Ok((marker, at + 1)),
        }
    }
}

fn frame(segment: &[u8]) -> Result<Frame, Fault> {
    const BAD: Fault = Fault::Is("the head of the image");
    let &[_, h1, h0, w1, w0, count, ref rest @ ..] = segment else { return Err(BAD) };
    let (width, height) = (u16::from_be_bytes([w1, w0]), u16::from_be_bytes([h1, h0]));
    let components: Vec<Component> = rest
        .chunks_exact(3)
        .map(|c| Component {
            name: c[0],
            columns: usize::from(c[1] >> 4),
            rows: usize::from(c[1] & 15),
            quantised: c[2] & 3,
        })
        .collect();
    let sampled = |c: &Component| (1..=4).contains(&c.columns) && (1..=4).contains(&c.rows);
    if components.len() != usize::from(count) || !components.iter().all(sampled) {
        return Err(BAD);
    }
    Ok(Frame { width: width.into(), height: height.into(), components })
}

/// Greatest mean of a block from mid grey, times 8 as the transform has it: twice what bytes can have, as
/// files of odd encoders overshoot.
const MEAN_MOST: i32 = 2048;

/// Bits that are looked up at once; longer codes are rare.
const FAST: u32 = 10;

/// What a code does, packed for the lookup: how many bits it has together with the value behind it; and above
/// these, of an AC table the coefficients passed ([`LAST`] for the end of the block), of a DC table the
/// bits of the value. 0: no code.
type Step = u16;

/// Coefficients passed by the code that ends a block.
const LAST: u16 = 0xff;

/// A Huffman table.
struct Table {
    /// By the next bits.
    fast: [Step; 1 << FAST],
    /// The longer codes by length: where they end, among all numbers of 16 bits that begin with a code, and
    /// what to add to a number without its other bits to find its step.
    ends: [(u32, i32); 17],
    /// Steps of all codes in their order.
    steps: Vec<Step>,
}

impl Table {
    /// `None` if there are more codes than fit.
    fn new(counts: &[u8], symbols: &[u8], ac: bool) -> Option<Self> {
        let mut table = Self { fast: [0; 1 << FAST], ends: [(0, 0); 17], steps: Vec::new() };
        let (mut code, mut symbols) = (0u32, symbols.iter());
        for (length, &count) in (1u32..).zip(counts) {
            let place = table.steps.len() as i32 - code as i32;
            for &symbol in symbols.by_ref().take(count.into()) {
                let (run, size) = if ac { (symbol >> 4, symbol & 15) } else { (0, symbol.min(16)) };
                let told = match (run, size) {
                    (_, size) if !ac => size.into(),
                    (0..15, 0) => LAST,
                    (run, _) => u16::from(run) + 1,
                };
                let step = told << 8 | (length as u16 + u16::from(size));
                let first = code << (16 - length);
                if first >= 1 << 16 {
                    return None;
                }
                if length <= FAST {
                    let at = (first >> (16 - FAST)) as usize;
                    table.fast[at..at + (1 << (FAST - length))].fill(step);
                }
                table.steps.push(step);
                code += 1;
            }
            table.ends[length as usize] = (code << (16 - length), place);
            code <<= 1;
        }
        Some(table)
    }
}

/// The bits of a scan, up to a marker.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits, from the upper end on.
    window: u64,
    /// How many of them are read.
    count: u32,
}

impl Bits<'_> {
    /// Passes a block of 64 coefficients, and returns how its mean differs from that of the block before.
    #[inline(always)]
    fn block(&mut self, dc: &Table, ac: &Table) -> Result<i32, Fault> {
        let change = self.change(dc)?;
        let mut place = 0;
        while place < 63 {
            let passed = self.code(ac)?;
            if passed == LAST {
                break;
            }
            place += passed;
        }
        if place > 63 { Err(Fault::Is("a block of more than 64 values")) } else { Ok(change) }
    }

    /// Passes a code of a DC table, and returns the value behind it.
    #[inline(always)]
    fn change(&mut self, table: &Table) -> Result<i32, Fault> {
        if self.count < 32 {
            self.fill();
        }
        let (window, count) = (self.window, self.count);
        let size = u32::from(self.code(table)?);
        if size == 0 {
            return Ok(0);
        }
        let value = (window << (count - self.count - size) >> (64 - size)) as i32;
        // The first bit tells the sign.
        Ok(if value >> (size - 1) == 0 { value + 1 - (1 << size) } else { value })
    }

    /// Passes a code and the value behind it, and returns how many coefficients (of an AC table) or bits (of
    /// a DC table) that were.
    #[inline(always)]
    fn code(&mut self, table: &Table) -> Result<u16, Fault> {
        if self.count < 32 {
            self.fill();
        }
        let mut step = table.fast[(self.window >> (64 - FAST)) as usize];
        if step == 0 {
            step = self.long(table)?;
        }
        let bits = u32::from(step & 0xff);
        if bits > self.count {
            let file_ends = self.bytes.len() <= self.at + 1;
            return Err(if file_ends { Fault::Ends } else { Fault::Is("the data ends too early") });
        }
        self.window <<= bits;
        self.count -= bits;
        Ok(step >> 8)
    }

    fn long(&self, table: &Table) -> Result<Step, Fault> {
        let next = (self.window >> 48) as u32;
        let length = (FAST + 1..=16).find(|&length| next < table.ends[length as usize].0);
        let step = length.and_then(|length| {
            let place = (next >> (16 - length)) as i32 + table.ends[length as usize].1;
            table.steps.get(usize::try_from(place).ok()?).copied()
        });
        step.ok_or(Fault::Is("bits that are no code"))
    }

    /// Reads until at least 32 bits are there, or a marker comes. To be called when there are fewer.
    #[inline(always)]
    fn fill(&mut self) {
        if let Some(&next) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<4>())
            && !next.contains(&0xff)
        {
            self.window |= u64::from(u32::from_be_bytes(next)) << (32 - self.count);
            self.count += 32;
            self.at += 4;
            return;
        }
        while self.count <= 56 {
            let Some(&byte) = self.bytes.get(self.at) else { return };
            if byte == 0xff && self.bytes.get(self.at + 1) != Some(&0) {
                return; // a marker, or the end
            }
            self.at += if byte == 0xff { 2 } else { 1 };
            self.window |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    /// Where the marker behind the last bits is.
    fn end(mut self) -> Result<usize, Fault> {
        if self.count < 32 {
            self.fill();
        }
        match self.bytes.get(self.at) {
            None => Err(Fault::Ends),
            Some(0xff) if self.count < 8 => Ok(self.at),
            Some(_) => Err(Fault::Is("more data than the image has blocks")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::check;
    use image::codecs::jpeg::JpegEncoder;

    fn photo(width: u32, height: u32) -> Vec<u8> {
        let mut noise = 1u32;
        let image = image::RgbImage::from_fn(width, height, |x, y| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            image::Rgb([(x * 2) as u8, (y * 3) as u8 ^ (noise >> 27) as u8, (x * y / 50) as u8])
        });
        let mut file = Vec::new();
        JpegEncoder::new_with_quality(&mut file, 90).encode_image(&image).unwrap();
        file
    }

    #[test]
    fn whole_files_of_odd_sizes_pass() {
        for (width, height) in [(1, 1), (8, 8), (33, 17), (200, 151)] {
            assert_eq!(check(&photo(width, height)), Ok(()));
        }
    }

    #[test]
    fn every_cut_is_found() {
        let file = photo(33, 17);
        assert!((2..file.len()).all(|cut| check(&file[..cut]) == Err("the JPEG is truncated".into())));
    }

    #[test]
    fn the_end_marker_of_a_thumbnail_does_not_count() {
        assert!(check(b"\xff\xd8\xff\xe1\x00\x06\xff\xd9\x00\x00").is_err());
        let mut file = photo(16, 16);
        file.splice(2..2, *b"\xff\xe1\x00\x08\xff\xd8\xff\xd9\x00\x00");
        assert_eq!(check(&file), Ok(()));
    }

    #[test]
    fn a_scan_for_each_channel_is_refused() {
        let mut file = photo(33, 17);
        let scan = file.windows(2).position(|w| w == [0xff, 0xda]).unwrap();
        // The scan's head, with one of its three channels.
        file.splice(scan + 2..scan + 14, [0, 8, 1, 1, 0, 0, 63, 0]);
        assert!(check(&file).unwrap_err().contains("a scan for each channel"));
    }

    #[test]
    fn many_passes_are_refused() {
        let file = photo(16, 16);
        let scan = file.windows(2).position(|w| w == [0xff, 0xda]).unwrap();
        let (head, end) = (&file[..scan], file.len() - 2);
        let passes = |n: usize| [head, &file[scan..end].repeat(n), &file[end..]].concat();
        assert_eq!(check(&passes(100)), Ok(()));
        assert!(check(&passes(101)).unwrap_err().contains("100 scans"));
    }

    /// With overflow checks this once was a panic.
    #[test]
    fn data_behind_the_last_block_is_found() {
        let file = photo(33, 17);
        let end = file.len() - 2;
        for more in 1..20 {
            let longer = [&file[..end], &[0x55; 20][..more], &file[end..]].concat();
            assert!(check(&longer).unwrap_err().contains("more data"), "{more}");
        }
    }

    #[test]
    fn overwritten_data_is_found() {
        let file = photo(200, 151);
        let scan = file.windows(2).position(|w| w == [0xff, 0xda]).unwrap() + 14;
        let (mut tries, mut found) = (0, 0);
        let mut noise = 7u32;
        for at in (scan..file.len() - 40).step_by(97) {
            let mut damaged = file.clone();
            for byte in &mut damaged[at..at + 32] {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = (noise >> 24) as u8;
            }
            tries += 1;
            found += usize::from(check(&damaged).is_err());
        }
        assert!(tries > 50 && found * 100 >= tries * 90, "{found} of {tries}");
    }

    #[test]
    fn nothing_makes_it_panic() {
        let file = photo(64, 48);
        let mut noise = 3u32;
        for _ in 0..20_000 {
            let mut damaged = file.clone();
            for _ in 0..3 {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = 2 + (noise >> 8) as usize % (file.len() - 2);
                damaged[at] = noise as u8;
            }
            let _ = check(&damaged);
        }
    }
}
