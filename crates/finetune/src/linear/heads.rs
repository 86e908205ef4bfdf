//! The classifiers that a probe trains side by side.

use super::classifier::{Classifier, cross_entropy, rate};
use super::scores::{Scores, scores};
use candle_core::{Device, Result, Tensor};
use selfpatch_nn::Gradients;

/// One in so many training images is held out where there are several rates to choose from.
pub(crate) const TENTH: usize = 10;

/// Whether the training image of this number is held out.
pub(crate) fn is_held_out(image: usize) -> bool {
    image % TENTH == TENTH - 1
}

/// One classifier of a probe.
pub(crate) struct Head {
    /// Learning rate for 256 images per step.
    pub lr: f64,
    /// Whether the classifier learns from all training images; else it is kept from the held-out ones, on which it
    /// tells how good its rate is.
    pub is_whole: bool,
    pub classifier: Classifier,
}

impl Head {
    /// Name of the classifier among those of one model, such as `0.1.whole`.
    pub fn name(&self) -> String {
        format!("{}.{}", self.lr, if self.is_whole { "whole" } else { "chooser" })
    }
}

/// All classifiers on the features of one model: for each rate one that learns from all images, and where there are
/// several rates one to choose by.
pub(crate) struct Heads {
    pub all: Vec<Head>,
    /// The best rate, as far as is known.
    pub best: f64,
}

/// The best rate of the classifiers, and how well they classify.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadScores {
    /// The best rate, for 256 images per step.
    pub lr: f64,
    /// Top-1 of the best rate's classifier on the held-out images, 0 to 1; `None` where there is no choice to make.
    pub held_out: Option<f64>,
    /// Scores of the classifier of the best rate that was trained on all images.
    pub scores: Scores,
}

/// Some images: their features `[B, D]`, their classes, and which of them are held out.
pub(crate) struct Rows {
    pub features: Tensor,
    pub labels: Vec<u32>,
    pub held_out: Vec<bool>,
}

impl Rows {
    fn labels(&self) -> Result<Tensor> {
        Tensor::from_slice(&self.labels, self.labels.len(), self.features.device())
    }

    /// The rows that are held out, or the others; `None` if there are none.
    fn part(&self, held_out: bool) -> Result<Option<Self>> {
        let rows: Vec<u32> = (0..self.labels.len() as u32).filter(|&i| self.held_out[i as usize] == held_out).collect();
        if rows.is_empty() {
            return Ok(None);
        }
        let index = Tensor::from_slice(&rows, rows.len(), self.features.device())?;
        let of = |i: &u32| self.labels[*i as usize];
        Ok(Some(Self {
            features: self.features.index_select(&index, 0)?,
            labels: rows.iter().map(of).collect(),
            held_out: vec![held_out; rows.len()],
        }))
    }
}

impl Heads {
    /// Classifiers for features of width `dim`.
    pub fn new(rates: &[f64], dim: usize, classes: usize, seed: u64, device: &Device) -> Result<Self> {
        let kinds: &[bool] = if rates.len() > 1 { &[true, false] } else { &[true] };
        let mut all = Vec::new();
        for &lr in rates {
            for &is_whole in kinds {
                all.push(Head { lr, is_whole, classifier: Classifier::new(dim, classes, seed, device)? });
            }
        }
        Ok(Self { all, best: rates.first().copied().unwrap_or_default() })
    }

    /// The loss and gradients of each classifier, in order; `None` for those that learn nothing from these rows.
    pub fn gradients(&self, rows: &Rows) -> Result<Vec<Option<(f64, Gradients)>>> {
        let (labels, rest) = (rows.labels()?, rows.part(false)?);
        let rest = rest.map(|rest| Ok::<_, candle_core::Error>((rest.labels()?, rest))).transpose()?;
        let mut moves = Vec::with_capacity(self.all.len());
        for Head { is_whole, classifier, .. } in &self.all {
            moves.push(match (is_whole, &rest) {
                (true, _) => Some(classifier.gradients(&rows.features, &labels)?),
                (false, Some((labels, rest))) => Some(classifier.gradients(&rest.features, labels)?),
                (false, None) => None,
            });
        }
        let losses: Vec<&Tensor> = moves.iter().flatten().map(|(loss, _)| loss).collect();
        let mut losses = Tensor::stack(&losses, 0)?.to_vec1::<f32>()?.into_iter();
        Ok(moves.into_iter().map(|m| m.map(|(_, g)| (losses.next().map_or(f64::NAN, f64::from), g))).collect())
    }

    /// Steps all classifiers. `factor`: what rates are multiplied with; `epoch` of `epochs`: how far the schedule is.
    pub fn step(&mut self, moves: &[Option<(f64, Gradients)>], factor: f64, epoch: usize, epochs: usize) -> Result<()> {
        for (head, (_, gradients)) in self.all.iter_mut().zip(moves).filter_map(|(head, m)| Some((head, m.as_ref()?))) {
            head.classifier.step(gradients, rate(head.lr * factor, epoch, epochs))?;
        }
        Ok(())
    }

    /// Chooses the rate whose classifier has the lowest cross-entropy on `held_out`, which tells more of few images
    /// than how many are classified rightly, and scores the classifier of that rate on `val`.
    pub fn judge(&mut self, held_out: Option<&Rows>, val: &Rows) -> Result<HeadScores> {
        let (mut least, mut top1) = (f64::INFINITY, None);
        if let Some(rows) = held_out {
            let labels = rows.labels()?;
            for Head { lr, classifier, .. } in self.all.iter().filter(|head| !head.is_whole) {
                let logits = classifier.logits(&rows.features)?;
                let loss = f64::from(cross_entropy(&logits, &labels)?.to_scalar::<f32>()?);
                if loss < least {
                    (least, top1, self.best) = (loss, Some(scores(&logits, &rows.labels)?.top1), *lr);
                }
            }
        }
        let scores = match self.chosen() {
            Some(classifier) => scores(&classifier.logits(&val.features)?, &val.labels)?,
            None => Scores::default(),
        };
        Ok(HeadScores { lr: self.best, held_out: top1, scores })
    }

    /// The classifier of the best rate that learns from all images.
    pub fn chosen(&self) -> Option<&Classifier> {
        self.all.iter().find(|head| head.is_whole && head.lr == self.best).map(|head| &head.classifier)
    }
}
