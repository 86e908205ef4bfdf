//! The settings of a pre-training as the machinery of runs sees them.

use super::Config;
use crate::{Error, shapes};
use selfpatch_run::{Common, Settings, place};
use std::path::Path;
use toml::Table;

impl Settings for Config {
    const FREE: &'static [&'static str] = &[
        "name",
        "output_dir",
        "init_from",
        "data.workers",
        "data.prefetch",
        "data.max_bad",
        "checkpoint",
        "eval",
        "health",
        "optim.recompute",
    ];

    fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        Config::parse(path, text)
    }

    fn to_toml(&self) -> Result<String, Error> {
        Config::to_toml(self)
    }

    fn to_table(&self) -> Result<Table, Error> {
        Config::to_table(self)
    }

    fn common(&self) -> Common<'_> {
        Common {
            folder: &self.output_dir,
            data: &self.data.path,
            epochs: self.optim.epochs,
            max_steps: self.optim.max_steps,
            checkpoint: &self.checkpoint,
            health: &self.health,
        }
    }

    fn decides_shapes(place: &str, from: &str, to: &str) -> bool {
        shapes::fixes(place, from, to)
    }

    fn decided_by(place: &str) -> Option<&'static str> {
        if place.starts_with("objective.") {
            return (place != "objective.kind").then_some("objective.kind");
        }
        let field = place.strip_prefix("model.")?;
        crate::overlay::SHAPE.contains(&field).then_some("model.arch")
    }

    fn place_now(place: &str) -> String {
        crate::older::place_now(place)
    }

    fn moved(mut self, folder: &Path, base: &Path) -> Self {
        for source in [
            &mut self.data.path,
            &mut self.init_from,
            &mut self.eval.davis.data_path,
            &mut self.eval.knn.train,
            &mut self.eval.knn.val,
        ] {
            *source = place::from_base(source, base);
        }
        self.output_dir = folder.into();
        // How far a session goes is its own matter.
        self.optim.max_steps = None;
        self
    }
}
