//! Launching the kernels of `class_attention.cu`.

use crate::cuda::{Arg, Grid, Module, launch, suffix, uninitialised};
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

/// Queries, keys and values of one block, without the biases of their projections. No result depends on the
/// bias of the keys.
#[derive(Clone)]
pub(in crate::ops) struct Projected {
    /// Query, key and value of each query's own row, `[count, 3 D]`; or one row for all queries.
    pub own: Tensor,
    /// Keys and values of all tokens, `[T, 2 D]`.
    pub kv: Tensor,
    /// `[D]` each.
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

    /// What `count` queries read, `[count, D]`, and the logarithms of the sums of exponentials, `[count, heads]`.
    pub fn read(&self, context: &Context, count: usize) -> Result<(Tensor, Tensor)> {
        let (dim, d) = self.widths()?;
        let tokens = self.kv.dim(0)?;
        let out = uninitialised((count, dim), self.kv.dtype(), self.device())?;
        let lse = uninitialised((count, self.heads), DType::F32, self.device())?;
        let (starts, rows, valid, k) = match context {
            Context::Sequences(packed) => (Some(&packed.starts), None, None, 0),
            Context::Rows(rows, valid) => (None, Some(*rows), *valid, rows.dim(1)?),
        };
        let shared = self.own.dim(0)? == 1;
        let args = [
            Arg::Tensor(&self.own),
            Arg::Tensor(&self.kv),
            Arg::Optional(self.biases[0].as_ref()),
            Arg::Optional(self.biases[1].as_ref()),
            Arg::Optional(starts),
            Arg::Optional(rows),
            Arg::Optional(valid),
            Arg::Tensor(&out),
            Arg::Tensor(&lse),
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
        Ok((out, lse))
    }

    /// The gradients of `own` and `kv`, given what [`Projected::read`] returned for sequences and the gradient of
    /// what was read.
    pub fn read_backward(
        &self,
        packed: &Packed,
        (out, lse): (&Tensor, &Tensor),
        dout: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let (count, d) = (out.dim(0)?, self.widths()?.1);
        let down = uninitialised(self.own.shape(), self.own.dtype(), self.device())?;
        let dkv = uninitialised(self.kv.shape(), self.kv.dtype(), self.device())?;
        let args = [
            Arg::Tensor(&self.own),
            Arg::Tensor(&self.kv),
            Arg::Optional(self.biases[0].as_ref()),
            Arg::Optional(self.biases[1].as_ref()),
            Arg::Tensor(&packed.starts),
            Arg::Tensor(out),
            Arg::Tensor(lse),
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
