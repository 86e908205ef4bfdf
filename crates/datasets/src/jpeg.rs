//! Whether a JPEG file is complete, told from its markers.

/// Whether walking the segments of `bytes` arrives at the end-of-image marker.
///
/// Embedded thumbnails have an end marker of their own, so segments are skipped by their
/// length instead of searching for the marker anywhere.
pub(crate) fn reaches_its_end(bytes: &[u8]) -> bool {
    let mut at = 2; // behind the start marker ff d8
    loop {
        // Entropy-coded data and padding run up to the next ff; ff00, restart markers and
        // repeated ff are part of them.
        let Some(skip) = bytes.get(at..).and_then(|rest| rest.iter().position(|&b| b == 0xff)) else {
            return false;
        };
        at += skip + 1;
        match bytes.get(at) {
            None => return false,
            Some(0xd9) => return true,
            Some(0xff) => {}
            Some(0x00 | 0x01 | 0xd0..=0xd8) => at += 1,
            Some(_) => {
                let Some(&[high, low]) = bytes.get(at + 1..at + 3) else {
                    return false;
                };
                at += 1 + usize::from(u16::from_be_bytes([high, low]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::reaches_its_end;

    #[test]
    fn the_end_marker_of_a_thumbnail_does_not_count() {
        let thumbnail = b"\xff\xd8\xff\xe1\x00\x06\xff\xd9\x00\x00";
        assert!(!reaches_its_end(thumbnail));
        let mut whole = thumbnail.to_vec();
        whole.extend(b"\xff\xda\x00\x02\x12\xff\x00\x34\xff\xd0\x56\xff\xd9");
        assert!(reaches_its_end(&whole));
        assert!((0..whole.len()).all(|cut| !reaches_its_end(&whole[..cut])));
    }
}
