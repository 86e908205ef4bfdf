//! Attention on CUDA, without the matrix of probabilities; see `attention.cu`.

use crate::cuda::{Arg, Grid, Module, aligned, launch, record, suffix, uninitialised};
use crate::{Sequences, cuda_module};
use candle_core::{DType, Device, Result, Tensor};

// Apart, because the driver compiles a file when its first kernel is asked for.
const TENSOR: Module = cuda_module!("attention");
const PLAIN: Module = cuda_module!("attention_plain");
const DELTAS: Module = cuda_module!("attention_deltas");

/// Where the sequences of a packed batch begin, on the device.
pub(in crate::ops) struct Packed {
    /// First row of each sequence and the number of all rows, `[S + 1]` u32.
    pub(in crate::ops) starts: Tensor,
    count: usize,
    longest: usize,
}

impl Packed {
    pub(in crate::ops) fn new(sequences: &Sequences, device: &Device) -> Result<Self> {
        let lengths = sequences.lengths();
        let ends = lengths.iter().scan(0u32, |end, n| {
            *end += *n as u32;
            Some(*end)
        });
        let starts: Vec<u32> = std::iter::once(0).chain(ends).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        Ok(Self { starts: Tensor::new(starts, device)?, count: lengths.len(), longest })
    }
}

/// Head widths that the tensor cores take.
const TENSOR_CORES: [usize; 3] = [32, 64, 128];
/// Widest head of the kernels without tensor cores.
const WIDEST: usize = 128;

/// Whether there is a kernel for heads of width `d`.
pub(in crate::ops) fn fits(d: usize) -> bool {
    (1..=WIDEST).contains(&d)
}

/// `qkv [T, 3 D]` without the bias of its projection, that bias `[3 D]` -> the output `[T, D]` and the logarithms
/// of the sums of exponentials, `[heads, T]` f32.
pub(in crate::ops) fn forward(
    qkv: &Tensor,
    bias: Option<&Tensor>,
    packed: &Packed,
    heads: usize,
) -> Result<(Tensor, Tensor)> {
    let (tokens, width) = qkv.dims2()?;
    let d = width / 3 / heads;
    let qkv = &aligned(qkv)?;
    let out = uninitialised((tokens, width / 3), qkv.dtype(), qkv.device())?;
    let lse = uninitialised((heads, tokens), DType::F32, qkv.device())?;
    let kernel = Kernel::of(qkv.dtype(), d)?;
    let args = [
        Arg::Tensor(qkv),
        Arg::Optional(bias),
        Arg::Tensor(&packed.starts),
        Arg::Tensor(&out),
        Arg::Tensor(&lse),
        Arg::Int(heads),
        Arg::Int(d),
        Arg::Int(tokens),
        Arg::Float((d as f32).powf(-0.5)),
    ];
    // SAFETY: the arguments of sp_attention_forward; `packed` and `heads` fit `qkv`.
    unsafe { kernel.launch("forward", qkv.device(), packed, heads, 3, &args)? };
    Ok((out, lse))
}

/// The gradient of `qkv`, given what [`forward`] returned and the gradient of its output.
pub(in crate::ops) fn backward(
    (qkv, bias): (&Tensor, Option<&Tensor>),
    packed: &Packed,
    heads: usize,
    (out, lse): (&Tensor, &Tensor),
    dout: &Tensor,
) -> Result<Tensor> {
    let (tokens, width) = qkv.dims2()?;
    let (qkv, out, dout) = (&aligned(qkv)?, &aligned(out)?, &aligned(dout)?);
    let (d, device) = (width / 3 / heads, qkv.device());
    let delta = uninitialised((heads, tokens), DType::F32, device)?;
    let name = format!("sp_attention_deltas_{}", suffix(qkv.dtype())?);
    let args = [
        Arg::Tensor(out),
        Arg::Tensor(dout),
        Arg::Optional(bias),
        Arg::Tensor(&delta),
        Arg::Int(heads),
        Arg::Int(d),
        Arg::Int(tokens),
    ];
    // SAFETY: the arguments of sp_attention_deltas.
    unsafe { launch(device, DELTAS, &name, Grid::new(tokens.div_ceil(8), 256), &args)? };
    let dqkv = uninitialised((tokens, width), qkv.dtype(), device)?;
    let kernel = Kernel::of(qkv.dtype(), d)?;
    for what in ["backward_queries", "backward_keys"] {
        let args = [
            Arg::Tensor(qkv),
            Arg::Optional(bias),
            Arg::Tensor(&packed.starts),
            Arg::Tensor(dout),
            Arg::Tensor(lse),
            Arg::Tensor(&delta),
            Arg::Tensor(&dqkv),
            Arg::Int(heads),
            Arg::Int(d),
            Arg::Int(tokens),
            Arg::Float((d as f32).powf(-0.5)),
        ];
        // SAFETY: the arguments of both kernels; one writes the queries' third of dqkv, the other the rest.
        unsafe { kernel.launch(what, device, packed, heads, 4, &args)? };
    }
    Ok(dqkv)
}

/// Attention as a node of the graph; the bias is in `qkv` already.
pub(super) fn attention(qkv: &Tensor, sequences: &Sequences, heads: usize) -> Result<Tensor> {
    let packed = Packed::new(sequences, qkv.device())?;
    let input = qkv.detach().contiguous()?;
    let (out, lse) = forward(&input, None, &packed, heads)?;
    let kept = out.copy()?;
    record(qkv, qkv, out, move |dy| backward((&input, None), &packed, heads, (&kept, &lse), dy).map(Some))
}

/// Which of the kernels takes heads of one width.
struct Kernel {
    suffix: String,
    /// Rows of a block's own tile.
    tile: usize,
    /// Width of a head.
    d: usize,
    tensor_cores: bool,
}

impl Kernel {
    fn of(dtype: DType, d: usize) -> Result<Self> {
        let name = suffix(dtype)?;
        if dtype != DType::F32 && TENSOR_CORES.contains(&d) {
            return Ok(Self { suffix: format!("{name}_{d}"), tile: 64, d, tensor_cores: true });
        }
        let lanes = d.div_ceil(32).next_power_of_two();
        Ok(Self { suffix: format!("{name}_plain{lanes}"), tile: 32, d, tensor_cores: false })
    }

    /// Bytes of shared memory; without tensor cores for `tiles` tiles.
    fn shared(&self, tiles: usize) -> usize {
        match self.tensor_cores {
            // A tile of 64 rows and two of 32, padded by 8; two numbers for each of 32 queries.
            true => 128 * (self.d + 8) * 2 + 2 * 32 * 4,
            // Tiles of 32 rows padded by 1, and squares of 32.
            false => (tiles * 32 * (self.d + 1) + 2 * 32 * 32) * 4,
        }
    }

    /// # Safety
    /// The arguments must be those of the kernel.
    unsafe fn launch(
        &self,
        what: &str,
        device: &Device,
        packed: &Packed,
        heads: usize,
        tiles: usize,
        args: &[Arg],
    ) -> Result<()> {
        let blocks = (packed.count, heads, packed.longest.div_ceil(self.tile));
        let grid = Grid { blocks, threads: 128, shared: self.shared(tiles) };
        let module = if self.tensor_cores { TENSOR } else { PLAIN };
        // SAFETY: the caller's promise.
        unsafe { launch(device, module, &format!("sp_attention_{what}_{}", self.suffix), grid, args) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::normal;
    use crate::testing::{at_odd_address, cuda};

    #[test]
    fn a_tensor_inside_of_another_gives_the_same() -> Result<()> {
        let Some(device) = cuda() else { return Ok(()) };
        let (sequences, heads, width) = (Sequences::new(&[(2, 37), (1, 5)]), 2, 64);
        let packed = Packed::new(&sequences, &device)?;
        let bias = normal(3, 3 * width)?.to_device(&device)?;
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            let rows = |seed, n| normal(seed, (sequences.tokens(), n))?.to_dtype(dtype)?.to_device(&device);
            let (qkv, dout) = (rows(1, 3 * width)?, rows(2, width)?);
            let of = |qkv: &Tensor, dout: &Tensor, bias| {
                let (out, lse) = forward(qkv, bias, &packed, heads)?;
                let dqkv = backward((qkv, bias), &packed, heads, (&out, &lse), dout)?;
                [out, dqkv].map(|t| t.to_dtype(DType::F32)?.to_vec2::<f32>()).into_iter().collect::<Result<Vec<_>>>()
            };
            for bias in [None, Some(&bias)] {
                let want = of(&qkv, &dout, bias)?;
                assert_eq!(of(&at_odd_address(&qkv)?, &dout, bias)?, want, "{dtype:?}");
                assert_eq!(of(&qkv, &at_odd_address(&dout)?, bias)?, want, "{dtype:?}");
            }
        }
        Ok(())
    }
}
