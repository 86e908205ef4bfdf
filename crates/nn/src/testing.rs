//! Two checks that every fused op passes: equal to its reference, gradient equal to the slope.

use crate::random::normal;
use candle_core::{DType, Device, Result, Tensor, Var};

/// Values and gradients of `fused` (f32) against `reference` run in f64, on random inputs of the
/// given shapes: at most 1e-5 of the largest element // f32 sums over up to a few hundred terms.
pub(crate) fn agrees(
    shapes: &[&[usize]],
    fused: impl Fn(&[Tensor]) -> Result<Tensor>,
    reference: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<()> {
    let run = |dtype: DType, inputs: &[Tensor], f: &dyn Fn(&[Tensor]) -> Result<Tensor>| {
        let vars: Vec<Var> = inputs.iter().map(|t| Var::from_tensor(&t.to_dtype(dtype)?)).collect::<Result<_>>()?;
        let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let y = f(&tensors)?;
        // A fixed, uneven weighting of the outputs, so that no gradient error cancels.
        let weights: Vec<f64> = (0..y.elem_count()).map(|i| ((i * 37 % 101) as f64 - 50.0) / 50.0).collect();
        let weights = Tensor::from_vec(weights, y.shape(), &Device::Cpu)?.to_dtype(dtype)?;
        let grads = (&y * &weights)?.sum_all()?.backward()?;
        let mut out = vec![y.to_dtype(DType::F64)?];
        for v in &vars {
            let Some(g) = grads.get(v) else { candle_core::bail!("an input got no gradient") };
            out.push(g.to_dtype(DType::F64)?);
        }
        Ok::<_, candle_core::Error>(out)
    };
    let inputs: Vec<Tensor> = shapes.iter().zip(1..).map(|(&s, seed)| normal(seed, s)).collect::<Result<_>>()?;
    let got = run(DType::F32, &inputs, &fused)?;
    let want = run(DType::F64, &inputs, &reference)?;
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        assert_eq!(got.dims(), want.dims());
        let error = (got - want)?.abs()?.max_all()?.to_scalar::<f64>()?;
        let size = want.abs()?.max_all()?.to_scalar::<f64>()?.max(1.0);
        assert!(error <= 1e-5 * size, "output {i} (0: value, then gradients): error {error:e} of {size:e}");
    }
    Ok(())
}

/// The gradient of a weighted sum of `f(x)` against central differences in every element of `x`.
pub(crate) fn finite_differences(shape: &[usize], f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<()> {
    let n: usize = shape.iter().product();
    let start: Vec<f32> = (0..n).map(|i| ((i * 29 % 17) as f32 - 8.0) / 7.0).collect();
    let value = |x: &[f32]| -> Result<f64> {
        let y = f(&Tensor::from_slice(x, shape, &Device::Cpu)?)?.flatten_all()?.to_vec1::<f32>()?;
        Ok(y.iter().enumerate().map(|(i, y)| *y as f64 * ((i % 5) as f64 - 1.5)).sum())
    };
    let x = Var::from_slice(&start, shape, &Device::Cpu)?;
    let y = f(&x)?.flatten_all()?;
    let weights: Vec<f32> = (0..y.elem_count()).map(|i| (i % 5) as f32 - 1.5).collect();
    let weights = Tensor::from_vec(weights, y.shape(), &Device::Cpu)?;
    let grads = (y * weights)?.sum_all()?.backward()?;
    let Some(grad) = grads.get(&x) else { candle_core::bail!("no gradient") };
    let grad = grad.flatten_all()?.to_vec1::<f32>()?;
    let step = 1e-2f32;
    for i in 0..n {
        let (mut up, mut down) = (start.clone(), start.clone());
        up[i] += step;
        down[i] -= step;
        let slope = (value(&up)? - value(&down)?) / (2.0 * step as f64);
        let got = grad[i] as f64;
        // 2e-2: third-order term of the difference and f32 rounding of the values
        assert!((slope - got).abs() <= 2e-2 * slope.abs().max(1.0), "element {i}: gradient {got}, slope {slope}");
    }
    Ok(())
}

/// A fused op with parameters of its own, and its reference.
pub(crate) struct Case<'a, B, F, R> {
    /// Shapes of the inputs.
    pub inputs: &'a [&'a [usize]],
    /// Makes the parameters.
    pub build: B,
    pub fused: F,
    pub reference: R,
}

/// Value and gradients, to the inputs and to all parameters, of `fused` in f32 against `reference` in
/// f64, on random inputs and parameters moved away from their initial values: at most 1e-5 of the
/// largest element // f32 sums over up to a few hundred terms.
pub(crate) fn equal_with_parameters<P>(
    case: Case<
        impl Fn(candle_nn::VarBuilder) -> Result<P>,
        impl Fn(&[Tensor], &P) -> Result<Tensor>,
        impl Fn(&[Tensor], &P) -> Result<Tensor>,
    >,
) -> Result<()> {
    let got = value_and_gradients(case.inputs, &case.build, &case.fused, DType::F32, &Device::Cpu)?;
    let want = value_and_gradients(case.inputs, &case.build, &case.reference, DType::F64, &Device::Cpu)?;
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        let (error, size) = difference(got, want)?;
        assert!(error <= 1e-5 * size.max(1.0), "{:?}, tensor {i}: error {error:e} of {size:e}", case.inputs);
    }
    Ok(())
}

/// [`equal_with_parameters`] for the fused path on CUDA, in every precision: f32 within 2e-5 of the largest
/// element, bf16 within 2e-2, f16 within 3e-3 // 8 and 11 bits; in these beyond twice what the reference itself is
/// off when it computes in the same type.
#[cfg(feature = "cuda")]
pub(crate) fn equal_in_every_precision<P>(
    case: Case<
        impl Fn(candle_nn::VarBuilder) -> Result<P>,
        impl Fn(&[Tensor], &P) -> Result<Tensor>,
        impl Fn(&[Tensor], &P) -> Result<Tensor>,
    >,
) -> Result<()> {
    use crate::{Precision, autocast};
    let Some(device) = cuda() else { return Ok(()) };
    let want = value_and_gradients(case.inputs, &case.build, &case.reference, DType::F64, &Device::Cpu)?;
    for (precision, tolerance) in [(Precision::F32, 2e-5), (Precision::Bf16, 2e-2), (Precision::F16, 3e-3)] {
        let fused = |x: &[Tensor], p: &P| autocast(precision, || (case.fused)(x, p));
        let plain = |x: &[Tensor], p: &P| autocast(precision, || (case.reference)(x, p));
        let got = value_and_gradients(case.inputs, &case.build, fused, DType::F32, &device)?;
        let plain = value_and_gradients(case.inputs, &case.build, plain, DType::F32, &Device::Cpu)?;
        for (i, ((got, want), plain)) in got.iter().zip(&want).zip(&plain).enumerate() {
            let (error, size) = difference(got, want)?;
            let own = if precision == Precision::F32 { 0. } else { 2. * difference(plain, want)?.0 };
            let allowed = tolerance * size.max(1.) + own;
            let what = format!("{precision:?} {:?}, tensor {i}", case.inputs);
            assert!(error <= allowed, "{what}: error {error:e} of {size:e}, {allowed:e} allowed");
        }
    }
    Ok(())
}

/// The first GPU, if there is one.
#[cfg(feature = "cuda")]
pub(crate) fn cuda() -> Option<Device> {
    crate::cuda::new_device(0).inspect_err(|_| println!("no CUDA device: skipped")).ok()
}

/// The same values, contiguous, one element behind the beginning of their storage.
#[cfg(feature = "cuda")]
pub(crate) fn at_odd_address(x: &Tensor) -> Result<Tensor> {
    let flat = x.flatten_all()?;
    let longer = Tensor::cat(&[&Tensor::zeros(1, x.dtype(), x.device())?, &flat], 0)?;
    longer.narrow(0, 1, flat.elem_count())?.reshape(x.shape())
}

/// [`equal_with_parameters`] of `fused` on the GPU, computing in `precision`, and `reference` on the CPU: at most
/// `tolerance` of the largest element. Both are given the same inputs, in f32 and f64.
#[cfg(feature = "cuda")]
pub(crate) fn equal_on_cuda<P>(
    precision: crate::Precision,
    tolerance: f64,
    case: Case<
        impl Fn(candle_nn::VarBuilder) -> Result<P>,
        impl Fn(&[Tensor], &P) -> Result<Tensor>,
        impl Fn(&[Tensor], &P) -> Result<Tensor>,
    >,
) -> Result<()> {
    let Some(device) = cuda() else { return Ok(()) };
    let fused = |x: &[Tensor], p: &P| crate::autocast(precision, || (case.fused)(x, p));
    let got = value_and_gradients(case.inputs, &case.build, fused, DType::F32, &device)?;
    let want = value_and_gradients(case.inputs, &case.build, &case.reference, DType::F64, &Device::Cpu)?;
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        let (error, size) = difference(got, want)?;
        assert!(error <= tolerance * size, "{:?} {precision:?}, tensor {i}: error {error:e} of {size:e}", case.inputs);
    }
    Ok(())
}

/// `f` of random inputs and of parameters moved away from their initial values; then the gradients of a weighted
/// sum of it, to the inputs and to all parameters: zeros where there is none. In f64 on the CPU.
fn value_and_gradients<P>(
    inputs: &[&[usize]],
    build: impl Fn(candle_nn::VarBuilder) -> Result<P>,
    f: impl Fn(&[Tensor], &P) -> Result<Tensor>,
    dtype: DType,
    device: &Device,
) -> Result<Vec<Tensor>> {
    let params = crate::Params::trainable(1);
    let built = build(params.builder(dtype, device))?;
    for (i, (_, var)) in params.iter().enumerate() {
        let noise = (normal(100 + i as u64, var.shape())? * 0.3)?.to_dtype(dtype)?.to_device(device)?;
        var.set(&(var.as_tensor() + noise)?.detach())?;
    }
    let inputs = inputs.iter().zip(1..);
    let inputs =
        inputs.map(|(&shape, seed)| Var::from_tensor(&normal(seed, shape)?.to_dtype(dtype)?.to_device(device)?));
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    let tensors: Vec<Tensor> = inputs.iter().map(|v| v.as_tensor().clone()).collect();
    let y = f(&tensors, &built)?;
    // A fixed, uneven weighting of the outputs, so that no gradient error cancels.
    let weights: Vec<f64> = (0..y.elem_count()).map(|i| ((i * 37 % 101) as f64 - 50.0) / 50.0).collect();
    let weights = Tensor::from_vec(weights, y.shape(), &Device::Cpu)?.to_dtype(y.dtype())?.to_device(device)?;
    let grads = crate::backward(&(&y * weights)?.sum_all()?)?;
    let plain = |t: &Tensor| t.to_device(&Device::Cpu)?.to_dtype(DType::F64);
    let mut all = vec![plain(&y)?];
    for var in inputs.into_iter().chain(params.iter().map(|(_, var)| var)) {
        all.push(plain(&grads.get(&var).map_or_else(|| var.zeros_like(), Ok)?)?);
    }
    Ok(all)
}

/// The largest error, and the largest element of `want`.
fn difference(got: &Tensor, want: &Tensor) -> Result<(f64, f64)> {
    assert_eq!(got.dims(), want.dims());
    let largest = |t: Tensor| -> Result<f64> {
        let values = t.flatten_all()?.to_vec1::<f64>()?;
        // A NaN is the largest of all.
        Ok(values.into_iter().map(f64::abs).fold(0., |top, v| if v <= top { top } else { v }))
    };
    Ok((largest((got - want)?)?, largest(want.clone())?))
}
