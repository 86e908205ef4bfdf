//! Batch normalisation.

use candle_core::{D, DType, Result, Tensor, bail};
use candle_nn::{VarBuilder, init};

/// What follows the normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Affine {
    /// A gain and a shift per channel (`weight`, `bias`).
    #[default]
    Full,
    /// A gain alone: SimCLR's output.
    Gain,
    /// Nothing: the outputs of MoCo v3 and SimSiam.
    None,
}

/// Settings of a [`BatchNorm`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormConfig {
    /// Number added to the variance.
    pub eps: f64,
    /// Part of the running statistics that a call in training replaces.
    pub momentum: f64,
    /// What follows the normalisation.
    pub affine: Affine,
}

impl Default for BatchNormConfig {
    /// The defaults of torch: eps 1e-5, momentum 0.1, gain and shift.
    fn default() -> Self {
        Self { eps: 1e-5, momentum: 0.1, affine: Affine::Full }
    }
}

/// Whose statistics normalise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The statistics of this call, which also move the running ones.
    Train,
    /// The running statistics.
    Eval,
}

/// torch's `BatchNorm1d` and `BatchNorm2d`, by candle's own ops.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    config: BatchNormConfig,
    weight: Option<Tensor>,
    bias: Option<Tensor>,
    running_mean: Tensor,
    running_var: Tensor,
}

impl BatchNorm {
    /// A batch norm with the parameters `weight` and `bias`, where there are any, and the buffers `running_mean` and
    /// `running_var`.
    ///
    /// # Errors
    /// When `vb` has other shapes.
    pub fn new(dim: usize, config: BatchNormConfig, vb: VarBuilder) -> Result<Self> {
        let (gain, shift) = (config.affine != Affine::None, config.affine == Affine::Full);
        Ok(Self {
            config,
            weight: gain.then(|| vb.get_with_hints(dim, "weight", init::ONE)).transpose()?,
            bias: shift.then(|| vb.get_with_hints(dim, "bias", init::ZERO)).transpose()?,
            running_mean: vb.get_with_hints(dim, "running_mean", init::ZERO)?,
            running_var: vb.get_with_hints(dim, "running_var", init::ONE)?,
        })
    }

    /// Normalises channels that are last: `[.., D] -> [.., D]`, in the dtype of the parameters. In training the
    /// statistics are those of all rows (the running variance is unbiased).
    ///
    /// # Errors
    /// When the input has other channels, or in training fewer than two rows: torch refuses them too, as a single row
    /// minus its own mean is zero.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let (channels, own) = (x.dim(D::Minus1)?, self.running_mean.elem_count());
        if channels != own {
            bail!("this batch norm takes {own} channels, the input {:?} has {channels}", x.dims())
        }
        let rows = x.to_dtype(self.dtype())?.reshape(((), channels))?;
        let (centred, variance) = match mode {
            Mode::Train => self.statistics(&rows)?,
            Mode::Eval => (rows.broadcast_sub(&self.running_mean.detach())?, self.running_var.detach().unsqueeze(0)?),
        };
        let mut y = centred.broadcast_div(&(variance + self.config.eps)?.sqrt()?)?;
        if let Some(weight) = &self.weight {
            y = y.broadcast_mul(weight)?;
        }
        if let Some(bias) = &self.bias {
            y = y.broadcast_add(bias)?;
        }
        y.reshape(x.shape())
    }

    /// Normalises channels that are second: `[B, C, H, W] -> [B, C, H, W]`, the statistics of each channel being those
    /// of all its pixels.
    ///
    /// # Errors
    /// When there are other channels.
    pub fn forward_2d(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let rows = x.permute((0, 2, 3, 1))?.contiguous()?;
        self.forward(&rows, mode)?.permute((0, 3, 1, 2))?.contiguous()
    }

    /// `rows [R, D]` less their mean, and their variance `[1, D]`; moves the running statistics.
    fn statistics(&self, rows: &Tensor) -> Result<(Tensor, Tensor)> {
        let n = rows.dim(0)?;
        if n < 2 {
            bail!(
                "batch norm in training needs at least two values per channel, this input has {n}; use a larger batch"
            )
        }
        let mean = rows.mean_keepdim(0)?;
        let centred = rows.broadcast_sub(&mean)?;
        let variance = centred.sqr()?.mean_keepdim(0)?;
        let n = n as f64;
        let unbiased = (variance.detach() * (n / (n - 1.)))?;
        let momentum = self.config.momentum;
        for (running, now) in [(&self.running_mean, mean.detach()), (&self.running_var, unbiased)] {
            let next = ((running * (1. - momentum))? + (now.squeeze(0)? * momentum)?)?;
            running.slice_set(&next, 0, 0)?; // in place: the parameter store sees it
        }
        Ok((centred, variance))
    }

    fn dtype(&self) -> DType {
        self.running_mean.dtype()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Params, backward};
    use candle_core::{Device, Var};

    const X: [f32; 24] = [
        0.185034, 0.839822, -0.873025, 0.407292, 1.297259, -0.13017, 2.730826, -2.095062, 0.906911, 1.216949, 1.440586,
        0.249535, -0.217268, 1.04048, 0.183629, -2.408047, 1.027671, 0.607852, 0.807642, 2.329131, 0.860453, 0.320125,
        1.46051, 0.136135,
    ];
    const COEFFICIENTS: [f32; 24] = [
        -1.19632, 1.027997, 0.071891, -0.184476, -1.515885, 0.912517, 0.253887, -0.692364, -0.075203, -0.423299,
        0.421687, -0.257645, -1.583494, 1.39601, -1.031888, 1.139089, 0.512464, -0.019845, -1.121595, -0.489067,
        -0.633628, -0.789338, -0.897733, -1.887572,
    ];

    fn assert_close(got: &Tensor, want: &[f32], what: &str) -> Result<()> {
        let got = got.flatten_all()?.to_vec1::<f32>()?;
        assert!(got.len() == want.len() && got.iter().zip(want).all(|(a, b)| (a - b).abs() < 2e-5), "{what}: {got:?}");
        Ok(())
    }

    /// Values of torch 2.13's `BatchNorm2d(2, eps=1e-3, momentum=0.2)`, in training and after it.
    #[test]
    fn channels_are_normalised_as_torch_does() -> Result<()> {
        let params = Params::trainable(0);
        let config = BatchNormConfig { eps: 1e-3, momentum: 0.2, ..BatchNormConfig::default() };
        let norm = BatchNorm::new(2, config, params.builder(DType::F32, &Device::Cpu))?;
        let tensor = |values: &[f32]| Tensor::from_slice(values, values.len(), &Device::Cpu);
        for (name, values) in [("weight", [1.5, 0.5]), ("bias", [0.25, -1.])] {
            params.get(name).expect("a parameter").set(&tensor(&values)?)?;
        }
        let x = Var::from_tensor(&tensor(&X)?.reshape((3, 2, 2, 2))?)?;
        let y = norm.forward_2d(x.as_tensor(), Mode::Train)?;
        assert_close(
            &y.narrow(0, 0, 1)?,
            &[-0.912507, 0.406534, -3.043921, -0.464779, -0.62448, -1.14371, -0.103017, -1.858442],
            "y",
        )?;
        let grads = backward(&(y * tensor(&COEFFICIENTS)?.reshape((3, 2, 2, 2))?)?.sum_all()?)?;
        let of = |t: &Tensor| grads.get(t).expect("a gradient");
        assert_close(
            &of(&x).narrow(0, 0, 1)?,
            &[-2.074456, 2.355854, 0.561866, -0.053275, -0.356185, 0.480633, 0.33429, -0.167177],
            "gradient",
        )?;
        for (name, want) in [("weight", [0.341947, -1.477752]), ("bias", [-1.733411, -5.330399])] {
            assert_close(&of(&params.get(name).expect("a parameter")), &want, name)?;
        }
        assert_close(&norm.running_mean, &[0.152423, 0.052981], "running mean")?;
        assert_close(&norm.running_var, &[0.920754, 1.21202], "running variance")?;
        let y = norm.forward_2d(x.as_tensor(), Mode::Eval)?;
        assert_close(
            &y.narrow(0, 0, 1)?,
            &[0.30095, 1.323971, -1.352129, 0.648199, -0.435124, -1.083147, 0.215686, -1.975167],
            "in evaluation",
        )?;
        assert_close(&norm.running_mean, &[0.152423, 0.052981], "running mean after evaluation")
    }

    /// Values of torch 2.13's `BatchNorm1d(3)` in evaluation, with its gradients.
    #[test]
    fn running_statistics_normalise_in_evaluation_as_in_torch() -> Result<()> {
        let tensor = |values: &[f32]| Tensor::from_slice(values, values.len(), &Device::Cpu);
        for (affine, y, gradient) in [
            (
                Affine::Full,
                [0.25, -1.749985, -1.99999, 0.999999, -0.50001, 3.499982],
                [0.749999, -1.99996, -0.999995, 0.1875, 2.99994, 1.99999],
            ),
            (
                Affine::None,
                [0., -1.49997, 0.999995, 0.499999, 0.99998, -1.749991],
                [0.499999, -3.99992, 0.499997, 0.125, 5.99988, -0.999995],
            ),
        ] {
            let params = Params::trainable(0);
            let config = BatchNormConfig { affine, ..BatchNormConfig::default() };
            let norm = BatchNorm::new(3, config, params.builder(DType::F32, &Device::Cpu))?;
            let parameters = [
                ("weight", [1.5, 0.5, -2.]),
                ("bias", [0.25, -1., 0.]),
                ("running_mean", [0.5, -0.25, 1.]),
                ("running_var", [4., 0.25, 1.]),
            ];
            for (name, values) in parameters {
                if let Some(var) = params.get(name) {
                    var.set(&tensor(&values)?)?;
                }
            }
            let x = Var::from_tensor(&tensor(&[0.5, -1., 2., 1.5, 0.25, -0.75])?.reshape((2, 3))?)?;
            let got = norm.forward(x.as_tensor(), Mode::Eval)?;
            assert_close(&got, &y, "y")?;
            let coefficients = tensor(&[1., -2., 0.5, 0.25, 3., -1.])?.reshape((2, 3))?;
            let grads = backward(&(got * coefficients)?.sum_all()?)?;
            assert_close(&grads.get(&x).expect("a gradient"), &gradient, "gradient")?;
            if affine == Affine::Full {
                for (name, want) in [("weight", [0.125, 5.99988, 2.249989]), ("bias", [1.25, 1., -0.5])] {
                    let var = params.get(name).expect("a parameter");
                    assert_close(&grads.get(&var).expect("a gradient"), &want, name)?;
                }
            }
            // One row is enough in evaluation.
            assert_close(&norm.forward(&x.narrow(0, 0, 1)?, Mode::Eval)?, &y[..3], "one row")?;
        }
        Ok(())
    }

    #[test]
    fn inputs_that_do_not_fit_are_refused_and_move_nothing() -> Result<()> {
        let params = Params::trainable(0);
        let norm = BatchNorm::new(3, BatchNormConfig::default(), params.builder(DType::F32, &Device::Cpu))?;
        let ones = |shape: &[usize]| Tensor::ones(shape, DType::F32, &Device::Cpu);
        let refused = |result: Result<Tensor>, why: &str| {
            let error = result.expect_err(why).to_string();
            assert!(error.contains(why), "{error}");
        };
        for mode in [Mode::Train, Mode::Eval] {
            refused(norm.forward(&ones(&[4, 1])?, mode), "takes 3 channels");
            refused(norm.forward_2d(&ones(&[2, 4, 3, 3])?, mode), "takes 3 channels");
        }
        refused(norm.forward(&ones(&[1, 3])?, Mode::Train), "at least two values");
        refused(norm.forward_2d(&ones(&[1, 3, 1, 1])?, Mode::Train), "at least two values");
        assert_close(&norm.running_mean, &[0.; 3], "running mean")?;
        assert_close(&norm.running_var, &[1.; 3], "running variance")?;
        assert_eq!(norm.forward_2d(&ones(&[1, 3, 1, 2])?, Mode::Train)?.dims(), [1, 3, 1, 2]);
        Ok(())
    }

    #[test]
    fn what_follows_is_as_asked_for() -> Result<()> {
        for (affine, count) in [(Affine::Full, 4), (Affine::Gain, 3), (Affine::None, 2)] {
            let params = Params::trainable(0);
            let config = BatchNormConfig { affine, ..BatchNormConfig::default() };
            let norm = BatchNorm::new(3, config, params.builder(DType::F32, &Device::Cpu))?;
            assert_eq!(params.len(), count);
            let y = norm.forward(&Tensor::arange(0f32, 12., &Device::Cpu)?.reshape((4, 3))?, Mode::Train)?;
            assert!(y.sum(0)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-5);
        }
        Ok(())
    }
}
