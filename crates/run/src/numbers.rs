//! Named numbers: what a step or a measurement tells.

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

/// A number, as the log writes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A measurement. JSON has no NaN and no infinity: both are written as `null` and read back as NaN.
    Real(f64),
    /// A count.
    Count(u64),
    /// A flag: yes or no.
    Flag(bool),
}

impl Number {
    /// The number itself; 1 and 0 for yes and no.
    pub fn value(self) -> f64 {
        match self {
            Self::Real(value) => value,
            Self::Count(count) => count as f64,
            Self::Flag(flag) => f64::from(u8::from(flag)),
        }
    }

    /// The number that a JSON value is; `None` for text, lists and objects.
    pub(crate) fn of(json: &serde_json::Value) -> Option<Self> {
        match json {
            serde_json::Value::Null => Some(Self::Real(f64::NAN)),
            serde_json::Value::Bool(flag) => Some(Self::Flag(*flag)),
            other => other.as_u64().map(Self::Count).or_else(|| other.as_f64().map(Self::Real)),
        }
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl From<u64> for Number {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<bool> for Number {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::Real(value) => serializer.serialize_f64(value),
            Self::Count(count) => serializer.serialize_u64(count),
            Self::Flag(flag) => serializer.serialize_bool(flag),
        }
    }
}

/// Numbers by name, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Numbers(Vec<(Cow<'static, str>, Number)>);

impl Numbers {
    /// The number called `name`.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, number)| number.value())
    }

    /// The numbers with one more, or with another value of the one of that name.
    pub fn with(mut self, name: impl Into<Cow<'static, str>>, number: impl Into<Number>) -> Self {
        self.set(name, number);
        self
    }

    /// The numbers with one more, if there is one.
    pub fn with_some(self, name: impl Into<Cow<'static, str>>, number: Option<impl Into<Number>>) -> Self {
        match number {
            Some(number) => self.with(name, number),
            None => self,
        }
    }

    /// Whether there are no numbers.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a number, or replaces the one of that name.
    pub fn set(&mut self, name: impl Into<Cow<'static, str>>, number: impl Into<Number>) {
        let (name, number) = (name.into(), number.into());
        match self.0.iter_mut().find(|(n, _)| *n == name) {
            Some((_, old)) => *old = number,
            None => self.0.push((name, number)),
        }
    }

    /// Takes the number called `name` out of the numbers.
    pub(crate) fn take(&mut self, name: &str) -> Option<Number> {
        let place = self.0.iter().position(|(n, _)| n == name)?;
        Some(self.0.remove(place).1)
    }

    /// Adds all numbers of `other`.
    pub fn extend(&mut self, other: Self) {
        other.0.into_iter().for_each(|(name, number)| self.set(name, number));
    }

    /// Names and numbers in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Number)> {
        self.0.iter().map(|(name, number)| (name.as_ref(), *number))
    }
}

impl Serialize for Numbers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        self.0.iter().try_for_each(|(name, number)| map.serialize_entry(name, number))?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Numbers {
    /// Every number of an object; its texts, lists and objects are passed over.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Numbers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Numbers, A::Error> {
                let mut numbers = Numbers::default();
                while let Some((name, value)) = map.next_entry::<String, serde_json::Value>()? {
                    if let Some(number) = Number::of(&value) {
                        numbers.0.push((name.into(), number));
                    }
                }
                Ok(numbers)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_as_they_were_written() -> serde_json::Result<()> {
        let mut numbers = Numbers::default();
        numbers.set("loss", 0.1 + 0.2);
        numbers.set("whole", 3.0);
        numbers.set("skipped", 7u64);
        numbers.set("overflow", true);
        numbers.set("skipped", 8u64);
        let text = serde_json::to_string(&numbers)?;
        assert_eq!(text, r#"{"loss":0.30000000000000004,"whole":3.0,"skipped":8,"overflow":true}"#);
        assert_eq!(serde_json::from_str::<Numbers>(&text)?, numbers);
        assert_eq!((numbers.get("overflow"), numbers.get("none")), (Some(1.), None));
        Ok(())
    }

    #[test]
    fn non_finite_numbers_are_null_and_texts_are_passed_over() -> serde_json::Result<()> {
        let mut numbers = Numbers::default();
        numbers.set("a", f64::NAN);
        numbers.set("b", f64::NEG_INFINITY);
        assert_eq!(serde_json::to_string(&numbers)?, r#"{"a":null,"b":null}"#);
        let read: Numbers = serde_json::from_str(r#"{"a":null,"note":"kept","list":[1],"c":-2}"#)?;
        assert_eq!(read.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "c"]);
        assert!(read.get("a").is_some_and(f64::is_nan) && read.get("c") == Some(-2.));
        assert!(serde_json::from_str::<Numbers>("[1]").is_err());
        Ok(())
    }
}
