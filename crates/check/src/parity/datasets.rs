//! `datasets`: augmentation, every operation and whole views, bit for bit.

use anyhow::{Context, Result, bail};
use selfpatch_datasets::{
    Content, Decoding, Drawn, Filter, Image, ImageSource, Loader, LoaderConfig, MultiCrop, Op, Picture, Purpose,
    Samples, ViewConfig, Window, stream,
};
use selfpatch_fixture::candle_core::{DType, Tensor};
use selfpatch_fixture::{Check, Fixture, Report, integer, integers, number};
use serde_json::Value;
use std::sync::Arc;

/// Every fixture of this crate.
pub const CHECKS: &[Check] = &[Check::single("augment", selfpatch), Check::single("rrc_params", windows)];

/// Crops, colours, blur and whole views of torchvision on Pillow 11, whose bytes are those of 9.3 to 12.3 and must
/// all agree.
fn selfpatch(f: &Fixture, report: &mut Report) -> Result<()> {
    let values = f.values.as_object().context("the fixture describes no operations")?;
    for (name, v) in values.iter().filter(|(name, _)| name.contains('/')) {
        let (image, op) = name.split_once('/').context("operations are named imageN/OP")?;
        let kind = op.trim_end_matches(|c: char| c.is_ascii_digit());
        let input = if kind.starts_with("crop") { format!("in/{image}") } else { format!("{image}/base") };
        let picture = picture(f.get(&input)?)?;
        let mut drawn = whole(&picture);
        let factor = || number(v, "factor");
        match kind {
            _ if kind.starts_with("crop") => (drawn.window, drawn.size) = crop(v)?,
            "brightness" => drawn.ops.push(Op::Brightness(factor()? as f32)),
            "contrast" => drawn.ops.push(Op::Contrast(factor()? as f32)),
            "saturation" => drawn.ops.push(Op::Saturation(factor()? as f32)),
            "hue" => drawn.ops.push(Op::Hue(factor()?)),
            "jitter" => drawn.ops.extend(jitter(v)?),
            "gray" => drawn.ops.push(Op::Grey),
            "hflip" => drawn.flip = true,
            "blur" => drawn.ops.push(Op::Blur(number(v, "radius")? as f32)),
            "solarize" => drawn.ops.push(Op::Solarize),
            other => bail!("there is no operation {other}"),
        }
        let kind = if kind.starts_with("crop") { "crop and resize" } else { kind };
        let want = integers(f.get(name)?)?;
        report.same(&format!("{kind} (bytes of Pillow 12.3)"), &view(&picture, &drawn), &want);
        if let Some(config) = certain(&drawn, picture.shape()) {
            let got = loaded(f.get(&input)?, config)?;
            report.same("through the loader (bytes of Pillow 12.3)", &got, &want);
        }
    }
    let source = picture(f.get("in/image1")?)?;
    for (number, ops) in values["pipeline"].as_array().into_iter().flatten().enumerate() {
        if ops.as_array().is_some_and(Vec::is_empty) {
            continue; // left out of a smaller set
        }
        let drawn = pipeline(&source, ops)?;
        let want = f.get(&format!("pipeline/crop{number}"))?;
        report.same("whole views (bytes of Pillow 12.3)", &view(&source, &drawn), &integers(want)?);
    }
    Ok(())
}

/// Settings that leave nothing to chance and yield `drawn`, if there are such.
fn certain(drawn: &Drawn, (width, height, _): (usize, usize, usize)) -> Option<ViewConfig> {
    let whole = Window { left: 0, top: 0, width, height };
    let always = |on: bool| if on { 1. } else { 0. };
    let radius = match drawn.ops[..] {
        [Op::Blur(radius)] => radius,
        [] | [Op::Grey | Op::Solarize] => 0.,
        _ => return None,
    };
    let ratio = width as f32 / height as f32;
    (drawn.window == whole).then(|| ViewConfig {
        size: drawn.size,
        scale: [1.; 2],
        ratio: [ratio; 2],
        flip: always(drawn.flip),
        jitter: 0.,
        brightness: 0.,
        contrast: 0.,
        saturation: 0.,
        hue: 0.,
        channel_gain: 0.,
        grayscale: always(drawn.ops == [Op::Grey]),
        blur: always(radius > 0.),
        blur_radius: [radius; 2],
        solarize: always(drawn.ops == [Op::Solarize]),
    })
}

/// An image as a PNG file in memory.
struct OnePng(Vec<u8>);

impl ImageSource for OnePng {
    fn len(&self) -> usize {
        1
    }

    fn name(&self, _: usize) -> String {
        "fixture.png".into()
    }

    fn read(&self, _: usize) -> Result<Content, selfpatch_datasets::Error> {
        Ok(Content::File(self.0.clone()))
    }
}

/// The view `[S, S, 3]` of `image` that comes out of the loader: file, decoder, threads, batch.
fn loaded(image: &Tensor, view: ViewConfig) -> Result<Vec<i64>> {
    let (height, width, _) = image.dims3()?;
    let mut png = std::io::Cursor::new(Vec::new());
    let pixels = image.flatten_all()?.to_vec1::<u8>()?;
    let file = image::RgbImage::from_raw(width as u32, height as u32, pixels).context("the image is not whole")?;
    file.write_to(&mut png, image::ImageFormat::Png)?;
    let size = view.size;
    let crops = MultiCrop { globals: vec![view.clone()], locals: view, local_count: 0 };
    let source = Arc::new(OnePng(png.into_inner()));
    let loader = Loader::new(source, crops, Decoding::default(), LoaderConfig::new(1, 0))?;
    let batch = loader.epoch(0, 0).next().context("the loader made no batch")??;
    match batch.views.globals {
        Samples::Bytes(planes) => Ok(interleaved(&planes, size)),
        Samples::Floats(_) => bail!("the loader made floats"),
    }
}

/// Windows of RandomResizedCrop: their generator is PyTorch's, so the distributions are compared. The
/// error is the largest distance between the two cumulative distributions of top, left, height, width
/// and area (Kolmogorov and Smirnov); equal distributions stay below the tolerance, 1.63 sqrt(2/n), with
/// a probability of 99 %.
fn windows(f: &Fixture, report: &mut Report) -> Result<()> {
    let cases = [
        ("boxes_a", (500, 375), [0.25, 1.0]),
        ("boxes_b", (500, 375), [0.05, 0.25]),
        ("boxes_c", (900, 100), [0.25, 1.0]),
    ];
    for (name, (width, height), scale) in cases {
        let want = f.get(name)?.to_dtype(DType::I64)?.to_vec2::<i64>()?;
        let config = ViewConfig { scale, ..MultiCrop::dino(224, 96, 0, scale, scale).locals };
        let got: Vec<Vec<i64>> = (0..want.len())
            .map(|id| {
                let w = config.draw((width, height, 3), &mut stream(0, Purpose::Crop, 0, id as u64)).window;
                [w.top, w.left, w.height, w.width].map(|v| v as i64).to_vec()
            })
            .collect();
        let limit = 1.63 * (2. / want.len() as f64).sqrt();
        let of: [fn(&Vec<i64>) -> i64; 5] = [|b| b[0], |b| b[1], |b| b[2], |b| b[3], |b| b[2] * b[3]];
        for of in of {
            let distance = distance(got.iter().map(of).collect(), want.iter().map(of).collect());
            report.error("distribution of windows", distance, limit);
        }
    }
    Ok(())
}

/// Largest distance between two cumulative distributions.
fn distance(mut a: Vec<i64>, mut b: Vec<i64>) -> f64 {
    a.sort_unstable();
    b.sort_unstable();
    let part = |v: &[i64], x: i64| v.partition_point(|&y| y <= x) as f64 / v.len() as f64;
    a.iter().chain(&b).map(|&x| (part(&a, x) - part(&b, x)).abs()).fold(0., f64::max)
}

fn picture(image: &Tensor) -> Result<Picture> {
    let (height, width, channels) = image.dims3()?;
    let pixels = image.flatten_all()?.to_vec1::<u8>()?;
    let image = Image { width, height, channels, samples: Samples::Bytes(pixels) };
    Picture::of(&image).context("the image is not whole")
}

/// The whole picture, a square, unchanged.
fn whole(picture: &Picture) -> Drawn {
    let (width, height, _) = picture.shape();
    Drawn {
        window: Window { left: 0, top: 0, width, height },
        size: width,
        filter: Filter::Bicubic,
        flip: false,
        ops: Vec::new(),
    }
}

/// A view as the fixtures store it, `[S, S, 3]`.
fn view(picture: &Picture, drawn: &Drawn) -> Vec<i64> {
    let Samples::Bytes(planes) = picture.view(drawn) else { return Vec::new() };
    interleaved(&planes, drawn.size)
}

/// `[3, S, S]` to `[S, S, 3]`.
fn interleaved(planes: &[u8], size: usize) -> Vec<i64> {
    let area = size * size;
    (0..area).flat_map(|i| [0, 1, 2].map(|c| i64::from(planes[c * area + i]))).collect()
}

fn crop(v: &Value) -> Result<(Window, usize)> {
    let window = Window {
        top: integer(v, "top")?,
        left: integer(v, "left")?,
        height: integer(v, "height")?,
        width: integer(v, "width")?,
    };
    Ok((window, integer(v, "size")?))
}

/// Brightness, contrast, saturation and hue in the order that is told.
fn jitter(v: &Value) -> Result<Vec<Op>> {
    let list = |name: &str| v[name].as_array().with_context(|| format!("a jitter without {name}"));
    let factor: Vec<f64> = list("factors")?.iter().filter_map(Value::as_f64).collect();
    let [brightness, contrast, saturation, hue] = factor[..] else { bail!("a jitter needs four factors") };
    list("order")?
        .iter()
        .map(|op| match op.as_u64() {
            Some(0) => Ok(Op::Brightness(brightness as f32)),
            Some(1) => Ok(Op::Contrast(contrast as f32)),
            Some(2) => Ok(Op::Saturation(saturation as f32)),
            Some(3) => Ok(Op::Hue(hue)),
            _ => bail!("operations of a jitter are numbered 0 to 3"),
        })
        .collect()
}

/// One view of the whole augmentation.
fn pipeline(picture: &Picture, ops: &Value) -> Result<Drawn> {
    let mut drawn = whole(picture);
    for v in ops.as_array().into_iter().flatten() {
        let factor = || number(v, "factor");
        match v["op"].as_str().unwrap_or_default() {
            "resized_crop" => (drawn.window, drawn.size) = crop(v)?,
            "hflip" => drawn.flip = true,
            "brightness" => drawn.ops.push(Op::Brightness(factor()? as f32)),
            "contrast" => drawn.ops.push(Op::Contrast(factor()? as f32)),
            "saturation" => drawn.ops.push(Op::Saturation(factor()? as f32)),
            "hue" => drawn.ops.push(Op::Hue(factor()?)),
            "grayscale" => drawn.ops.push(Op::Grey),
            "gaussian_blur" => drawn.ops.push(Op::Blur(number(v, "radius")? as f32)),
            "solarize" => drawn.ops.push(Op::Solarize),
            other => bail!("there is no operation {other:?}"),
        }
    }
    Ok(drawn)
}
