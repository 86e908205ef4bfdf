//! A flag and what it takes.

use crate::{Error, Preset};
use toml::{Table, Value};

/// A flag that sets one field.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Name without the hyphens before it, words joined by hyphens. DINO joins them by underscores; programs should
    /// read both alike.
    pub name: &'static str,
    /// Another name of the flag.
    pub alias: Option<&'static str>,
    /// The field that the flag sets, such as `optim.lr`; for a field of `crops.globals`, that of all views.
    pub place: &'static str,
    /// Values that the flag takes.
    pub takes: Takes,
    /// Group under which the help lists the flag.
    pub group: Group,
    /// Help in one sentence without its full stop.
    pub help: &'static str,
}

/// Values that a flag takes. The bounds of numbers are those of the field ([`Flag::bounds`]).
#[derive(Clone, Copy, Debug)]
pub enum Takes {
    /// A whole number, not negative.
    Whole,
    /// A number.
    Number,
    /// `true` or `false`; without either, `true`.
    Bool,
    /// Two numbers.
    Pair,
    /// Any text; the word stands for it in the help.
    Text(&'static str),
    /// One of the names that the function gives.
    Choice(fn() -> &'static [&'static str]),
    /// One of the first words of the pairs, each of which means the value beside it.
    Words(&'static [(&'static str, &'static str)]),
}

/// The groups of flags in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Flags of images and crops.
    Data,
    /// Flags of backbone and heads.
    Model,
    /// Flags of the objectives.
    Objective,
    /// Flags of the optimiser, its schedules, precision and memory.
    Optimisation,
    /// Flags that say where a run goes, when it ends and what it keeps.
    Run,
}

impl Group {
    /// Heading of the group in the help.
    pub const fn heading(self) -> &'static str {
        match self {
            Self::Data => "Data",
            Self::Model => "Model",
            Self::Objective => "Objective",
            Self::Optimisation => "Optimisation",
            Self::Run => "Run",
        }
    }
}

impl Flag {
    /// All names of the flag.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.alias)
    }

    /// The least and the greatest number that the field may hold; `None` where another rule has the bounds, or where
    /// the field is no number.
    pub fn bounds(&self) -> Option<(f64, f64)> {
        crate::limits::of(self.place)
    }

    /// What the field holds where the flag is left out: "default: X" for the preset of that name, and the presets that
    /// differ. `None` where the preset `default` has no value. `multichannel` is left out: it has the values of
    /// `folder`.
    ///
    /// # Errors
    /// The errors of [`Config::to_table`](crate::Config::to_table).
    pub fn default(&self) -> Result<Option<String>, Error> {
        // The name of a run follows from its data, and of two spellings of a field one shows its value.
        if self.place == "name" || matches!(self.takes, Takes::Words(_)) {
            return Ok(None);
        }
        let mut told: Vec<(&str, String)> = Vec::new();
        for (name, preset) in Preset::ALL.into_iter().filter(|(_, preset)| *preset != Preset::Multichannel) {
            let value = field(&preset.config().to_table()?, self.place);
            let value = match value.filter(|value| !value.is_empty()) {
                Some(value) => value,
                None if told.is_empty() => return Ok(None),
                None => "none".into(),
            };
            if told.first().is_none_or(|(_, first)| *first != value) {
                told.push((name, value));
            }
        }
        let told: Vec<String> = told.into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
        Ok(Some(told.join(", ")))
    }
}

/// The value of a field as a user would type it; where the place goes through a list of tables, that in the first.
pub(super) fn field(table: &Table, place: &str) -> Option<String> {
    match place.split_once('.') {
        None => table.get(place).map(typed),
        Some((first, rest)) => match table.get(first)? {
            Value::Array(views) => field(views.first()?.as_table()?, rest),
            value => field(value.as_table()?, rest),
        },
    }
}

fn typed(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(typed).collect::<Vec<_>>().join(" "),
        // What is kept in single precision has digits of no meaning as f64.
        Value::Float(x) if *x != 0. && x.abs() < 1e-4 => format!("{x:e}"),
        Value::Float(x) if f64::from(*x as f32) == *x => (*x as f32).to_string(),
        Value::Float(x) => x.to_string(),
        other => other.to_string(),
    }
}
