//! Views of an image: shapes, and what each setting does on its own.

use selfpatch_datasets::{Error, Image, MultiCrop, Picture, Purpose, Samples, ViewConfig, stream};

/// Takes the whole image as it is.
fn plain(size: usize) -> ViewConfig {
    ViewConfig {
        size,
        scale: [1.0, 1.0],
        ratio: [1.0, 1.0],
        flip: 0.0,
        jitter: 0.0,
        brightness: 0.4,
        contrast: 0.4,
        saturation: 0.2,
        hue: 0.1,
        channel_gain: 0.2,
        grayscale: 0.0,
        blur: 0.0,
        blur_radius: [0.1, 2.0],
        solarize: 0.0,
    }
}

fn picture(width: usize, height: usize) -> Image {
    let pixels = (0..width * height).flat_map(|i| [(i * 7) as u8, (i * 3 + 50) as u8, (i / 2) as u8]).collect();
    Image { width, height, channels: 3, samples: Samples::Bytes(pixels) }
}

fn bytes(samples: Samples) -> Vec<u8> {
    match samples {
        Samples::Bytes(v) => v,
        Samples::Floats(_) => panic!("floats"),
    }
}

fn view(config: ViewConfig, image: &Image, id: u64) -> Vec<u8> {
    let crops = MultiCrop { locals: config.clone(), globals: vec![config], local_count: 0 };
    crops.validate().unwrap();
    nth(&crops, image, 0, id)
}

fn nth(crops: &MultiCrop, image: &Image, number: usize, id: u64) -> Vec<u8> {
    let picture = Picture::of(image).unwrap();
    bytes(picture.view(&crops.draw(picture.shape(), number, &mut stream(1, Purpose::Crop, 0, id))))
}

fn planar(image: &Image) -> Vec<u8> {
    let pixels = bytes(image.samples.clone());
    (0..3).flat_map(|c| pixels.iter().skip(c).step_by(3).copied().collect::<Vec<_>>()).collect()
}

#[test]
fn the_whole_image_at_its_own_size_is_a_copy() {
    let image = picture(20, 20);
    assert_eq!(view(plain(20), &image, 0), planar(&image));
}

#[test]
fn flipping_reverses_every_row() {
    let image = picture(20, 20);
    let mut expected = planar(&image);
    expected.chunks_exact_mut(20).for_each(<[u8]>::reverse);
    assert_eq!(view(ViewConfig { flip: 1.0, ..plain(20) }, &image, 0), expected);
}

#[test]
fn grey_views_have_equal_channels() {
    let view = view(ViewConfig { grayscale: 1.0, ..plain(32) }, &picture(50, 41), 0);
    let (red, rest) = view.split_at(32 * 32);
    assert!(rest.chunks_exact(32 * 32).all(|plane| plane == red));
    assert!(red.iter().any(|&v| v != red[0]));
}

#[test]
fn solarized_views_have_no_value_from_128_on() {
    let view = view(ViewConfig { solarize: 1.0, ..plain(32) }, &picture(50, 41), 0);
    assert!(view.iter().all(|&v| v < 128));
}

#[test]
fn blurred_views_are_smoother_and_as_bright() {
    let image = picture(40, 40);
    let sharp = view(plain(40), &image, 0);
    let soft = view(ViewConfig { blur: 1.0, blur_radius: [2.0, 2.0], ..plain(40) }, &image, 0);
    let steps = |v: &[u8]| v.windows(2).map(|w| u32::from(w[0].abs_diff(w[1]))).sum::<u32>();
    let mean = |v: &[u8]| v.iter().map(|&b| f64::from(b)).sum::<f64>() / v.len() as f64;
    assert!(steps(&soft) * 2 < steps(&sharp));
    // Borders are repeated, which shifts the mean a little.
    assert!((mean(&soft) - mean(&sharp)).abs() < 3.0);
}

#[test]
fn jitter_changes_colours_and_depends_on_the_stream_alone() {
    let image = picture(30, 30);
    let config = ViewConfig { jitter: 1.0, ..plain(30) };
    let first = view(config.clone(), &image, 1);
    assert_ne!(first, planar(&image));
    assert_eq!(first, view(config.clone(), &image, 1));
    assert_ne!(first, view(config, &image, 2));
}

#[test]
fn published_and_procedural_settings_are_valid_and_have_their_shapes() {
    let dino = MultiCrop::dino(224, 96, 8, [0.25, 1.0], [0.05, 0.25]);
    let small = MultiCrop::procedural();
    for (crops, views, global, local) in [(dino, 10, 224, 96), (small, 6, 48, 24)] {
        crops.validate().unwrap();
        assert_eq!(crops.views(), views);
        // Large, small, thin, and a single pixel.
        for (width, height) in [(500, 375), (13, 9), (3, 300), (1, 1)] {
            let image = picture(width, height);
            for number in 0..views {
                let size = if number < 2 { global } else { local };
                let view = nth(&crops, &image, number, 0);
                assert_eq!(view.len(), 3 * size * size);
            }
        }
        let broken = Image { samples: Samples::Bytes(vec![255; 5]), ..picture(4, 4) };
        assert!(Picture::of(&broken).is_none());
    }
}

#[test]
fn invalid_settings_name_their_field() {
    type Change = fn(&mut ViewConfig);
    let changes: [(&str, Change); 9] = [
        ("size", |v| v.size = 0),
        ("flip", |v| v.flip = 1.5),
        ("blur", |v| v.blur = f32::NAN),
        ("jitter", |v| v.jitter = -0.1),
        ("scale", |v| v.scale = [0.5, 0.2]),
        ("scale", |v| v.scale = [0.0, 0.2]),
        ("ratio", |v| v.ratio = [1.0, f32::INFINITY]),
        ("hue", |v| v.hue = 0.6),
        ("blur_radius", |v| v.blur_radius = [2.0, 0.1]),
    ];
    for (field, change) in changes {
        for local in [false, true] {
            let mut crops = MultiCrop::procedural();
            change(if local { &mut crops.locals } else { &mut crops.globals[1] });
            match crops.validate() {
                Err(Error::Config { field: found, reason }) => {
                    assert_eq!(found, field);
                    assert!(reason.contains(if local { "local" } else { "global view 2" }), "{reason}");
                }
                other => panic!("{field}: {other:?}"),
            }
        }
    }
    let mut crops = MultiCrop::procedural();
    crops.globals[1].size = 56;
    assert!(crops.validate().unwrap_err().to_string().contains("48 and 56"));
    crops.globals.clear();
    assert!(crops.validate().is_err());
}

#[test]
fn other_channels_take_what_does_not_need_rgb() {
    let mut crops = MultiCrop::dino(32, 16, 2, [0.25, 1.0], [0.05, 0.25]);
    let error = crops.validate_without_rgb().unwrap_err().to_string();
    assert!(error.contains("saturation: of global view 1") && error.contains("multichannel"), "{error}");
    for view in crops.globals.iter_mut().chain([&mut crops.locals]) {
        (view.saturation, view.hue, view.grayscale) = (0.0, 0.0, 0.0);
    }
    crops.validate_without_rgb().unwrap();
    let values: Vec<f32> = (0..40 * 30 * 6).map(|i| (i % 97) as f32 / 96.).collect();
    for samples in [Samples::Floats(values.clone()), Samples::Bytes(values.iter().map(|v| (v * 255.) as u8).collect())]
    {
        let picture = Picture::of(&Image { width: 40, height: 30, channels: 6, samples }).unwrap();
        for number in 0..4 {
            let drawn = crops.draw(picture.shape(), number, &mut stream(0, Purpose::Crop, 0, number as u64));
            let view = picture.view(&drawn);
            assert_eq!(view.len(), 6 * drawn.size * drawn.size);
            if let Samples::Floats(values) = view {
                assert!(values.iter().all(|v| (-0.2..1.2).contains(v)), "{drawn:?}");
            }
        }
    }
}
