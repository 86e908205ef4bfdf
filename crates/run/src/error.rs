//! What can go wrong with a run.

use std::path::PathBuf;

/// An error that names the file or field at fault and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field with an impossible value.
    #[error("{field}: {reason}")]
    Config {
        /// Place in the configuration, such as `optim.lr`.
        field: String,
        /// What is wrong with the value.
        reason: String,
    },
    /// A file that cannot be used.
    #[error("{path}: {reason}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with the file.
        reason: String,
    },
    /// The run's folder belongs to another configuration.
    #[error(
        "{path} holds a run with other settings: {differences}. Continue it with its own settings, choose another \
         --name, start over with --overwrite, or name what may change with --override FIELD, here {overrides}"
    )]
    OtherRun {
        /// The run's folder.
        path: PathBuf,
        /// Settings that differ, and from what.
        differences: String,
        /// Flags that let the settings differ.
        overrides: String,
    },
    /// A checkpoint of networks of another shape.
    #[error(
        "{path} holds a run whose networks have another shape: {differences}. No --override changes that: leave it out to \
         continue the run, or begin another one with another --name, with --init-from the run's \
         export/backbone.safetensors where the backbone is the same"
    )]
    OtherShape {
        /// The run's folder.
        path: PathBuf,
        /// Settings that differ, and from what.
        differences: String,
    },
    /// The loss is no longer a number.
    #[error(
        "the loss is non-finite at step {step} ({}); the weights were left as they were before this step",
        listed(losses)
    )]
    NonFinite {
        /// The step, counted from 0.
        step: usize,
        /// The parts of the loss with their names, such as `class loss`.
        losses: Vec<(&'static str, f64)>,
    },
    /// The loss is a number, one of its gradients is not.
    #[error("the gradient of {parameter} is non-finite; the weights were left as they were before this step")]
    NonFiniteGradient {
        /// The first parameter with a non-finite gradient.
        parameter: String,
    },
    /// Gradients overflow in fp16 whatever the loss is multiplied with.
    #[error(
        "the gradient of {parameter} overflows in fp16 even with a loss scale of 1; the weights were left as they were \
         before this step: use optim.precision = \"bf16\", or \"f32\""
    )]
    Overflow {
        /// The first parameter with an overflow.
        parameter: String,
    },
    /// A run that stopped for a non-finite number.
    #[error("{what}; {place}. {advice}")]
    Sick {
        /// The error of the step.
        what: Box<Error>,
        /// Where a non-finite number was seen first.
        place: String,
        /// The file that the step was kept in, if any.
        kept: Option<PathBuf>,
        /// What to do about the non-finite number.
        advice: String,
    },
    /// An error of the data.
    #[error(transparent)]
    Data(#[from] selfpatch_datasets::Error),
    /// An error of a weight file.
    #[error(transparent)]
    Weights(#[from] selfpatch_weights::WeightsError),
    /// An error of the log.
    #[error(transparent)]
    Log(#[from] crate::LogError),
    /// An error of a tensor operation.
    #[error("{0}")]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    /// Whether a step met a non-finite number, and left everything as it was.
    pub fn is_non_finite(&self) -> bool {
        matches!(self, Error::NonFinite { .. } | Error::NonFiniteGradient { .. } | Error::Overflow { .. })
    }

    /// A file-system error with the path it happened at.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        move |e| {
            // Some that come from below name it already.
            let (text, own) = (e.to_string(), format!("{}: ", path.display()));
            Error::File { path, reason: text.strip_prefix(&own).unwrap_or(&text).into() }
        }
    }
}

fn listed(losses: &[(&'static str, f64)]) -> String {
    losses.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
}
