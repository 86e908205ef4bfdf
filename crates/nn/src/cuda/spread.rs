//! Numbers that many rows share, without sending one per row: the driver lets the host wait for everything
//! before it copies more than a few pages of ordinary memory.

use super::launch::{Arg, Grid, Module, launch};
use super::tensors::uninitialised;
use crate::cuda_module;
use candle_core::{DType, Device, Result, Tensor};

const MODULE: Module = cuda_module!("spread");

/// Each value repeated as often as its run says, one run after the other: `[n]` f32.
pub(crate) fn spread(runs: impl IntoIterator<Item = (usize, f32)>, device: &Device) -> Result<Tensor> {
    let (mut starts, mut values, mut n) = (Vec::<u32>::new(), Vec::<f32>::new(), 0);
    for (length, value) in runs.into_iter().filter(|run| run.0 > 0) {
        if values.last().map(|v| v.to_bits()) != Some(value.to_bits()) {
            starts.push(n as u32);
            values.push(value);
        }
        n += length;
    }
    let out = uninitialised(n, DType::F32, device)?;
    if n > 0 {
        let count = values.len();
        let (starts, values) = (Tensor::new(starts, device)?, Tensor::new(values, device)?);
        let args = [Arg::Tensor(&starts), Arg::Tensor(&values), Arg::Tensor(&out), Arg::Int(count), Arg::Long(n)];
        // SAFETY: the arguments of sp_spread.
        unsafe { launch(device, MODULE, "sp_spread", Grid::for_each(n), &args)? };
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_lie_one_after_the_other() -> Result<()> {
        let Some(device) = crate::testing::cuda() else { return Ok(()) };
        let runs = [(3, 1.), (0, 7.), (300, 0.5), (2, 0.5), (1, -2.)];
        let want: Vec<f32> = runs.iter().flat_map(|&(n, v)| std::iter::repeat_n(v, n)).collect();
        assert_eq!(spread(runs, &device)?.to_vec1::<f32>()?, want);
        assert_eq!(spread([], &device)?.dims(), [0]);
        Ok(())
    }
}
