//! The protocol on squares that move over a dark ground, described by their mean colours.

use super::*;
use selfpatch_datasets::Rgb;

const SIDE: usize = 32;

/// Two coloured squares, one of which wanders a patch to the right per frame.
struct Squares {
    frames: usize,
    masks: fn(usize) -> bool,
}

impl Squares {
    fn ids(frame: usize) -> Vec<u8> {
        let place = |i: usize| (i % SIDE, i / SIDE);
        let id = |(x, y)| match (x, y) {
            (x, 4..12) if (frame * 4..frame * 4 + 8).contains(&x) => 1,
            (16..24, 20..28) => 2,
            _ => 0,
        };
        (0..SIDE * SIDE).map(|i| id(place(i))).collect()
    }
}

impl VideoSource for Squares {
    fn sequences(&self) -> Vec<String> {
        vec!["one".into(), "another".into()]
    }
    fn frames(&self, _: &str) -> Result<usize, selfpatch_datasets::Error> {
        Ok(self.frames)
    }
    fn frame(&self, _: &str, index: usize) -> Result<Rgb, selfpatch_datasets::Error> {
        let colours = [[20, 20, 20], [250, 30, 30], [30, 30, 250]];
        let pixels = Self::ids(index).into_iter().flat_map(|id| colours[usize::from(id)]).collect();
        Ok(Rgb { width: SIDE, height: SIDE, pixels })
    }
    fn mask(&self, _: &str, index: usize) -> Result<Option<Mask>, selfpatch_datasets::Error> {
        let mask = || Mask { width: SIDE, height: SIDE, ids: Self::ids(index) };
        Ok((self.masks)(index).then(mask))
    }
}

/// Every patch is its top left pixel.
struct Corner;

impl DenseFeatures for Corner {
    fn patch(&self) -> usize {
        4
    }
    fn features(&self, pixels: &[f32], height: usize, width: usize) -> Result<Features, Error> {
        let (grid_h, grid_w) = (height / 4, width / 4);
        let at = |t: usize, c: usize| pixels[c * height * width + t / grid_w * 4 * width + t % grid_w * 4];
        let tokens = (0..grid_h * grid_w).flat_map(|t| [at(t, 0), at(t, 1), at(t, 2)]).collect();
        Ok(Features { tokens, grid_h, grid_w })
    }
}

fn run(videos: &Squares) -> Result<(DavisReport, Vec<usize>), Error> {
    let mut done = Vec::new();
    let settings = Propagation::default();
    let report = evaluate(videos, &Corner, &settings, FrameSize::Native, &mut |p| {
        assert_eq!((p.sequences, p.frames), (2, videos.frames - 1));
        done.push(p.index * 100 + p.frame);
    })?;
    Ok((report, done))
}

#[test]
fn distinct_objects_are_followed() {
    let videos = Squares { frames: 6, masks: |_| true };
    let (report, done) = run(&videos).unwrap();
    assert_eq!(done, [1, 2, 3, 4, 5, 101, 102, 103, 104, 105]);
    assert_eq!(report.sequences.len(), 2);
    assert_eq!(report.sequences[0].0, "one");
    // Bilinear enlargement rounds the corners of the squares.
    assert!(report.global.j > 0.85, "{report:?}");
    let copied = first_mask_copied(&videos).unwrap();
    // The square that stays scores 1, the other one 1/3 on frame 1 and 0 from frame 2 on.
    assert!((copied.global.j - 13.0 / 24.0).abs() < 1e-12, "{copied:?}");
    assert!((copied.global.jd - 1.0 / 12.0).abs() < 1e-12, "{copied:?}");
}

#[test]
fn frames_without_a_mask_are_not_scored() {
    let all = first_mask_copied(&Squares { frames: 6, masks: |_| true }).unwrap();
    let none_last = first_mask_copied(&Squares { frames: 8, masks: |f| f < 6 }).unwrap();
    assert_eq!(all, none_last);
    let sparse = Squares { frames: 7, masks: |f| f % 3 == 0 };
    let copied = first_mask_copied(&sparse).unwrap();
    // Frame 3 alone: the wandering square is gone, the other one stays.
    assert_eq!((copied.global.j, copied.global.jd), (0.5, 0.0));
    assert_eq!(run(&sparse).unwrap().1.len(), 12);
}

#[test]
fn videos_that_cannot_be_scored_are_named() {
    for videos in [
        Squares { frames: 2, masks: |_| true },
        Squares { frames: 9, masks: |f| f < 2 },
        Squares { frames: 9, masks: |f| f > 0 },
        Squares { frames: 0, masks: |_| true },
    ] {
        let error = run(&videos).unwrap_err();
        assert!(matches!(&error, Error::Sequence { sequence, .. } if sequence == "one"), "{error}");
        assert!(first_mask_copied(&videos).is_err());
    }
}

/// A model with the wrong grid, and one that gives up.
struct Broken(bool);

impl DenseFeatures for Broken {
    fn patch(&self) -> usize {
        4
    }
    fn features(&self, _: &[f32], _: usize, _: usize) -> Result<Features, Error> {
        if self.0 {
            return Err(Error::Model("no weights".into()));
        }
        Ok(Features { tokens: vec![1.0; 12], grid_h: 3, grid_w: 4 })
    }
}

#[test]
fn errors_of_the_model_carry_the_frame() {
    let videos = Squares { frames: 4, masks: |_| true };
    let settings = Propagation::default();
    let error =
        |model| evaluate(&videos, &Broken(model), &settings, FrameSize::Native, &mut |_| {}).unwrap_err().to_string();
    assert_eq!(error(true), "sequence one, frame 0: the model failed: no weights");
    assert!(error(false).contains("expected 8 x 8, found 3 x 4"), "{}", error(false));
}
