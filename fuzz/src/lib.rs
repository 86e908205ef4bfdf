//! Broken and hostile files for everything that SelfPatch reads.
//!
//! Each [`Format`] has small whole files to start from and a function that gives bytes to the reader that
//! a run uses. [`mutate`] makes mutants of the files, [`trial`] reads them: none may panic, end the process
//! or take long. The targets of cargo-fuzz call the same functions.

pub mod masks;
pub mod mutate;
pub mod pictures;
#[cfg(feature = "idx")]
pub mod records;
mod repair;
mod scratch;
pub mod settings;
pub mod shards;
pub mod trial;
pub mod weights;

/// A kind of file.
pub struct Format {
    /// Name of the format on the command line.
    pub name: &'static str,
    /// Whole files.
    pub seeds: fn() -> anyhow::Result<Vec<Vec<u8>>>,
    /// Whether the format is text, in which numbers matter most.
    pub text: bool,
    /// Makes the checksums of a mutant right, so that what they guard is reached.
    pub repair: Option<fn(&mut [u8])>,
    /// Reads a file as a run does; returns whether it was accepted.
    pub read: fn(&[u8]) -> bool,
}

/// Every kind of file.
pub const FORMATS: &[Format] = &[
    Format { name: "safetensors", seeds: weights::safetensors, text: false, repair: None, read: weights::read },
    Format { name: "pth", seeds: weights::pth, text: false, repair: Some(repair::zip), read: weights::read },
    Format { name: "toml", seeds: settings::seeds, text: true, repair: None, read: settings::read },
    Format { name: "jpeg", seeds: pictures::jpeg, text: false, repair: None, read: pictures::read },
    Format { name: "png", seeds: pictures::png, text: false, repair: Some(repair::png), read: pictures::read },
    Format { name: "webp", seeds: pictures::webp, text: false, repair: None, read: pictures::read },
    Format { name: "bmp", seeds: pictures::bmp, text: false, repair: None, read: pictures::read },
    Format { name: "tiff", seeds: pictures::tiff, text: false, repair: None, read: pictures::read },
    Format { name: "tar", seeds: shards::seeds, text: false, repair: Some(repair::tar), read: shards::read },
    Format { name: "mask", seeds: masks::seeds, text: false, repair: Some(repair::png), read: masks::read },
    #[cfg(feature = "idx")]
    Format { name: "idx", seeds: records::idx_seeds, text: false, repair: None, read: records::idx },
    #[cfg(feature = "idx")]
    Format { name: "cifar", seeds: records::cifar_seeds, text: false, repair: None, read: records::cifar },
];
