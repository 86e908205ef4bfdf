//! One view: what was drawn at random, and what that makes of an image.

use super::crop::Window;
use super::planes::{Columns, Planes};
use super::resize::{Filter, Manner, Pillow};
use super::{blur, colour, hue, resize};
use crate::{Image, Samples};

/// A change of a view after it was cropped, resized and flipped.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Factor of the distance from black.
    Brightness(f32),
    /// Factor of the distance from the mean brightness.
    Contrast(f32),
    /// Factor of the distance from grey. RGB only.
    Saturation(f32),
    /// Turn of the hue in full turns. RGB only.
    Hue(f64),
    /// Factor of each channel.
    Gain(Vec<f32>),
    /// All colour dropped. RGB only.
    Grey,
    /// Gaussian blur of this standard deviation in pixels.
    Blur(f32),
    /// The brighter half of all values inverted.
    Solarize,
}

/// Everything that is random about one view.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawn {
    /// The part of the image that is shown.
    pub window: Window,
    /// Rows and columns of the view.
    pub size: usize,
    /// How values between pixels are made.
    pub filter: Filter,
    /// Mirrored left and right.
    pub flip: bool,
    /// Changes, in this order.
    pub ops: Vec<Op>,
}

/// An image in the form from which views are made, for as many of them as wanted.
pub struct Picture {
    inner: Inner,
    pillow: Pillow,
}

enum Inner {
    Bytes(Columns<u8>),
    Floats(Columns<f32>),
}

impl Picture {
    /// Takes an image over; `None` if its values are not as many as its sides promise.
    pub fn of(image: &Image) -> Option<Self> {
        let shape = (image.width, image.height, image.channels);
        let inner = || match &image.samples {
            Samples::Bytes(pixels) => Inner::Bytes(Columns::of(shape, pixels)),
            Samples::Floats(values) => Inner::Floats(Columns::of(shape, values)),
        };
        image.is_whole().then(|| Self { inner: inner(), pillow: Pillow::default() })
    }

    /// This picture, whose views are resized as `pillow` does.
    pub fn resized_as(self, pillow: Pillow) -> Self {
        Self { pillow, ..self }
    }

    /// Columns, rows and channels.
    pub fn shape(&self) -> (usize, usize, usize) {
        match &self.inner {
            Inner::Bytes(c) => (c.width, c.height, c.channels),
            Inner::Floats(c) => (c.width, c.height, c.channels),
        }
    }

    /// The square `[C, size, size]` in the middle of the picture, resized so that its shorter side is `short`:
    /// torchvision's `Resize(short, BICUBIC)` and `CenterCrop(size)`, with which networks are evaluated. The order
    /// of passes is that of Pillow up to 12.3.
    ///
    /// # Panics
    /// If `size` is 0 or more than `short`.
    pub fn centre(&self, short: usize, size: usize) -> Samples {
        assert!((1..=short).contains(&size), "a square of {size} from a side of {short}");
        match &self.inner {
            Inner::Bytes(picture) => Samples::Bytes(resize::centre(picture, short, size).into_values()),
            Inner::Floats(picture) => Samples::Floats(resize::centre(picture, short, size).into_values()),
        }
    }

    /// The view that `drawn` describes, `[C, size, size]`.
    ///
    /// # Panics
    /// If the window is not inside the picture or empty, or if an operation needs RGB bytes and there
    /// are none ([`ViewConfig`](crate::ViewConfig) is checked against that).
    pub fn view(&self, drawn: &Drawn) -> Samples {
        let (width, height, channels) = self.shape();
        let Window { left, top, width: columns, height: rows } = drawn.window;
        assert!(columns > 0 && rows > 0 && left + columns <= width && top + rows <= height, "{drawn:?}");
        let manner = Manner { filter: drawn.filter, flip: drawn.flip, pillow: self.pillow };
        match &self.inner {
            Inner::Bytes(picture) => {
                let mut planes = resize::resized(picture, drawn.window, drawn.size, manner);
                drawn.ops.iter().for_each(|op| change_bytes(&mut planes, op, channels));
                Samples::Bytes(planes.into_values())
            }
            Inner::Floats(picture) => {
                let mut planes = resize::resized(picture, drawn.window, drawn.size, manner);
                drawn.ops.iter().for_each(|op| change_floats(&mut planes, op));
                Samples::Floats(planes.into_values())
            }
        }
    }
}

fn change_bytes(planes: &mut Planes<u8>, op: &Op, channels: usize) {
    match op {
        Op::Brightness(factor) => colour::brightness(planes, *factor),
        Op::Contrast(factor) if channels == 3 => colour::contrast(planes, *factor),
        Op::Contrast(factor) => colour::contrast_of_all(planes, *factor),
        Op::Saturation(factor) => colour::saturation(planes, *factor),
        Op::Hue(turns) => hue::turn(planes, *turns),
        Op::Gain(factors) => colour::gain(planes, factors),
        Op::Grey => colour::grey(planes),
        Op::Blur(radius) => blur::gaussian(planes, *radius),
        Op::Solarize => colour::solarize(planes),
    }
}

fn change_floats(planes: &mut Planes<f32>, op: &Op) {
    match op {
        Op::Brightness(factor) => colour::floats::brightness(planes, *factor),
        Op::Contrast(factor) => colour::floats::contrast(planes, *factor),
        Op::Gain(factors) => colour::floats::gain(planes, factors),
        Op::Blur(radius) => blur::gaussian(planes, *radius),
        Op::Solarize => colour::floats::solarize(planes),
        Op::Saturation(_) | Op::Hue(_) | Op::Grey => panic!("{op:?} needs RGB bytes"),
    }
}
