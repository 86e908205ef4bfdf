//! The linear probe as a task of the crate `run`.

use super::chosen::Chosen;
use super::classifier;
use super::features::{Encode, Features, Noticed, SETS};
use super::heads::{HeadScores, Heads, Rows, is_held_out};
use super::settings::Config;
use super::sheet::SHEET;
use candle_core::{Device, Tensor};
use selfpatch_datasets::{ImageSource, Loader, LoaderConfig, Purpose, Samples, Square, shuffle, stream};
use selfpatch_eval::images::{Centre, Labelled};
use selfpatch_run::{
    Batches, Error, Event, Explained, Found, Loaded, Numbers, Seen, Sheet, State, StepError, Task, loaded,
};
use selfpatch_weights::write_safetensors;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A model whose features are judged.
pub struct Subject<'a> {
    /// Name in numbers and files: empty for the weights, `random` for the same shapes without training.
    pub name: &'static str,
    /// Makes features of images.
    pub encode: Encode<'a>,
    /// Width of a feature.
    pub width: usize,
}

/// The images of a probe.
pub struct Sets {
    /// Labelled images to learn from.
    pub train: Labelled,
    /// Labelled images that the classifiers are judged by, with the class numbers of `train`.
    pub val: Labelled,
    /// What the model is shown of an image that is not augmented.
    pub centre: Centre,
}

/// Some training images: their numbers, and their pixels `[B, C, S, S]` where they are augmented.
pub struct Batch {
    ids: Vec<usize>,
    pixels: Option<Samples>,
}

/// A linear probe.
pub(crate) struct Probe<'a> {
    config: &'a Config,
    sets: &'a Sets,
    subjects: &'a [Subject<'a>],
    device: Device,
    /// The classifiers of each subject.
    heads: Vec<Heads>,
    /// The features of each subject, once they are made.
    known: Vec<Known>,
    /// Loader of random views, if they are wanted.
    loader: Option<Loader<Square>>,
    /// Images whose features could not be made.
    skipped: usize,
}

/// The features of a subject.
struct Known {
    /// Features of the training images that are needed more than once.
    train: Features,
    /// Row of each training image in `train`, by the number of the image.
    rows: HashMap<usize, u32>,
    held_out: Option<Rows>,
    val: Rows,
}

impl<'a> Probe<'a> {
    /// A probe as `config` says, before features are made.
    ///
    /// # Errors
    /// When a classifier cannot be made.
    pub fn new(
        config: &'a Config,
        sets: &'a Sets,
        subjects: &'a [Subject<'a>],
        device: &Device,
    ) -> candle_core::Result<Self> {
        let classes = classes(sets);
        let heads = |subject: &Subject| Heads::new(&config.optim.rates, subject.width, classes, config.seed, device);
        Ok(Self {
            heads: subjects.iter().map(heads).collect::<candle_core::Result<_>>()?,
            device: device.clone(),
            known: Vec::new(),
            loader: None,
            skipped: 0,
            config,
            sets,
            subjects,
        })
    }

    /// The training images whose features are needed more than once: all, or with augmentation the held-out ones.
    fn kept(&self) -> Labelled {
        let Labelled { source, places, labels } = &self.sets.train;
        let is_kept = |i: &usize| !self.config.data.augment || (self.has_choice() && is_held_out(*i));
        let (places, labels) = (0..places.len()).filter(is_kept).map(|i| (places[i], labels[i])).unzip();
        Labelled { source: source.clone(), places, labels }
    }

    /// Random views of the training images, which are some of `images`.
    fn views(&self, images: Arc<dyn ImageSource>) -> Result<Loader<Square>, Error> {
        let (data, o, places) = (&self.config.data, &self.config.optim, self.sets.train.places.clone());
        let settings = LoaderConfig {
            threads: data.workers,
            drop_last: false,
            max_bad: data.max_bad,
            ..LoaderConfig::new(o.batch_size.min(places.len()), self.config.seed)
        };
        let recipe = Square { size: self.config.model.image_size };
        let decoding = self.sets.centre.decoding.clone();
        Ok(Loader::new(Arc::new(Chosen { source: images, places }), recipe, decoding, settings)?)
    }

    /// Whether there are several rates to choose from.
    fn has_choice(&self) -> bool {
        self.config.optim.rates.len() > 1
    }

    /// The features of one set of a subject: those that an earlier session made, or new ones.
    fn features(
        &self,
        subject: usize,
        set: &str,
        images: &Labelled,
        stop: &AtomicBool,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Features, Error> {
        let Subject { name, encode, .. } = &self.subjects[subject];
        let name = if name.is_empty() { set.to_string() } else { format!("{name}-{set}") };
        let run = &self.config.output_dir;
        if let Some(found) = Features::read(run, &name, &self.device)? {
            return Ok(found);
        }
        let (count, mut told) = (images.places.len(), Instant::now());
        let mut progress = |done: usize| {
            if told.elapsed() > PAUSE {
                told = Instant::now();
                tell(Event::Notice(&format!("features of {name}: {done} of {count} images")));
            }
        };
        let encode = |squares: &[Samples]| match stop.load(Ordering::Relaxed) {
            true => Err(candle_core::Error::Msg("stopped".into())),
            false => encode(squares),
        };
        let made = Features::made(images, &self.sets.centre, &encode, &self.device, &mut progress);
        let features = made.map_err(|e| match stop.load(Ordering::Relaxed) {
            true => {
                Error::Data(selfpatch_datasets::Error::Stopped { what: format!("while features of {name} were made") })
            }
            false => e,
        })?;
        features.write(run, &name)?;
        Ok(features)
    }

    /// The rows of one subject that a step learns from.
    fn rows(&self, subject: usize, batch: &Batch) -> candle_core::Result<Rows> {
        let labels = &self.sets.train.labels;
        let (features, ids) = match &batch.pixels {
            Some(pixels) => ((self.subjects[subject].encode)(std::slice::from_ref(pixels))?, batch.ids.clone()),
            None => {
                let known = &self.known[subject];
                let ids: Vec<usize> = batch.ids.iter().copied().filter(|id| known.rows.contains_key(id)).collect();
                let rows: Vec<u32> = ids.iter().map(|id| known.rows[id]).collect();
                let rows = Tensor::from_slice(&rows, rows.len(), &self.device)?;
                (known.train.rows.index_select(&rows, 0)?, ids)
            }
        };
        let held_out = ids.iter().map(|id| self.has_choice() && is_held_out(*id)).collect();
        Ok(Rows { features, labels: ids.into_iter().map(|id| labels[id]).collect(), held_out })
    }

    fn epoch_of(&self, step: usize) -> usize {
        step / self.steps_per_epoch().max(1)
    }
}

/// Number of classes: the greatest class number plus one.
fn classes(sets: &Sets) -> usize {
    let labels = sets.train.labels.iter().chain(&sets.val.labels);
    labels.max().map_or(0, |last| *last as usize + 1)
}

/// Time between two lines about features.
const PAUSE: Duration = Duration::from_secs(5);

/// Some rows of features, all of them held out.
fn held_out(train: &Features, numbers: &HashMap<u32, usize>, device: &Device) -> candle_core::Result<Option<Rows>> {
    let is_held = |row: &u32| numbers.get(&train.places[*row as usize]).is_some_and(|i| is_held_out(*i));
    let rows: Vec<u32> = (0..train.labels.len() as u32).filter(is_held).collect();
    if rows.is_empty() {
        return Ok(None);
    }
    let index = Tensor::from_slice(&rows, rows.len(), device)?;
    let labels = rows.iter().map(|row| train.labels[*row as usize]).collect();
    Ok(Some(Rows { features: train.rows.index_select(&index, 0)?, labels, held_out: vec![true; rows.len()] }))
}

impl Task for Probe<'_> {
    type Settings = Config;
    type Batch = Batch;

    const SHEET: Sheet = SHEET;

    fn images(&self) -> Arc<dyn ImageSource> {
        Arc::clone(&self.sets.train.source)
    }

    fn images_per_epoch(&self) -> usize {
        self.sets.train.places.len()
    }

    fn steps_per_epoch(&self) -> usize {
        self.images_per_epoch().div_ceil(self.config.optim.batch_size)
    }

    fn about(&self) -> Result<Vec<String>, Error> {
        let (train, val) = (self.sets.train.places.len(), self.sets.val.places.len());
        Ok(vec![format!("{train} images to learn from, {val} to be judged by, {} classes", classes(self.sets))])
    }

    fn prepare(
        &mut self,
        images: Arc<dyn ImageSource>,
        stop: &AtomicBool,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(), Error> {
        if self.config.data.augment {
            self.loader = Some(self.views(Arc::clone(&images))?);
        }
        let kept = Labelled { source: images, ..self.kept() };
        let numbers: HashMap<u32, usize> =
            self.sets.train.places.iter().enumerate().map(|(i, place)| (*place as u32, i)).collect();
        for subject in 0..self.subjects.len() {
            let [val_name, train_name] = SETS;
            let val = self.features(subject, val_name, &self.sets.val, stop, tell)?;
            let train = match kept.places.is_empty() {
                true => Features {
                    rows: val.rows.narrow(0, 0, 0)?,
                    labels: Vec::new(),
                    places: Vec::new(),
                    noticed: Noticed::default(),
                },
                false => self.features(subject, train_name, &kept, stop, tell)?,
            };
            if subject == 0 {
                self.skipped = val.noticed.skipped.len() + train.noticed.skipped.len();
            }
            let rows = train.places.iter().enumerate();
            let rows = rows.filter_map(|(row, place)| Some((*numbers.get(place)?, row as u32))).collect();
            let held_out = if self.has_choice() { held_out(&train, &numbers, &self.device)? } else { None };
            let judged = vec![true; val.labels.len()];
            let val = Rows { features: val.rows, labels: val.labels, held_out: judged };
            self.known.push(Known { train, rows, held_out, val });
        }
        Ok(())
    }

    fn epoch(&self, epoch: u64, first: usize) -> Batches<Batch> {
        if let Some(loader) = &self.loader {
            let batch = |batch: selfpatch_datasets::Batch<Samples>| Batch { ids: batch.ids, pixels: Some(batch.views) };
            return loaded(loader.epoch(epoch, first), batch);
        }
        let mut order: Vec<usize> = (0..self.images_per_epoch()).collect();
        shuffle(&mut stream(self.config.seed, Purpose::Order, epoch, 0), &mut order);
        let size = self.config.optim.batch_size;
        let batches: Vec<Vec<usize>> = order.chunks(size).skip(first).map(<[usize]>::to_vec).collect();
        Box::new(batches.into_iter().map(|ids| {
            let images = ids.len();
            Ok(Loaded { batch: Batch { ids, pixels: None }, images, faults: Vec::new(), waited: Duration::ZERO })
        }))
    }

    fn seen(&self) -> Seen {
        match &self.loader {
            Some(loader) => Seen { bad: loader.bad().len(), left_out: loader.tally() },
            None => Seen { bad: self.skipped, ..Seen::default() },
        }
    }

    fn step(&mut self, batch: &Batch, step: usize) -> Result<Numbers, StepError> {
        let (epoch, o) = (self.epoch_of(step), &self.config.optim);
        let factor = o.batch_size as f64 / 256.;
        let mut numbers = Numbers::default();
        let mut moves = Vec::with_capacity(self.subjects.len());
        for (subject, heads) in self.heads.iter().enumerate() {
            let rows = self.rows(subject, batch)?;
            // None of the images of this batch can be read.
            let of = if rows.labels.is_empty() { Vec::new() } else { heads.gradients(&rows)? };
            let losses = heads.all.iter().zip(&of).filter(|(head, _)| head.is_whole && head.lr == heads.best);
            let loss = losses.filter_map(|(_, m)| m.as_ref()).map(|(loss, _)| *loss).next();
            numbers.set(["train_loss", "random_loss"][subject.min(1)], loss.unwrap_or(f64::NAN));
            moves.push(of);
        }
        let rate = classifier::rate(self.heads.first().map_or(0., |heads| heads.best) * factor, epoch, o.epochs);
        numbers.set("train_lr", rate);
        let lost = moves.iter().flatten().flatten().map(|(loss, _)| *loss).find(|loss| !loss.is_finite());
        if let Some(loss) = lost {
            return Err(StepError::NonFinite {
                error: Error::NonFinite { step, losses: vec![("loss", loss)] },
                numbers,
            });
        }
        for (heads, moves) in self.heads.iter_mut().zip(&moves) {
            heads.step(moves, factor, epoch, o.epochs)?;
        }
        Ok(numbers)
    }

    fn measure(&mut self, step: usize, is_last: bool, warn: &mut dyn FnMut(String)) -> Numbers {
        if !(step.is_multiple_of(self.steps_per_epoch()) || is_last) {
            return Numbers::default();
        }
        let mut numbers = Numbers::default();
        for ((subject, heads), known) in self.subjects.iter().zip(&mut self.heads).zip(&self.known) {
            let name =
                |what: &str| if subject.name.is_empty() { what.into() } else { format!("{}_{what}", subject.name) };
            match heads.judge(known.held_out.as_ref(), &known.val) {
                Ok(HeadScores { lr, held_out, scores }) => {
                    numbers.set(name("top1"), scores.top1);
                    numbers.set(name("top5"), scores.top5);
                    numbers.set(name("rate"), lr);
                    if let Some(held_out) = held_out {
                        numbers.set(name("held_out_top1"), held_out);
                    }
                }
                Err(e) => warn(e.to_string()),
            }
        }
        numbers
    }

    fn explain(&mut self, _batch: &Batch, _step: usize, error: &Error) -> Result<Explained, Error> {
        let advice = "Start again with lower optim.rates, under another --name or with --overwrite".into();
        Ok(Explained { place: format!("first seen in a classifier: {error}"), kept: None, advice })
    }

    fn state(&self) -> Result<State, Error> {
        let (mut weights, mut moments) = (Vec::new(), Vec::new());
        let (mut steps, mut best) = (BTreeMap::new(), BTreeMap::new());
        let prefixed = |prefix: &str, tensors: Vec<(String, Tensor)>| {
            tensors.into_iter().map(|(name, t)| (format!("{prefix}.{name}"), t)).collect::<Vec<_>>()
        };
        for (subject, heads) in self.subjects.iter().zip(&self.heads) {
            best.insert(called(subject), heads.best);
            for head in &heads.all {
                let name = format!("{}.{}", called(subject), head.name());
                weights.extend(prefixed(&name, head.classifier.params.tensors()));
                moments.extend(prefixed(&name, head.classifier.optimizer.moments()));
                steps.insert(name, head.classifier.optimizer.steps()?);
            }
        }
        let metadata = vec![
            ("task".to_string(), "linear probe".to_string()),
            ("feature".to_string(), self.config.model.feature.clone()),
            ("classes".to_string(), self.sets.train.source.classes().join("\n")),
        ];
        Ok(State::new(metadata)
            .with_tensors("classifiers", weights)?
            .with_tensors("optimizer", moments)?
            .with_value("optimizer_steps", Some(&steps))?
            .with_value("best", Some(&best))?)
    }

    fn restore(&mut self, found: &Found<Config>) -> Result<(), Error> {
        let (weights, moments) =
            (found.tensors("classifiers", &self.device)?, found.tensors("optimizer", &self.device)?);
        let steps: BTreeMap<String, BTreeMap<String, u64>> = found.value("optimizer_steps")?.unwrap_or_default();
        let best: BTreeMap<String, f64> = found.value("best")?.unwrap_or_default();
        for (subject, heads) in self.subjects.iter().zip(&mut self.heads) {
            heads.best = best.get(&called(subject)).copied().unwrap_or(heads.best);
            for head in &mut heads.all {
                let name = format!("{}.{}", called(subject), head.name());
                let part = |tensors: &BTreeMap<String, Tensor>| -> BTreeMap<String, Tensor> {
                    let of = |(n, t): (&String, &Tensor)| {
                        Some((n.strip_prefix(&name)?.strip_prefix('.')?.to_string(), t.clone()))
                    };
                    tensors.iter().filter_map(of).collect()
                };
                head.classifier.params.load(&part(&weights.tensors), &weights.path)?;
                let steps = steps.get(&name).cloned().unwrap_or_default();
                head.classifier.optimizer.restore(&part(&moments.tensors), &steps)?;
            }
        }
        Ok(())
    }

    /// Writes `export/linear.safetensors`: `weight [C, D]` and `bias [C]` of the chosen classifier.
    fn export(config: &Config, state: &State) -> Result<(), Error> {
        let best = state.values.get("best").and_then(|best| best.get(WEIGHTS)?.as_f64()).unwrap_or_default();
        let prefix = format!("{WEIGHTS}.{best}.whole.");
        let named = |(name, t): &(String, Tensor)| Some((name.strip_prefix(&prefix)?.to_string(), t.clone()));
        let tensors: Vec<_> = state.tensors("classifiers").iter().filter_map(named).collect();
        let folder = config.output_dir.join("export");
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        Ok(write_safetensors(&folder.join("linear.safetensors"), &tensors, &state.metadata)?)
    }
}

/// Name of the classifiers on the weights' features in files.
const WEIGHTS: &str = "weights";

fn called(subject: &Subject) -> String {
    if subject.name.is_empty() { WEIGHTS.into() } else { subject.name.into() }
}
