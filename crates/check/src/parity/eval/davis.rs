//! The evaluation on videos: labels carried along, frames and masks read, J and F.

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use selfpatch_datasets::{Mask, Rgb, decode_mask};
use selfpatch_eval::frames::{first_mask, normalise};
use selfpatch_eval::labels::{decide, stretch};
use selfpatch_eval::metrics::{
    Region, SequenceTally, boundary_f, boundary_radius, dilated, outline, region_similarity, statistics,
};
use selfpatch_eval::resize::{bilinear_up, cv_linear};
use selfpatch_eval::{DavisReport, FrameSize, Propagation, Propagator, Scores, SequenceReport};
use selfpatch_fixture::{Fixture, Report, Tolerance, integer, integers, number};
use serde_json::Value;

/// Tolerance of soft masks, which are shares of 1.
const SOFT: Tolerance = Tolerance::Absolute(1e-6);
/// Tolerance of scores.
const SCORE: f64 = 1e-12;
/// Side of a patch in the reference's evaluation.
const PATCH: usize = 16;

/// Labels through a video made of stored features: soft masks within 1e-6, decided pixels exactly.
pub fn propagation(f: &Fixture, report: &mut Report) -> Result<()> {
    let (h, w, patch) = (f.int("h")?, f.int("w")?, f.int("patch_size")?);
    let (height, width) = (f.int("original_height")?, f.int("original_width")?);
    let features = f.cast("in/features", DType::F32)?.flatten_from(1)?.to_vec2::<f32>()?;
    let (start, later) = features.split_first().context("the fixture has no frames")?;
    let first = first_mask(&mask(f.get("in/first_label_full")?)?, h, w)?;
    report.close("first mask on the grid", &tensor(&first)?, f.get("first_seg")?, Tolerance::Absolute(0.))?;

    for (run, settings) in f.config["runs"].as_array().into_iter().flatten().enumerate() {
        let settings = Propagation {
            n_last_frames: integer(settings, "n_last_frames")?,
            neighbourhood: integer(settings, "size_mask_neighborhood")?,
            top_k: integer(settings, "topk")?,
            ..Propagation::default()
        };
        let mut labels = Propagator::new(&settings, h, w, start, &first)?;
        let soft = later.iter().map(|features| labels.step(features)).collect::<Result<Vec<_>, _>>()?;
        for p in ["f32", "f64"] {
            if let Some(want) = f.tensors.get(&format!("{p}/run{run}/soft")) {
                report.close(&format!("soft masks ({p})"), &tensor(&soft.concat())?, want, SOFT)?;
            }
        }
        let listed = f.values[format!("run{run}_label_frames")].as_array().map(Vec::as_slice).unwrap_or_default();
        for (row, frame) in listed.iter().enumerate() {
            // Frame 0 is the annotation itself, which nobody decides.
            let Some(soft) = frame.as_u64().and_then(|frame| soft.get((frame as usize).checked_sub(1)?)) else {
                continue;
            };
            let got = decide(soft, h, w, patch, width, height)?;
            let want = f.get(&format!("run{run}/labels"))?.get(row)?;
            report.same("decided pixels", &ids(&got.ids), &integers(&want)?);
        }
        if run == 1 && f.tensors.contains_key("detail/norm_mask_stride8") {
            let soft = soft.get(DETAIL_FRAME - 1).context("the fixture has too few frames")?;
            detail(f, report, soft, (h, w, patch))?;
        }
    }
    window(f, report)?;
    ties(f, report)
}

/// Frame of the second run whose way from soft mask to ids is stored.
const DETAIL_FRAME: usize = 4;

/// A soft mask `[C, h, w]` on its way: the highest value of each enlarged class, and the classes stretched.
fn detail(f: &Fixture, report: &mut Report, soft: &[f32], (h, w, patch): (usize, usize, usize)) -> Result<()> {
    let mut wide = bilinear_up(soft, h, w, patch)?;
    let (height, width) = (h * patch, w * patch);
    let classes = wide.chunks_exact_mut(height * width);
    let highest: Vec<f32> = classes.map(|class| class.iter().copied().fold(f32::NEG_INFINITY, f32::max)).collect();
    report.close("enlarged, highest", &tensor(&highest)?, f.get("detail/upsampled_max_per_class")?, SOFT)?;
    wide.chunks_exact_mut(height * width).for_each(stretch);
    let want = f.get("detail/norm_mask_stride8")?;
    let stride = height / want.dim(1)?;
    let rows = wide.chunks_exact(width).step_by(stride); // planes have a multiple of `stride` rows
    let thinned: Vec<f32> = rows.flat_map(|row| row.iter().copied().step_by(stride)).collect();
    report.close("enlarged and stretched", &tensor(&thinned)?, want, SOFT)
}

/// Which tokens vote on which. Among tokens that are all alike everyone in the window has the same vote, so
/// one class per token shows the window.
fn window(f: &Fixture, report: &mut Report) -> Result<()> {
    let (h, w, radius) = (5, 7, 2);
    let n = h * w;
    let alike = vec![1_f32; n];
    let own_class: Vec<f32> = (0..n * n).map(|i| f32::from(u8::from(i / n == i % n))).collect();
    let settings = Propagation { neighbourhood: radius, top_k: 1, ..Propagation::default() };
    let soft = Propagator::new(&settings, h, w, &alike, &own_class)?.step(&alike)?;
    let votes: Vec<i64> = soft.iter().map(|&share| i64::from(share > 0.)).collect();
    report.same("window", &votes, &integers(f.get("neighborhood_5x7_r2")?)?);
    Ok(())
}

/// Three tokens are equally near, two may vote: all three do.
fn ties(f: &Fixture, report: &mut Report) -> Result<()> {
    let want = f.get("f32/tie/out")?;
    let (_, _, h, w) = want.dims4()?;
    let values = |name: &str| -> Result<Vec<f32>> { Ok(f.get(name)?.flatten_all()?.to_vec1()?) };
    let settings = Propagation { neighbourhood: 0, top_k: 2, ..Propagation::default() };
    let soft =
        Propagator::new(&settings, h, w, &values("tie/source")?, &values("tie/seg")?)?.step(&values("tie/target")?)?;
    report.close("ties all vote", &tensor(&soft)?, want, SOFT)
}

/// Frames as OpenCV resizes them (every byte), normalised, and masks on the grid of tokens. The reference's
/// square frames are passed over: it gives the frame 448 x 480 pixels, but the mask the grid of 480 x 448, and
/// then fails; here a square stays one.
pub fn frames(f: &Fixture, report: &mut Report) -> Result<()> {
    for name in f.tensors.keys().filter_map(|name| name.strip_suffix("/resized_rgb")) {
        let want = f.get(&format!("{name}/resized_rgb"))?;
        let (height, width, _) = want.dims3()?;
        if let Some(frame) = f.tensors.get(&format!("{name}/in_rgb")) {
            let frame = rgb(frame)?;
            let (w, h) = FrameSize::ShortSide(height.min(width)).of(frame.width, frame.height, PATCH)?;
            report.same("size of a frame", &[w as i64, h as i64], &[width as i64, height as i64]);
            let got = cv_linear(&frame, width, height)?;
            report.same("resized (bytes)", &ids(&got.pixels), &integers(want)?);
        }
        if let Some(normalised) = f.tensors.get(&format!("{name}/tensor")) {
            let got = tensor(&normalise(&rgb(want)?))?;
            report.close("normalised", &got, normalised, Tolerance::reference(DType::F32))?;
        }
    }
    let size = FrameSize::ShortSide(480);
    for row in f.get("sizes_480")?.to_vec2::<i64>()? {
        let [height, width, ref want @ ..] = row[..] else { bail!("sizes_480 needs six columns") };
        if height == width {
            continue;
        }
        let (w, h) = size.of(usize::try_from(width)?, usize::try_from(height)?, PATCH)?;
        report.same("sizes of frame and grid", &[h, w, h / PATCH, w / PATCH].map(|x| x as i64), want);
    }
    for name in f.tensors.keys().filter_map(|name| name.strip_suffix("/onehot")) {
        let annotation = mask(f.get(&format!("{name}/in"))?)?;
        let (w, h) = size.of(annotation.width, annotation.height, PATCH)?;
        let got: Vec<i64> = first_mask(&annotation, h / PATCH, w / PATCH)?.iter().map(|&x| x as i64).collect();
        report.same("first mask on the grid", &got, &integers(f.get(&format!("{name}/onehot"))?)?);
    }
    let vanishing = &f.values["vanishing_object_channels"];
    let labels = integer(vanishing, "labels_in_annotation")?;
    let channels = first_mask(&vanishing_object(labels), 30, 52)?.len() / (30 * 52);
    report.same("a vanishing object", &[channels as i64], &[integer(vanishing, "channels_from_read_seg")? as i64]);
    Ok(())
}

/// An annotation of 854 x 480 with this many labels, background included, whose last is one pixel between
/// the samples of the grid.
fn vanishing_object(labels: usize) -> Mask {
    let (width, height) = (854, 480);
    let mut ids = vec![0; width * height];
    let objects = labels.saturating_sub(1) as u8;
    for id in 1..objects {
        let left = usize::from(id) * 100;
        (100..200).for_each(|y| ids[y * width + left..y * width + left + 100].fill(id));
    }
    ids[0] = objects;
    Mask { width, height, ids }
}

/// J, F, their statistics and the pieces of F within 1e-12; what is counted in pixels exactly. Where the
/// reference has no decay, from 256 frames on (it keeps indices of frames in 8 bits), mean and recall are
/// compared. Without the masks beside the fixture, the statistics of its J and F still are.
pub fn metrics(f: &Fixture, report: &mut Report) -> Result<()> {
    videos(f, report)?;
    for name in f.under("stats/values") {
        let got = statistics(&f.get(&format!("stats/values{name}"))?.to_vec1()?);
        let want = f.get(&format!("stats/mean_recall_decay{name}"))?.to_vec1::<f64>()?;
        let compared = if name.parse().is_ok_and(|frames: usize| frames >= 256) { 2 } else { 3 };
        for (got, want) in [got.mean, got.recall, got.decay].iter().zip(&want).take(compared) {
            score(report, "statistics of values", *got, *want);
        }
    }
    for (size, want) in f.values["bound_pix"].as_object().into_iter().flatten() {
        let (height, width) = size.split_once('x').context("sizes are named HEIGHTxWIDTH")?;
        let got = boundary_radius(width.parse()?, height.parse()?);
        score(report, "radius of the boundary", got as f64, want.as_f64().context("a radius is a number")?);
    }
    for name in f.under("piece/disk") {
        let radius: usize = name.parse()?;
        let side = 2 * radius + 1;
        let middle = (0..side * side).map(|i| i == side * radius + radius).collect();
        let disk = dilated(&Region::new(side, side, middle)?, radius);
        report.same("disks", &pixels(&disk), &integers(f.get(&format!("piece/disk{name}"))?)?);
    }
    edge_cases(f, report)
}

/// The seven numbers over all objects as the fixture calls them, in the order of [`numbers`].
const GLOBAL: [&str; 7] = ["J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay"];
/// Statistics of one object, without their common mean.
const OBJECT: [&str; 6] = ["J_mean", "J_recall", "J_decay", "F_mean", "F_recall", "F_decay"];

fn numbers(s: Scores) -> [f64; 7] {
    [s.jf, s.j, s.jr, s.jd, s.f, s.fr, s.fd]
}

/// Every annotated video against its result, or, where the masks are absent, the stored J and F.
fn videos(f: &Fixture, report: &mut Report) -> Result<()> {
    let masks = f.folder.join("davis_masks");
    let mut all = Vec::new();
    for (name, frames) in f.config["sequences"].as_object().into_iter().flatten() {
        let frames: Vec<&str> = frames.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let scored = frames.get(1..frames.len().saturating_sub(1)).unwrap_or_default();
        let stored = [f.get(&format!("{name}/J"))?.to_vec2::<f64>()?, f.get(&format!("{name}/F"))?.to_vec2::<f64>()?];
        let ids: Vec<u8> = (1..=u8::MAX).take(stored[0].len()).collect();
        let values: Vec<Vec<(f64, f64)>> = if masks.is_dir() {
            let mask = |kind: &str, frame: &str| decode_mask(masks.join(kind).join(name).join(format!("{frame}.png")));
            let mut tally = SequenceTally::new(ids.clone());
            for frame in scored {
                tally.push(&mask("annotation", frame)?, &mask("result", frame)?)?;
            }
            let of = |part: fn(&(f64, f64)) -> f64| tally.values().iter().flatten().map(part).collect::<Vec<_>>();
            for (check, got, want) in
                [("J per frame", of(|v| v.0), &stored[0]), ("F per frame", of(|v| v.1), &stored[1])]
            {
                let (got, want) = (Tensor::new(got, &Device::Cpu)?, Tensor::new(want.concat(), &Device::Cpu)?);
                report.close(check, &got, &want, Tolerance::Absolute(SCORE))?;
            }
            tally.values().to_vec()
        } else {
            let pairs = |(j, f): (&Vec<f64>, &Vec<f64>)| j.iter().copied().zip(f.iter().copied()).collect();
            stored[0].iter().zip(&stored[1]).map(pairs).collect()
        };
        let scored = scored.iter().map(|s| (*s).to_owned()).collect();
        all.push((name.clone(), SequenceReport::of(scored, &ids, &values)));
    }
    for (name, sequence) in &all {
        for (id, object) in (1..).zip(&sequence.objects) {
            let want = &f.values["per_object"][format!("{name}_{id}")];
            let got = numbers(object.scores);
            for (name, got) in OBJECT.into_iter().zip(&got[1..]) {
                score(report, "statistics per object", *got, number(want, name)?);
            }
        }
    }
    for (name, got) in GLOBAL.into_iter().zip(numbers(DavisReport::of(all).global)) {
        score(report, "over all objects", got, number(&f.values["global"], name)?);
    }
    if let Some(want) = f.tensors.get("piece/boundary_obj1").filter(|_| masks.is_dir()) {
        let annotation = decode_mask(masks.join("annotation/bike-packing/00005.png"))?;
        report.same("outline (pixels)", &pixels(&outline(&Region::of(&annotation, 1)?)), &integers(want)?);
    }
    Ok(())
}

/// Regions that are empty, full, at the border or alone.
fn edge_cases(f: &Fixture, report: &mut Report) -> Result<()> {
    let (height, width) = (20, 30);
    let region = |inside: fn(usize, usize) -> bool| {
        Region::new(width, height, (0..height * width).map(|i| inside(i / width, i % width)).collect())
    };
    let (empty, full) = (region(|_, _| false)?, region(|_, _| true)?);
    let part = region(|y, x| (5..10).contains(&y) && (5..10).contains(&x))?;
    let (left, corner) = (region(|_, x| x < 3)?, region(|y, x| y >= 12 && x >= 20)?);
    for (name, want) in f.values["edge_cases_annotation_result_20x30"].as_object().into_iter().flatten() {
        let (truth, guess) = match name.as_str() {
            "empty_empty" => (&empty, &empty),
            "gt_only" => (&part, &empty),
            "res_only" => (&empty, &part),
            "border" => (&left, &corner),
            "same" => (&part, &part),
            "full_vs_full" => (&full, &full),
            "full_vs_part" => (&full, &part),
            other => bail!("there is no edge case {other}"),
        };
        score(report, "edge cases", region_similarity(truth, guess)?, number(want, "J")?);
        score(report, "edge cases", boundary_f(truth, guess)?, number(want, "F")?);
    }
    Ok(())
}

fn score(report: &mut Report, check: &str, got: f64, want: f64) {
    report.error(check, (got - want).abs(), SCORE);
}

fn tensor(values: &[f32]) -> Result<Tensor> {
    Ok(Tensor::new(values, &Device::Cpu)?)
}

/// An id map `[H, W]`.
fn mask(t: &Tensor) -> Result<Mask> {
    let (height, width) = t.dims2()?;
    Ok(Mask { width, height, ids: t.flatten_all()?.to_vec1()? })
}

/// A frame `[H, W, 3]`.
fn rgb(t: &Tensor) -> Result<Rgb> {
    let (height, width, _) = t.dims3()?;
    Ok(Rgb { width, height, pixels: t.flatten_all()?.to_vec1()? })
}

fn ids(bytes: &[u8]) -> Vec<i64> {
    bytes.iter().copied().map(i64::from).collect()
}

fn pixels(region: &Region) -> Vec<i64> {
    region.inside().iter().copied().map(i64::from).collect()
}
