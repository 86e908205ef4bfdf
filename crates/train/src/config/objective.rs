//! What a whole image is trained on.

use crate::Error;
use crate::near::did_you_mean;
use serde::{Deserialize, Serialize};

/// The image objective: its `kind`, and the fields of that kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ImageObjective {
    /// DINO.
    Dino(DinoObjective),
}

impl ImageObjective {
    /// One objective of each kind, with the values of its publication.
    pub fn all() -> [Self; 1] {
        [Self::Dino(DinoObjective::default())]
    }

    /// The objective of the kind called `kind`, with the values of its publication.
    ///
    /// # Errors
    /// When there is no such kind; the error has the nearest name.
    pub fn named(kind: &str) -> Result<Self, Error> {
        let all = Self::all();
        all.iter().find(|one| one.kind() == kind).cloned().ok_or_else(|| Error::Config {
            field: "objective.kind".into(),
            reason: format!("there is no {kind:?}{}", did_you_mean(kind, all.iter().map(Self::kind))),
        })
    }

    /// Name of the objective's kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Dino(_) => "dino",
        }
    }
}

/// DINO's loss. [`Default`] has the published values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DinoObjective {
    /// Temperature of the student.
    pub student_temp: f64,
    /// Temperature of the teacher at the start.
    pub warmup_teacher_temp: f64,
    /// Temperature of the teacher after its warm-up.
    pub teacher_temp: f64,
    /// Epochs of the warm-up of the teacher's temperature.
    pub warmup_teacher_temp_epochs: usize,
    /// Momentum of the centres.
    pub center_momentum: f64,
}

impl Default for DinoObjective {
    fn default() -> Self {
        Self {
            student_temp: 0.1,
            warmup_teacher_temp: 0.04,
            teacher_temp: 0.04,
            warmup_teacher_temp_epochs: 0,
            center_momentum: 0.9,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_name() -> Result<(), Error> {
        for one in ImageObjective::all() {
            let name = one.kind();
            assert_eq!(ImageObjective::named(name)?, one);
            let table = toml::Table::try_from(one).unwrap_or_default();
            assert_eq!(table.get("kind").and_then(toml::Value::as_str), Some(name));
        }
        let error = ImageObjective::named("dinosaur").map_or_else(|e| e.to_string(), |_| String::new());
        assert_eq!(error, "objective.kind: there is no \"dinosaur\"; did you mean \"dino\"?");
        Ok(())
    }
}
