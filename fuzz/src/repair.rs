//! Checksums made right again, in place.

/// Corrects the CRC of every chunk of a PNG.
pub fn png(file: &mut [u8]) {
    let mut at = 8;
    while let Some(head) = file.get(at..at + 4) {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let end = at + 8 + length;
        if file.len() < end + 4 {
            return;
        }
        let crc = crc32fast::hash(&file[at + 4..end]).to_be_bytes();
        file[end..end + 4].copy_from_slice(&crc);
        at = end + 4;
    }
}

/// Corrects the CRC of every entry that the directory of a zip archive lists, there and before the entry.
pub fn zip(file: &mut [u8]) {
    let number = |file: &[u8], at: usize, width: usize| {
        let bytes = file.get(at..at + width)?;
        Some(bytes.iter().rev().fold(0, |n, &b| n << 8 | usize::from(b)))
    };
    let listed = |file: &[u8], at: usize| {
        let (size, local) = (number(file, at + 20, 4)?, number(file, at + 42, 4)?);
        let start = local + 30 + number(file, local + 26, 2)? + number(file, local + 28, 2)?;
        Some((local, crc32fast::hash(file.get(start..start + size)?).to_le_bytes()))
    };
    for at in 0..file.len() {
        if file[at..].starts_with(b"PK\x01\x02")
            && let Some((local, crc)) = listed(file, at)
        {
            for place in [at + 16, local + 14] {
                file[place..place + 4].copy_from_slice(&crc);
            }
        }
    }
}

/// Corrects the sum of every header of a tar file that begins where one may.
pub fn tar(file: &mut [u8]) {
    const SUM: std::ops::Range<usize> = 148..156;
    for block in file.as_chunks_mut::<512>().0 {
        if block[257..].starts_with(b"ustar") {
            block[SUM].fill(b' ');
            let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
            block[SUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{FORMATS, Format};

    /// Every seed, its checksums broken, is refused, and is itself again when they are repaired.
    #[test]
    fn broken_checksums_are_made_right() -> anyhow::Result<()> {
        let checked = ["pth", "mask", "tar"];
        for Format { name, seeds, repair, read, .. } in FORMATS.iter().filter(|f| checked.contains(&f.name)) {
            let Some(repair) = repair else { anyhow::bail!("{name}") };
            for seed in seeds()? {
                let mut whole = seed.clone();
                repair(&mut whole);
                assert!(read(&whole), "{name}");
                let place = match *name {
                    "pth" => seed.windows(4).position(|w| w == b"PK\x01\x02").map(|at| at + 16),
                    "mask" => Some(8 + 8 + 13),
                    _ => Some(148),
                };
                let Some(place) = place else { anyhow::bail!("{name}") };
                let mut broken = whole.clone();
                broken[place] ^= 1;
                assert!(!read(&broken), "{name}");
                repair(&mut broken);
                assert!(broken == whole, "{name}");
            }
        }
        Ok(())
    }
}
