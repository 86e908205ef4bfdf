//! Neighbour tables, cosine similarities and the choice of positives.

use super::fixture::Fixture;
use super::report::{Report, Tolerance};
use anyhow::{Context, Result};
use candle_core::{DType, Tensor};
use selfpatch_matching::{Border, Neighbours, positives, similarities};

/// The reference's tables (square, torus) and its top-k.
pub fn selfpatch(f: &Fixture, report: &mut Report) -> Result<()> {
    for name in f.under("index/n") {
        let (n, window) = name.split_once("_k").context("tables are named nN_kWINDOW")?;
        let side = n.parse::<usize>()?.isqrt();
        let got = Neighbours::new(side, side, window.parse()?, Border::Torus)?;
        report.same("neighbour tables", &table(&got), &integers(f.get(&format!("index/n{name}"))?)?);
    }
    for (dtype, p) in f.precisions() {
        for n in f.under("in/tokens") {
            let tokens = f.cast(&format!("in/tokens{n}"), dtype)?;
            let side = tokens.dim(1)?.isqrt();
            let near = Neighbours::new(side, side, 3, Border::Torus)?;
            if let Some(want) = f.tensors.get(&format!("{p}/sim{n}")) {
                let got = similarities(&tokens, &near)?;
                report.close(&format!("similarities {p}"), &got, want, Tolerance::reference(dtype))?;
            }
            for k in f.under(&format!("topk{n}_k")) {
                let chosen = positives(&tokens, &near, k.parse()?)?;
                let want = integers(f.get(&format!("topk{n}_k{k}"))?)?;
                report.same(&format!("top-k ({p} tokens)"), &places(&chosen.ids, &near)?, &want);
            }
        }
    }
    Ok(())
}

/// A table with -1 where there is no neighbour.
pub fn table(near: &Neighbours) -> Vec<i64> {
    near.table().iter().map(|&i| if i == Neighbours::NONE { -1 } else { i64::from(i) }).collect()
}

/// Elements of an integer tensor.
pub fn integers(t: &Tensor) -> Result<Vec<i64>> {
    Ok(t.flatten_all()?.to_dtype(DType::I64)?.to_vec1()?)
}

/// The reference numbers positives by their place in the table, we by their patch.
fn places(ids: &Tensor, near: &Neighbours) -> Result<Vec<i64>> {
    let (_, n, k) = ids.dims3()?;
    let ids = ids.flatten_all()?.to_vec1::<u32>()?;
    ids.iter()
        .enumerate()
        .map(|(i, id)| {
            let place = near.of(i / k % n).iter().position(|p| p == id);
            Ok(place.context("a positive is not a neighbour")? as i64)
        })
        .collect()
}
