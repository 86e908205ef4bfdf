//! The flags that set fields of a configuration: one table, from which programs make their command lines, what they lay
//! over a configuration, and their documentation.

mod choices;
mod flag;
mod table;

pub use choices::choices;
pub use flag::{Flag, Group, Takes};
pub use table::{DATA, FLAGS};

#[cfg(test)]
mod tests {
    use super::flag::field;
    use super::*;
    use crate::{Error, Preset};

    #[test]
    fn every_flag_sets_a_field_that_there_is_and_no_two_have_one_name() -> Result<(), Error> {
        let mut names: Vec<&str> = FLAGS.iter().flat_map(Flag::names).collect();
        for flag in FLAGS {
            crate::overlay::check_field(flag.place)?;
            assert!(!flag.help.ends_with('.') && !flag.name.contains('_'), "{}", flag.name);
        }
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
        Ok(())
    }

    #[test]
    fn presets_are_told_where_they_differ() -> Result<(), Error> {
        let default = |name: &str| {
            let flag = FLAGS.iter().find(|flag| flag.name == name).expect("a flag");
            flag.default().map(Option::unwrap_or_default)
        };
        assert_eq!(default("lr")?, "default: 0.0048, paper: 0.0005, folder: 0.016");
        assert_eq!(default("min-lr")?, "default: 1e-5, paper: 1e-6, folder: 1e-6");
        assert_eq!(default("data")?, "default: procedural, paper: none, folder: none");
        assert_eq!(default("k-num")?, "default: 4");
        assert_eq!(default("use-bn-in-head")?, "default: false");
        assert_eq!(default("aggregation")?, "default: class-attention");
        assert_eq!(default("global-crops-size")?, "default: 48, paper: 224, folder: 224");
        assert_eq!(default("max-steps")?, "");
        // That only the views' colours differ is what `default` relies on.
        let (folder, other) = (Preset::Folder.config().to_table()?, Preset::Multichannel.config().to_table()?);
        for flag in FLAGS.iter().filter(|flag| flag.place != "name") {
            assert_eq!(field(&folder, flag.place), field(&other, flag.place), "{}", flag.name);
        }
        Ok(())
    }
}
