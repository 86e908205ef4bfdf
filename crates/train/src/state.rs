//! All state of a training, saved and restored.

use crate::{Config, Error, Trainer};
use candle_core::{Result, Tensor};
use selfpatch_run::{Found, State};
use std::collections::BTreeMap;
use std::path::Path;

/// Name of the centre of the patch objective, among those of the image objective.
const PATCH: &str = "patch";

impl Trainer {
    /// All state of the training; `metadata` is what its files say of themselves.
    pub fn state(&self, metadata: Vec<(String, String)>) -> Result<State> {
        let mut centers = self.objective.state();
        centers.push((PATCH.into(), self.patch.center().value().clone()));
        State::new(metadata)
            .with_tensors("student", self.student_params.tensors())?
            .with_tensors("teacher", self.teacher_params.tensors())?
            .with_tensors("optimizer", self.optimizer.moments())?
            .with_tensors("centers", centers)?
            .with_value("optimizer_steps", Some(&self.optimizer.steps()?))?
            .with_value("scaler", self.scaler.as_ref())
    }

    /// Goes back to the state of a checkpoint.
    ///
    /// # Errors
    /// When a file cannot be read, or names and shapes do not fit.
    pub fn restore(&mut self, found: &Found<Config>) -> std::result::Result<(), Error> {
        let device = self.device().clone();
        let load = |name: &str| found.tensors(name, &device);
        let (student, teacher, moments) = (load("student")?, load("teacher")?, load("optimizer")?);
        self.student_params.load(&student.tensors, &student.path)?;
        self.teacher_params.load(&teacher.tensors, &teacher.path)?;
        let steps = found.value("optimizer_steps")?.unwrap_or_default();
        self.optimizer.restore(&moments.tensors, &steps)?;
        let centers = load("centers")?;
        self.restore_objectives(&centers.tensors, &centers.path)?;
        // A run that goes on in fp16 after another precision begins with the usual scale.
        if let Some(usual) = self.scaler {
            self.scaler = Some(found.value("scaler")?.unwrap_or(usual));
        }
        Ok(())
    }

    /// Takes back the state of both objectives from the tensors of the file at `path`.
    pub(crate) fn restore_objectives(
        &mut self,
        centers: &BTreeMap<String, Tensor>,
        path: &Path,
    ) -> std::result::Result<(), Error> {
        let fail = |reason: String| Error::File { path: path.into(), reason };
        self.objective.load(centers).map_err(|e| fail(e.to_string()))?;
        let center = centers.get(PATCH).ok_or_else(|| fail("has no patch centre".into()))?;
        Ok(self.patch.center_mut().set(center)?)
    }
}
