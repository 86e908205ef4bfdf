//! Random views of an image: several large crops and many small ones, with random colours.
//!
//! What is random about a view is drawn first ([`Drawn`]); what that makes of the pixels follows from
//! it alone, and equals torchvision's result on Pillow up to 12.3, or from 13.0 on ([`Pillow`]).

mod blur;
mod colour;
mod crop;
mod drawn;
mod hue;
mod multi_crop;
mod planes;
mod resize;
mod square;
mod view;

pub use crop::Window;
pub use drawn::{Drawn, Op, Picture};
pub use multi_crop::{Crops, MultiCrop};
pub use resize::{Filter, Pillow};
pub use square::Square;
pub use view::ViewConfig;
