//! The moving average: one network follows another.

use crate::update;
use candle_core::{Result, Var, bail};
use selfpatch_nn::{Params, is_buffer};

/// A network that follows the one that is trained, parameter by parameter of the same name. It may have fewer: a
/// predictor has no teacher.
#[derive(Clone, Copy)]
pub struct Follower<'a> {
    /// Parameters of the follower.
    pub params: &'a Params,
    /// How much of its own value each parameter keeps.
    pub momentum: f64,
}

impl Follower<'_> {
    /// The parameter that follows the one called `name`; buffers (batch-norm statistics) stay each network's own.
    pub(crate) fn of(&self, name: &str) -> Option<Var> {
        if is_buffer(name) { None } else { self.params.get(name) }
    }

    /// An error if the follower has a name that `leader` has not, or another shape.
    pub(crate) fn check(&self, leader: &Params) -> Result<()> {
        for (name, to) in self.params.iter() {
            match leader.get(&name) {
                Some(from) if from.dims() == to.dims() => {}
                Some(from) => bail!("{name}: the follower has {:?}, its leader {:?}", to.dims(), from.dims()),
                None => bail!("{name}: the leader has no such parameter to follow"),
            }
        }
        Ok(())
    }
}

/// `follower = momentum follower + (1 - momentum) leader` for every parameter of the follower, matched by name; buffers
/// (batch-norm statistics) stay each network's own.
///
/// # Errors
/// If the follower has a name that the leader has not, or another shape.
pub fn ema(follower: &Follower, leader: &Params) -> Result<()> {
    follower.check(leader)?;
    for (name, from) in leader.iter() {
        if let Some(to) = follower.of(&name) {
            update::average(&to, from.as_tensor(), follower.momentum)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use candle_nn::init::{ONE, ZERO};

    #[test]
    fn follows_by_name_and_refuses_strangers() -> Result<()> {
        let (teacher, student) = (Params::frozen(0), Params::trainable(0));
        let make = |p: &Params, name: &str, init| p.builder(DType::F32, &Device::Cpu).get_with_hints(2, name, init);
        let seen = make(&teacher, "a", ONE)?;
        make(&student, "a", ZERO)?;
        let follow = |teacher: &Params| ema(&Follower { params: teacher, momentum: 0.75 }, &student);
        follow(&teacher)?;
        assert_eq!(seen.to_vec1::<f32>()?, [0.75, 0.75]);
        // Nobody has to follow.
        make(&student, "predictor", ONE)?;
        follow(&teacher)?;
        make(&teacher, "b", ONE)?;
        assert!(follow(&teacher).is_err());
        Ok(())
    }
}
