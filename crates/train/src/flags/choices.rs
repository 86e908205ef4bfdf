//! The names of an enum's variants, as its derived `Deserialize` knows them.

use serde::Deserialize;
use serde::de::value::Error;
use serde::de::{Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;
use std::cell::Cell;

/// The names by which configurations call the variants of `T`; empty for what is no enum.
pub fn choices<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let names = Cell::new(&[][..]);
    let _ = T::deserialize(Names(&names));
    names.get()
}

/// A deserialiser that holds no value, and keeps the names that are asked for.
struct Names<'a>(&'a Cell<&'static [&'static str]>);

impl<'de> Deserializer<'de> for Names<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("holds no value"))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        self.0.set(names);
        Err(Error::custom("holds no value"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::choices;
    use crate::config::{Aggregation, Algorithm, Border, Precision};

    #[test]
    fn enums_name_their_variants() {
        assert_eq!(choices::<Border>(), ["torus", "clipped"]);
        assert_eq!(choices::<Algorithm>(), ["adamw", "sgd", "lars"]);
        assert_eq!(choices::<Precision>(), ["f32", "bf16", "fp16"]);
        assert_eq!(choices::<Aggregation>(), ["class-attention", "mean", "none"]);
        assert!(choices::<f64>().is_empty());
    }
}
