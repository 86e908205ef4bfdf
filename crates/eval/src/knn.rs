//! Weighted k-nearest-neighbour classification, as DINO's `eval_knn` does it.
//!
//! Features are compared by cosine. The k nearest training images vote for their class with
//! `exp(cosine / temperature)`. Unlike in the reference, any number of test images will do (the reference needs 100),
//! and classes with equal votes are ranked by their number (in the reference their order is undefined, QUIRKS 28).

use crate::Error;
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use serde::Serialize;

/// Number of similarities that are held at a time: 64 MiB.
const BLOCK: usize = 1 << 24;
/// Lower bound for the length of a feature in its normalisation, as in PyTorch's `normalize`.
const SHORTEST: f32 = 1e-12;
/// Number of classes that count for top-5.
const FIVE: usize = 5;

/// One feature and one class per image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embedded {
    /// `[N, D]` row-major, rows of length 1.
    pub features: Vec<f32>,
    /// Classes `[N]`, counted from 0.
    pub labels: Vec<u32>,
    /// D, the width of a feature.
    pub width: usize,
}

impl Embedded {
    /// Normalises features `[N, D]` of images with classes `[N]` to length 1.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are not D values for each image, [`Error::Model`] if a value is non-finite.
    pub fn new(mut features: Vec<f32>, labels: Vec<u32>, width: usize) -> Result<Self, Error> {
        if width == 0 || features.len() != labels.len() * width {
            let expected = format!("{} images of {width} values (at least 1)", labels.len());
            return Err(Error::shape("features of images", expected, features.len()));
        }
        for (image, row) in features.chunks_exact_mut(width).enumerate() {
            let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            if !length.is_finite() {
                return Err(Error::Model(format!("the feature of image {image} is non-finite")));
            }
            row.iter_mut().for_each(|x| *x /= length.max(SHORTEST));
        }
        Ok(Self { features, labels, width })
    }
}

/// A training image near a test image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour {
    /// Row of the training image.
    pub row: usize,
    /// Cosine similarity of the two features.
    pub cosine: f32,
}

/// Accuracies of a classification.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct KnnScores {
    /// Number of neighbours that vote.
    pub k: usize,
    /// Fraction of the test images whose class has the most votes.
    pub top1: f64,
    /// Fraction of the test images whose class is among the first five (the first k, if k is less).
    pub top5: f64,
}

/// Classifies the test images by their `k` nearest training images, for each of `ks`.
///
/// # Errors
/// [`Error::Config`] for a `k` that is 0 or exceeds the number of training images and for a temperature that is not
/// positive, [`Error::Shape`] for features of different widths and for sets without images.
pub fn classify(train: &Embedded, test: &Embedded, ks: &[usize], temperature: f64) -> Result<Vec<KnnScores>, Error> {
    if !(temperature > 0. && temperature.is_finite()) {
        return Err(Error::Config { field: "temperature", reason: format!("must be above 0, is {temperature}") });
    }
    let near = nearest(train, test, ks.iter().copied().max().unwrap_or(1))?;
    let classes = train.labels.iter().chain(&test.labels).max().map_or(0, |&c| c as usize + 1);
    ks.iter()
        .map(|&k| {
            check_k(k, train)?;
            let ranks = near
                .par_iter()
                .zip(&test.labels)
                .map(|(near, &label)| rank(&votes(&near[..k], &train.labels, classes, temperature), label as usize));
            let ranks: Vec<usize> = ranks.collect();
            let part = |most: usize| ranks.iter().filter(|&&rank| rank < most).count() as f64 / ranks.len() as f64;
            Ok(KnnScores { k, top1: part(1), top5: part(FIVE.min(k)) })
        })
        .collect()
}

/// The `k` nearest training images of each test image, nearest first; ties go to the lower row.
///
/// # Errors
/// As for [`classify`].
pub fn nearest(train: &Embedded, test: &Embedded, k: usize) -> Result<Vec<Vec<Neighbour>>, Error> {
    check_k(k, train)?;
    if test.labels.is_empty() {
        return Err(Error::shape("test images", "at least 1", 0));
    }
    if train.width != test.width {
        return Err(Error::shape("features of test images", train.width, test.width));
    }
    let (n, width) = (train.labels.len(), train.width);
    let model = |e: candle_core::Error| Error::Model(e.to_string());
    let columns = Tensor::from_slice(&train.features, (n, width), &Device::Cpu).and_then(|t| t.t()).map_err(model)?;
    let mut all = Vec::with_capacity(test.labels.len());
    for rows in test.features.chunks((BLOCK / n).max(1) * width) {
        let rows = Tensor::from_slice(rows, (rows.len() / width, width), &Device::Cpu);
        let cosines = rows.and_then(|rows| rows.matmul(&columns)?.to_vec2::<f32>()).map_err(model)?;
        all.par_extend(cosines.par_iter().map(|cosines| first(cosines, k)));
    }
    Ok(all)
}

/// The `k` greatest cosines with their rows, in descending order.
fn first(cosines: &[f32], k: usize) -> Vec<Neighbour> {
    let mut all: Vec<Neighbour> = cosines.iter().enumerate().map(|(row, &cosine)| Neighbour { row, cosine }).collect();
    let order = |a: &Neighbour, b: &Neighbour| b.cosine.total_cmp(&a.cosine).then(a.row.cmp(&b.row));
    if k < all.len() {
        all.select_nth_unstable_by(k, order);
        all.truncate(k);
    }
    all.sort_unstable_by(order);
    all
}

/// Votes for each class, `[classes]`: the sum of `exp(cosine / temperature)` over the neighbours of that class.
/// `labels` are the classes of the training images, below `classes`.
pub fn votes(near: &[Neighbour], labels: &[u32], classes: usize, temperature: f64) -> Vec<f64> {
    let mut votes = vec![0.; classes];
    for neighbour in near {
        votes[labels[neighbour.row] as usize] += (f64::from(neighbour.cosine) / temperature).exp();
    }
    votes
}

/// Number of classes that rank before `class`: those with more votes, or with equal votes and a lower number.
pub fn rank(votes: &[f64], class: usize) -> usize {
    let own = votes[class];
    votes.iter().enumerate().filter(|&(other, &v)| v > own || v == own && other < class).count()
}

fn check_k(k: usize, train: &Embedded) -> Result<(), Error> {
    let n = train.labels.len();
    if k == 0 || k > n {
        let reason = format!("{k} neighbours cannot be chosen from {n} training images");
        return Err(Error::Config { field: "k", reason });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Features in a plane, by their angles in degrees.
    fn at(angles: &[f32], labels: &[u32]) -> Embedded {
        let features = angles.iter().flat_map(|a| [3. * a.to_radians().cos(), 3. * a.to_radians().sin()]).collect();
        Embedded::new(features, labels.to_vec(), 2).unwrap()
    }

    #[test]
    fn near_images_outvote_the_many() {
        // At 0 degrees: class 1 at 10 degrees, class 0 at 60 and 61; class 2 is out of reach of k = 3.
        let (train, test) = (at(&[60., 61., 10., 170.], &[0, 0, 1, 2]), at(&[0.], &[1]));
        let near = &nearest(&train, &test, 3).unwrap()[0];
        assert_eq!(near.iter().map(|n| n.row).collect::<Vec<_>>(), [2, 0, 1]);
        let cosine = |degrees: f64| degrees.to_radians().cos();
        let got = votes(near, &train.labels, 3, 0.5);
        let want = [(cosine(60.) / 0.5).exp() + (cosine(61.) / 0.5).exp(), (cosine(10.) / 0.5).exp(), 0.];
        assert!(got.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-5), "{got:?} {want:?}");
        // exp(0.98 / 0.07) is far more than two of exp(0.5 / 0.07); at a high temperature two heads count twice.
        let top1 = |temperature| classify(&train, &test, &[3], temperature).unwrap()[0].top1;
        assert_eq!((top1(0.07), top1(100.)), (1., 0.));
    }

    #[test]
    fn the_second_class_counts_for_top_5_only_if_two_images_vote() {
        let (train, test) = (at(&[1., 40., 80.], &[0, 1, 2]), at(&[0., 2.], &[1, 0]));
        let scores = classify(&train, &test, &[1, 2], 0.07).unwrap();
        assert_eq!(scores[0], KnnScores { k: 1, top1: 0.5, top5: 0.5 });
        assert_eq!(scores[1], KnnScores { k: 2, top1: 0.5, top5: 1. });
    }

    #[test]
    fn equals_are_ranked_by_their_numbers() {
        assert_eq!([0, 1, 2, 3].map(|class| rank(&[0., 2., 2., 0.], class)), [2, 0, 1, 3]);
        let near = nearest(&at(&[20., -20., 20.], &[0, 1, 2]), &at(&[0.], &[0]), 2).unwrap();
        assert_eq!(near[0].iter().map(|n| n.row).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn blocks_of_rows_join_in_order() {
        // As many training images as leave two rows to a block.
        let n = BLOCK / 2;
        let mut train = Embedded { features: vec![0.; n], labels: vec![0; n], width: 1 };
        (train.features[7], train.labels[7]) = (1., 1);
        let test = Embedded { features: vec![1., -1., 1., 1., -1.], labels: vec![1, 0, 1, 1, 0], width: 1 };
        assert_eq!(classify(&train, &test, &[1], 0.07).unwrap()[0].top1, 1.);
    }

    #[test]
    fn what_cannot_be_classified_is_named() {
        let (train, test) = (at(&[0., 90.], &[0, 1]), at(&[0.], &[0]));
        let says = |r: Result<Vec<KnnScores>, Error>| r.unwrap_err().to_string();
        assert!(says(classify(&train, &test, &[1, 3], 0.07)).starts_with("k: 3 neighbours"));
        assert!(says(classify(&train, &test, &[0], 0.07)).starts_with("k: 0"));
        assert!(says(classify(&train, &test, &[1], 0.)).starts_with("temperature"));
        assert!(says(classify(&train, &at(&[], &[]), &[1], 0.07)).starts_with("test images"));
        let wide = Embedded::new(vec![1.; 3], vec![0], 3).unwrap();
        assert!(says(classify(&train, &wide, &[1], 0.07)).starts_with("features of test images"));
        assert!(Embedded::new(vec![1., f32::NAN], vec![0], 2).unwrap_err().to_string().contains("image 0"));
        assert!(Embedded::new(vec![1.; 3], vec![0], 2).is_err());
    }
}
