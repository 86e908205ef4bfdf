//! How the teacher is measured during training.

use serde::{Deserialize, Serialize};

/// How the teacher is measured during training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Eval {
    /// Measurement by label propagation through videos.
    #[serde(default)]
    pub davis: DavisEval,
    /// Measurement by classifying labelled images after their nearest neighbours.
    #[serde(default)]
    pub knn: KnnEval,
}

/// Classification by nearest neighbours during training; the fields mean what the flags of `eval-knn` mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KnnEval {
    /// Epochs between measurements; 0 for none.
    pub every: usize,
    /// The images that vote, with classes: a folder per class, or any other source that has them.
    pub train: String,
    /// The images that are classified, with classes; empty: every fifth of `train`, which then does not vote.
    pub val: String,
    /// Number of images that vote on each image.
    pub k: usize,
    /// Divisor of the cosine in the exponent of a vote.
    pub temperature: f64,
    /// Most images of each source, evenly spread over it.
    pub most: usize,
}

impl Default for KnnEval {
    fn default() -> Self {
        Self { every: 0, train: String::new(), val: String::new(), k: 20, temperature: 0.07, most: 10_000 }
    }
}

/// Label propagation during training; the fields mean what the flags of `eval-davis` mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DavisEval {
    /// Epochs between measurements; 0 for none.
    pub every: usize,
    /// `procedural` for the synthetic videos, or a folder in DAVIS's or a similar layout.
    pub data_path: String,
    /// Tokens per side of a frame of the synthetic videos, 8 to 64.
    pub grid: usize,
    /// The `YEAR` in `ImageSets/YEAR`.
    pub year: String,
    /// The `SPLIT` in `ImageSets/YEAR/SPLIT.txt`.
    pub split: String,
    /// The `RESOLUTION` in `JPEGImages/RESOLUTION`.
    pub resolution: String,
    /// Frames before the current one that vote, besides the first.
    pub n_last_frames: usize,
    /// Radius of the window in patches; 0 for none.
    pub size_mask_neighborhood: usize,
    /// Number of patches that vote on each patch.
    pub topk: usize,
}

impl Default for DavisEval {
    fn default() -> Self {
        Self {
            every: 0,
            data_path: "procedural".into(),
            grid: 32,
            year: "2017".into(),
            split: "val".into(),
            resolution: "480p".into(),
            n_last_frames: 7,
            size_mask_neighborhood: 12,
            topk: 5,
        }
    }
}
