//! Videos in folders: DAVIS, YouTube-VOS, and plain folders of frames.

mod layout;
mod names;
mod sequence;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use crate::decode::orientation::swaps_sides;
use crate::decode::upright;
use crate::file::contents;
use crate::mask::decode_binary_mask;
use crate::{Decoding, Error, Mask, Rgb, VideoSource, decode_mask, mask_palette};
use layout::Layout;
pub use names::natural;
use sequence::{Sequence, stem};

/// Videos with object masks below one folder. The layout is found out from what exists there:
///
/// | data                | frames                       | masks                                           |
/// |---------------------|------------------------------|-------------------------------------------------|
/// | DAVIS 2016 and 2017 | `JPEGImages/RESOLUTION/NAME` | `Annotations/RESOLUTION/NAME`                   |
/// | YouTube-VOS         | `JPEGImages/NAME`            | `Annotations/NAME`                              |
/// | plain folders       | `NAME`                       | the first that exists of `Annotations/NAME`, `masks/NAME`, `NAME/masks` and, beside frames that are no PNG files, `NAME` |
///
/// * **Sequences** are the lines of `ImageSets/YEAR/SPLIT.txt` (for the year 2016 also of
///   `ImageSets/RESOLUTION/SPLIT.txt`, where the release of 2016 has them); a line is a name, or begins with
///   the path of a frame, `/JPEGImages/480p/NAME/00000.jpg`. Without a folder `ImageSets` all folders are
///   sequences, and year and split choose nothing.
/// * **Frames** are the JPEG, PNG, WebP, BMP and TIFF files of a folder, mixed or not. Numbers in their names are
///   ordered by value: 9 comes before 10. Two files with one stem are refused. They are turned as their EXIF
///   orientation says, as OpenCV does; masks are not.
/// * **Masks** are PNG files (see [`decode_mask`]) with the stem of their frame and its size. The first frame
///   must have one, later ones need not. An object counts if the first mask shows it; those that appear
///   later, as in YouTube-VOS, are not followed.
/// * **Other files** beside frames or masks, and masks without a frame, are counted and named in
///   [`VideoSource::notes`].
/// * The **year** 2016 stands for videos of a single object, in every layout: each pixel of a mask that is
///   not 0, also 255, is object 1.
///
/// A sequence is looked at when it is first asked for, so that a broken one does no harm to the others: the
/// methods of [`VideoSource`] refuse it with the file or folder that is missing.
#[derive(Clone, Debug)]
pub struct DavisFolder {
    /// What names the sequences: a split, or the folder that they are in.
    origin: PathBuf,
    /// Whether all that is not 0 in a mask is object 1.
    binary: bool,
    sequences: Vec<Sequence>,
}

impl DavisFolder {
    /// Lists the sequences of a split, for DAVIS 2017 `"2017"`, `"val"` and `"480p"`.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Layout`] if `root` is in none of the layouts, if the split does not exist
    /// (with those that do), names no sequences or has a line that is no name, or if there are no frames or no
    /// masks in this resolution. The sequences themselves are not looked at.
    pub fn open(root: impl AsRef<Path>, year: &str, split: &str, resolution: &str) -> Result<Self, Error> {
        let root = root.as_ref();
        fs::read_dir(root).map_err(|e| Error::io(root, e))?;
        let layout = Layout::of(root, resolution)?;
        let (origin, names) = layout.names(root, year, split, resolution)?;
        let sequences: Vec<_> = names.iter().map(|name| layout.sequence(name)).collect();
        Ok(Self { origin, binary: year == "2016", sequences })
    }

    /// Keeps only the sequences called `names`, in that order. Unknown names are refused.
    pub fn with_sequences(mut self, names: &[String]) -> Result<Self, Error> {
        let kept = names.iter().map(|name| self.sequence(name).cloned()).collect::<Result<_, _>>()?;
        self.sequences = kept;
        Ok(self)
    }

    fn sequence(&self, name: &str) -> Result<&Sequence, Error> {
        self.sequences.iter().find(|s| s.name == name).ok_or_else(|| Error::Missing {
            what: format!("sequence {name:?} in {}", self.origin.display()),
            valid: format!("it has {}", self.sequences().join(", ")),
        })
    }

    fn read_mask(&self, path: &Path) -> Result<Mask, Error> {
        if self.binary { decode_binary_mask(path) } else { decode_mask(path) }
    }
}

impl VideoSource for DavisFolder {
    fn sequences(&self) -> Vec<String> {
        self.sequences.iter().map(|s| s.name.clone()).collect()
    }

    fn frames(&self, sequence: &str) -> Result<usize, Error> {
        Ok(self.sequence(sequence)?.files()?.frames.len())
    }

    fn frame(&self, sequence: &str, index: usize) -> Result<Rgb, Error> {
        let sequence = self.sequence(sequence)?;
        let (frame, notes) = upright(sequence.at(index)?.0)?;
        sequence.seen.lock().unwrap_or_else(PoisonError::into_inner).add(index, &notes);
        Ok(frame)
    }

    fn frame_name(&self, sequence: &str, index: usize) -> Result<String, Error> {
        let (frame, _) = self.sequence(sequence)?.at(index)?;
        Ok(stem(frame).to_string_lossy().into_owned())
    }

    fn notes(&self, sequence: &str) -> Result<Vec<String>, Error> {
        Ok(self.sequence(sequence)?.files()?.notes.clone())
    }

    fn palette(&self, sequence: &str) -> Result<Option<Vec<u8>>, Error> {
        let (_, first) = self.sequence(sequence)?.at(0)?;
        Ok(first.map(mask_palette).transpose()?.flatten())
    }

    fn left_out(&self, sequence: &str) -> Result<Vec<String>, Error> {
        let sequence = self.sequence(sequence)?;
        let seen = sequence.seen.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(seen.tally().told(&|frame| sequence.at(frame).map_or(String::new(), |(path, _)| path.display().to_string())))
    }

    /// As the trait says; refuses a mask of another size than its frame, and a first one that has nothing but
    /// 0 and 255, which are no ids.
    fn mask(&self, sequence: &str, index: usize) -> Result<Option<Mask>, Error> {
        let (frame, Some(path)) = self.sequence(sequence)?.at(index)? else { return Ok(None) };
        let mask = self.read_mask(path)?;
        same_size(frame, path, &mask)?;
        if index == 0 && mask.ids.contains(&255) && mask.ids.iter().all(|id| [0, 255].contains(id)) {
            let reason = "has no values but 0 and 255 (undecided), so it shows no object; if 255 is the object, as in \
                          DAVIS 2016, ask for the year 2016";
            return Err(Error::layout(path, reason));
        }
        Ok(Some(mask))
    }
}

/// Refuses a mask of another size than its frame, of which the header is read.
fn same_size(frame: &Path, path: &Path, mask: &Mask) -> Result<(), Error> {
    let bytes = contents(frame)?;
    let decoding = Decoding::default();
    // What is wrong with a frame is told when it is decoded, if it ever is.
    let Ok(header) = decoding.header(&bytes) else { return Ok(()) };
    let stored = (header.width, header.height);
    let swapped = swaps_sides(decoding.orientation(&bytes));
    let (width, height) = if swapped { (stored.1, stored.0) } else { stored };
    if (width, height) == (mask.width, mask.height) {
        return Ok(());
    }
    let mut reason = format!(
        "the mask is {} x {}, but its frame {} is {width} x {height}",
        mask.width,
        mask.height,
        frame.display()
    );
    if swapped && stored == (mask.width, mask.height) {
        reason += " once it is turned as its EXIF orientation says, which OpenCV and so the reference do; the mask fits \
                   the frame as it is stored: turn the mask, or take the orientation out of the frame";
    }
    Err(Error::layout(path, reason))
}
