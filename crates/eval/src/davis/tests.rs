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

fn judge(videos: &Squares, model: &dyn DenseFeatures, all_masks: bool) -> (Evaluation, Vec<(usize, Option<Mask>)>) {
    let mut done = Vec::new();
    let protocol = Protocol { size: FrameSize::Native, all_masks, ..Protocol::default() };
    let evaluation = evaluate(videos, model, &protocol, &mut |d| {
        assert_eq!((d.sequences, d.frames), (2, videos.frames));
        done.push((d.index * 100 + d.frame, d.mask.cloned()));
        Ok(())
    });
    (evaluation.unwrap(), done)
}

#[test]
fn distinct_objects_are_followed() {
    let videos = Squares { frames: 6, masks: |_| true };
    let (evaluation, done) = judge(&videos, &Corner, false);
    let report = evaluation.report;
    assert_eq!(done.iter().map(|d| d.0).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 100, 101, 102, 103, 104]);
    assert_eq!(report.sequences.len(), 2);
    assert_eq!(report.sequences[0].0, "one");
    assert_eq!(report.sequences[0].1.frames, ["00001", "00002", "00003", "00004"]);
    assert!(evaluation.unscored.is_empty() && evaluation.failures.is_empty());
    // Bilinear enlargement rounds the corners of the squares.
    assert!(report.global.j > 0.85, "{report:?}");
    let copied = first_mask_copied(&videos, Objects::Shown).unwrap().report;
    // The square that stays scores 1, the other one 1/3 on frame 1 and 0 from frame 2 on.
    assert!((copied.global.j - 13.0 / 24.0).abs() < 1e-12, "{copied:?}");
    assert!((copied.global.jd - 1.0 / 12.0).abs() < 1e-12, "{copied:?}");
}

#[test]
fn masks_of_every_frame_can_be_had() {
    let videos = Squares { frames: 6, masks: |_| true };
    let (all, done) = judge(&videos, &Corner, true);
    assert_eq!(done.len(), 12);
    assert_eq!(done[0].1.as_ref().unwrap().ids, Squares::ids(0));
    assert!(done.iter().all(|(_, mask)| mask.as_ref().is_some_and(|m| m.ids.len() == SIDE * SIDE)));
    assert_eq!(all.report, judge(&videos, &Corner, false).0.report);
}

#[test]
fn frames_without_a_mask_are_not_scored() {
    let copied = |videos: &Squares| first_mask_copied(videos, Objects::Shown).unwrap().report;
    let all = copied(&Squares { frames: 6, masks: |_| true });
    assert_eq!(all, copied(&Squares { frames: 8, masks: |f| f < 6 }));
    let sparse = Squares { frames: 7, masks: |f| f % 3 == 0 };
    let global = copied(&sparse).global;
    // Frame 3 alone: the wandering square is gone, the other one stays.
    assert_eq!((global.j, global.jd), (0.5, 0.0));
    let (evaluation, done) = judge(&sparse, &Corner, false);
    assert_eq!(done.len(), 12);
    assert_eq!(evaluation.report.sequences[0].1.frames, ["00003"]);
}

#[test]
fn videos_without_later_masks_are_carried_through_unscored() {
    for videos in [Squares { frames: 5, masks: |f| f == 0 }, Squares { frames: 9, masks: |f| f < 2 }] {
        let (evaluation, done) = judge(&videos, &Corner, true);
        assert_eq!(evaluation.unscored, ["one", "another"]);
        assert!(evaluation.report.sequences.is_empty() && evaluation.report.global.j.is_nan());
        assert_eq!(done.len(), 2 * videos.frames);
    }
}

/// Squares whose ids are 4 and 200, and a third that shows in frame 2 alone.
struct Gaps(Squares);

impl VideoSource for Gaps {
    fn sequences(&self) -> Vec<String> {
        vec!["one".into()]
    }
    fn frames(&self, name: &str) -> Result<usize, selfpatch_datasets::Error> {
        self.0.frames(name)
    }
    fn frame(&self, name: &str, index: usize) -> Result<Rgb, selfpatch_datasets::Error> {
        self.0.frame(name, index)
    }
    fn notes(&self, _: &str) -> Result<Vec<String>, selfpatch_datasets::Error> {
        Ok(vec!["1 file too many".into()])
    }
    fn mask(&self, name: &str, index: usize) -> Result<Option<Mask>, selfpatch_datasets::Error> {
        let mask = self.0.mask(name, index)?;
        Ok(mask.map(|mut mask| {
            mask.ids.iter_mut().for_each(|id| *id = [0, 4, 200][usize::from(*id)]);
            mask.ids[0] = if index == 2 { 7 } else { 0 };
            mask
        }))
    }
}

#[test]
fn ids_with_gaps_count_once_each_and_notes_reach_the_caller() {
    let plain = Squares { frames: 6, masks: |_| true };
    let want = first_mask_copied(&plain, Objects::Shown).unwrap().report.sequences[0].1.clone();
    let videos = Gaps(plain);
    let got = first_mask_copied(&videos, Objects::Shown).unwrap();
    let report = &got.report.sequences[0].1;
    assert_eq!(report.objects.iter().map(|o| o.id).collect::<Vec<_>>(), [4, 200]);
    assert_eq!(report.scores, want.scores);
    let notes: Vec<&str> = got.notes.iter().map(|(_, note)| note.as_str()).collect();
    let expected = [
        "1 file too many",
        "its objects are the ids 4, 200 of the first mask; the official evaluator counts all from 1 to 200",
        "the ids 7 appear after the first frame and are not scored",
    ];
    assert_eq!(notes, expected);
    // The model follows both, and the official count takes the 198 that nobody sees for perfect.
    let protocol = Protocol { size: FrameSize::Native, ..Protocol::default() };
    let carried = evaluate(&videos, &Corner, &protocol, &mut |_| Ok(())).unwrap().report;
    assert!(carried.global.j > 0.85 && carried.sequences[0].1.objects.len() == 2, "{carried:?}");
    let official = first_mask_copied(&videos, Objects::Official).unwrap().report.sequences[0].1.clone();
    assert_eq!(official.objects.len(), 200);
    // Object 7 shows in one of the four scored frames.
    assert_eq!(official.objects[6].scores.j, 0.75);
    let sum = 2.0 * want.scores.j + 197.0 + 0.75;
    assert!((official.scores.j - sum / 200.0).abs() < 1e-12);
}

#[test]
fn videos_that_fail_are_named_and_leave_the_others() {
    for videos in [Squares { frames: 9, masks: |f| f > 0 }, Squares { frames: 0, masks: |_| false }] {
        let (evaluation, _) = judge(&videos, &Corner, false);
        let failed: Vec<&str> = evaluation.failures.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(failed, ["one", "another"]);
        assert!(matches!(&evaluation.failures[0].1, Error::Sequence { sequence, .. } if sequence == "one"));
    }
}

#[test]
fn whoever_watches_can_end_it() {
    let videos = Squares { frames: 4, masks: |_| true };
    let stop = || Err(Error::Model("the disk is full".into()));
    assert!(evaluate(&videos, &Corner, &Protocol::default(), &mut |_| stop()).is_err());
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
    let error = |model| judge(&videos, &Broken(model), false).0.failures[0].1.to_string();
    assert_eq!(error(true), "sequence one, frame 0: the model failed: no weights");
    assert!(error(false).contains("expected 8 x 8, found 3 x 4"), "{}", error(false));
}
