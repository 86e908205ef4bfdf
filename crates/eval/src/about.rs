//! What a score belongs to: the data, the protocol, the weights, the date, the program's version.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Names and values, in the order in which they are shown.
pub type Facts = Map<String, Value>;

/// Stands beside every score that is printed, written or shown. A file without it is of an older version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// What was looked at.
    pub data: Facts,
    /// How it was judged.
    pub protocol: Facts,
    /// What was judged.
    pub weights: Facts,
    /// When, in UTC.
    pub date: String,
    /// Version of this program.
    pub version: String,
}

impl About {
    /// Each part in words, under its name; those that are not known are left out.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let version = if self.version.is_empty() { String::new() } else { format!("selfpatch {}", self.version) };
        let parts = [
            ("data", words(&self.data)),
            ("protocol", words(&self.protocol)),
            ("weights", words(&self.weights)),
            ("date", self.date.clone()),
            ("program", version),
        ];
        parts.into_iter().filter(|(_, text)| !text.is_empty()).collect()
    }
}

/// The facts of a JSON object.
pub fn facts(value: Value) -> Facts {
    match value {
        Value::Object(map) => map,
        _ => Facts::new(),
    }
}

/// `name value, name value`; what is not known is left out.
fn words(facts: &Facts) -> String {
    let known = facts.iter().filter(|(_, value)| !value.is_null());
    let word = |(name, value): (&String, &Value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("{} {value}", name.replace('_', " "))
    };
    known.map(word).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_known_is_told_in_order() {
        let data = facts(json!({"videos": 12, "grid": Value::Null, "source": "synthetic"}));
        let about = About { data, date: "2026-11-30 17:04 UTC".into(), ..About::default() };
        let expected = [("data", "videos 12, source synthetic".to_owned()), ("date", about.date.clone())];
        assert_eq!(about.lines(), expected);
        assert!(About::default().lines().is_empty());
    }
}
