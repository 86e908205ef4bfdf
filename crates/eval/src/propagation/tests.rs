//! The window and the vote against a brute-force rendering of the definition in `f64`.

use super::*;

/// Reproducible values in -1..1.
fn noise(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// The whole affinity matrix in `f64`, masked afterwards. Labels are `[C, area]` planes.
fn brute(settings: &Propagation, (h, w): (usize, usize), context: &[(Vec<f32>, Vec<f64>)], target: &[f32]) -> Vec<f64> {
    let area = h * w;
    let dim = target.len() / area;
    let classes = context[0].1.len() / area;
    let cosine = |a: &[f32], b: &[f32]| {
        let dot = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum() };
        dot(a, b) / dot(a, a).sqrt().max(1e-12) / dot(b, b).sqrt().max(1e-12)
    };
    let mut soft = vec![0.0; classes * area];
    for t in 0..area {
        let mut keys = Vec::new();
        for (features, labels) in context {
            for s in 0..area {
                let near = |a: usize, b: usize| a.abs_diff(b) <= settings.neighbourhood;
                if settings.neighbourhood == 0 || near(s / w, t / w) && near(s % w, t % w) {
                    let cos = cosine(&features[s * dim..(s + 1) * dim], &target[t * dim..(t + 1) * dim]);
                    keys.push(((cos / f64::from(settings.temperature)).exp(), labels, s));
                }
            }
        }
        let mut ranked: Vec<f64> = keys.iter().map(|k| k.0).collect();
        ranked.sort_by(|a, b| b.total_cmp(a));
        let kth = ranked[settings.top_k.min(ranked.len()) - 1];
        keys.retain(|k| k.0 >= kth);
        let sum: f64 = keys.iter().map(|k| k.0).sum();
        for (affinity, labels, s) in keys {
            for c in 0..classes {
                soft[c * area + t] += affinity / sum * labels[c * area + s];
            }
        }
    }
    soft
}

#[test]
fn the_window_agrees_with_brute_force() {
    for (case, (h, w, radius, top_k, last)) in
        [(5, 7, 2, 5, 3), (1, 19, 3, 4, 2), (6, 1, 1, 2, 1), (3, 18, 0, 7, 2), (4, 5, 9, 3, 0), (2, 2, 1, 50, 2)]
            .into_iter()
            .enumerate()
    {
        let settings = Propagation { n_last_frames: last, neighbourhood: radius, top_k, ..Propagation::default() };
        let (area, dim, classes) = (h * w, 11, 3);
        let frame = |f: u32| noise(area * dim, case as u32 * 100 + f);
        let mask: Vec<f32> =
            (0..classes * area).map(|i| f32::from(u8::from(i / area == i % area * 7 % classes))).collect();
        let first = frame(0);
        let mut fast = Propagator::new(&settings, h, w, &first, &mask).unwrap();
        let mut frames = vec![(first, mask.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>())];
        for f in 1..6 {
            let features = frame(f);
            let soft = fast.step(&features).unwrap();
            let mut context = vec![frames[0].clone()];
            context.extend(frames[1..].iter().rev().take(last).rev().cloned());
            let expected = brute(&settings, (h, w), &context, &features);
            for (got, want) in soft.iter().zip(&expected) {
                // f32 affinities: cosines of about 1e-7 error, times 10 in the exponent
                assert!((f64::from(*got) - want).abs() < 5e-6, "{h}x{w} r{radius}: {got} {want}");
            }
            frames.push((features, expected));
        }
    }
}

#[test]
fn everything_equal_to_the_kth_votes() {
    // Tokens 1, 2 and 3 of the first frame are the same; with top_k 2 all three vote on token 1.
    let same = [0.3, -0.7, 0.2];
    let first = [[1.0, 0.0, 0.0], same, same, same].concat();
    let mask = [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0];
    let settings = Propagation { top_k: 2, neighbourhood: 0, ..Propagation::default() };
    let mut labels = Propagator::new(&settings, 2, 2, &first, &mask).unwrap();
    let soft = labels.step(&first).unwrap();
    assert!((soft[1] - 1.0 / 3.0).abs() < 1e-6 && (soft[5] - 2.0 / 3.0).abs() < 1e-6, "{soft:?}");
}

#[test]
fn old_frames_are_forgotten() {
    let settings = Propagation { n_last_frames: 2, ..Propagation::default() };
    let mut labels = Propagator::new(&settings, 2, 3, &noise(24, 1), &[1.0; 6]).unwrap();
    for f in 0..5 {
        let soft = labels.step(&noise(24, f)).unwrap();
        assert!(soft.iter().all(|x| (x - 1.0).abs() < 1e-6)); // a sum of f32 shares
        assert!(labels.last.len() <= 2);
    }
}

#[test]
fn unusable_input_is_refused() {
    let features = noise(24, 1);
    let new = |settings, features: &[f32], mask: &[f32]| Propagator::new(&settings, 2, 3, features, mask);
    let default = Propagation::default();
    assert!(new(Propagation { top_k: 0, ..default }, &features, &[1.0; 6]).is_err());
    for temperature in [0.0, -1.0, f32::NAN, f32::INFINITY, 0.01] {
        assert!(new(Propagation { temperature, ..default }, &features, &[1.0; 6]).is_err());
    }
    assert!(new(default, &features[1..], &[1.0; 6]).is_err());
    assert!(new(default, &features, &[1.0; 5]).is_err());
    assert!(Propagator::new(&default, 0, 3, &[], &[]).is_err());
    let mut labels = new(default, &features, &[1.0; 6]).unwrap();
    assert!(labels.step(&noise(30, 1)).is_err());
    let mut broken = features.clone();
    broken[9] = f32::NAN;
    assert!(matches!(labels.step(&broken), Err(Error::NotFinite { token: 2 })));
    // A dead (zero) token is similar to all alike, and votes stay finite.
    assert!(labels.step(&[0.0; 24]).unwrap().iter().all(|x| x.is_finite()));
}
