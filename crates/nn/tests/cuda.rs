//! candle's ops on the CUDA device beside the CPU: on a GPU, or anywhere under `cargo xtask cuda-emulate`.
#![cfg(feature = "cuda")]

use candle_core::{D, DType, Device, Result, Tensor, Var};

/// The first device, or none, which leaves the test without a result.
fn cuda() -> Option<Device> {
    selfpatch_nn::cuda::new_device(0).map_err(|_| println!("no CUDA device: skipped")).ok()
}

/// Numbers between -1 and 1 that look random.
fn numbers(shape: &[usize], seed: u32) -> Result<Tensor> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let data: Vec<f32> = (0..shape.iter().product()).map(|_| next()).collect();
    Tensor::from_vec(data, shape, &Device::Cpu)
}

/// Computes the same on both devices and compares, relative to numbers around one. What 16-bit numbers should give is
/// computed from them in 32 bits: the CPU's own sums of them are the less exact ones.
fn agree(name: &str, inputs: &[Tensor], tolerance: f64, compute: impl Fn(&[Tensor]) -> Result<Tensor>) -> Result<()> {
    let Some(device) = cuda() else { return Ok(()) };
    let small = |t: &Tensor| matches!(t.dtype(), DType::BF16 | DType::F16) && tolerance > 0.0;
    let wide = |t: &Tensor| if small(t) { t.to_dtype(DType::F32) } else { Ok(t.clone()) };
    let want = compute(&inputs.iter().map(wide).collect::<Result<Vec<_>>>()?)?;
    let moved: Vec<Tensor> = inputs.iter().map(|t| t.to_device(&device)).collect::<Result<_>>()?;
    let got = compute(&moved)?;
    assert_eq!(want.dims(), got.dims(), "{name}");
    assert!(want.dtype() == got.dtype() || small(&got), "{name} gives {:?}", got.dtype());
    let flat = |t: &Tensor| t.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
    for (i, (w, g)) in flat(&want)?.into_iter().zip(flat(&got)?).enumerate() {
        let close = (w - g).abs() <= tolerance * (1.0 + w.abs());
        assert!(
            close || w.is_nan() && g.is_nan() || w == g,
            "{name} of {:?}: element {i} is {g}, not {w}",
            inputs[0].dtype()
        );
    }
    Ok(())
}

const F32: f64 = 1e-5;
const BF16: f64 = 1.0 / 128.0;
const F16: f64 = 1.0 / 1024.0;

#[test]
fn affine() -> Result<()> {
    let x = numbers(&[3, 50], 1)?;
    agree("affine", &[x.clone()], F32, |t| t[0].affine(1.5, -0.25))?;
    agree("affine of a transposed tensor", &[x], F32, |t| t[0].t()?.affine(-2.0, 1.0))
}

#[test]
fn products() -> Result<()> {
    for (dtype, tolerance) in [(DType::F32, F32), (DType::F64, 1e-12), (DType::BF16, BF16), (DType::F16, F16)] {
        let cast = |t: Tensor| t.to_dtype(dtype);
        let (a, b) = (cast(numbers(&[5, 40], 1)?)?, cast(numbers(&[40, 7], 2)?)?);
        agree("matmul", &[a.clone(), b.clone()], tolerance, |t| t[0].matmul(&t[1]))?;
        agree("matmul, left transposed", &[a.t()?.contiguous()?, b.clone()], tolerance, |t| t[0].t()?.matmul(&t[1]))?;
        agree("matmul, right transposed", &[a, b.t()?.contiguous()?], tolerance, |t| t[0].matmul(&t[1].t()?))?;
        let (a, b) = (cast(numbers(&[2, 3, 5, 8], 3)?)?, cast(numbers(&[2, 3, 8, 6], 4)?)?);
        agree("matmul in batches", &[a, b], tolerance, |t| t[0].matmul(&t[1]))?;
    }
    Ok(())
}

#[test]
fn elementwise() -> Result<()> {
    for (dtype, tolerance) in [(DType::F32, F32), (DType::BF16, BF16), (DType::F16, F16)] {
        let (a, b) = (numbers(&[4, 37], 5)?.to_dtype(dtype)?, numbers(&[37], 6)?.to_dtype(dtype)?);
        let both = [a.clone(), b];
        agree("add", &both, tolerance, |t| t[0].broadcast_add(&t[1]))?;
        agree("sub", &both, tolerance, |t| t[0].broadcast_sub(&t[1]))?;
        agree("mul", &both, tolerance, |t| t[0].broadcast_mul(&t[1]))?;
        agree("div", &both, tolerance, |t| t[0].broadcast_div(&(t[1].abs()? + 0.5)?))?;
        agree("maximum", &both, tolerance, |t| t[0].broadcast_maximum(&t[1]))?;
        agree("add, both whole", &[a.clone(), a.clone()], tolerance, |t| &t[0] + &t[1])?;
        let one = [a];
        agree("exp", &one, tolerance, |t| t[0].exp())?;
        agree("log", &one, tolerance, |t| (t[0].abs()? + 0.5)?.log())?;
        agree("sqrt", &one, tolerance, |t| t[0].abs()?.sqrt())?;
        agree("tanh", &one, tolerance, |t| t[0].tanh())?;
        agree("sin", &one, tolerance, |t| t[0].sin())?;
        agree("gelu", &one, tolerance, |t| t[0].gelu_erf())?;
        agree("gelu by tanh", &one, tolerance, |t| t[0].gelu())?;
        agree("relu", &one, tolerance, |t| t[0].relu())?;
        agree("silu", &one, tolerance, |t| t[0].silu())?;
        agree("neg", &one, tolerance, |t| t[0].neg())?;
        agree("recip", &one, tolerance, |t| (t[0].abs()? + 0.5)?.recip())?;
        agree("powf", &one, tolerance, |t| t[0].abs()?.powf(1.5))?;
        agree("clamp", &one, tolerance, |t| t[0].clamp(-0.5, 0.5))?;
        agree("where", &one, tolerance, |t| t[0].ge(0.0)?.where_cond(&t[0], &t[0].zeros_like()?))?;
    }
    Ok(())
}

#[test]
fn reductions() -> Result<()> {
    for columns in [3, 33, 200, 1500] {
        // candle's kernel adds up halves in halves.
        for (dtype, tolerance) in [(DType::F32, F32), (DType::BF16, 2.0 * BF16), (DType::F16, 8.0 * F16)] {
            let x = [numbers(&[3, 4, columns], 7)?.to_dtype(dtype)?];
            agree("sum", &x, tolerance, |t| t[0].sum(D::Minus1))?;
            agree("sum of another dimension", &x, tolerance, |t| t[0].sum_keepdim(1))?;
            agree("sum of all", &x, tolerance * 4.0, |t| t[0].sum_all())?;
            agree("mean", &x, tolerance, |t| t[0].mean_keepdim(D::Minus1))?;
            agree("max", &x, 0.0, |t| t[0].max(D::Minus1))?;
            agree("min", &x, 0.0, |t| t[0].min_keepdim(0))?;
            if dtype == DType::F32 {
                // 16-bit numbers have ties, of which any may win.
                agree("argmax", &x, 0.0, |t| t[0].argmax(D::Minus1))?;
            }
            agree("softmax", &x, tolerance, |t| {
                let shifted = t[0].broadcast_sub(&t[0].max_keepdim(D::Minus1)?)?.exp()?;
                shifted.broadcast_div(&shifted.sum_keepdim(D::Minus1)?)
            })?;
        }
    }
    Ok(())
}

#[test]
fn fused_normalisations() -> Result<()> {
    let x = [numbers(&[6, 50], 8)?, numbers(&[50], 9)?, numbers(&[50], 10)?];
    agree("layer norm", &x, F32, |t| candle_nn::ops::layer_norm(&t[0], &t[1], &t[2], 1e-6))?;
    agree("softmax of the last dimension", &x, F32, |t| candle_nn::ops::softmax_last_dim(&t[0]))
}

#[test]
fn indices() -> Result<()> {
    let table = numbers(&[9, 5], 11)?;
    let rows = Tensor::new(&[3u32, 0, 8, 3, 1], &Device::Cpu)?;
    let source = numbers(&[5, 5], 12)?;
    let picks = Tensor::new(&[[1u32, 0, 4], [2, 2, 2]], &Device::Cpu)?;
    let t = [table.clone(), rows, source, picks];
    agree("index_select", &t, 0.0, |t| t[0].index_select(&t[1], 0))?;
    agree("index_select of columns", &t, 0.0, |t| t[0].index_select(&t[3].flatten_all()?, 1))?;
    agree("index_add", &t, F32, |t| t[0].index_add(&t[1], &t[2], 0))?;
    agree("gather", &t, 0.0, |t| t[0].narrow(0, 0, 2)?.contiguous()?.gather(&t[3], 1))?;
    agree("scatter_add", &t, F32, |t| {
        let source = t[2].narrow(0, 0, 2)?.narrow(1, 0, 3)?.contiguous()?;
        t[0].narrow(0, 0, 2)?.contiguous()?.scatter_add(&t[3], &source, 1)
    })?;
    agree("arg_sort", &[table.clone()], 0.0, |t| t[0].arg_sort_last_dim(true))?;
    agree("arg_sort, descending", &[table], 0.0, |t| t[0].arg_sort_last_dim(false))
}

#[test]
fn casts() -> Result<()> {
    // Ties between two neighbours of each format, the largest and the smallest numbers, and what is none.
    let special = [
        1.0f32,
        1.001_953_1,
        1.005_859_4,
        1.000_488_3,
        1.001_464_8,
        65504.0,
        65519.0,
        65520.0,
        1e-8,
        5.960_464_5e-8,
        3e38,
        3.4e38,
        -0.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        1e-40,
        -2.5,
    ];
    let x = Tensor::cat(&[Tensor::new(&special, &Device::Cpu)?, numbers(&[100], 13)?], 0)?;
    for dtype in [DType::BF16, DType::F16, DType::F64] {
        agree("cast", &[x.clone()], 0.0, |t| t[0].to_dtype(dtype))?;
        agree("cast there and back", &[x.to_dtype(dtype)?], 0.0, |t| t[0].to_dtype(DType::F32))?;
    }
    agree("cast of f16 to bf16", &[x.to_dtype(DType::F16)?], 0.0, |t| t[0].to_dtype(DType::BF16))?;
    let small = (numbers(&[50], 14)?.abs()? * 200.0)?;
    agree("cast to u8", &[small.clone()], 0.0, |t| t[0].to_dtype(DType::U8))?;
    agree("cast to u32", &[small.clone()], 0.0, |t| t[0].to_dtype(DType::U32))?;
    agree("cast to i64 and back", &[small], 0.0, |t| t[0].to_dtype(DType::I64)?.to_dtype(DType::F32))
}

#[test]
fn layouts() -> Result<()> {
    let t = [numbers(&[4, 6, 5], 15)?, numbers(&[4, 2, 5], 16)?];
    agree("cat", &t, 0.0, |t| Tensor::cat(&[&t[0], &t[1], &t[0]], 1))?;
    agree("narrow and contiguous", &t, 0.0, |t| t[0].narrow(1, 2, 3)?.contiguous())?;
    agree("transpose", &t, 0.0, |t| t[0].transpose(0, 2)?.contiguous())?;
    agree("broadcast", &t, 0.0, |t| t[0].unsqueeze(0)?.broadcast_as((3, 4, 6, 5))?.contiguous())?;
    agree("stack", &t, 0.0, |t| Tensor::stack(&[&t[0], &t[0]], 1))?;
    agree("zeros and ones", &t, 0.0, |t| t[0].zeros_like()?.broadcast_add(&t[0].ones_like()?))?;
    agree("a copy", &t, 0.0, |t| t[0].copy())
}

#[test]
fn convolution() -> Result<()> {
    let t = [numbers(&[2, 3, 8, 8], 17)?, numbers(&[4, 3, 4, 4], 18)?];
    agree("conv2d", &t, F32, |t| t[0].conv2d(&t[1], 0, 4, 1, 1))?;
    agree("conv2d with padding", &t, F32, |t| t[0].conv2d(&t[1], 1, 2, 1, 1))?;
    agree("avg_pool2d", &t, F32, |t| t[0].avg_pool2d(2))?;
    agree("upsample", &t, 0.0, |t| t[0].upsample_nearest2d(16, 16))
}

#[test]
fn gradients_of_a_small_network() -> Result<()> {
    let Some(device) = cuda() else { return Ok(()) };
    let gradients = |device: &Device| -> Result<Vec<Vec<f32>>> {
        let make = |shape: &[usize], seed| numbers(shape, seed)?.to_device(device);
        let (x, target) = (make(&[6, 10], 20)?, make(&[6, 3], 21)?);
        let vars = [make(&[10, 16], 22)?, make(&[16], 23)?, make(&[16, 3], 24)?]
            .iter()
            .map(Var::from_tensor)
            .collect::<Result<Vec<_>>>()?;
        let hidden = x.matmul(&vars[0])?.broadcast_add(&vars[1])?;
        let centred = hidden.broadcast_sub(&hidden.mean_keepdim(1)?)?;
        let deviation = (centred.sqr()?.mean_keepdim(1)? + 1e-6)?.sqrt()?;
        let logits = centred.broadcast_div(&deviation)?.gelu_erf()?.matmul(&vars[2])?;
        let shifted = logits.broadcast_sub(&logits.max_keepdim(1)?.detach())?.exp()?;
        let probability = shifted.broadcast_div(&shifted.sum_keepdim(1)?)?;
        let loss = (probability.log()? * target)?.sum_all()?.neg()?;
        let store = loss.backward()?;
        let gradient = |var: &Var| {
            let gradient = store.get(var).ok_or_else(|| candle_core::Error::Msg("no gradient".into()))?;
            gradient.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()
        };
        vars.iter().map(gradient).collect()
    };
    for (want, got) in gradients(&Device::Cpu)?.iter().zip(gradients(&device)?) {
        for (w, g) in want.iter().zip(got) {
            assert!((w - g).abs() < 1e-4 * (1.0 + w.abs()), "{g}, not {w}");
        }
    }
    Ok(())
}

#[test]
fn random_numbers() -> Result<()> {
    let Some(device) = cuda() else { return Ok(()) };
    let mean = |t: &Tensor| t.mean_all()?.to_scalar::<f32>();
    let uniform = Tensor::rand(0f32, 2f32, 10_000, &device)?;
    let normal = Tensor::randn(1f32, 0.5f32, 10_001, &device)?;
    assert!((mean(&uniform)? - 1.0).abs() < 0.05);
    assert!((mean(&normal)? - 1.0).abs() < 0.05);
    Ok(())
}
