//! The linear probe: what a linear classifier makes of frozen features.
//!
//! Two modes. With cached features each image is shown to the model once, its middle as in validation; several learning
//! rates are tried side by side, and one is chosen on a held-out tenth of the training images. With
//! [`augment`](Data::augment) the model sees a new random view of each image in every epoch, which is DINO's protocol
//! (`eval_linear.py`). Both judge by the middle of the test images, and both have a row for the same network without
//! training.
//!
//! A probe is a [`Task`](selfpatch_run::Task): its folder, checkpoints, log and report are those of any run.

mod chosen;
mod classifier;
mod features;
mod heads;
mod probe;
mod run;
mod scores;
mod settings;
mod sheet;

pub use classifier::{Classifier, rate};
pub use features::{Encode, FOLDER, Features, Noticed};
pub use probe::{Batch, Sets, Subject};
pub use run::{Row, Verdict, run};
pub use scores::{Scores, scores};
pub use settings::{Config, Data, Model, Optim, TASK};
pub use sheet::SHEET;
