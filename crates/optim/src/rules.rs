//! What is fixed about the steps of an optimiser: decay, clipping, rates of single parameters.

/// Which parameters are decayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Decay {
    /// Neither biases nor tensors of one dimension (`get_params_groups` of DINO; position table, class token and a
    /// trained gain are decayed, QUIRKS 14).
    #[default]
    Matrices,
    /// All parameters are decayed (MoCo v3).
    All,
}

impl Decay {
    /// Whether the parameter of this name and number of dimensions is decayed.
    pub fn applies(self, name: &str, rank: usize) -> bool {
        match self {
            Self::Matrices => !(name.ends_with(".bias") || rank == 1),
            Self::All => true,
        }
    }
}

/// How gradients are clipped.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub enum Clip {
    /// Gradients are not clipped.
    #[default]
    None,
    /// Each gradient is clipped to this norm (DINO, QUIRKS 12).
    Each(f64),
    /// All gradients together are clipped to this norm (MoBY).
    Together(f64),
}

impl Clip {
    /// Factors that clip gradients of these norms: `c / (norm + 1e-6)` where that is below 1, else 1.
    pub fn factors(self, norms: &[f64]) -> Vec<f64> {
        let factor = |norm: f64, most: f64| (most / (norm + 1e-6)).min(1.);
        match self {
            Self::None => vec![1.; norms.len()],
            Self::Each(most) => norms.iter().map(|norm| factor(*norm, most)).collect(),
            Self::Together(most) => {
                let whole = norms.iter().map(|norm| norm * norm).sum::<f64>().sqrt();
                vec![factor(whole, most); norms.len()]
            }
        }
    }
}

/// Parameters with a learning rate of their own.
#[derive(Clone, Debug, PartialEq)]
pub struct Rate {
    /// Text that the names of the parameters contain.
    pub of: String,
    /// Factor of the learning rate.
    pub factor: f64,
}

/// What is fixed about the steps of an optimiser.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Rules {
    /// Which parameters are decayed.
    pub decay: Decay,
    /// How gradients are clipped.
    pub clip: Clip,
    /// Rates of single parameters; the first that fits counts.
    pub rates: Vec<Rate>,
}

impl Rules {
    /// Factor of the learning rate of the parameter of this name.
    pub fn rate_of(&self, name: &str) -> f64 {
        self.rates.iter().find(|rate| name.contains(&rate.of)).map_or(1., |rate| rate.factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_is_for_each_or_for_all() {
        let close = |got: Vec<f64>, want: [f64; 2]| got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(close(Clip::None.factors(&[3., 4.]), [1., 1.]));
        assert!(close(Clip::Each(3.5).factors(&[3., 7.]), [1., 0.5]));
        assert!(close(Clip::Together(2.5).factors(&[3., 4.]), [0.5, 0.5]));
        assert!(close(Clip::Together(50.).factors(&[3., 4.]), [1., 1.]));
    }

    #[test]
    fn rules_go_by_name_and_shape() {
        assert!(Decay::Matrices.applies("fc.weight", 2) && !Decay::Matrices.applies("fc.bias", 1));
        assert!(!Decay::Matrices.applies("norm.weight", 1) && Decay::All.applies("norm.weight", 1));
        let rules = Rules { rates: vec![Rate { of: "predictor.".into(), factor: 0.1 }], ..Rules::default() };
        assert_eq!((rules.rate_of("predictor.0.weight"), rules.rate_of("fc.weight")), (0.1, 1.));
    }
}
