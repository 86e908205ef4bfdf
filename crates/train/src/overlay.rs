//! A recipe, overwritten by a TOML file, overwritten by flags.

use crate::config::VideoRate;
use crate::{Config, Error, Preset};
use std::path::Path;
use toml::{Table, Value};

/// One setting by its place in the file, such as `optim.lr`.
pub type Setting = (String, Value);

/// The recipe with `file` (TOML text and its path, for messages) and then `flags` laid over it.
///
/// Unknown fields are refused with the nearest valid name. A recipe's warm-up that leaves nothing of the
/// epochs asked for becomes a tenth of them, unless the warm-up was asked for too. The result is not
/// yet checked; see [`Config::check`].
pub fn resolve(preset: Preset, file: Option<(&Path, &str)>, flags: &[Setting]) -> Result<Config, Error> {
    let base = preset.config();
    let mut warmup_asked_for = flags.iter().any(|(place, _)| place == "optim.warmup_epochs");
    let mut table = to_table(&base)?;
    let known = known_fields(base)?;
    if let Some((path, text)) = file {
        let own: Table = text.parse().map_err(|e: toml::de::Error| Error::File {
            path: path.into(),
            reason: format!("is not valid TOML: {}", e.to_string().trim_end()),
        })?;
        warmup_asked_for |= own.get("optim").and_then(|o| o.get("warmup_epochs")).is_some();
        merge(&mut table, &known, own, "").map_err(|reason| Error::File { path: path.into(), reason })?;
    }
    for (place, value) in flags {
        let mut nested = value.clone();
        for part in place.rsplit('.') {
            nested = Value::Table(Table::from_iter([(part.to_string(), nested)]));
        }
        let Value::Table(nested) = nested else { continue };
        merge(&mut table, &known, nested, "").map_err(|reason| Error::Config { field: place.clone(), reason })?;
    }
    let mut config = Config::deserialize_table(table)?;
    let optim = &mut config.optim;
    if !warmup_asked_for && optim.warmup_epochs >= optim.epochs as f64 {
        optim.warmup_epochs = optim.epochs as f64 / 10.;
    }
    if config.output_dir.as_os_str().is_empty() {
        config.output_dir = Path::new("runs").join(&config.name);
    }
    Ok(config)
}

impl Config {
    fn deserialize_table(table: Table) -> Result<Self, Error> {
        use serde::Deserialize;
        Config::deserialize(Value::Table(table)).map_err(|e| Error::Config {
            field: "configuration".into(),
            reason: e.to_string().trim_end().replace('\n', " "),
        })
    }

    /// The configuration as the text of a TOML file; [`Config::parse`] gives it back.
    pub fn to_toml(&self) -> Result<String, Error> {
        toml::to_string_pretty(self).map_err(|e| Error::Config { field: "configuration".into(), reason: e.to_string() })
    }

    /// A complete configuration, as saved with a run.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        toml::from_str(text).map_err(|e: toml::de::Error| Error::File {
            path: path.into(),
            reason: format!("is not the configuration of a run: {}", e.to_string().trim_end()),
        })
    }

    /// Fields in which `self` and `other` differ, as `place: own value -> other value`.
    pub fn differences(&self, other: &Config) -> Result<Vec<String>, Error> {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        flatten(&Value::Table(to_table(self)?), "", &mut a);
        flatten(&Value::Table(to_table(other)?), "", &mut b);
        let find = |list: &[(String, String)], place: &str| {
            list.iter().find(|(p, _)| p == place).map_or("absent".to_string(), |(_, v)| v.clone())
        };
        let mut places: Vec<&String> = a.iter().chain(&b).map(|(p, _)| p).collect();
        places.sort();
        places.dedup();
        Ok(places
            .into_iter()
            .filter_map(|p| {
                let (x, y) = (find(&a, p), find(&b, p));
                (x != y).then(|| format!("{p}: {x} -> {y}"))
            })
            .collect())
    }
}

/// ", did you mean …?" for the valid name nearest to `name`, or the list of all.
pub fn did_you_mean<'a>(name: &str, valid: impl Iterator<Item = &'a str>) -> String {
    let valid: Vec<&str> = valid.collect();
    let nearest = valid.iter().map(|v| (strsim::jaro_winkler(name, v), *v)).max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((closeness, v)) if closeness > 0.7 => format!("; did you mean {v:?}?"),
        _ => format!("; valid are {}", valid.join(", ")),
    }
}

fn to_table(config: &Config) -> Result<Table, Error> {
    Table::try_from(config).map_err(|e| Error::Config { field: "configuration".into(), reason: e.to_string() })
}

/// A table that holds every field there is, the optional ones included.
fn known_fields(mut config: Config) -> Result<Table, Error> {
    config.patch_loss.teacher_temp = Some(0.);
    config.optim.max_steps = Some(0);
    config.data.range = Some([0., 1.]);
    config.data.video_fps = VideoRate::PerSecond(0.);
    to_table(&config)
}

fn merge(into: &mut Table, known: &Table, from: Table, place: &str) -> Result<(), String> {
    for (key, value) in from {
        let here = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
        let Some(example) = known.get(&key) else {
            return Err(format!("there is no field {here}{}", did_you_mean(&key, known.keys().map(String::as_str))));
        };
        let value = match (example, value) {
            (Value::Float(_), Value::Integer(i)) => Value::Float(i as f64), // `lr = 1`
            (_, value) => value,
        };
        match (example, value, into.get_mut(&key)) {
            (Value::Table(known), Value::Table(value), Some(Value::Table(into))) => merge(into, known, value, &here)?,
            (example, value, _) => {
                let is_auto = here == "data.video_fps" && value.as_str() == Some(VideoRate::AUTO);
                if example.type_str() != value.type_str() && !is_auto {
                    return Err(format!(
                        "{here} must be {} {}, not {} {}: {value}",
                        article(example.type_str()),
                        example.type_str(),
                        article(value.type_str()),
                        value.type_str()
                    ));
                }
                into.insert(key, value);
            }
        }
    }
    Ok(())
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

fn flatten(value: &Value, place: &str, out: &mut Vec<(String, String)>) {
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
        other => out.push((place.to_string(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_survives_its_own_file() -> Result<(), Error> {
        for (name, preset) in Preset::ALL {
            let config = preset.config();
            let text = config.to_toml()?;
            assert_eq!(Config::parse(Path::new(name), &text)?, config);
            assert_eq!(resolve(Preset::Default, Some((Path::new(name), &text)), &[])?.optim.lr, config.optim.lr);
        }
        Ok(())
    }

    #[test]
    fn flags_win_over_file_over_preset() -> Result<(), Error> {
        let file = "seed = 3\n[optim]\nlr = 1\nepochs = 7";
        let flags = [("optim.epochs".to_string(), Value::Integer(9))];
        let config = resolve(Preset::Paper, Some((Path::new("a.toml"), file)), &flags)?;
        assert_eq!((config.seed, config.optim.lr, config.optim.epochs), (3, 1.0, 9));
        assert_eq!(config.optim.min_lr, 1e-6);
        Ok(())
    }

    #[test]
    fn the_rate_of_videos_is_a_number_or_auto() -> Result<(), Error> {
        let with = |text: &str| resolve(Preset::Folder, Some((Path::new("a.toml"), text)), &[]);
        let rate = |text: &str| Ok::<_, Error>(with(text)?.data.video_fps.per_second());
        assert_eq!(rate("")?, None);
        assert_eq!(rate("[data]\nvideo_fps = 0")?, Some(0.));
        assert_eq!(rate("[data]\nvideo_fps = 2.5")?, Some(2.5));
        assert_eq!(rate("[data]\nvideo_fps = \"auto\"")?, None);
        assert!(with("[data]\nvideo_fps = \"all\"").unwrap_err().to_string().contains("data.video_fps must be"));
        let flags = [("data.video_fps".to_string(), Value::Integer(1))];
        let config = resolve(Preset::Folder, Some((Path::new("a.toml"), "[data]\nvideo_fps = \"auto\"")), &flags)?;
        assert_eq!(config.data.video_fps, VideoRate::PerSecond(1.));
        assert_eq!(Config::parse(Path::new("saved"), &config.to_toml()?)?, config);
        Ok(())
    }

    #[test]
    fn a_short_run_has_a_short_warm_up() -> Result<(), Error> {
        let epochs = ("optim.epochs".to_string(), Value::Integer(2));
        let warmup = ("optim.warmup_epochs".to_string(), Value::Float(5.));
        assert_eq!(resolve(Preset::Paper, None, &[])?.optim.warmup_epochs, 10.);
        assert_eq!(resolve(Preset::Paper, None, std::slice::from_ref(&epochs))?.optim.warmup_epochs, 0.2);
        let asked = resolve(Preset::Paper, None, &[epochs, warmup, ("data.path".into(), "photos".into())])?;
        assert!(asked.check().unwrap_err().to_string().contains("warmup_epochs"));
        Ok(())
    }

    #[test]
    fn mistakes_are_named_with_the_nearest_field() {
        for (text, expected) in [
            ("[optim]\nlearning = 1.0", "optim.learning"),
            ("[optm]\nlr = 1.0", "did you mean \"optim\"?"),
            ("[optim]\nepochs = \"many\"", "optim.epochs must be an integer"),
            ("[optim", "TOML"),
            ("[optim]\noptimizer = \"adam\"", "adamw"),
            ("[optim]\nprecision = \"half\"", "`f32`, `bf16`, `fp16`"),
        ] {
            let error = resolve(Preset::Default, Some((Path::new("my.toml"), text)), &[]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn differences_are_listed() -> Result<(), Error> {
        let a = Preset::Default.config();
        let mut b = a.clone();
        b.optim.epochs += 1;
        b.crops.globals[1].blur = 0.75;
        let list = b.differences(&a)?;
        assert_eq!(list.len(), 2);
        assert!(list[0].starts_with("crops.globals[1].blur") && list[1].starts_with("optim.epochs"), "{list:?}");
        Ok(())
    }
}
