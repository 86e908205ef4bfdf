//! Classification of images by their nearest neighbours.

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use selfpatch_eval::knn::{Embedded, classify, nearest, rank, votes};
use selfpatch_fixture::{Fixture, Report, Tolerance, integers, number};
use serde_json::Value;

/// Tolerance of votes: an error of a few 1e-8 in a cosine of f32, divided by the temperature of 0.07.
const VOTES: Tolerance = Tolerance::Scaled(2e-6);
/// Tolerance of accuracies in percent: exact up to the division.
const PERCENT: f64 = 1e-10;

/// Neighbours, predictions, top-1 and top-5 exactly; votes within 2e-6 of the largest.
pub fn dino(f: &Fixture, report: &mut Report) -> Result<()> {
    let (classes, temperature) = (f.int("num_classes")?, f.number("temperature")?);
    let (train, test) = (embedded(f, "train")?, embedded(f, "test")?);
    let listed = f.config["ks"].as_array().into_iter().flatten().filter_map(Value::as_u64);
    for k in listed.map(|k| k as usize) {
        let near = nearest(&train, &test, k)?;
        let rows: Vec<i64> = near.iter().flatten().map(|n| n.row as i64).collect();
        report.same("nearest neighbours", &rows, &integers(f.get(&format!("k{k}/neighbours"))?)?);

        let votes: Vec<Vec<f64>> = near.iter().map(|n| votes(n, &train.labels, classes, temperature)).collect();
        let all = Tensor::from_vec(votes.concat(), (votes.len(), classes), &Device::Cpu)?;
        for p in ["f32", "f64"] {
            report.close(&format!("votes ({p})"), &all, f.get(&format!("{p}/k{k}/votes"))?, VOTES)?;
        }
        let winner = |votes: &Vec<f64>| (0..classes).find(|&class| rank(votes, class) == 0).map_or(-1, |c| c as i64);
        let predicted: Vec<i64> = votes.iter().map(winner).collect();
        report.same("predictions", &predicted, &integers(f.get(&format!("k{k}/pred"))?)?);

        let want = &f.values[format!("k{k}")];
        for scores in classify(&train, &test, &[k], temperature)? {
            for (name, got) in [("top1", scores.top1), ("top5", scores.top5)] {
                let want = number(want, name)?;
                report.error(&format!("{name} (percent)"), (100. * got - want).abs(), PERCENT);
            }
        }
    }
    Ok(())
}

/// Features that are of length 1 as they are stored.
fn embedded(f: &Fixture, set: &str) -> Result<Embedded> {
    let features = f.cast(&format!("in/{set}"), DType::F32)?;
    let labels = f.cast(&format!("in/{set}_labels"), DType::U32)?.to_vec1()?;
    Ok(Embedded { width: features.dim(1)?, features: features.flatten_all()?.to_vec1()?, labels })
}
