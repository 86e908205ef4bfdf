//! `matching`: neighbour tables, cosine similarities and the choice of positives.

use anyhow::{Context, Result};
use candle_core::Tensor;
use selfpatch_fixture::{Check, Fixture, Report, Tolerance, integers};
use selfpatch_matching::{Border, Neighbours, positives, similarities};

/// Every fixture of this crate.
pub const CHECKS: &[Check] = &[Check::single("matching", selfpatch), Check::manifest("neighbours", neighbours)];

/// The reference's tables (square, torus) and its top-k.
fn selfpatch(f: &Fixture, report: &mut Report) -> Result<()> {
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
fn table(near: &Neighbours) -> Vec<i64> {
    near.table().iter().map(|&i| if i == Neighbours::NONE { -1 } else { i64::from(i) }).collect()
}

/// Tables of several grids, both borders, and the choice on a square grid.
fn neighbours(f: &Fixture, report: &mut Report) -> Result<()> {
    for name in f.under("out.table_") {
        let (grid, reach) = name.split_once("_r").context("tables are named table_RxC_rREACH")?;
        let (rows, cols) = grid.split_once('x').context("tables are named table_RxC_rREACH")?;
        let window = 2 * reach.parse::<usize>()? + 1;
        let got = Neighbours::new(rows.parse()?, cols.parse()?, window, Border::Torus)?;
        report.same("tables", &table(&got), &integers(f.get(&format!("out.table_{name}"))?)?);
    }
    let side = f.int("grid")?;
    for (name, border) in [("wrap", Border::Torus), ("clip", Border::Clipped)] {
        let near = Neighbours::new(side, side, 3, border)?;
        report.same("tables", &table(&near), &integers(f.get(&format!("out.nbr_{name}"))?)?);
        let chosen = positives(f.get("in.x")?, &near, f.int(&format!("k_{name}"))?)?;
        report.same("positives", &integers(&chosen.ids)?, &integers(f.get(&format!("out.ids_{name}"))?)?);
        report.close("cosines", &chosen.similarity, f.get(&format!("out.cos_{name}"))?, Tolerance::OBJECTIVES)?;
    }
    Ok(())
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
