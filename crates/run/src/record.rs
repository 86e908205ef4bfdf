//! The numbers of one moment of a run: a line of its log.

use crate::{Number, Numbers};
use serde::de::Error;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;

/// The field that tells the step.
const STEP: &str = "step";

/// The numbers of one moment of a run.
///
/// Every task writes `epoch` (1.5 is halfway through the second), `seconds` (time spent until now, including the
/// sessions before a resume) and `images_per_second`; `docs/running.md` has all names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// How many steps were finished when this was written, so 1 after the first.
    pub step: u64,
    /// All numbers of the moment but the step.
    pub numbers: Numbers,
}

impl Record {
    /// A record of the moment after `step` steps, without numbers.
    pub fn new(step: u64) -> Self {
        Self { step, numbers: Numbers::default() }
    }

    /// The record with one more number, or with another value of the one of that name.
    pub fn with(mut self, name: impl Into<Cow<'static, str>>, number: impl Into<Number>) -> Self {
        self.numbers.set(name, number);
        self
    }

    /// The record with more numbers, in their order.
    pub fn with_all(mut self, numbers: Numbers) -> Self {
        self.numbers.extend(numbers);
        self
    }

    /// The number called `name`.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.numbers.get(name)
    }

    /// The number called `name`, NaN where there is none.
    pub fn number(&self, name: &str) -> f64 {
        self.get(name).unwrap_or(f64::NAN)
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(STEP, &self.step)?;
        self.numbers.iter().try_for_each(|(name, number)| map.serialize_entry(name, &number))?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut numbers = Numbers::deserialize(deserializer)?;
        match numbers.take(STEP) {
            Some(Number::Count(step)) => Ok(Self { step, numbers }),
            Some(_) => Err(D::Error::custom("its step is no whole number")),
            None => Err(D::Error::missing_field(STEP)),
        }
    }
}
