//! What the pages of a TIFF file are to each other, as ImageJ, OME and tifffile write it down.

/// How many of each: pages are channels x slices (Z) x frames (T).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Axes {
    /// Channels; of OME and tifffile those within a pixel as well.
    pub channels: usize,
    /// Places along Z, or along an axis without a name.
    pub slices: usize,
    /// Points of time.
    pub frames: usize,
    /// Who says so.
    pub by: &'static str,
}

/// The axes that a description speaks of.
pub(super) fn of(description: &str) -> Option<Axes> {
    let text = description.trim_start_matches(['\u{feff}', ' ', '\n', '\r', '\t']);
    if text.starts_with("ImageJ=") {
        return image_j(text);
    }
    if let Some(at) = description.find("<Pixels ").or_else(|| description.find(":Pixels ")) {
        let tag = &description[at..];
        return ome(&tag[..tag.find('>')?]);
    }
    if text.starts_with('{') { shaped(text) } else { None }
}

/// The other files, of which one, that hold planes of the same image as the one with this description.
pub(super) fn several_files(description: &str) -> Option<&str> {
    let names = description.split("FileName=").skip(1).filter_map(|rest| {
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        rest[1..].split(quote).next()
    });
    let mut first = None;
    names.into_iter().find(|name| *first.get_or_insert(*name) != *name)
}

fn image_j(text: &str) -> Option<Axes> {
    let number = |key: &str| {
        let value = text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
        value.and_then(|v| v.trim().parse::<usize>().ok())
    };
    let images = number("images").unwrap_or(1);
    let channels = number("channels").unwrap_or(1).max(1);
    let frames = number("frames").unwrap_or(1).max(1);
    // A plain stack has `images` alone.
    let slices = number("slices").unwrap_or_else(|| images / (channels * frames)).max(1);
    Some(Axes { channels, slices, frames, by: "ImageJ" })
}

fn ome(tag: &str) -> Option<Axes> {
    let number = |name: &str| {
        let at = tag.find(&format!("{name}=\"")).or_else(|| tag.find(&format!("{name}='")))?;
        let digits = &tag[at + name.len() + 2..];
        digits.split(['"', '\'']).next()?.trim().parse::<usize>().ok()
    };
    Some(Axes { channels: number("SizeC")?, slices: number("SizeZ")?, frames: number("SizeT")?, by: "OME" })
}

/// tifffile's `{"shape": [3, 64, 64], "axes": "CYX"}`.
fn shaped(text: &str) -> Option<Axes> {
    let value: serde_json::Value = serde_json::from_str(text.trim_end_matches('\0')).ok()?;
    let letters = value.get("axes")?.as_str()?;
    let sizes: Vec<usize> =
        value.get("shape")?.as_array()?.iter().filter_map(|v| v.as_u64()?.try_into().ok()).collect();
    let mut axes = Axes { channels: 1, slices: 1, frames: 1, by: "tifffile" };
    for (letter, size) in letters.chars().zip(sizes) {
        match letter {
            'Y' | 'X' => {}
            'C' | 'S' => axes.channels *= size,
            'T' => axes.frames *= size,
            _ => axes.slices *= size,
        }
    }
    Some(axes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_of_three_programs() {
        let axes = |channels, slices, frames, by| Some(Axes { channels, slices, frames, by });
        let hyper = "ImageJ=1.53t\nimages=30\nchannels=2\nslices=5\nframes=3\nhyperstack=true\n";
        assert_eq!(of(hyper), axes(2, 5, 3, "ImageJ"));
        assert_eq!(of("ImageJ=1.53t\nimages=7\nslices=7\n"), axes(1, 7, 1, "ImageJ"));
        assert_eq!(of("ImageJ=1.53t\nimages=7\n"), axes(1, 7, 1, "ImageJ"));
        let xml = r#"<?xml version="1.0"?><OME><Image><Pixels BigEndian="false" DimensionOrder="XYCZT" SizeC="3" SizeT='4' SizeX="9" SizeY="9" SizeZ="2"/></Image></OME>"#;
        assert_eq!(of(xml), axes(3, 2, 4, "OME"));
        assert_eq!(of(r#"{"shape": [3, 64, 64], "axes": "CYX"}"#), axes(3, 1, 1, "tifffile"));
        assert_eq!(of(r#"{"shape": [64, 64, 3], "axes": "YXS"}"#), axes(3, 1, 1, "tifffile"));
        assert_eq!(of(r#"{"shape": [2, 3, 64, 64], "axes": "QCYX"}"#), axes(3, 2, 1, "tifffile"));
        for nothing in ["", "a photo", r#"{"shape": [3, 64, 64]}"#, "{", "<Pixels SizeC=\"x\" >", "<Pixels "] {
            assert_eq!(of(nothing), None, "{nothing}");
        }
    }
}
