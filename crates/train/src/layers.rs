//! What a user says of a configuration, layer by layer: a preset, a file over it, settings over both.

use crate::{Config, Error, Preset, Setting, older, resolve_over};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// The layers in which a user describes a configuration: a preset, a file over it, settings over both.
pub struct Layers {
    /// The preset asked for.
    pub preset: Option<Preset>,
    /// What the user should know of old names in the layers.
    pub notes: Vec<String>,
    /// The path and text of a file.
    file: Option<(PathBuf, String)>,
    /// The table of the file at its present places, empty for what is no TOML.
    table: Table,
    /// Settings over the file at their present places; the later wins.
    settings: Vec<Setting>,
}

impl Layers {
    /// Layers of a preset, a file (its path and text) and settings. A run that is given a name, and no folder, goes to
    /// the folder of that name, whatever the file says.
    pub fn new(preset: Option<Preset>, file: Option<(PathBuf, String)>, settings: Vec<Setting>) -> Self {
        let mut notes: Vec<String> = file.iter().flat_map(|(path, text)| renamed(path, text)).collect();
        let mut table: Table = file.as_ref().and_then(|(_, text)| text.parse().ok()).unwrap_or_default();
        // What cannot be renamed is an error of `over`.
        let _ = older::renew(&mut table);
        for (then, now) in settings.iter().map(|(place, _)| (place, older::place_now(place))) {
            if *then != now {
                notes.push(format!("{then} is now {now}"));
            }
        }
        let mut settings: Vec<Setting> =
            settings.into_iter().map(|(place, value)| (older::place_now(&place), value)).collect();
        let has = |name: &str| settings.iter().any(|(place, _)| place == name);
        if has("name") && !has("output_dir") {
            settings.insert(0, ("output_dir".into(), Value::String(String::new())));
        }
        Self { preset, notes, file, table, settings }
    }

    /// The preset asked for, or the one that fits the data: synthetic, RGB, or something else.
    pub fn preset(&self) -> Preset {
        if let Some(preset) = self.preset {
            return preset;
        }
        if self.text("data.path").is_none_or(|path| path == "procedural") {
            return Preset::Default;
        }
        let channels = self.value("data.channels").and_then(Value::as_integer).unwrap_or(3);
        let is_rgb = channels == 3 && self.value("data.range").is_none();
        if is_rgb { Preset::Folder } else { Preset::Multichannel }
    }

    /// The value that the settings, or else the file, give to a field.
    pub fn value(&self, place: &str) -> Option<&Value> {
        self.setting(place).or_else(|| {
            let mut parts = place.split('.');
            let first = self.table.get(parts.next()?)?;
            parts.try_fold(first, |at, part| at.as_table()?.get(part))
        })
    }

    /// The text that the settings, or else the file, give to a field, if it is not empty.
    pub fn text(&self, place: &str) -> Option<&str> {
        self.value(place).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// The value that the settings give to a field.
    pub fn setting(&self, place: &str) -> Option<&Value> {
        self.settings.iter().rev().find(|(p, _)| p == place).map(|(_, value)| value)
    }

    /// Whether there is a file.
    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// `base` with the file, `between` and the settings laid over it.
    ///
    /// # Errors
    /// The errors of [`resolve_over`].
    pub fn over(&self, base: Config, between: &[Setting]) -> Result<Config, Error> {
        let settings: Vec<Setting> = between.iter().chain(&self.settings).cloned().collect();
        resolve_over(base, self.file.as_ref().map(|(p, t)| (p.as_path(), t.as_str())), &settings)
    }
}

/// Names in the text of a file that have changed, each as a line for the user.
pub(crate) fn renamed(path: &Path, text: &str) -> Vec<String> {
    let mut table: Table = text.parse().unwrap_or_default();
    let told = older::renew(&mut table).unwrap_or_default();
    told.into_iter().map(|told| format!("{}: {told}", path.display())).collect()
}

/// Reads `FIELD=VALUE`, as `--set` has it; what is no TOML value is text.
///
/// # Errors
/// When there is no `=`, or a whole number that no field can hold.
pub fn setting(text: &str) -> Result<Setting, Error> {
    let fail = |what: &str, reason: String| Error::Config { field: format!("--set {what}"), reason };
    let (place, value) = text.split_once('=').ok_or_else(|| fail(text, "FIELD=VALUE expected".into()))?;
    let parsed = format!("v = {value}").parse::<Table>().ok().and_then(|mut t| t.remove("v"));
    let digits = value.trim().trim_start_matches(['-', '+']);
    let is_whole = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit());
    if parsed.is_none() && is_whole && digits.len() >= 19 {
        return Err(fail(place, format!("{value} is beyond all whole numbers")));
    }
    Ok((place.trim().into(), parsed.unwrap_or_else(|| Value::String(value.into()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_win_over_the_file_under_old_names_too() -> Result<(), Error> {
        let text = "output_dir = \"elsewhere\"\n[image_loss]\nteacher_temp = 0.05\nstudent_temp = 0.2";
        let set = vec![setting("image_loss.teacher_temp=0.06")?, setting("name=mine")?];
        let layers = Layers::new(None, Some(("old.toml".into(), text.into())), set);
        assert_eq!(
            layers.notes,
            ["old.toml: [image_loss] is now [objective]", "image_loss.teacher_temp is now objective.teacher_temp"]
        );
        let value = |place: &str| layers.value(place).and_then(Value::as_float);
        assert_eq!((value("objective.teacher_temp"), value("objective.student_temp")), (Some(0.06), Some(0.2)));
        assert_eq!((layers.text("output_dir"), layers.text("name")), (None, Some("mine")));
        let config = layers.over(Preset::Default.config(), &[])?;
        assert_eq!(config.output_dir, Path::new("runs/mine"));
        assert!(config.to_toml()?.contains("\nteacher_temp = 0.06\n"));
        Ok(())
    }

    #[test]
    fn what_is_no_value_is_text() -> Result<(), Error> {
        assert_eq!(setting("a.b = 1e-3")?, ("a.b".into(), Value::Float(1e-3)));
        assert_eq!(setting("data.path=photos/x")?, ("data.path".into(), Value::String("photos/x".into())));
        assert_eq!(setting("optim.lr").unwrap_err().to_string(), "--set optim.lr: FIELD=VALUE expected");
        let error = setting("seed=99999999999999999999").unwrap_err().to_string();
        assert_eq!(error, "--set seed: 99999999999999999999 is beyond all whole numbers");
        Ok(())
    }
}
