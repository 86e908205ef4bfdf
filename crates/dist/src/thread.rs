//! Processes that are threads: for tests of what runs on many machines.

use crate::Communicator;
use candle_core::{Result, Tensor, bail};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// One of several threads that train together.
pub struct Thread {
    rank: usize,
    world: usize,
    shared: Arc<Shared>,
}

struct Shared {
    round: Mutex<Round>,
    changed: Condvar,
}

/// One exchange: all say something, then all read what was said.
struct Round {
    /// What each rank has said in this round.
    said: Vec<Option<Said>>,
    /// How many ranks have read what was said.
    read: usize,
    /// A rank that will say nothing more.
    gone: Option<usize>,
}

/// What one rank says in one call.
#[derive(Clone, Debug, PartialEq)]
enum Said {
    /// Parts to be summed.
    Parts(Vec<Vec<f32>>),
    /// Rows to be gathered.
    Rows { width: usize, values: Vec<f32> },
    /// A flag to be raised.
    Flag(bool),
}

/// Communicators of `world` threads, by rank. A thread that drops its communicator, by a panic too, fails the calls
/// that wait for it.
pub fn threads(world: usize) -> Vec<Thread> {
    let round = Round { said: vec![None; world], read: 0, gone: None };
    let shared = Arc::new(Shared { round: Mutex::new(round), changed: Condvar::new() });
    (0..world).map(|rank| Thread { rank, world, shared: Arc::clone(&shared) }).collect()
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Round> {
        self.round.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `holds` is true of the round; an error if a rank is gone before that.
    fn when<'a>(
        &self,
        mut round: MutexGuard<'a, Round>,
        holds: impl Fn(&Round) -> bool,
    ) -> Result<MutexGuard<'a, Round>> {
        while !holds(&round) {
            if let Some(rank) = round.gone {
                bail!("rank {rank} is gone")
            }
            round = self.changed.wait(round).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(round)
    }
}

impl Thread {
    /// What all threads say, by rank.
    fn exchange(&self, said: Said) -> Result<Vec<Said>> {
        let shared = &self.shared;
        // What this rank said last stands until all have read it.
        let mut round = shared.when(shared.lock(), |round| round.said[self.rank].is_none())?;
        round.said[self.rank] = Some(said);
        shared.changed.notify_all();
        let mut round = shared.when(round, |round| round.said.iter().all(Option::is_some))?;
        let all = round.said.iter().flatten().cloned().collect();
        round.read += 1;
        if round.read == self.world {
            round.read = 0;
            round.said.fill(None);
            shared.changed.notify_all();
        }
        Ok(all)
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.shared.lock().gone = Some(self.rank);
        self.shared.changed.notify_all();
    }
}

impl Communicator for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.world
    }

    fn sum(&self, parts: &mut [&mut [f32]]) -> Result<()> {
        let all = self.exchange(Said::Parts(parts.iter().map(|part| part.to_vec()).collect()))?;
        let mut sums: Vec<Vec<f32>> = parts.iter().map(|part| vec![0.; part.len()]).collect();
        let lengths = |parts: &[Vec<f32>]| parts.iter().map(Vec::len).collect::<Vec<_>>();
        for (rank, said) in all.iter().enumerate() {
            let Said::Parts(said) = said else { return self.other_call(rank) };
            if lengths(said) != lengths(&sums) {
                let (own, other) = (lengths(&sums), lengths(said));
                bail!("rank {} sums parts of {own:?} numbers, rank {rank} of {other:?}", self.rank)
            }
            let values = said.iter().flatten();
            sums.iter_mut().flatten().zip(values).for_each(|(sum, value)| *sum += value);
        }
        parts.iter_mut().zip(&sums).for_each(|(part, sum)| part.copy_from_slice(sum));
        Ok(())
    }

    fn gather(&self, rows: &Tensor) -> Result<Tensor> {
        let (_, own) = rows.dims2()?;
        let all = self.exchange(Said::Rows { width: own, values: rows.flatten_all()?.to_vec1()? })?;
        let mut gathered = Vec::new();
        for (rank, said) in all.into_iter().enumerate() {
            let Said::Rows { width, values } = said else { return self.other_call(rank) };
            if width != own {
                bail!("rank {} gathers rows of width {own}, rank {rank} of {width}", self.rank)
            }
            gathered.extend(values);
        }
        Tensor::from_vec(gathered, ((), own), rows.device())
    }

    fn any(&self, flag: bool) -> Result<bool> {
        let mut raised = false;
        for (rank, said) in self.exchange(Said::Flag(flag))?.into_iter().enumerate() {
            let Said::Flag(flag) = said else { return self.other_call(rank) };
            raised |= flag;
        }
        Ok(raised)
    }
}

impl Thread {
    fn other_call<T>(&self, rank: usize) -> Result<T> {
        bail!(
            "rank {rank} makes another call than rank {}: all ranks must make the same calls in the same order",
            self.rank
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Alone;
    use candle_core::{DType, Device};

    /// What each of some communicators gives, by rank.
    fn each<C: Communicator, T: Send>(all: Vec<C>, run: impl Fn(&C) -> Result<T> + Sync) -> Result<Vec<T>> {
        std::thread::scope(|scope| {
            let run = &run;
            let all: Vec<_> = all.into_iter().map(|one| scope.spawn(move || run(&one))).collect();
            all.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        })
    }

    #[test]
    fn ranks_hear_each_other_and_a_process_alone_itself() -> Result<()> {
        let said = |c: &dyn Communicator| {
            let rank = c.rank() as f32;
            let (mut a, mut b) = ([rank, 10. * rank], [1f32]);
            c.sum(&mut [&mut a, &mut b])?;
            let rows = c.gather(&Tensor::new(&[[rank, rank + 0.5]], &Device::Cpu)?)?.to_vec2::<f32>()?;
            Ok((a, b, rows, c.any(rank == 1.)?, c.any(false)?))
        };
        let two = each(threads(2), |c| said(c))?;
        assert!(two.iter().all(|one| *one == ([1., 10.], [2.], vec![vec![0., 0.5], vec![1., 1.5]], true, false)));
        assert_eq!(each(vec![Alone], |c| said(c))?, [([0., 0.], [1.], vec![vec![0., 0.5]], false, false)]);
        Ok(())
    }

    #[test]
    fn sums_do_not_depend_on_who_comes_first() -> Result<()> {
        let values = [1e8f32, 1., -1e8, 0.5];
        let sums = || {
            each(threads(4), |c| {
                let mut part = [values[c.rank()]];
                std::thread::sleep(std::time::Duration::from_millis(3 * (4 - c.rank() as u64)));
                c.sum(&mut [&mut part])?;
                Ok(part[0])
            })
        };
        let want = values.iter().fold(0., |sum, v| sum + v);
        assert_eq!((sums()?, sums()?), (vec![want; 4], vec![want; 4]));
        Ok(())
    }

    /// An error without the backtrace that candle may add.
    fn line(error: &candle_core::Error) -> String {
        error.to_string().lines().next().unwrap_or_default().to_string()
    }

    /// The errors of two ranks that make the calls of `run`.
    fn errors<T: Send>(run: impl Fn(&Thread) -> Result<T> + Sync) -> Vec<String> {
        let told = each(threads(2), |c| Ok(run(c).err().map_or("none".to_string(), |e| line(&e))));
        told.expect("errors are told, not returned")
    }

    #[test]
    fn calls_that_differ_between_ranks_are_refused() {
        let lengths = errors(|c| c.sum(&mut [&mut vec![0.; 1 + c.rank()], &mut vec![0.; 2 - c.rank()]]));
        assert_eq!(lengths[0], "rank 0 sums parts of [1, 2] numbers, rank 1 of [2, 1]");
        assert_eq!(lengths[1], "rank 1 sums parts of [2, 1] numbers, rank 0 of [1, 2]");
        let widths = errors(|c| c.gather(&Tensor::zeros((3 - c.rank(), 2 + c.rank()), DType::F32, &Device::Cpu)?));
        assert_eq!(widths[0], "rank 0 gathers rows of width 2, rank 1 of 3");
        let calls = errors(|c| match c.rank() {
            0 => c.any(true),
            _ => c.sum(&mut [&mut [1.]]).map(|()| true),
        });
        assert!(calls.iter().all(|error| error.contains("all ranks must make the same calls")), "{calls:?}");
    }

    /// Ranks may have different numbers of rows.
    #[test]
    fn rows_are_gathered_by_rank() -> Result<()> {
        let all = each(threads(3), |c| {
            let rows = Tensor::full(c.rank() as f32, (c.rank(), 2), &Device::Cpu)?;
            c.gather(&rows)?.to_vec2::<f32>()
        })?;
        assert_eq!(all, vec![vec![vec![1., 1.], vec![2., 2.], vec![2., 2.]]; 3]);
        Ok(())
    }

    /// Many calls one after the other do not mix, and a rank that leaves fails those that wait for it.
    #[test]
    fn whoever_waits_for_a_rank_that_is_gone_is_told() -> Result<()> {
        let ends = std::thread::scope(|scope| {
            let run = |c: Thread| {
                scope.spawn(move || {
                    let calls = if c.rank() == 1 { 200 } else { 201 };
                    for call in 0..calls {
                        let mut part = [call as f32];
                        if let Err(error) = c.sum(&mut [&mut part]) {
                            return (call, line(&error));
                        }
                        assert_eq!(part, [3. * call as f32]);
                    }
                    (calls, "none".to_string())
                })
            };
            let all: Vec<_> = threads(3).into_iter().map(run).collect();
            all.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
        });
        assert!(ends[0].0 == 200 && ends[0].1.ends_with("is gone"), "{ends:?}");
        assert_eq!(ends[1], (200, "none".into()));
        assert!(ends[2].0 == 200 && ends[2].1.ends_with("is gone"), "{ends:?}");
        Ok(())
    }
}
