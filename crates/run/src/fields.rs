//! Settings as fields with places, such as `optim.lr`.

use crate::{Error, Settings};
use std::collections::BTreeMap;
use toml::{Table, Value};

/// A field whose value differs, both values as TOML, or `absent`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Place of the field, such as `optim.lr`.
    pub place: String,
    /// The value before.
    pub from: String,
    /// The value now.
    pub to: String,
}

/// The value of each field as TOML, by its place, such as `optim.lr` or `crops.globals[1].blur`.
///
/// # Errors
/// The errors of [`Settings::to_table`].
pub fn of<S: Settings>(settings: &S) -> Result<BTreeMap<String, String>, Error> {
    Ok(flat(settings.to_table()?))
}

/// The value of each field of a table as TOML, by its place.
pub fn flat(table: Table) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    flatten(&Value::Table(table), "", &mut fields);
    fields
}

/// Fields in which two sets of settings differ, by their places.
///
/// # Errors
/// The errors of [`Settings::to_table`].
pub fn differences<S: Settings>(from: &S, to: &S) -> Result<Vec<Difference>, Error> {
    let (a, b) = (of(from)?, of(to)?);
    let absent = || "absent".to_string();
    let mut places: Vec<&String> = a.keys().chain(b.keys()).collect();
    places.sort();
    places.dedup();
    let both = places.into_iter().map(|place| Difference {
        place: place.clone(),
        from: a.get(place).cloned().unwrap_or_else(absent),
        to: b.get(place).cloned().unwrap_or_else(absent),
    });
    Ok(both.filter(|d| d.from != d.to).collect())
}

/// Whether `name` means the field at `place`: with the number of a view or without.
pub fn names(name: &str, place: &str) -> bool {
    name == place || name == stripped(place) || place.strip_prefix(name).is_some_and(|rest| rest.starts_with('['))
}

/// A place without the numbers of views: `crops.globals[1].blur` is `crops.globals.blur`.
pub fn stripped(place: &str) -> String {
    let mut parts = place.split('[');
    let first = parts.next().unwrap_or_default().to_string();
    parts.fold(first, |whole, part| whole + part.split_once(']').map_or(part, |(_, rest)| rest))
}

/// Whether the field at `place` is the one called `name`, or one of the table of that name.
pub(crate) fn is_within(place: &str, name: &str) -> bool {
    place.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn flatten(value: &Value, place: &str, out: &mut BTreeMap<String, String>) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                let here = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
                flatten(value, &here, out);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_table) => {
            for (i, value) in items.iter().enumerate() {
                flatten(value, &format!("{place}[{i}]"), out);
            }
        }
        other => drop(out.insert(place.to_string(), other.to_string())),
    }
}
