//! Images with classes, and the features that a model makes of them.

use crate::{Embedded, Error};
use candle_core::Tensor;
use rayon::prelude::*;
use selfpatch_datasets::{Content, Decoding, ImageSource, Notes, Picture, Samples, Tally};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Images that are read, and that the model sees, at a time.
pub const BATCH: usize = 32;
/// Of images that have to serve as both sets, one in so many is a test image.
const FIFTH: usize = 5;

/// Some images of a source, each with its class.
#[derive(Clone)]
pub struct Labelled {
    /// Where they come from.
    pub source: Arc<dyn ImageSource>,
    /// Their places in the source.
    pub places: Vec<usize>,
    /// Their classes.
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

/// What a model is shown of an image: the square of `size` in the middle, once its shorter side is `short` pixels.
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

/// Features of images, and what could not be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embedding {
    /// Features of the images that could be read, in order.
    pub embedded: Embedded,
    /// Name of each of the others, and why.
    pub skipped: Vec<(String, String)>,
    /// What was left out of those that could be read.
    pub left_out: Tally,
}

/// Shows the images to a model, a few at a time. `encode` makes features `[B, D]` of B squares, each `[C, size, size]`;
/// `tell` hears how many images are done.
///
/// # Errors
/// [`Error::Model`] if the model fails or gives values that are not finite.
pub fn embed(
    images: &Labelled,
    centre: &Centre,
    encode: &mut dyn FnMut(&[Samples]) -> candle_core::Result<Tensor>,
    tell: &mut dyn FnMut(usize),
) -> Result<Embedding, Error> {
    let (mut features, mut labels, mut skipped, mut width) = (Vec::new(), Vec::new(), Vec::new(), 1);
    let mut left_out = Tally::default();
    let model = |e: candle_core::Error| Error::Model(e.to_string());
    let mut done = 0;
    for (places, of) in images.places.chunks(BATCH).zip(images.labels.chunks(BATCH)) {
        let read = |&place: &usize| {
            let square = || square(&*images.source, place, centre);
            // Sources are anybody's code: a panic of theirs is a reason like others.
            catch_unwind(AssertUnwindSafe(square)).unwrap_or_else(|_| Err("reading it panicked".into()))
        };
        let read: Vec<Result<(Samples, Notes), String>> = places.par_iter().map(read).collect();
        let mut squares = Vec::with_capacity(BATCH);
        for ((square, &place), &label) in read.into_iter().zip(places).zip(of) {
            match square {
                Ok((square, notes)) => {
                    left_out.add(place, &notes);
                    squares.push(square);
                    labels.push(label);
                }
                Err(reason) => skipped.push((images.source.name(place), reason)),
            }
        }
        if !squares.is_empty() {
            let rows = encode(&squares).map_err(model)?;
            width = rows.dim(1).map_err(model)?;
            features.extend(rows.flatten_all().and_then(|t| t.to_vec1::<f32>()).map_err(model)?);
        }
        done += places.len();
        tell(done);
    }
    Ok(Embedding { embedded: Embedded::new(features, labels, width)?, skipped, left_out })
}

/// What the model is shown of one image, `[C, size, size]`, and what of the image was left out.
fn square(source: &dyn ImageSource, place: usize, centre: &Centre) -> Result<(Samples, Notes), String> {
    let (image, notes) = match source.read(place).map_err(|e| e.to_string())? {
        Content::File(bytes) => centre.decoding.noted(&bytes)?,
        Content::Image(image) => (centre.decoding.accept(image)?, Notes::default()),
    };
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
    use selfpatch_datasets::Image;

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
        assert_eq!(got.embedded.labels, read.iter().map(|place| *place as u32 % 3).collect::<Vec<_>>());
        for (row, place) in got.embedded.features.chunks_exact(2).zip(read) {
            assert!((row[0] / row[1] * 100. - place as f32).abs() < 1e-4, "{place}: {row:?}");
        }
    }
}
