//! Which steps are timed, and in which order: ours and the peer's in turn, the most telling sizes first, and all of them
//! again while there is time.

use super::clock::Clock;
use super::job::{Job, Shape, Speed};
use super::peers::Peers;
use super::report::{GpuReport, Program, Row};
use super::worker::{Answer, Worker};
use super::{options::Tell, table};
use anyhow::Result;
use selfpatch_train::config::Precision;
use std::time::Duration;

/// Time for one job of anything but `torch.compile`.
const MOST: Duration = Duration::from_secs(60);
/// Part of the time left that `torch.compile` may take.
const COMPILING: f64 = 0.5;
/// Least time left with which anything is begun.
const LEAST: Duration = Duration::from_secs(8);
/// Times that everything is measured, if there is time.
const ROUNDS: usize = 3;

/// Steps to time.
fn cells(quick: bool) -> Vec<Speed> {
    let (shapes, batches, warmup, steps, seconds) = match quick {
        true => (vec![Shape::toy()], &[2, 3][..], 1, 2, 1.),
        false => {
            let models = [("vit_small", 384, 6), ("vit_tiny", 192, 3), ("vit_base", 768, 12)];
            let shapes = models.map(|(arch, width, heads)| Shape::vit(arch, width, heads)).to_vec();
            (shapes, &[64, 32, 128, 16][..], 3, 20, 3.)
        }
    };
    let autocast = Precision::Bf16;
    let all = batches.iter().flat_map(|&batch| shapes.iter().map(move |shape| (shape.clone(), batch)));
    all.map(|(shape, batch)| Speed { shape, autocast, batch, warmup, steps, seconds }).collect()
}

/// Measures until everything is measured or the time is up; after each job `save`, and a line to `tell`.
pub fn run(
    quick: bool,
    ours: &mut Worker,
    peers: &mut Peers,
    clock: &Clock,
    report: &mut GpuReport,
    save: &mut dyn FnMut(&mut GpuReport) -> Result<()>,
    tell: Tell,
) -> Result<()> {
    let cells = cells(quick);
    report.speed = cells.iter().map(Row::of).collect();
    report.pytorch = Some(peers.versions(clock).into());
    let without_peer = matches!(report.pytorch, Some(Answer::Failed { .. }));
    save(report)?;
    for (i, program) in order(&cells, quick) {
        if clock.left() < LEAST {
            return Ok(());
        }
        if report.speed[i].fails(program) || without_peer && program != Program::Selfpatch {
            continue;
        }
        let (worker, most) = match program {
            Program::Selfpatch => (&mut *ours, MOST),
            Program::Reference | Program::Tuned => (&mut peers.eager, MOST),
            Program::Compiled => (&mut peers.compiled, clock.share(COMPILING)),
        };
        let most = most.min(clock.left().saturating_sub(LEAST / 2));
        let outcome = worker.ask(&Job::Speed(cells[i].clone()), program.flags(), most);
        report.speed[i].add(program, outcome, report.device.as_ref());
        tell(&table::line(&cells[i], program, &report.speed[i]));
        save(report)?;
    }
    Ok(())
}

/// Cells and programs, one after the other. Compiling takes as long as all the rest, so it is done once, for the first
/// batch of each model, and not at all to try the check.
fn order(cells: &[Speed], quick: bool) -> Vec<(usize, Program)> {
    let first = cells.first().map(|cell| cell.batch).filter(|_| !quick);
    let eager = || (0..cells.len()).flat_map(|i| Program::EAGER.map(|program| (i, program)));
    let compiled =
        cells.iter().enumerate().filter(|(_, cell)| first == Some(cell.batch)).map(|(i, _)| (i, Program::Compiled));
    eager().chain(compiled).chain((1..ROUNDS).flat_map(|_| eager())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headline_comes_first_and_compiling_before_the_second_round() {
        let cells = cells(false);
        let order = order(&cells, false);
        assert_eq!((cells.len(), order.len()), (12, 12 * 3 * 3 + 3));
        assert_eq!(order[..3].to_vec(), Program::EAGER.map(|program| (0, program)).to_vec());
        assert_eq!((cells[0].shape.arch.as_str(), cells[0].batch), ("vit_small", 64));
        assert_eq!(order[36..39].to_vec(), [0, 1, 2].map(|i| (i, Program::Compiled)).to_vec());
    }
}
