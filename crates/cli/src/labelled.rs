//! Labelled images, as flags and settings name them: some to learn from, some to be judged by.

use anyhow::{Context, Result, ensure};
use selfpatch_datasets::Access;
use selfpatch_eval::images::{Labelled, labelled, renumbered, split};
use std::collections::BTreeSet;

/// Flags for labelled images.
#[derive(clap::Args)]
pub struct Args {
    /// Labelled images to learn from, or whose neighbourhood decides: a folder per class, or any other source with
    /// classes
    #[arg(long, value_name = "SOURCE", required_unless_present = "data_path")]
    train: Option<String>,
    /// Labelled images to classify [default: every fifth of --train, which is then used for nothing else]
    #[arg(long, value_name = "SOURCE", conflicts_with = "data_path")]
    val: Option<String>,
    /// A folder with a folder train and a folder val, instead of --train and --val
    #[arg(long, value_name = "DIR", conflicts_with = "train")]
    data_path: Option<String>,
    /// Take only so many images of each source, evenly spread [default: all]
    #[arg(long, value_name = "N", value_parser = crate::bounds::integer(1, 1 << 40))]
    most: Option<usize>,
}

/// Where labelled images are.
pub struct Sources {
    /// Source of the images to learn from.
    pub train: String,
    /// Source of the images to classify; empty for every fifth of those to learn from.
    pub val: String,
    /// Images of each source at most, evenly spread.
    pub most: Option<usize>,
}

/// Labelled images with the flag or field that names them in messages.
pub struct Set {
    /// The flag or field.
    pub name: &'static str,
    /// The images.
    pub images: Labelled,
}

/// Both sets of images, whose classes have the same numbers.
pub struct Sets {
    /// Images to learn from.
    pub train: Set,
    /// Images to classify.
    pub val: Set,
}

impl Args {
    /// The sources that the flags name.
    pub fn sources(&self) -> Sources {
        let (train, val) = match &self.data_path {
            Some(root) => (format!("{root}/train"), format!("{root}/val")),
            None => (self.train.clone().unwrap_or_default(), self.val.clone().unwrap_or_default()),
        };
        Sources { train, val, most: self.most }
    }
}

impl Sources {
    /// The images. `names`: the flags or fields of both sources, for errors.
    pub fn open(&self, names: [&'static str; 2], access: &Access) -> Result<Sets> {
        let [train, val] = names;
        let most = self.most.unwrap_or(usize::MAX);
        let read = |spec: &str| anyhow::Ok(labelled(selfpatch_datasets::open(spec, access)?, most)?);
        let all = read(&self.train).context(train)?;
        if self.val.is_empty() {
            let (rest, fifth) = split(all);
            ensure!(!fifth.places.is_empty(), "{train}: has too few images to classify every fifth of them");
            // Both are of one source.
            let set = |images| Set { name: train, images };
            return Ok(Sets { train: set(rest), val: set(fifth) });
        }
        let others = read(&self.val).and_then(|others| Ok(renumbered(&all, others)?)).context(val)?;
        Ok(Sets { train: Set { name: train, images: all }, val: Set { name: val, images: others } })
    }
}

impl Set {
    /// Number of images.
    pub fn count(&self) -> usize {
        self.images.places.len()
    }
}

impl Sets {
    /// Classes of the images to learn from.
    pub fn classes(&self) -> usize {
        self.train.images.labels.iter().collect::<BTreeSet<_>>().len()
    }
}
