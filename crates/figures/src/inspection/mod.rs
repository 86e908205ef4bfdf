//! The pictures and the page of `inspect-data`: images beside what the network sees of them.

mod example;
mod page;
mod sheet;

pub use example::{Example, Shown, Stages, example};
pub use page::page;
pub use sheet::sheet;
