//! What decoding left out of an image.

/// What a file holds and its pixels do not. Nothing of it makes the image unusable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Bits per value of a file whose values became bytes although they have more; 0 for other files.
    pub bits: usize,
    /// Values that were cut off at 0 or 255 on the way to bytes.
    pub cut: u64,
    /// Values below and above [`Decoding::range`](super::Decoding::range), cut off at its ends.
    pub outside: [u64; 2],
    /// Values that were compared with that range.
    pub values: u64,
    /// Samples per pixel that are not used: alpha, or bands beside red, green and blue.
    pub unused: usize,
    /// Values with a fraction, which bytes do not keep.
    pub fractions: u64,
    /// Whether it has such values and none above 1, so that the bytes are black.
    pub black: bool,
    /// Further frames of an animation, or pictures behind the first.
    pub frames: usize,
    /// The file says that it is to be turned or mirrored, which was not done.
    pub unturned: bool,
}

impl Notes {
    /// Adds up what both tell; of `bits` and `unused` the most counts.
    fn add(&mut self, other: &Self) {
        self.bits = self.bits.max(other.bits);
        self.unused = self.unused.max(other.unused);
        self.cut += other.cut;
        self.values += other.values;
        self.fractions += other.fractions;
        self.frames += other.frames;
        self.outside = [self.outside[0] + other.outside[0], self.outside[1] + other.outside[1]];
    }

    /// Whether nothing was left out.
    pub fn is_empty(&self) -> bool {
        LeftOut::ALL.iter().all(|what| !what.is_in(self))
    }
}

/// What may be left out of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// What does not fit into bytes.
    Depth,
    /// Values outside of the range.
    Values,
    /// What is behind the point of numbers that become bytes.
    Fractions,
    /// Samples beside red, green and blue.
    Samples,
    /// Frames or pictures behind the first.
    Frames,
    /// The orientation that the file states.
    Orientation,
}

impl LeftOut {
    /// All of them, in the order of [`Tally::images`].
    pub const ALL: [Self; 6] =
        [Self::Depth, Self::Values, Self::Fractions, Self::Samples, Self::Frames, Self::Orientation];

    /// Whether it was left out of an image.
    fn is_in(self, notes: &Notes) -> bool {
        match self {
            Self::Depth => notes.bits > 0,
            Self::Values => notes.outside != [0; 2],
            Self::Fractions => notes.fractions > 0,
            Self::Samples => notes.unused > 0,
            Self::Frames => notes.frames > 0,
            Self::Orientation => notes.unturned,
        }
    }

    /// What settings of a training do about it, to follow what [`Tally::counts`] says.
    fn remedy(self) -> &'static str {
        match self {
            Self::Depth => ". `inspect-data --write-config FILE` writes settings that use them",
            Self::Values => "",
            Self::Fractions => {
                ". `inspect-data --write-config FILE` writes the data.range and data.channels that keep them"
            }
            Self::Frames => "; write each to a file of its own to use them",
            Self::Samples => "; data.channels and data.range take all of them",
            Self::Orientation => "; --set data.exif=true turns them",
        }
    }

    /// What to say about the first image of its kind.
    pub fn of_one(self) -> &'static str {
        match self {
            Self::Depth => {
                "holds values of more than 8 bits, read as bytes: grey above 255 is white, colours keep their high \
                 byte (`inspect-data --write-config FILE` writes settings that use them)"
            }
            Self::Values => "holds values outside of data.range, which are cut off",
            Self::Fractions => {
                "holds values with fractions, which bytes do not keep: values from 0 to 1 are black \
                 (`inspect-data --write-config FILE` writes the data.range and data.channels that keep them)"
            }
            Self::Frames => {
                "holds further frames or pictures (an animation, or MPO), of which only the first is read (for \
                 others, write each to a file of its own)"
            }
            Self::Samples => {
                "has samples that RGB leaves out (alpha, or further bands; data.channels takes them as they are)"
            }
            Self::Orientation => "carries an orientation (EXIF) that is not applied (--set data.exif=true turns it)",
        }
    }
}

/// What was left out of many images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Images counted.
    pub read: usize,
    /// Images of each kind of [`LeftOut::ALL`].
    pub images: [usize; 6],
    /// The first image of each kind.
    pub first: [Option<usize>; 6],
    /// Images that became black, as they have no values above 1.
    black: usize,
    /// The sum of what all images tell; of `bits` and `unused` the most.
    sum: Notes,
}

impl Tally {
    /// Counts image `id`.
    pub fn add(&mut self, id: usize, notes: &Notes) {
        self.read += 1;
        for (kind, what) in LeftOut::ALL.into_iter().enumerate() {
            if what.is_in(notes) {
                self.images[kind] += 1;
                self.first[kind].get_or_insert(id);
            }
        }
        self.sum.add(notes);
        self.black += usize::from(notes.black);
    }

    /// Both together; the first images of `other`, whose numbers may be those of another source, are forgotten.
    pub fn with(mut self, other: &Self) -> Self {
        self.read += other.read;
        self.images.iter_mut().zip(other.images).for_each(|(images, more)| *images += more);
        self.black += other.black;
        self.sum.add(&other.sum);
        self
    }

    /// What there is to say about the images of a training, a line for each kind that was met: the counts, and which
    /// settings use what was left out.
    pub fn lines(&self) -> Vec<(LeftOut, String)> {
        self.counts().into_iter().map(|(what, text)| (what, text + what.remedy())).collect()
    }

    /// What there is to say about images that are shown to a trained model, a line for each kind that was met, with
    /// the first image of the kind; `name` tells what image `id` is called.
    pub fn told(&self, name: &dyn Fn(usize) -> String) -> Vec<String> {
        let line = |(what, text): (LeftOut, String)| match self.first[what as usize] {
            Some(id) => format!("{text} (the first is {})", name(id)),
            None => text,
        };
        self.counts().into_iter().map(line).collect()
    }

    /// How many images something was left out of, a line for each kind that was met.
    fn counts(&self) -> Vec<(LeftOut, String)> {
        let part = |n: u64| match 100. * n as f64 / self.sum.values.max(1) as f64 {
            percent if n > 0 && percent < 0.01 => "less than 0.01 %".to_string(),
            percent => format!("{percent:.2} %"),
        };
        let line = |(what, images): (LeftOut, usize)| {
            let of = format!("{images} of {} images", self.read);
            let text = match what {
                LeftOut::Depth => format!(
                    "{of} hold values of more than 8 bits (up to {}), read as bytes: grey above 255 is white, colours \
                     keep their high byte; {} values were cut off",
                    self.sum.bits, self.sum.cut
                ),
                LeftOut::Values => format!(
                    "{of} hold values outside of data.range, which are cut off: {} of all values lie below it, {} above",
                    part(self.sum.outside[0]),
                    part(self.sum.outside[1])
                ),
                LeftOut::Fractions => format!(
                    "{of} hold values with fractions, which bytes do not keep ({} values); {} of them have none above \
                     1 and are black",
                    self.sum.fractions, self.black
                ),
                LeftOut::Frames => format!(
                    "{of} hold further frames or pictures (animations, MPO), of which only the first is read: {} are \
                     left out",
                    self.sum.frames
                ),
                LeftOut::Samples => format!(
                    "{of} have samples that RGB leaves out (alpha, or further bands; up to {} per pixel)",
                    self.sum.unused
                ),
                LeftOut::Orientation => format!("{of} carry an orientation (EXIF) that is not applied"),
            };
            (what, text)
        };
        LeftOut::ALL.into_iter().zip(self.images).filter(|(_, images)| *images > 0).map(line).collect()
    }

    /// Images of which something was left out for the first time since `earlier`, and the kinds.
    pub fn new_since(&self, earlier: &Self) -> Vec<(usize, Vec<LeftOut>)> {
        let mut new: Vec<(usize, Vec<LeftOut>)> = Vec::new();
        for (kind, what) in LeftOut::ALL.into_iter().enumerate() {
            let Some(id) = self.first[kind].filter(|_| earlier.first[kind].is_none()) else { continue };
            match new.iter_mut().find(|(of, _)| *of == id) {
                Some((_, kinds)) => kinds.push(what),
                None => new.push((id, vec![what])),
            }
        }
        new
    }
}

/// A tally that counts an image once, however often it is read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// By the number of the image.
    read: Vec<bool>,
    tally: Tally,
}

impl Seen {
    /// Counts image `id` if it is new.
    pub(crate) fn add(&mut self, id: usize, notes: &Notes) {
        if id >= self.read.len() {
            self.read.resize(id + 1, false);
        }
        if !std::mem::replace(&mut self.read[id], true) {
            self.tally.add(id, notes);
        }
    }

    /// What was counted until now.
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_names_the_first_and_counts_all() {
        let mut tally = Tally::default();
        let deep = Notes { bits: 16, cut: 10, unturned: true, ..Notes::default() };
        tally.add(7, &Notes::default());
        assert!(tally.lines().is_empty());
        let before = tally.clone();
        tally.add(3, &deep);
        assert_eq!(tally.new_since(&before), [(3, vec![LeftOut::Depth, LeftOut::Orientation])]);
        let before = tally.clone();
        tally.add(5, &deep);
        tally.add(6, &Notes { outside: [0, 1], values: 1000, ..Notes::default() });
        assert_eq!(tally.new_since(&before), [(6, vec![LeftOut::Values])]);
        let lines: Vec<String> = tally.lines().into_iter().map(|(_, line)| line).collect();
        assert!(lines[0].starts_with("2 of 4 images hold values of more than 8 bits (up to 16)"), "{lines:?}");
        assert!(lines[0].contains("20 values were cut off") && lines[1].contains("0.00 % of all values"), "{lines:?}");
        tally.add(8, &Notes { frames: 2, fractions: 9, black: true, ..Notes::default() });
        let more: Vec<String> = tally.lines().into_iter().map(|(_, line)| line).collect();
        assert!(more[2].contains("(9 values); 1 of them have none above 1 and are black"), "{more:?}");
        assert!(
            more[3].starts_with("1 of 5 images hold further frames") && more[3].contains(": 2 are left"),
            "{more:?}"
        );
        assert!(lines[1].contains("0.10 % above") && lines[2].contains("data.exif=true"), "{lines:?}");
        // A trained model is not told of settings, but which image to look at.
        let told = tally.told(&|id| format!("{id}.png"));
        assert!(told[0].ends_with("20 values were cut off (the first is 3.png)"), "{told:?}");
        assert!(told[1].ends_with("above (the first is 6.png)") && !told.concat().contains("--set"), "{told:?}");
    }

    #[test]
    fn an_image_that_is_read_twice_counts_once() {
        let mut seen = Seen::default();
        let deep = Notes { bits: 16, cut: 10, ..Notes::default() };
        [5, 2, 5].iter().for_each(|&id| seen.add(id, &deep));
        assert_eq!((seen.tally().read, seen.tally().images[0], seen.tally().first[0]), (2, 2, Some(5)));
    }
}
