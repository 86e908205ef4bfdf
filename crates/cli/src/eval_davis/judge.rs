//! Models judged on videos, each beside what stands for no learning at all.

use super::args::{Args, Videos};
use crate::about;
use anyhow::Result;
use candle_core::{DType, Device};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use selfpatch_eval::results::{self, Results, SavedResults};
use selfpatch_eval::{About, DavisReport, Evaluation, Facts, Protocol, VitFeatures, evaluate, first_mask_copied};
use selfpatch_nn::Params;
use selfpatch_vit::{Stated, Vit, VitConfig};
use serde::Serialize;
use std::io::IsTerminal;
use std::rc::Rc;

/// A model to judge.
pub struct Candidate {
    /// What the model is called.
    pub label: String,
    /// Weights of the model, in words.
    pub weights: Facts,
    /// The model.
    pub vit: Vit,
    /// Seed of the initial values that the model is compared with.
    pub seed: u64,
}

/// A model that was judged.
pub struct Judged {
    /// What the model is called.
    pub label: String,
    /// Scores of the model.
    pub evaluation: Evaluation,
    /// Scores of the same architecture with random initial values; models of one architecture and seed share them.
    pub random: Rc<Evaluation>,
    /// Scores of the first mask on every frame.
    pub floor: Rc<Evaluation>,
    /// What the scores belong to.
    pub about: About,
}

/// One model in the JSON that is printed.
#[derive(Serialize)]
struct Printed<'a> {
    #[serde(flatten)]
    report: &'a DavisReport,
    random_initialisation: &'a DavisReport,
    first_mask_copied: &'a DavisReport,
    /// Sequences with what is to be said of them.
    notes: &'a [(String, String)],
    #[serde(flatten)]
    about: &'a About,
}

impl Judged {
    /// The JSON that is printed with `--json`.
    pub fn json(&self) -> Result<serde_json::Value> {
        Ok(serde_json::to_value(Printed {
            report: &self.evaluation.report,
            random_initialisation: &self.random.report,
            first_mask_copied: &self.floor.report,
            notes: &self.evaluation.notes,
            about: &self.about,
        })?)
    }

    fn saved(&self) -> SavedResults {
        let Evaluation { report, unscored, failures, notes } = &self.evaluation;
        SavedResults {
            label: self.label.clone(),
            report: report.clone(),
            unscored: unscored.clone(),
            failed: failures.iter().map(|(name, e)| (name.clone(), e.to_string())).collect(),
            notes: notes.clone(),
            random_initialisation: Some(self.random.report.clone()),
            first_mask_copied: Some(self.floor.report.clone()),
            about: self.about.clone(),
        }
    }
}

/// What all models are judged by.
pub struct Judge<'a> {
    args: &'a Args,
    videos: &'a Videos,
    device: &'a Device,
    /// Scores of the first mask on every frame, once they were needed.
    floor: Option<Rc<Evaluation>>,
    /// Networks with random initial values that were judged.
    random: Vec<(VitConfig, u64, Rc<Evaluation>)>,
}

impl<'a> Judge<'a> {
    /// Judge for the videos and settings of `args`.
    pub fn new(args: &'a Args, videos: &'a Videos, device: &'a Device) -> Self {
        Self { args, videos, device, floor: None, random: Vec::new() }
    }

    /// Judges a model, which `what` names beside the progress bar, and writes the results if there is a place
    /// for them.
    pub fn judge(&mut self, what: &str, candidate: Candidate, results: Option<&Results>) -> Result<Judged> {
        let Candidate { label, weights, vit, seed } = candidate;
        let (config, stated) = (vit.config().clone(), vit.stated().clone());
        let layer = self.args.layer.unwrap_or(config.depth);
        let norm = self.args.norm.unwrap_or(vit.has_norm());
        let about = about::now(
            self.videos.facts.clone(),
            self.args.facts(self.videos.size.of(config.patch_size), layer, norm),
            weights,
        );
        let evaluation = self.carried(what, vit, results)?;
        let random = self.untrained(&config, seed, stated)?;
        let floor = match &self.floor {
            Some(known) => known.clone(),
            None => Rc::new(first_mask_copied(&*self.videos.source, self.args.objects())?),
        };
        self.floor = Some(floor.clone());
        let judged = Judged { label, evaluation, random, floor, about };
        if let Some(results) = results {
            judged.saved().write(results.folder(), &self.args.split)?;
            let source = &*self.videos.source;
            let compare = std::iter::once(results.folder().to_path_buf()).chain(self.args.compare.clone());
            results::write_overlays(results.folder(), source)?;
            results::write_page(results.folder(), &compare.collect::<Vec<_>>(), source)?;
            note!("results: {}", results.folder().join("report.html").display());
        }
        Ok(judged)
    }

    /// The scores of a network of the architecture `config` with the initial values of `seed`.
    fn untrained(&mut self, config: &VitConfig, seed: u64, stated: Stated) -> Result<Rc<Evaluation>> {
        if let Some((.., known)) = self.random.iter().find(|(c, s, _)| c == config && *s == seed) {
            return Ok(known.clone());
        }
        let params = Params::frozen(seed);
        // Shown frames as the trained one is.
        let vit = Vit::new(config, params.builder(DType::F32, self.device).pp("backbone"))?.with_stated(stated);
        let evaluation = Rc::new(self.carried("random initialisation", vit, None)?);
        self.random.push((config.clone(), seed, evaluation.clone()));
        Ok(evaluation)
    }

    /// Carries the masks through all videos, with a progress bar.
    fn carried(&self, what: &str, vit: Vit, results: Option<&Results>) -> Result<Evaluation> {
        let size = self.videos.size.of(vit.config().patch_size);
        let (propagation, objects) = (self.args.propagation(), self.args.objects());
        let protocol = Protocol { propagation, size, all_masks: results.is_some(), objects };
        let mut model = VitFeatures::new(vit, self.device.clone()).in_precision(self.args.precision);
        if let Some(layer) = self.args.layer {
            model = model.of_layer(layer)?;
        }
        if let Some(norm) = self.args.norm {
            model = model.with_norm(norm)?;
        }
        let videos = &*self.videos.source;
        let bar = progress(what, self.args.json);
        let mut last = None;
        let evaluation = evaluate(videos, &model, &protocol, &mut |done| {
            bar.set_length((done.sequences * done.frames) as u64);
            bar.set_position((done.index * done.frames + done.frame) as u64);
            if last != Some(done.index) {
                last = Some(done.index);
                bar.set_message(done.sequence.to_string());
            }
            let Some((results, mask)) = results.zip(done.mask) else { return Ok(()) };
            results.mask(videos, done.sequence, done.frame, mask)
        })?;
        bar.finish_and_clear();
        Ok(evaluation)
    }
}

fn progress(label: &str, quiet: bool) -> ProgressBar {
    let bar = ProgressBar::new(0);
    if quiet || !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{prefix} {bar:24} {pos}/{len} frames {msg} | left {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_prefix(label.to_string());
    bar
}
