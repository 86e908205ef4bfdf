//! The teacher follows the student.

use crate::update;
use candle_core::{Result, bail};
use selfpatch_nn::{Params, is_buffer};

/// `teacher = momentum teacher + (1 - momentum) student` for every parameter, matched by name;
/// buffers (batch-norm statistics) stay each network's own.
///
/// An error if the two sets do not hold the same names and shapes.
pub fn ema(teacher: &Params, student: &Params, momentum: f64) -> Result<()> {
    check_alike(teacher, student)?;
    for (name, to) in teacher.iter().filter(|(name, _)| !is_buffer(name)) {
        if let Some(from) = student.get(&name) {
            update::average(&to, from.as_tensor(), momentum)?;
        }
    }
    Ok(())
}

/// An error if two sets do not hold the same names and shapes.
pub(crate) fn check_alike(teacher: &Params, student: &Params) -> Result<()> {
    if teacher.len() != student.len() {
        bail!("teacher and student have {} and {} parameters", teacher.len(), student.len())
    }
    for (name, to) in teacher.iter() {
        match student.get(&name) {
            Some(from) if from.dims() == to.dims() => {}
            Some(from) => bail!("{name}: teacher {:?}, student {:?}", to.dims(), from.dims()),
            None => bail!("{name}: the student has no such parameter"),
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
        ema(&teacher, &student, 0.75)?;
        assert_eq!(seen.to_vec1::<f32>()?, [0.75, 0.75]);
        make(&teacher, "b", ONE)?;
        make(&student, "c", ONE)?;
        assert!(ema(&teacher, &student, 0.5).is_err());
        Ok(())
    }
}
