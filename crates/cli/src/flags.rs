//! Command lines made of the table of flags.

use clap::builder::{PossibleValue, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Command, FromArgMatches, value_parser};
use selfpatch_run::Asked;
use selfpatch_train::flags::{DATA, FLAGS, Flag, Takes};
use selfpatch_train::{Setting, did_you_mean};
use std::ffi::OsStr;
use toml::Value;

/// The flags of the table that were given: of all that `train` has, or of `--data` alone.
pub struct Given<const ALL: bool> {
    flags: Vec<(&'static Flag, Value)>,
}

const DATA_ALONE: [Flag; 1] = [DATA];

impl<const ALL: bool> Given<ALL> {
    fn table() -> &'static [Flag] {
        if ALL { &FLAGS } else { &DATA_ALONE }
    }

    /// Settings that the flags set.
    pub fn settings(&self) -> Vec<Setting> {
        self.flags.iter().map(|(flag, value)| (flag.place.to_string(), value.clone())).collect()
    }

    /// Whether one of the flags sets the field at `place`.
    pub fn sets(&self, place: &str) -> bool {
        self.flags.iter().any(|(flag, _)| flag.place == place)
    }

    /// The flags as they were typed, for messages.
    pub fn typed(&self, arguments: &[String]) -> Vec<Asked> {
        let asked = |(flag, _): &(&Flag, Value)| {
            let names: Vec<&str> = flag.names().collect();
            let (name, value) = find(arguments, &names)?;
            Some(Asked { field: flag.place.into(), flag: name, value })
        };
        self.flags.iter().filter_map(asked).collect()
    }
}

impl<const ALL: bool> clap::Args for Given<ALL> {
    fn augment_args(command: Command) -> Command {
        command.args(Self::table().iter().map(arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<const ALL: bool> FromArgMatches for Given<ALL> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = Self::table().iter().filter_map(|flag| Some((flag, value(flag, matches)?)));
        Ok(Self { flags: given.collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// A flag as the command line takes it.
fn arg(flag: &Flag) -> Arg {
    let default = flag.default().ok().flatten().map(|text| format!(" [{text}]")).unwrap_or_default();
    let arg = Arg::new(flag.name).long(flag.name).help(format!("{}{default}", flag.help));
    let arg = arg.visible_aliases(flag.alias).help_heading(flag.group.heading());
    // Two spellings of one field.
    let others = FLAGS.iter().filter(|other| other.place == flag.place && other.name != flag.name);
    let arg = arg.conflicts_with_all(others.map(|other| other.name));
    match flag.takes {
        Takes::Whole => arg.value_name("N").value_parser(value_parser!(i64).range(0..)),
        Takes::Number => arg.value_name("X").value_parser(value_parser!(f64)),
        Takes::Bool => {
            arg.value_name("BOOL").num_args(0..=1).default_missing_value("true").value_parser(value_parser!(bool))
        }
        Takes::Pair => arg.num_args(2).value_names(["MIN", "MAX"]).value_parser(value_parser!(f64)),
        Takes::Text(name) => arg.value_name(name),
        Takes::Choice(names) => arg.value_name("CHOICE").value_parser(OneOf(names().to_vec())),
        Takes::Words(words) => {
            arg.value_name("CHOICE").value_parser(OneOf(words.iter().map(|(word, _)| *word).collect()))
        }
    }
}

/// The value that was given for a flag, as a configuration holds it.
fn value(flag: &Flag, matches: &ArgMatches) -> Option<Value> {
    let text = || matches.get_one::<String>(flag.name).cloned();
    Some(match flag.takes {
        Takes::Whole => Value::Integer(*matches.get_one(flag.name)?),
        Takes::Number => Value::Float(*matches.get_one(flag.name)?),
        Takes::Bool => Value::Boolean(*matches.get_one(flag.name)?),
        Takes::Pair => Value::Array(matches.get_many(flag.name)?.copied().map(Value::Float).collect()),
        Takes::Text(_) | Takes::Choice(_) => Value::String(text()?),
        Takes::Words(words) => {
            let word = text()?;
            Value::String(words.iter().find(|(name, _)| *name == word)?.1.into())
        }
    })
}

/// Parser that takes one of these names and refuses others in one line.
#[derive(Clone)]
pub struct OneOf(pub Vec<&'static str>);

impl TypedValueParser for OneOf {
    type Value = String;

    fn parse_ref(&self, _: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<String, clap::Error> {
        let value = value.to_string_lossy();
        if self.0.contains(&&*value) {
            return Ok(value.into());
        }
        let flag = arg.and_then(Arg::get_long).unwrap_or_default();
        let all = self.0.join(", ");
        let hint = did_you_mean(&value, self.0.iter().copied());
        let hint = if hint.contains("valid are") { hint } else { format!("{hint} Valid are {all}") };
        Err(clap::Error::raw(ErrorKind::InvalidValue, format!("--{flag}: there is no {value:?}{hint}\n")))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().map(PossibleValue::new)))
    }
}

/// The last flag of one of these names, and its values.
fn find(arguments: &[String], names: &[&str]) -> Option<(String, String)> {
    let is_flag = |argument: &&String| argument.starts_with("--");
    let (at, argument) = arguments.iter().enumerate().rev().find(|(_, argument)| {
        let flag = argument.split('=').next().unwrap_or_default();
        is_flag(argument) && names.contains(&flag[2..].replace('_', "-").as_str())
    })?;
    Some(match argument.split_once('=') {
        Some((flag, value)) => (flag.into(), value.into()),
        None => {
            let values: Vec<&str> =
                arguments[at + 1..].iter().take_while(|a| !is_flag(a)).map(String::as_str).collect();
            (argument.clone(), values.join(" "))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cli, Command as Chosen};
    use clap::{CommandFactory, Parser};
    use std::path::Path;

    #[test]
    fn flags_are_quoted_as_they_were_typed() {
        let arguments = "train --lr 3 --batch_size_per_gpu=16 --global-crops-scale 0.1 1 --recompute --lr 1e-4";
        let arguments: Vec<String> = arguments.split(' ').map(Into::into).collect();
        let found = |names: &[&str]| find(&arguments, names).map(|(flag, value)| format!("{flag} {value}"));
        assert_eq!(found(&["lr"]).as_deref(), Some("--lr 1e-4"));
        assert_eq!(found(&["batch-size", "batch-size-per-gpu"]).as_deref(), Some("--batch_size_per_gpu 16"));
        assert_eq!(found(&["global-crops-scale"]).as_deref(), Some("--global-crops-scale 0.1 1"));
        assert_eq!(found(&["recompute"]).as_deref(), Some("--recompute "));
        assert_eq!(found(&["seed"]), None);
    }

    #[test]
    fn every_flag_of_the_table_sets_its_field() {
        for flag in &FLAGS {
            let words: &[&str] = match flag.takes {
                Takes::Whole | Takes::Number | Takes::Text(_) => &["3"],
                Takes::Bool => &["false"],
                Takes::Pair => &["0.1", "0.9"],
                Takes::Choice(names) => &names()[1..2],
                Takes::Words(words) => &[words[0].0],
            };
            for name in flag.names() {
                let name = format!("--{name}");
                let line = [&["selfpatch", "train", &name], words].concat();
                let Ok(Cli { command: Chosen::Train(args) }) = Cli::try_parse_from(&line) else { panic!("{line:?}") };
                let settings = args.given.settings();
                assert_eq!(settings.len(), 1, "{line:?}");
                let value = match &settings[0].1 {
                    Value::String(text) => text.clone(),
                    Value::Array(items) => items.iter().map(Value::to_string).collect::<Vec<_>>().join(" "),
                    other => other.to_string().trim_end_matches(".0").to_string(),
                };
                let expected = if flag.name == "use-fp16" { "fp16".into() } else { words.join(" ") };
                assert_eq!((settings[0].0.as_str(), value), (flag.place, expected));
            }
        }
        let parsed = Cli::try_parse_from(["selfpatch", "train", "--precision", "f32", "--use-fp16", "true"]);
        assert!(parsed.is_err_and(|e| e.kind() == ErrorKind::ArgumentConflict));
        let Err(e) = Cli::try_parse_from(["selfpatch", "train", "--border", "tours"]) else { panic!("taken") };
        assert_eq!(
            e.to_string(),
            "error: --border: there is no \"tours\"; did you mean \"torus\"? Valid are torus, clipped\n"
        );
    }

    /// What a field may hold, in words.
    fn values(arg: &Arg, flag: Option<&Flag>) -> String {
        let kind = match flag.map(|flag| flag.takes) {
            Some(Takes::Whole) => "whole number",
            Some(Takes::Number) => "number",
            Some(Takes::Pair) => "two numbers",
            _ => {
                let names: Vec<String> =
                    arg.get_possible_values().iter().map(|v| format!("`{}`", v.get_name())).collect();
                let takes = arg.get_action().takes_values();
                let name = || arg.get_value_names().map_or_else(String::new, |names| names[0].to_string());
                return if !takes {
                    String::new()
                } else if names.is_empty() {
                    name()
                } else {
                    names.join(", ")
                };
            }
        };
        match flag.and_then(Flag::bounds) {
            Some((least, most)) if most > 1e12 => format!("{kind}, at least {least}"),
            Some((least, most)) => format!("{kind}, {least} to {most}"),
            None => kind.into(),
        }
    }

    /// The tables of `docs/flags.md`: all flags of `train` under their headings.
    fn page() -> String {
        let program = Cli::command();
        let train = program.find_subcommand("train").expect("train");
        let mut headings: Vec<&str> = Vec::new();
        for heading in train.get_arguments().map(|arg| arg.get_help_heading().unwrap_or("Options")) {
            if !headings.contains(&heading) {
                headings.push(heading);
            }
        }
        let mut text = String::new();
        for heading in headings {
            text += &format!("\n## {heading}\n\n| flag | field | value | meaning |\n|---|---|---|---|\n");
            let own = |arg: &&Arg| arg.get_help_heading().unwrap_or("Options") == heading;
            for arg in train.get_arguments().filter(own) {
                let Some(name) = arg.get_long() else { continue };
                let flag = FLAGS.iter().find(|flag| flag.name == name);
                let names = std::iter::once(name).chain(arg.get_visible_aliases().unwrap_or_default());
                let names: Vec<String> = names.map(|name| format!("`--{name}`")).collect();
                let place = flag.map_or("–".into(), |flag| format!("`{}`", flag.place));
                let default = arg.get_default_values().iter().map(|v| format!(" [default: {}]", v.to_string_lossy()));
                let help = arg.get_help().map(ToString::to_string).unwrap_or_default() + &default.collect::<String>();
                text += &format!("| {} | {place} | {} | {help} |\n", names.join(", "), values(arg, flag))
                    .replace("|  |", "| |");
            }
        }
        text
    }

    /// `UPDATE_DOCS=1 cargo test -p selfpatch-cli flags` writes the tables.
    #[test]
    fn the_page_of_flags_has_all_of_them() -> std::io::Result<()> {
        const MARK: &str = "<!-- tables: made from the table of flags, see crates/cli/src/flags.rs -->\n";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/flags.md");
        let text = std::fs::read_to_string(&path)?;
        let (before, written) = text.split_once(MARK).expect("the mark");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            return std::fs::write(&path, format!("{before}{MARK}{}", page()));
        }
        assert!(written == page(), "docs/flags.md differs from the flags; it should be:\n{}", page());
        Ok(())
    }
}
