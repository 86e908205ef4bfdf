//! What is written for a small trainer.

use super::*;
use crate::config::Aggregation;
use crate::{Preset, Settings};
use candle_core::Device;
use selfpatch_nn::random::normal;

fn small(change: impl Fn(&mut Config)) -> Config {
    let mut c = Preset::Default.config();
    c.model.embed_dim = 12;
    c.model.depth = 2;
    (c.head.out_dim, c.head.out_dim_selfpatch, c.head.hidden_dim, c.head.bottleneck_dim) = (16, 16, 8, 8);
    change(&mut c);
    c
}

/// The names in `views/` and the pixels of the first picture, after writing `count` crops.
fn written(folder: &Path, config: &Config, count: usize) -> (Vec<String>, Vec<u8>) {
    let trainer = Trainer::new(Settings::of(config).unwrap(), DType::F32, &Device::Cpu).unwrap();
    let crops = normal(3, (count, config.data.channels, 48, 48)).unwrap();
    write(folder, &trainer, &crops, config).unwrap();
    let entries = fs::read_dir(folder.join(FOLDER)).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let file = fs::File::open(folder.join(FOLDER).join(positives_name(0))).unwrap();
    let mut reader = png::Decoder::new(std::io::BufReader::new(file)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!((info.width, info.height, info.color_type), (240, 240, png::ColorType::Rgb));
    (names, pixels)
}

/// Pixels of each query's colour.
fn coloured(pixels: &[u8]) -> [usize; 3] {
    COLOURS.map(|c| pixels.chunks(3).filter(|p| *p == c).count())
}

#[test]
fn four_crops_and_what_three_patches_attend_to() {
    let folder = tempfile::tempdir().unwrap();
    let config = small(|_| ());
    let (names, pixels) = written(folder.path(), &config, 6);
    assert_eq!(names.len(), CROPS * 4, "nothing temporary is left: {names:?}");
    assert_eq!(names[..4], ["0-attention-0.png", "0-attention-1.png", "0-attention-2.png", "0-positives.png"]);
    // A patch of 8 is 40 pixels wide here: a frame of 5 for the query; for each of the four positives a
    // ring of 2, those of the second query within those of the first.
    let query = 40 * 40 - 30 * 30;
    let ring = |inset: usize| (40 - 2 * inset).pow(2) - (36 - 2 * inset).pow(2);
    let counts = coloured(&pixels);
    assert_eq!(counts[0], query + 4 * ring(0));
    // The other two queries are neighbours, so rings may lie on frames.
    assert!(counts[1] >= 4 * ring(2) && counts[1] <= query + 4 * ring(2), "{counts:?}");
    assert!(counts[2] >= query + 3 * ring(4) && counts[2] <= query + 4 * ring(4), "{counts:?}");
    // Fewer crops leave nothing of the earlier ones, and the same crops make the same picture.
    let (names, again) = written(folder.path(), &config, 2);
    assert_eq!(names.len(), 2 * 4);
    assert_eq!(coloured(&again)[0], counts[0]);
}

#[test]
fn without_positives_only_queries_are_marked() {
    let query = 40 * 40 - 30 * 30;
    for (i, config) in [small(|c| c.patch_loss.lambda = 0.), small(|c| c.patch_loss.aggregation = Aggregation::None)]
        .iter()
        .enumerate()
    {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(coloured(&written(folder.path(), config, 1).1), [query; 3], "case {i}");
    }
}

#[test]
fn any_number_of_channels_is_shown() {
    for channels in [1, 2, 5] {
        let config = small(|c| {
            c.data.channels = channels;
            (c.data.mean, c.data.std) = (vec![0.5; channels], vec![0.25; channels]);
        });
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(written(folder.path(), &config, 1).0.len(), 4);
    }
}

#[test]
fn an_attention_is_the_mean_of_what_heads_attend_to() {
    let config = small(|_| ());
    let trainer = Trainer::new(Settings::of(&config).unwrap(), DType::F32, &Device::Cpu).unwrap();
    let x = normal(3, (1, 3, 48, 48)).unwrap();
    let vit = &trainer.teacher().backbone;
    let maps = attention(vit, &x, &[7]).unwrap();
    let all = vit.attention(&x).unwrap().squeeze(0).unwrap().to_vec3::<f32>().unwrap();
    let expected: Vec<f32> = (0..36).map(|k| all.iter().map(|h| h[7][k]).sum::<f32>() / all.len() as f32).collect();
    assert!(maps[0].iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6));
    assert!((maps[0].iter().sum::<f32>() - 1.).abs() < 1e-4);
}

#[test]
fn queries_lie_on_the_diagonal() {
    assert_eq!(queries(6, 6), [7, 21, 28]);
    assert_eq!(queries(14, 14), [3 * 15, 7 * 15, 10 * 15]);
    assert_eq!(queries(1, 1), [0]);
    assert_eq!(queries(2, 2), [0, 3]);
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(FOLDER), "").unwrap();
    let config = small(|_| ());
    let trainer = Trainer::new(Settings::of(&config).unwrap(), DType::F32, &Device::Cpu).unwrap();
    let crops = normal(3, (1, 3, 48, 48)).unwrap();
    let error = write(folder.path(), &trainer, &crops, &config).unwrap_err().to_string();
    assert!(error.contains("views") && !error.contains('\n'), "{error}");
}
