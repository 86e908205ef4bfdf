//! Launching the kernels of `class_attention.cu`.

use crate::cuda::{Arg, Grid, Module, aligned, launch, suffix, uninitialised};
use crate::cuda_module;
use crate::ops::attention::cuda::Packed;
use candle_core::{DType, Device, Result, Tensor, bail};

const MODULE: Module = cuda_module!("class_attention");
/// Warps of a block, each with one query and head.
const WARPS: usize = 4;

/// What the queries read beside themselves.
pub(in crate::ops) enum Context<'a> {
    /// The tokens of their sequence.
    Sequences(&'a Packed),
    /// The tokens of these rows, `[count, k]` u32, where `valid` (the same shape, f32) is not 0.
    Rows(&'a Tensor, Option<&'a Tensor>),
}

/// What the backward pass needs of [`Projected::read`].
pub(in crate::ops) struct Trace {
    /// What the queries read, before rounding and without the bias of the values, `[count, D]` f32.
    mean: Tensor,
    /// Logarithms of the sums of exponentials, `[count, heads]`.
    lse: Tensor,
}

/// Queries, keys and values of one block, without the biases of their projections. No result depends on the
/// bias of the keys.
#[derive(Clone)]
pub(in crate::ops) struct Projected {
    /// Query, key and value of each query's own row, `[count, 3 D]`; or one row for all queries.
    pub own: Tensor,
    /// Keys and values of all tokens, `[T, 2 D]`.
    pub kv: Tensor,
    /// Biases of queries and values, `[D]` each.
    pub biases: [Option<Tensor>; 2],
    pub heads: usize,
}

/// Channels that each lane takes of a head of width `d`, if there is a kernel for it.
pub(in crate::ops) fn lane_width(d: usize) -> Option<usize> {
    [1, 2, 4, 8].into_iter().find(|v| (1..=32 * v).contains(&d) && d.is_multiple_of(*v))
}

impl Projected {
    /// Widths of a token and of a head.
    fn widths(&self) -> Result<(usize, usize)> {
        let dim = self.kv.dim(1)? / 2;
        Ok((dim, dim / self.heads))
    }

    fn name(&self, what: &str) -> Result<String> {
        let Some(lane) = lane_width(self.widths()?.1) else { bail!("class attention has no kernel for this width") };
        Ok(format!("sp_class_attention_{what}_{}_{lane}", suffix(self.kv.dtype())?))
    }

    fn grid(&self, count: usize) -> Grid {
        Grid::new((count * self.heads).div_ceil(WARPS), 32 * WARPS)
    }

    fn device(&self) -> &Device {
        self.kv.device()
    }

    /// What `count` queries read, `[count, D]`; a trace for the backward pass if it is to be kept.
    pub fn read(&self, context: &Context, count: usize, keep: bool) -> Result<(Tensor, Option<Trace>)> {
        let (dim, d) = self.widths()?;
        let tokens = self.kv.dim(0)?;
        let out = uninitialised((count, dim), self.kv.dtype(), self.device())?;
        let trace = match keep {
            true => Some(Trace {
                mean: uninitialised((count, dim), DType::F32, self.device())?,
                lse: uninitialised((count, self.heads), DType::F32, self.device())?,
            }),
            false => None,
        };
        let (starts, rows, valid, k) = match context {
            Context::Sequences(packed) => (Some(&packed.starts), None, None, 0),
            Context::Rows(rows, valid) => (None, Some(*rows), *valid, rows.dim(1)?),
        };
        let shared = self.own.dim(0)? == 1;
        let (own, kv) = (aligned(&self.own)?, aligned(&self.kv)?);
        let args = [
            Arg::Tensor(&own),
            Arg::Tensor(&kv),
            Arg::Optional(self.biases[0].as_ref()),
            Arg::Optional(self.biases[1].as_ref()),
            Arg::Optional(starts),
            Arg::Optional(rows),
            Arg::Optional(valid),
            Arg::Tensor(&out),
            Arg::Optional(trace.as_ref().map(|t| &t.mean)),
            Arg::Optional(trace.as_ref().map(|t| &t.lse)),
            Arg::Int(count),
            Arg::Int(shared.into()),
            Arg::Int(tokens),
            Arg::Int(k),
            Arg::Int(self.heads),
            Arg::Int(d),
            Arg::Float((d as f32).powf(-0.5)),
        ];
        // SAFETY: the arguments of sp_class_attention_forward; it reads no row beyond `tokens`.
        unsafe { launch(self.device(), MODULE, &self.name("forward")?, self.grid(count), &args)? };
        Ok((out, trace))
    }

    /// The gradients of `own` and `kv`, given the trace of [`Projected::read`] over sequences and the gradient of
    /// what was read.
    pub fn read_backward(&self, packed: &Packed, trace: &Trace, dout: &Tensor) -> Result<(Tensor, Tensor)> {
        let (count, d) = (dout.dim(0)?, self.widths()?.1);
        let down = uninitialised(self.own.shape(), self.own.dtype(), self.device())?;
        let dkv = uninitialised(self.kv.shape(), self.kv.dtype(), self.device())?;
        let (own, kv, dout) = (aligned(&self.own)?, aligned(&self.kv)?, &aligned(dout)?);
        let args = [
            Arg::Tensor(&own),
            Arg::Tensor(&kv),
            Arg::Optional(self.biases[0].as_ref()),
            Arg::Tensor(&packed.starts),
            Arg::Tensor(&trace.mean),
            Arg::Tensor(&trace.lse),
            Arg::Tensor(dout),
            Arg::Tensor(&down),
            Arg::Tensor(&dkv),
            Arg::Int(count),
            Arg::Int(self.heads),
            Arg::Int(d),
            Arg::Float((d as f32).powf(-0.5)),
        ];
        // SAFETY: the arguments of sp_class_attention_backward; the sequences are all rows of `kv`.
        unsafe { launch(self.device(), MODULE, &self.name("backward")?, self.grid(count), &args)? };
        Ok((down, dkv))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::normal;
    use crate::testing::at_odd_address;
    use crate::{Sequences, backward};
    use candle_core::{D, Var};
    use candle_nn::ops::softmax;

    /// Own rows, tokens and biases, of which the latter are f32; as the kernels see them.
    fn inputs(count: usize, tokens: usize, dim: usize, dtype: DType, device: &Device) -> Result<[Tensor; 4]> {
        let rounded = |seed, shape: (usize, usize)| normal(seed, shape)?.to_dtype(dtype)?.to_device(device);
        let bias = |seed| normal(seed, dim)?.to_device(device);
        Ok([rounded(1, (count, 3 * dim))?, rounded(2, (tokens, 2 * dim))?, bias(3)?, bias(4)?])
    }

    /// What one query reads of some tokens, `own [3 D]`, `kv [N, 2 D]` -> `[D]`.
    fn read_one(own: &Tensor, kv: &Tensor, biases: [&Tensor; 2], heads: usize) -> Result<Tensor> {
        let (dim, n) = (kv.dim(1)? / 2, kv.dim(0)?);
        let d = dim / heads;
        let q = (own.narrow(0, 0, dim)? + biases[0])?.reshape((heads, 1, d))?;
        let all = Tensor::cat(&[&own.narrow(0, dim, 2 * dim)?.unsqueeze(0)?, kv], 0)?;
        let split = |at| all.narrow(1, at, dim)?.reshape((1 + n, heads, d))?.transpose(0, 1)?.contiguous();
        let scores = (q.matmul(&split(0)?.transpose(1, 2)?)? * (d as f64).powf(-0.5))?;
        softmax(&scores, D::Minus1)?.matmul(&split(dim)?)?.reshape(dim)? + biases[1]
    }

    fn close(what: &str, got: &Tensor, want: &Tensor) -> Result<()> {
        let rounding = match got.dtype() {
            DType::BF16 => 4e-3,
            DType::F16 => 5e-4,
            _ => 5e-6,
        };
        let got = got.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        let error = (got - want)?.abs()?.max_all()?.to_scalar::<f64>()?;
        let size = want.abs()?.max_all()?.to_scalar::<f64>()?.max(1.);
        assert!(error <= rounding * size, "{what}: error {error:e} of {size:e}");
        Ok(())
    }

    fn wide(t: &Tensor) -> Result<Tensor> {
        t.to_device(&Device::Cpu)?.to_dtype(DType::F64)
    }

    #[test]
    fn sequences_are_read_at_every_width() -> Result<()> {
        let Some(device) = crate::testing::cuda() else { return Ok(()) };
        let sequences = Sequences::new(&[(2, 37), (1, 1), (2, 8)]);
        let (count, tokens) = (sequences.count(), sequences.tokens());
        for (dim, heads) in [(24, 3), (31, 1), (64, 2), (96, 2), (64, 1), (96, 1), (256, 2), (200, 1)] {
            for dtype in [DType::F32, DType::BF16, DType::F16] {
                let [own, kv, qb, vb] = inputs(count, tokens, dim, dtype, &device)?;
                let dout = normal(5, (count, dim))?.to_dtype(dtype)?;
                let packed = Packed::new(&sequences, &device)?;
                let biases = [Some(qb.clone()), Some(vb.clone())];
                let projected = Projected { own: own.clone(), kv: kv.clone(), biases, heads };
                let (out, trace) = projected.read(&Context::Sequences(&packed), count, true)?;
                let Some(trace) = trace else { bail!("no trace") };
                let (down, dkv) = projected.read_backward(&packed, &trace, &dout.to_device(&device)?)?;

                let (own, kv) = (Var::from_tensor(&wide(&own)?)?, Var::from_tensor(&wide(&kv)?)?);
                let (qb, vb) = (wide(&qb)?, wide(&vb)?);
                let read = sequences
                    .rows()
                    .enumerate()
                    .map(|(i, rows)| read_one(&own.get(i)?, &kv.narrow(0, rows.start, rows.len())?, [&qb, &vb], heads));
                let want = Tensor::stack(&read.collect::<Result<Vec<_>>>()?, 0)?;
                let grads = backward(&(&want * wide(&dout)?)?.sum_all()?)?;
                let gradient = |var: &Var| grads.get(var).ok_or_else(|| candle_core::Error::Msg("no gradient".into()));
                let what = format!("{dim} {heads} {dtype:?}");
                close(&format!("{what} out"), &out, &want)?;
                close(&format!("{what} down"), &down, &gradient(&own)?)?;
                close(&format!("{what} dkv"), &dkv, &gradient(&kv)?)?;
            }
        }
        Ok(())
    }

    #[test]
    fn tensors_inside_of_others_give_the_same() -> Result<()> {
        let Some(device) = crate::testing::cuda() else { return Ok(()) };
        let sequences = Sequences::new(&[(2, 7), (1, 3)]);
        let (count, packed) = (sequences.count(), Packed::new(&sequences, &device)?);
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            let [own, kv, ..] = inputs(count, sequences.tokens(), 64, dtype, &device)?;
            let dout = normal(5, (count, 64))?.to_dtype(dtype)?.to_device(&device)?;
            let of = |own: &Tensor, kv: &Tensor, dout: &Tensor| {
                let projected = Projected { own: own.clone(), kv: kv.clone(), biases: [None, None], heads: 1 };
                let (out, trace) = projected.read(&Context::Sequences(&packed), count, true)?;
                let Some(trace) = trace else { bail!("no trace") };
                let (down, dkv) = projected.read_backward(&packed, &trace, dout)?;
                [out, down, dkv].map(|t| wide(&t)?.to_vec2::<f64>()).into_iter().collect::<Result<Vec<_>>>()
            };
            let want = of(&own, &kv, &dout)?;
            assert_eq!(of(&at_odd_address(&own)?, &kv, &dout)?, want, "{dtype:?}");
            assert_eq!(of(&own, &at_odd_address(&kv)?, &dout)?, want, "{dtype:?}");
            assert_eq!(of(&own, &kv, &at_odd_address(&dout)?)?, want, "{dtype:?}");
        }
        Ok(())
    }

    #[test]
    fn named_rows_are_read() -> Result<()> {
        let Some(device) = crate::testing::cuda() else { return Ok(()) };
        let (count, k) = (13, 6);
        let ids: Vec<u32> = (0..count * k).map(|i| (i * 31 % count) as u32).collect();
        let valid: Vec<f32> = (0..count * k).map(|i| f32::from(i % 7 != 3)).collect();
        let rows = Tensor::from_slice(&ids, (count, k), &device)?;
        let mask = Tensor::from_slice(&valid, (count, k), &device)?;
        for ((dim, heads), shared) in [((64, 1), true), ((96, 3), false)] {
            for dtype in [DType::F32, DType::BF16, DType::F16] {
                let [own, kv, ..] = inputs(if shared { 1 } else { count }, count, dim, dtype, &device)?;
                let projected = Projected { own: own.clone(), kv: kv.clone(), biases: [None, None], heads };
                let zeros = Tensor::zeros(dim, DType::F64, &Device::Cpu)?;
                let (own, kv) = (wide(&own)?, wide(&kv)?);
                for masked in [false, true] {
                    let context = Context::Rows(&rows, masked.then_some(&mask));
                    let (out, _) = projected.read(&context, count, false)?;
                    let want = (0..count).map(|i| {
                        let there = (i * k..(i + 1) * k).filter(|&j| !masked || valid[j] != 0.);
                        let ids: Vec<u32> = there.map(|j| ids[j]).collect();
                        let near = kv.index_select(&Tensor::new(ids, &Device::Cpu)?, 0)?;
                        read_one(&own.get(if shared { 0 } else { i })?, &near, [&zeros, &zeros], heads)
                    });
                    let want = Tensor::stack(&want.collect::<Result<Vec<_>>>()?, 0)?;
                    close(&format!("{dim} {dtype:?} {masked}"), &out, &want)?;
                }
            }
        }
        Ok(())
    }
}
