//! Random views of an image: several large crops and many small ones, with random colours.

mod blur;
mod colour;
mod crop;
mod hue;
mod multi_crop;
mod planes;
mod resize;
mod view;

pub use multi_crop::MultiCrop;
pub use view::ViewConfig;
