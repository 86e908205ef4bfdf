//! All state of a training at one moment, apart from the training itself.

use crate::{Scaler, Trainer};
use candle_core::{Device, Result, Tensor};
use std::collections::BTreeMap;

/// Copies of all tensors in the memory of the host, so that training can go on while they are written.
pub struct Snapshot {
    /// Finished steps.
    pub step: usize,
    /// Images of the data.
    pub images: usize,
    /// Parameters of the student.
    pub student: Vec<(String, Tensor)>,
    /// Parameters of the teacher.
    pub teacher: Vec<(String, Tensor)>,
    /// The optimiser's moments.
    pub moments: Vec<(String, Tensor)>,
    /// Both centres, `class` and `patch`.
    pub centers: Vec<(String, Tensor)>,
    /// The optimiser's step counts.
    pub optimizer_steps: BTreeMap<String, u64>,
    /// Scale of the loss, in fp16.
    pub scaler: Option<Scaler>,
}

impl Snapshot {
    /// Of `trainer` after `step` finished steps on data of `images` images.
    pub fn of(trainer: &Trainer, step: usize, images: usize) -> Result<Self> {
        Ok(Self {
            step,
            images,
            student: copies(trainer.student_params.tensors())?,
            teacher: copies(trainer.teacher_params.tensors())?,
            moments: copies(trainer.optimizer.moments())?,
            centers: copies(vec![
                ("class".to_string(), trainer.image.center().value().clone()),
                ("patch".to_string(), trainer.patch.center().value().clone()),
            ])?,
            optimizer_steps: trainer.optimizer.steps()?,
            scaler: trainer.scaler,
        })
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        let all = [&self.student, &self.teacher, &self.moments, &self.centers].into_iter().flatten();
        all.map(|(_, t)| (t.elem_count() * t.dtype().size_in_bytes()) as u64).sum()
    }
}

fn copies(tensors: Vec<(String, Tensor)>) -> Result<Vec<(String, Tensor)>> {
    tensors.into_iter().map(|(name, t)| Ok((name, t.force_contiguous()?.to_device(&Device::Cpu)?))).collect()
}
