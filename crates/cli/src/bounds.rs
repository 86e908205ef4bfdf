//! The ranges of numeric flags: whatever lies beyond is refused before anything is allocated.

use clap::builder::{RangedU64ValueParser, TypedValueParser};
use std::fmt::Display;
use std::str::FromStr;

/// A whole number between both bounds, which are valid.
pub fn integer(least: u64, most: u64) -> impl TypedValueParser<Value = usize> {
    RangedU64ValueParser::<usize>::new().range(least..=most)
}

/// A number between both bounds, which are valid; not `nan`.
pub fn real<T>(least: T, most: T) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: FromStr + PartialOrd + Display + Copy + Send + Sync + 'static,
{
    move |text| match text.trim().parse::<T>() {
        Ok(value) if value >= least && value <= most => Ok(value),
        _ => Err(format!("must be a number from {least} to {most}")),
    }
}

#[cfg(test)]
mod tests {
    use crate::{Cli, Command};
    use clap::error::ErrorKind;
    use clap::{Arg, CommandFactory, Parser};
    use std::any::TypeId;

    /// Beyond every number that a flag takes.
    const NEVER: [&str; 5] = ["1e31", "-1", "-1e9", "nan", "inf"];
    /// Beyond what most flags take.
    const HUGE: [&str; 5] = ["2147483648", "4294967296", "9223372036854775807", "18446744073709551616", "1e30"];
    /// Flags that may be huge, as nothing is allocated by them.
    const FREE: [&str; 5] = ["seed", "max-steps", "clip-grad", "images", "most"];

    fn is_number(arg: &Arg) -> bool {
        let id = arg.get_value_parser().type_id();
        let numbers = [
            TypeId::of::<u8>(),
            TypeId::of::<u16>(),
            TypeId::of::<u32>(),
            TypeId::of::<u64>(),
            TypeId::of::<usize>(),
            TypeId::of::<i32>(),
            TypeId::of::<i64>(),
            TypeId::of::<f32>(),
            TypeId::of::<f64>(),
        ];
        numbers.into_iter().any(|number| id == number)
    }

    /// Whether a command line is refused for its values, by the parser or by the checks before any work.
    fn refused(arguments: &[&str]) -> Result<(), String> {
        match Cli::try_parse_from(arguments) {
            Err(e) if matches!(e.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue) => Ok(()),
            Err(e) => Err(format!("refused for another reason: {e}")),
            Ok(Cli { command: Command::Train(args) }) => args.chosen(&[]).err().map(drop).ok_or("taken".into()),
            // The checks of these come before anything else.
            Ok(Cli { command: Command::Watch(args) }) => crate::watch::run(&args).err().map(drop).ok_or("taken".into()),
            Ok(Cli { command: Command::GpuCheck(args) }) => {
                crate::gpu_check::run(&args).err().map(drop).ok_or("taken".into())
            }
            Ok(_) => Err("taken".into()),
        }
    }

    #[test]
    fn every_numeric_flag_of_every_command_has_bounds() {
        let program = Cli::command();
        let mut flags = 0;
        for command in program.get_subcommands() {
            for arg in command.get_arguments().filter(|arg| is_number(arg)) {
                let Some(flag) = arg.get_long() else { continue };
                flags += 1;
                let free = FREE.contains(&flag);
                let values = arg.get_num_args().map_or(1, |range| range.min_values().max(1));
                for value in NEVER.iter().chain(HUGE.iter().filter(|_| !free)) {
                    let flag = format!("--{flag}");
                    let first = format!("{flag}={value}");
                    let mut line = vec!["selfpatch", command.get_name()];
                    match values {
                        1 => line.push(&first),
                        n => {
                            line.push(&flag);
                            line.extend(vec![*value; n]);
                        }
                    }
                    refused(&line).unwrap_or_else(|why| panic!("{line:?}: {why}"));
                }
            }
        }
        assert!(flags > 50, "{flags}");
    }
}
