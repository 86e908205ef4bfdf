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
    let run = |dtype: DType, f: &dyn Fn(&[Tensor], &P) -> Result<Tensor>| -> Result<Vec<Tensor>> {
        let params = crate::Params::trainable(1);
        let built = (case.build)(params.builder(dtype, &Device::Cpu))?;
        for (i, (_, var)) in params.iter().enumerate() {
            let noise = (normal(100 + i as u64, var.shape())? * 0.3)?.to_dtype(dtype)?;
            var.set(&(var.as_tensor() + noise)?.detach())?;
        }
        let inputs =
            case.inputs.iter().zip(1..).map(|(&shape, seed)| Var::from_tensor(&normal(seed, shape)?.to_dtype(dtype)?));
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let tensors: Vec<Tensor> = inputs.iter().map(|v| v.as_tensor().clone()).collect();
        let y = f(&tensors, &built)?;
        let weights: Vec<f64> = (0..y.elem_count()).map(|i| ((i * 37 % 101) as f64 - 50.0) / 50.0).collect();
        let weights = Tensor::from_vec(weights, y.shape(), &Device::Cpu)?.to_dtype(dtype)?;
        let grads = crate::backward(&(&y * weights)?.sum_all()?)?;
        let mut all = vec![y.to_dtype(DType::F64)?];
        for var in inputs.into_iter().chain(params.iter().map(|(_, var)| var)) {
            let Some(gradient) = grads.get(&var) else { candle_core::bail!("{:?} got no gradient", var.dims()) };
            all.push(gradient.to_dtype(DType::F64)?);
        }
        Ok(all)
    };
    let (got, want) = (run(DType::F32, &case.fused)?, run(DType::F64, &case.reference)?);
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        assert_eq!(got.dims(), want.dims());
        let error = (got - want)?.abs()?.max_all()?.to_scalar::<f64>()?;
        let size = want.abs()?.max_all()?.to_scalar::<f64>()?.max(1.0);
        assert!(error <= 1e-5 * size, "{:?}, tensor {i}: error {error:e} of {size:e}", case.inputs);
    }
    Ok(())
}

/// The first CUDA device, or a line that says that there is none.
#[cfg(feature = "cuda")]
pub(crate) fn cuda() -> Option<Device> {
    match crate::cuda::new_device(0) {
        Ok(device) => Some(device),
        Err(_) => {
            println!("no CUDA device: skipped");
            None
        }
    }
}

/// [`equal_with_parameters`] for the fused path on CUDA, in every precision: f32 within 1e-5 of the largest
/// element, bf16 within 3e-2, f16 within 5e-3 // 8 and 11 bits, through a few products.
#[cfg(feature = "cuda")]
pub(crate) fn equal_on_cuda<P>(
    case: Case<
        impl Fn(candle_nn::VarBuilder) -> Result<P>,
        impl Fn(&[Tensor], &P) -> Result<Tensor>,
        impl Fn(&[Tensor], &P) -> Result<Tensor>,
    >,
) -> Result<()> {
    use crate::{Precision, autocast};
    let Some(cuda) = cuda() else { return Ok(()) };
    let run = |dtype: DType, device: &Device, f: &dyn Fn(&[Tensor], &P) -> Result<Tensor>| -> Result<Vec<Tensor>> {
        let params = crate::Params::trainable(1);
        let built = (case.build)(params.builder(dtype, device))?;
        for (i, (_, var)) in params.iter().enumerate() {
            let noise = (normal(100 + i as u64, var.shape())? * 0.3)?.to_dtype(dtype)?.to_device(device)?;
            var.set(&(var.as_tensor() + noise)?.detach())?;
        }
        let inputs = case
            .inputs
            .iter()
            .zip(1..)
            .map(|(&shape, seed)| Var::from_tensor(&normal(seed, shape)?.to_dtype(dtype)?.to_device(device)?));
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let tensors: Vec<Tensor> = inputs.iter().map(|v| v.as_tensor().clone()).collect();
        let y = f(&tensors, &built)?;
        let weights: Vec<f64> = (0..y.elem_count()).map(|i| ((i * 37 % 101) as f64 - 50.0) / 50.0).collect();
        let weights = Tensor::from_vec(weights, y.shape(), &Device::Cpu)?.to_dtype(y.dtype())?.to_device(device)?;
        let grads = crate::backward(&(&y * weights)?.sum_all()?)?;
        let host = |t: &Tensor| t.to_device(&Device::Cpu)?.to_dtype(DType::F64);
        let mut all = vec![host(&y)?];
        for var in inputs.into_iter().chain(params.iter().map(|(_, var)| var)) {
            let Some(gradient) = grads.get(&var) else { candle_core::bail!("{:?} got no gradient", var.dims()) };
            all.push(host(&gradient)?);
        }
        Ok(all)
    };
    let want = run(DType::F64, &Device::Cpu, &case.reference)?;
    for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 3e-2), (Precision::F16, 5e-3)] {
        let got = autocast(precision, || run(DType::F32, &cuda, &case.fused))?;
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            assert_eq!(got.dims(), want.dims());
            let error = (got - want)?.abs()?.max_all()?.to_scalar::<f64>()?;
            let size = want.abs()?.max_all()?.to_scalar::<f64>()?.max(1.0);
            let what = format!("{precision:?} {:?}, tensor {i}", case.inputs);
            assert!(error <= tolerance * size, "{what}: error {error:e} of {size:e}");
        }
    }
    Ok(())
}
