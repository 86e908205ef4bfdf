//! Labelled images, and the features that a model computes from them.

use crate::{Embedded, Error};
use candle_core::Tensor;
use rayon::prelude::*;
use selfpatch_datasets::{Decoding, ImageSource, Notes, Picture, Samples, Tally};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Number of images that are read and passed to the model at a time.
pub const BATCH: usize = 32;
/// If one source serves as both sets, one image in this many is a test image.
const FIFTH: usize = 5;

/// Some images of a source, each with its class.
#[derive(Clone)]
pub struct Labelled {
    /// The source of the images.
    pub source: Arc<dyn ImageSource>,
    /// Indices of the images in the source.
    pub places: Vec<usize>,
    /// Classes of the images.
    pub labels: Vec<u32>,
}

/// At most `most` of the images of a source that have a class, evenly spread over it.
///
/// # Errors
/// [`Error::Images`] if no image has a class.
pub fn labelled(source: Arc<dyn ImageSource>, most: usize) -> Result<Labelled, Error> {
    if let Some(first) = source.class_faults().first() {
        let more = source.class_faults().len() - 1;
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        return Err(Error::Images(format!("a class cannot be read: {first}{more}")));
    }
    let all: Vec<(usize, u32)> = (0..source.len()).filter_map(|i| Some((i, source.label(i)?))).collect();
    if all.is_empty() || most == 0 {
        return Err(Error::Images("no image has a class; a folder per class, for example, would give them one".into()));
    }
    let count = all.len().min(most);
    let (places, labels) = (0..count).map(|i| all[i * all.len() / count]).unzip();
    Ok(Labelled { source, places, labels })
}

/// One set as two: every fifth image becomes a test image, the others stay.
pub fn split(all: Labelled) -> (Labelled, Labelled) {
    let part = |is_test: bool| {
        let chosen = |i: &usize| (i % FIFTH == FIFTH - 1) == is_test;
        let of = |i: usize| (all.places[i], all.labels[i]);
        let (places, labels) = (0..all.places.len()).filter(chosen).map(of).unzip();
        Labelled { source: all.source.clone(), places, labels }
    };
    (part(false), part(true))
}

/// The test images with the class numbers that the training images have for classes of the same names.
///
/// # Errors
/// [`Error::Images`] if a class is missing there.
pub fn renumbered(train: &Labelled, mut test: Labelled) -> Result<Labelled, Error> {
    let numbers = test.source.classes().iter().map(|class| {
        let number = train.source.classes().iter().position(|c| c == class);
        (class, number.map(|n| n as u32))
    });
    let numbers: Vec<(&String, Option<u32>)> = numbers.collect();
    let renumber = |label: &u32| match numbers.get(*label as usize) {
        Some((_, Some(number))) => Ok(*number),
        Some((class, None)) => Err(Error::Images(format!("no training image is of class {class:?}"))),
        None => Err(Error::Images(format!("class {label} of a test image has no name"))),
    };
    test.labels = test.labels.iter().map(renumber).collect::<Result<_, _>>()?;
    Ok(test)
}

/// The part of an image that a model sees: the square of `size` pixels in the centre, once its shorter side is
/// `short` pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct Centre {
    /// How files become pixels.
    pub decoding: Decoding,
    /// Shorter side of the resized image.
    pub short: usize,
    /// Side of the square.
    pub size: usize,
}

impl Centre {
    /// Squares of `size` pixels in the proportion of DINO's evaluation: 224 of 256.
    pub fn new(decoding: Decoding, size: usize) -> Self {
        Self { decoding, short: size * 256 / 224, size }
    }
}

/// Features of images, and the images that could not be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embedding {
    /// Features `[N, D]` of the images that could be read, in order, not normalised.
    pub features: Vec<f32>,
    /// Classes of these images, `[N]`.
    pub labels: Vec<u32>,
    /// Indices of these images in the source, `[N]`.
    pub places: Vec<usize>,
    /// D, the width of a feature.
    pub width: usize,
    /// Names of the images that could not be read, each with the reason.
    pub skipped: Vec<(String, String)>,
    /// Image content that the model did not see, such as values of more than 8 bits: counted, in words.
    pub left_out: Vec<String>,
}

impl Embedding {
    /// The features prepared for the search of neighbours.
    ///
    /// # Errors
    /// The errors of [`Embedded::new`].
    pub fn embedded(&self) -> Result<Embedded, Error> {
        Embedded::new(self.features.clone(), self.labels.clone(), self.width)
    }
}

/// Computes features of the images, a few at a time. `encode` turns B squares, each `[C, size, size]`, into features
/// `[B, D]`; `tell` is called with the number of images done.
///
/// # Errors
/// [`Error::Model`] if the model fails or gives non-finite values; [`Error::Images`] if no image can be read.
pub fn embed(
    images: &Labelled,
    centre: &Centre,
    encode: &mut dyn FnMut(&[Samples]) -> candle_core::Result<Tensor>,
    tell: &mut dyn FnMut(usize),
) -> Result<Embedding, Error> {
    let mut all = Embedding { width: 1, ..Embedding::default() };
    let model = |e: candle_core::Error| Error::Model(e.to_string());
    let (mut done, mut tally) = (0, Tally::default());
    for (places, of) in images.places.chunks(BATCH).zip(images.labels.chunks(BATCH)) {
        let read = |&place: &usize| {
            let square = || square(&*images.source, place, centre);
            // Sources may be code of the caller: a panic in one is a reason like any other.
            catch_unwind(AssertUnwindSafe(square)).unwrap_or_else(|_| Err("reading it panicked".into()))
        };
        let read: Vec<Result<(Samples, Notes), String>> = places.par_iter().map(read).collect();
        let mut squares = Vec::with_capacity(BATCH);
        for ((square, &place), &label) in read.into_iter().zip(places).zip(of) {
            match square {
                Ok((square, notes)) => {
                    tally.add(place, &notes);
                    squares.push(square);
                    all.labels.push(label);
                    all.places.push(place);
                }
                Err(reason) => all.skipped.push((images.source.name(place), reason)),
            }
        }
        if !squares.is_empty() {
            let rows = encode(&squares).map_err(model)?;
            all.width = rows.dim(1).map_err(model)?;
            let values = rows.flatten_all().and_then(|t| t.to_vec1::<f32>()).map_err(model)?;
            if let Some(i) = values.iter().position(|v| !v.is_finite()) {
                let image = images.source.name(all.places[all.features.len() / all.width + i / all.width]);
                return Err(Error::Model(format!("the feature of {image} is non-finite")));
            }
            all.features.extend(values);
        }
        done += places.len();
        tell(done);
    }
    if let (true, Some((name, reason))) = (all.labels.is_empty(), all.skipped.first()) {
        return Err(Error::Images(format!("no image can be read; {name}: {reason}")));
    }
    all.left_out = tally.told(&|place| images.source.name(place));
    Ok(all)
}

/// The square of one image that the model sees, `[C, size, size]`, and notes on the content that it does not see.
fn square(source: &dyn ImageSource, place: usize, centre: &Centre) -> Result<(Samples, Notes), String> {
    let (image, notes) = centre.decoding.content(source.read(place).map_err(|e| e.to_string())?)?;
    if image.channels != centre.decoding.channels {
        return Err(format!("has {} channels, not {}", image.channels, centre.decoding.channels));
    }
    let picture = Picture::of(&image).ok_or("has fewer values than its sides promise")?;
    Ok((picture.centre(centre.short, centre.size), notes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use selfpatch_datasets::{Content, Image};

    /// Images of one colour, their number; every third has no class, and number 4 cannot be read.
    struct Numbers(usize, Vec<String>);

    fn numbers(count: usize, classes: &[&str]) -> Arc<dyn ImageSource> {
        Arc::new(Numbers(count, classes.iter().map(|c| c.to_string()).collect()))
    }

    impl ImageSource for Numbers {
        fn len(&self) -> usize {
            self.0
        }
        fn name(&self, index: usize) -> String {
            format!("number {index}")
        }
        fn label(&self, index: usize) -> Option<u32> {
            (index % 3 < 2 && !self.1.is_empty()).then_some(index as u32 % 3)
        }
        fn classes(&self) -> &[String] {
            &self.1
        }
        fn read(&self, index: usize) -> Result<Content, selfpatch_datasets::Error> {
            let samples = Samples::Bytes(vec![index as u8; 12 * 9 * 3]);
            match index {
                4 => Ok(Content::File(b"nothing".to_vec())),
                _ => Ok(Content::Image(Image { width: 12, height: 9, channels: 3, samples })),
            }
        }
    }

    #[test]
    fn images_with_classes_are_spread_evenly_and_split() {
        let source = numbers(30, &["a", "b"]);
        let all = labelled(source.clone(), 1000).unwrap();
        assert_eq!(all.places.len(), 20);
        assert_eq!((&all.places[..4], &all.labels[..4]), (&[0, 1, 3, 4][..], &[0, 1, 0, 1][..]));
        assert_eq!(labelled(source, 4).unwrap().places, [0, 7, 15, 22]);
        let (train, test) = split(all);
        assert_eq!((train.places.len(), test.places), (16, vec![6, 13, 21, 28]));
        assert!(labelled(numbers(30, &[]), 9).is_err());
    }

    #[test]
    fn classes_meet_by_name() {
        let [train, test] = [["a", "b"], ["b", "a"]].map(|c| labelled(numbers(3, &c), 9).unwrap());
        assert_eq!(test.labels, [0, 1]);
        assert_eq!(renumbered(&train, test).unwrap().labels, [1, 0]);
        let test = labelled(numbers(3, &["b", "c"]), 9).unwrap();
        let error = renumbered(&train, test).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("\"c\""), "{error}");
    }

    #[test]
    fn features_keep_the_order_and_broken_images_are_named() {
        let all = labelled(numbers(60, &["a", "b"]), 1000).unwrap();
        let centre = Centre::new(Decoding::default(), 7);
        assert_eq!((centre.short, centre.size), (8, 7));
        let (mut batches, mut told) = (Vec::new(), 0);
        let mut encode = |squares: &[Samples]| {
            batches.push(squares.len());
            let first = squares.iter().map(|s| match s {
                Samples::Bytes(b) if b.len() == 3 * 7 * 7 => [f32::from(b[0]), 100.],
                other => panic!("{other:?}"),
            });
            Tensor::from_vec(first.collect::<Vec<_>>().concat(), (squares.len(), 2), &Device::Cpu)
        };
        let got = embed(&all, &centre, &mut encode, &mut |done| told = done).unwrap();
        assert_eq!((batches, told), (vec![31, 8], 40));
        assert_eq!(got.skipped.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["number 4"]);
        let read: Vec<usize> = all.places.into_iter().filter(|&place| place != 4).collect();
        assert_eq!(got.places, read);
        assert_eq!(got.labels, read.iter().map(|place| *place as u32 % 3).collect::<Vec<_>>());
        for (row, place) in got.features.chunks_exact(2).zip(read) {
            assert!((row[0] / row[1] * 100. - place as f32).abs() < 1e-4, "{place}: {row:?}");
        }
    }

    #[test]
    fn images_none_of_which_can_be_read_are_an_error() {
        let broken = Labelled { source: numbers(6, &["a", "b"]), places: vec![4], labels: vec![1] };
        let mut encode = |_: &[Samples]| -> candle_core::Result<Tensor> { panic!("nothing to encode") };
        let error = embed(&broken, &Centre::new(Decoding::default(), 7), &mut encode, &mut |_| ());
        let error = error.expect_err("nothing was read").to_string();
        assert!(error.starts_with("no image can be read; number 4: "), "{error}");
    }
}
