//! A recipe, overwritten by a TOML file, overwritten by flags.

use crate::config::{ImageObjective, VideoRate};
use crate::near::did_you_mean;
use crate::{Config, Error, Preset, older};
use selfpatch_run::fields::{self, names, stripped};
use selfpatch_vit::VitConfig;
use std::collections::BTreeMap;
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
    resolve_over(preset.config(), file, flags)
}

/// [`resolve`] over any settings, such as those of a run that is to go on.
pub fn resolve_over(mut base: Config, file: Option<(&Path, &str)>, flags: &[Setting]) -> Result<Config, Error> {
    let own = file.map(|(path, text)| Ok::<_, Error>((path, renewed(path, text)?))).transpose()?;
    let flags: Vec<Setting> = flags.iter().map(|(place, value)| (older::place_now(place), value.clone())).collect();
    let kind = flags.iter().rev().find(|(place, _)| place == "objective.kind").map(|(_, value)| value);
    let kind = kind.or_else(|| own.as_ref()?.1.get("objective")?.get("kind")).and_then(Value::as_str);
    if let Some(kind) = kind.filter(|kind| *kind != base.objective.kind()) {
        base.objective = ImageObjective::named(kind)?;
    }
    let mut warmup_asked_for = flags.iter().any(|(place, _)| place == "optim.warmup_epochs");
    let mut table = base.to_table()?;
    let known = known_fields(base)?;
    if let Some((path, own)) = own {
        warmup_asked_for |= own.get("optim").and_then(|o| o.get("warmup_epochs")).is_some();
        let model = own.get("model").and_then(Value::as_table).cloned();
        let is_whole =
            ["name", "seed", "head", "objective", "checkpoint", "crops"].iter().all(|k| own.contains_key(*k));
        merge(&mut table, &known, own, "").map_err(|reason| Error::File { path: path.into(), reason })?;
        // What older versions saved with a run has the preset's numbers beside the name.
        if let Some(model) = model.filter(|_| !is_whole) {
            let arch = model.get("arch").and_then(Value::as_str).or_else(|| last_arch(&table, &flags));
            let said = SHAPE.iter().filter_map(|key| Some((*key, model.get(*key)?)));
            fits(arch, said).map_err(|reason| Error::File { path: path.into(), reason })?;
        }
    }
    for (place, value) in &flags {
        let mut nested = value.clone();
        for part in place.rsplit('.') {
            nested = Value::Table(Table::from_iter([(part.to_string(), nested)]));
        }
        let Value::Table(nested) = nested else { continue };
        merge(&mut table, &known, nested, "").map_err(|reason| Error::Config { field: place.clone(), reason })?;
    }
    let said = flags.iter().filter_map(|(place, value)| Some((place.strip_prefix("model.")?, value)));
    fits(last_arch(&table, &[]), said.filter(|(key, _)| SHAPE.contains(key)))
        .map_err(|reason| Error::Config { field: "model".into(), reason })?;
    let mut config = Config::deserialize_table(table)?;
    config.model = config.model.settled();
    let optim = &mut config.optim;
    if !warmup_asked_for && optim.warmup_epochs >= optim.epochs as f64 {
        optim.warmup_epochs = optim.epochs as f64 / 10.;
    }
    if config.output_dir.as_os_str().is_empty() {
        config.output_dir = Path::new("runs").join(&config.name);
    }
    Ok(config)
}

/// The table of a file, every field at its present place.
fn renewed(path: &Path, text: &str) -> Result<Table, Error> {
    let fail = |reason| Error::File { path: path.into(), reason };
    let mut own: Table =
        text.parse().map_err(|e: toml::de::Error| fail(format!("is not valid TOML: {}", e.to_string().trim_end())))?;
    older::renew(&mut own).map_err(fail)?;
    Ok(own)
}

/// Fields of `model` that a named architecture fixes.
pub(crate) const SHAPE: [&str; 4] = ["embed_dim", "depth", "num_heads", "mlp_ratio"];

/// The architecture that flags or else the table name.
fn last_arch<'a>(table: &'a Table, flags: &'a [Setting]) -> Option<&'a str> {
    let flag = flags.iter().rev().find(|(place, _)| place == "model.arch").map(|(_, value)| value);
    flag.or_else(|| table.get("model")?.get("arch"))?.as_str()
}

/// Refuses shapes that an architecture of this name has not.
fn fits<'a>(arch: Option<&str>, said: impl Iterator<Item = (&'a str, &'a Value)>) -> Result<(), String> {
    let Some(arch) = arch else { return Ok(()) };
    let Ok(vit) = VitConfig::arch(arch, 16) else { return Ok(()) };
    for (key, value) in said {
        let own = match key {
            "embed_dim" => vit.embed_dim,
            "depth" => vit.depth,
            "mlp_ratio" => vit.mlp_ratio,
            _ => vit.num_heads,
        };
        if value.as_integer() != i64::try_from(own).ok() {
            return Err(format!(
                "model.{key} = {value} contradicts model.arch = {arch:?}, whose {key} is {own}; leave it out, or use \
                 model.arch = \"custom\""
            ));
        }
    }
    Ok(())
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
        toml::to_string_pretty(&self.settled())
            .map_err(|e| Error::Config { field: "configuration".into(), reason: e.to_string() })
    }

    /// All fields as a table.
    pub fn to_table(&self) -> Result<Table, Error> {
        Table::try_from(self.settled())
            .map_err(|e| Error::Config { field: "configuration".into(), reason: e.to_string() })
    }

    /// A complete configuration, as saved with a run.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let fail = |reason| Error::File { path: path.into(), reason };
        let mut table: Table = text.parse().unwrap_or_default();
        let is_older = !older::renew(&mut table).map_err(fail)?.is_empty();
        // From the text where that can be: errors then show the line.
        let config = if is_older { table.try_into() } else { toml::from_str(text) };
        let config: Self = config.map_err(|e: toml::de::Error| {
            fail(format!("is not the configuration of a run: {}", e.to_string().trim_end()))
        })?;
        Ok(config.settled())
    }

    /// The configuration with the true shape of its architecture.
    fn settled(&self) -> Self {
        Self { model: self.model.clone().settled(), ..self.clone() }
    }
}

/// Refuses a name that no field has, as `--override` may hold it, with the nearest that one has.
pub(crate) fn check_field(name: &str) -> Result<(), Error> {
    let mut known = BTreeMap::new();
    for objective in ImageObjective::all() {
        known.extend(fields::flat(known_fields(Config { objective, ..Preset::Default.config() })?));
    }
    if known.keys().any(|place| names(name, place)) {
        return Ok(());
    }
    let mut places: Vec<String> = known.keys().map(|place| stripped(place)).collect();
    places.dedup();
    let plain = name.trim_start_matches('-').replace('-', "_");
    let ends = |place: &&String| place.rsplit('.').next() == Some(plain.as_str());
    let inside = |place: &&String| place.strip_prefix(plain.as_str()).is_some_and(|rest| rest.starts_with('.'));
    let mut near: Vec<&String> = places.iter().filter(ends).collect();
    if near.is_empty() {
        near = places.iter().filter(inside).collect();
    }
    if near.is_empty() {
        let last = |place: &str| place.rsplit('.').next().unwrap_or_default().to_string();
        let likeness =
            |place: &String| strsim::jaro_winkler(&plain, place).max(strsim::jaro_winkler(&last(&plain), &last(place)));
        near = places.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b))).into_iter().collect();
    }
    let near: Vec<&str> = near.into_iter().map(String::as_str).collect();
    let reason = format!("there is no field {name:?}; did you mean {}?", near.join(" or "));
    Err(Error::Config { field: "--override".into(), reason })
}

/// A table that holds every field there is, the optional ones included.
fn known_fields(mut config: Config) -> Result<Table, Error> {
    config.patch_loss.teacher_temp = Some(0.);
    config.optim.max_steps = Some(0);
    config.data.range = Some([0., 1.].into());
    config.data.video_fps = VideoRate::PerSecond(0.);
    config.to_table()
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
            // A table over a list of tables is laid over each of them, such as the views of `crops.globals`.
            (Value::Array(known), Value::Table(value), Some(Value::Array(into)))
                if known.iter().any(Value::is_table) =>
            {
                let tables =
                    known.iter().filter_map(Value::as_table).zip(into.iter_mut().filter_map(Value::as_table_mut));
                tables.into_iter().try_for_each(|(known, into)| merge(into, known, value.clone(), &here))?;
            }
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

/// Every number of a configuration with its place; lists of numbers one by one.
pub(crate) fn numbers(config: &Config) -> Result<Vec<(String, f64)>, Error> {
    fn of(value: &Value, place: &str, out: &mut Vec<(String, f64)>) {
        match value {
            Value::Table(table) => {
                for (key, value) in table {
                    let here = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
                    of(value, &here, out);
                }
            }
            Value::Array(items) if items.iter().any(Value::is_table) => {
                items.iter().enumerate().for_each(|(i, value)| of(value, &format!("{place}[{i}]"), out));
            }
            // Pairs within lists among them.
            Value::Array(items) => items.iter().for_each(|value| of(value, place, out)),
            Value::Integer(i) => out.push((place.into(), *i as f64)),
            Value::Float(f) => out.push((place.into(), *f)),
            _ => {}
        }
    }
    let mut out = Vec::new();
    of(&Value::Table(config.to_table()?), "", &mut out);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfpatch_datasets::Range;

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
    fn a_named_architecture_shows_its_true_shape() -> Result<(), Error> {
        let shape = |c: &Config| (c.model.embed_dim, c.model.depth, c.model.num_heads);
        let arch = |name: &str| vec![("model.arch".to_string(), Value::String(name.into()))];
        for (name, expected) in [("vit_tiny", (192, 12, 3)), ("vit_small", (384, 12, 6)), ("vit_base", (768, 12, 12))] {
            for (_, preset) in Preset::ALL {
                let config = resolve(preset, None, &arch(name))?;
                assert_eq!(shape(&config), expected, "{name}");
                let text = config.to_toml()?;
                assert!(text.contains(&format!("embed_dim = {}", expected.0)), "{text}");
                assert_eq!(Config::parse(Path::new(name), &text)?, config);
                assert_eq!(resolve(Preset::Default, Some((Path::new(name), &text)), &[])?.model, config.model);
            }
        }
        // What was saved before there was a choice of the feed-forward part.
        let text = Preset::Default.config().to_toml()?;
        let without = text.replace("mlp_ratio = 4\n", "");
        assert!(without.len() < text.len());
        let old = Config::parse(Path::new("old"), &without)?;
        assert_eq!((old.model.mlp_ratio, &old), (4, &Preset::Default.config()));
        assert_eq!(
            resolve(Preset::Default, None, &[("model.mlp_ratio".into(), Value::Integer(2))])?.vit()?.mlp_ratio,
            2
        );
        // Whoever builds a configuration by hand; and what older versions saved.
        let mut config = Preset::Default.config();
        config.model.arch = "vit_small".into();
        assert!(config.to_toml()?.contains("embed_dim = 384"));
        let old = config.to_toml()?.replace("embed_dim = 384", "embed_dim = 96").replace("depth = 12", "depth = 4");
        assert_eq!(shape(&Config::parse(Path::new("old"), &old)?), (384, 12, 6));
        assert_eq!(shape(&resolve(Preset::Default, Some((Path::new("old"), &old)), &[])?), (384, 12, 6));
        assert_eq!(shape(&resolve(Preset::Default, None, &[])?), (96, 4, 3));
        Ok(())
    }

    #[test]
    fn shapes_that_contradict_the_architecture_are_refused() -> Result<(), Error> {
        let path = Path::new("my.toml");
        let number = |place: &str, n| vec![(place.to_string(), Value::Integer(n))];
        let named = |name: &str| ("model.arch".to_string(), Value::String(name.into()));
        for (preset, file, flags, expected) in [
            (Preset::Default, "[model]\narch = \"vit_small\"\nembed_dim = 100", vec![], "embed_dim is 384"),
            (Preset::Folder, "[model]\ndepth = 6", vec![], "model.depth = 6 contradicts model.arch = \"vit_tiny\""),
            (Preset::Paper, "", number("model.num_heads", 3), "num_heads is 6"),
            (Preset::Default, "[model]\nnum_heads = 4", vec![named("vit_base")], "num_heads is 12"),
            (Preset::Paper, "[model]\nmlp_ratio = 2", vec![], "whose mlp_ratio is 4"),
        ] {
            let error = resolve(preset, Some((path, file)), &flags).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("custom"), "{error}");
        }
        for (preset, file, flags) in [
            (Preset::Default, "[model]\narch = \"vit_small\"\nembed_dim = 384", vec![]),
            (Preset::Folder, "[model]\ndepth = 6", vec![named("custom")]),
            (Preset::Folder, "[model]\narch = \"custom\"\ndepth = 6", vec![]),
            (Preset::Default, "", number("model.depth", 6)),
        ] {
            resolve(preset, Some((path, file)), &flags)?;
        }
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
    fn the_range_may_be_one_or_one_per_channel() -> Result<(), Error> {
        let of = |text: &str| resolve(Preset::Multichannel, Some((Path::new("a.toml"), text)), &[]);
        assert_eq!(of("[data]\nrange = [0, 4095]")?.data.range, Some([0., 4095.].into()));
        let each = of("[data]\nchannels = 2\nrange = [[0, 4095], [10.5, 20]]")?;
        assert_eq!(each.data.range, Some(Range::Each(vec![[0., 4095.], [10.5, 20.]])));
        assert_eq!(Config::parse(Path::new("saved"), &each.to_toml()?)?, each);
        assert!(of("[data]\nrange = [[0, 4095], [10, 20]]")?.check_data().unwrap_err().to_string().contains("2 pairs"));
        assert!(of("[data]\nrange = [[5, 5]]\nchannels = 1")?.check_data().is_err());
        let error = of("[data]\nrange = [1]").unwrap_err().to_string();
        assert!(error.contains("a list of one such pair per channel"), "{error}");
        Ok(())
    }

    #[test]
    fn the_old_name_of_exif_is_understood() -> Result<(), Error> {
        let text = Preset::Folder.config().to_toml()?;
        assert!(text.contains("exif = false"));
        let old = text.replace("exif = false", "exif_orientation = true");
        assert!(Config::parse(Path::new("saved"), &old)?.data.exif);
        let file = "[data]\nexif_orientation = true";
        assert!(resolve(Preset::Folder, Some((Path::new("a.toml"), file)), &[])?.data.exif);
        Ok(())
    }

    #[test]
    fn a_field_of_a_view_alone_is_that_of_all_views() -> Result<(), Error> {
        let sides = |config: Config| config.crops.globals.iter().map(|view| view.size).collect::<Vec<_>>();
        let flags = [("crops.globals.size".to_string(), Value::Integer(98))];
        assert_eq!(sides(resolve(Preset::Paper, None, &flags)?), [98, 98]);
        let file = (Path::new("my.toml"), "[crops.globals]\nsize = 112");
        assert_eq!(sides(resolve(Preset::Paper, Some(file), &[])?), [112, 112]);
        let flags = [("crops.globals.sise".to_string(), Value::Integer(98))];
        let error = resolve(Preset::Paper, None, &flags).unwrap_err().to_string();
        assert!(error.contains("no field crops.globals.sise; did you mean \"size\"?"), "{error}");
        Ok(())
    }

    #[test]
    fn the_settings_of_an_older_version_are_understood() -> Result<(), Error> {
        let text = include_str!("../tests/older-run/config.toml");
        assert!(text.contains("[image_loss]\n") && !text.contains("kind"));
        let path = Path::new("old.toml");
        let saved = Config::parse(path, text)?;
        assert!(saved.to_toml()?.contains("[objective]\nkind = \"dino\"\nstudent_temp = 0.1\n"));
        let given = resolve(Preset::Paper, Some((path, text)), &[])?;
        assert_eq!((&given.objective, &given.optim), (&saved.objective, &saved.optim));
        let temperature = |place: &str| {
            let flags = [(place.to_string(), Value::Float(0.05))];
            resolve(Preset::Paper, Some((path, text)), &flags).map(|config| config.objective)
        };
        let ImageObjective::Dino(dino) = temperature("image_loss.teacher_temp")?;
        assert_eq!((dino.teacher_temp, dino.student_temp), (0.05, 0.1));
        assert_eq!(temperature("objective.teacher_temp")?, ImageObjective::Dino(dino));
        let both = format!("{text}\n[objective]\nkind = \"dino\"\n");
        for error in
            [Config::parse(path, &both).unwrap_err(), resolve(Preset::Paper, Some((path, &both)), &[]).unwrap_err()]
        {
            assert!(error.to_string().starts_with("old.toml: has both [image_loss] and [objective]"), "{error}");
        }
        Ok(())
    }

    #[test]
    fn mistakes_are_named_with_the_nearest_field() {
        for (text, expected) in [
            ("[objective]\nkind = \"dinno\"", "objective.kind: there is no \"dinno\"; did you mean \"dino\"?"),
            ("[objective]\nkind = 3", "objective.kind must be a string"),
            ("[objective]\nteacher_tmp = 0.04", "no field objective.teacher_tmp; did you mean \"teacher_temp\"?"),
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
        let list = fields::differences(&b, &a)?;
        assert_eq!(list.len(), 2);
        let places: Vec<&str> = list.iter().map(|d| d.place.as_str()).collect();
        assert_eq!(places, ["crops.globals[1].blur", "optim.epochs"]);
        assert_eq!((list[1].from.as_str(), list[1].to.as_str()), ("2", "1"));
        Ok(())
    }

    #[test]
    fn a_name_that_no_field_has_is_refused_with_the_nearest() {
        for fine in ["optim.lr", "crops.globals", "crops.globals.blur", "crops.globals[1].blur", "optim.max_steps"] {
            check_field(fine).unwrap_or_else(|e| panic!("{e}"));
        }
        for (name, near) in [
            ("lr", "did you mean optim.lr?"),
            ("batch-size", "did you mean optim.batch_size?"),
            ("teacher_temp", "did you mean objective.teacher_temp or patch_loss.teacher_temp?"),
            ("optim.lrr", "did you mean optim.lr?"),
            ("optm.batch_size", "did you mean optim.batch_size?"),
            ("crops.globals.blurr", "did you mean crops.globals.blur?"),
            ("head", "head.bottleneck_dim or "),
            ("", "did you mean "),
        ] {
            let error = check_field(name).map_or_else(|e| e.to_string(), |()| String::new());
            assert!(error.starts_with("--override: ") && error.contains(near), "{name}: {error}");
        }
    }
}
