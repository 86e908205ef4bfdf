//! How fast images become normalised views: read, decoded, cropped ten times, coloured, blurred; also
//! beside Pillow and torchvision.

use crate::agree::{Agreement, Count, agreement};
use crate::bounds::whole;
use crate::machine::{cores, cpu_seconds, median};
use crate::peer::peer;
use anyhow::{Context, Result, bail};
use selfpatch_datasets::{
    Access, Content, Decoding, Drawn, Filter, ImageSource, MultiCrop, Picture, ProceduralImages, Samples, Window, open,
};
use selfpatch_train::candle_core::Device;
use selfpatch_train::{MEAN, STD, normalized};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Images to use; without it 64 synthetic JPEG files of 500 x 375 pixels, quality 95
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// A Python with Pillow and torchvision, measured in turn on the same files
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// Numbers of threads
    #[arg(long, value_delimiter = ',', value_name = "N", value_parser = whole(1, 1024))]
    threads: Option<Vec<usize>>,
    /// Images of one run
    #[arg(long, default_value_t = 512, value_parser = whole(1, 10000000))]
    images: usize,
    /// Runs, in turn with Python's
    #[arg(long, default_value_t = 3, value_parser = whole(1, 10000))]
    rounds: usize,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// What one run reports; the peer prints the same fields.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Rate {
    images_per_second: f64,
    images_per_cpu_second: f64,
}

/// Rates with one number of threads.
#[derive(Serialize)]
struct Row {
    threads: usize,
    selfpatch: Rate,
    pytorch: Option<Rate>,
    /// Median of the pairwise ratios of images per CPU-second.
    ratio_per_cpu_second: Option<f64>,
    ratio_per_second: Option<f64>,
}

pub fn run(args: &Args) -> Result<()> {
    let made = std::env::temp_dir().join(format!("selfpatch-bench-data-{}", std::process::id()));
    let folder = match &args.data {
        Some(folder) => folder.clone(),
        None => {
            make(&made)?;
            made.clone()
        }
    };
    let result = measure(args, &folder);
    if made.exists() {
        std::fs::remove_dir_all(&made)?;
    }
    result
}

fn measure(args: &Args, folder: &Path) -> Result<()> {
    let source = open(&folder.to_string_lossy(), &Access::usual())?;
    let crops = MultiCrop::dino(224, 96, 8, [0.25, 1.0], [0.05, 0.25]);
    let agreement = match &args.python {
        Some(python) => {
            let work = std::env::temp_dir().join(format!("selfpatch-bench-agree-{}", std::process::id()));
            std::fs::create_dir_all(&work)?;
            let found = agreement(&*source, folder, &crops, python, &work);
            std::fs::remove_dir_all(&work)?;
            Some(found?)
        }
        None => None,
    };
    let stages = Stages::measure(&*source, &crops, args.images.min(128))?;
    if !args.json {
        say!("{} images, 2 x 224 and 8 x 96 crops; one image on one thread:", source.len());
        stages.print();
        agreement.iter().for_each(print_agreement);
        say!("\n{:>7} {:>34} {:>34} {:>12}", "threads", "selfpatch: images/s, /CPU-second", "PyTorch", "per core");
    }
    let mut rows = Vec::new();
    let threads = args.threads.clone().unwrap_or_else(|| (1..=cores()).filter(|t| t.is_power_of_two()).collect());
    for &threads in &threads {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..args.rounds.max(1) {
            ours.push(pipeline(&*source, &crops, threads, args.images)?);
            if let Some(python) = &args.python {
                let (threads, images) = (threads.to_string(), args.images.to_string());
                let arguments = [&*folder.to_string_lossy(), "--threads", &threads, "--images", &images];
                let text = peer(python, "data.py", &arguments)?;
                theirs.push(serde_json::from_str(&text).context("the peer's report")?);
            }
        }
        let ratio = |of: fn(&Rate) -> f64| {
            let ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(a, b)| of(a) / of(b)).collect();
            (!ratios.is_empty()).then(|| median(ratios))
        };
        let row = Row {
            threads,
            ratio_per_cpu_second: ratio(|r| r.images_per_cpu_second),
            ratio_per_second: ratio(|r| r.images_per_second),
            selfpatch: middle(&ours),
            pytorch: (!theirs.is_empty()).then(|| middle(&theirs)),
        };
        if !args.json {
            let show = |r: Rate| format!("{:.1} {:.1}", r.images_per_second, r.images_per_cpu_second);
            say!(
                "{threads:>7} {:>34} {:>34} {:>12}",
                show(row.selfpatch),
                row.pytorch.map_or("-".into(), show),
                row.ratio_per_cpu_second.map_or("-".into(), |r| format!("{r:.2} x"))
            );
        }
        rows.push(row);
    }
    if args.json {
        say!("{}", serde_json::json!({ "stages_ms": stages, "agreement": agreement, "rows": rows }));
    } else if let [first, .., last] = &rows[..] {
        let gain = last.selfpatch.images_per_second / first.selfpatch.images_per_second;
        say!("\n{} -> {} threads: {gain:.2} x", first.threads, last.threads);
    }
    Ok(())
}

fn print_agreement(a: &Agreement) {
    let line = |what: &str, c: &Count| {
        let part = 100. * c.differ as f64 / c.bytes as f64;
        say!("  {what}: {} of {} bytes differ ({part:.4} %), by {} at most", c.differ, c.bytes, c.most);
    };
    say!("beside Pillow, which decodes an image in {:.2} ms:", a.decode_ms);
    line("decoded files", &a.decoded);
    line("views of the same pixels", &a.views);
}

fn middle(rates: &[Rate]) -> Rate {
    Rate {
        images_per_second: median(rates.iter().map(|r| r.images_per_second).collect()),
        images_per_cpu_second: median(rates.iter().map(|r| r.images_per_cpu_second).collect()),
    }
}

/// 64 photos of synthetic scenes, as a camera would store them. They are drawn at half the size: their
/// noise is then as coarse as that of a photo, and the files as large.
fn make(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let scenes = ProceduralImages::new(0, 64, 250);
    let whole = Window { left: 0, top: 0, width: 250, height: 250 };
    let doubled = Drawn { window: whole, size: 500, filter: Filter::Bicubic, flip: false, ops: Vec::new() };
    for i in 0..scenes.len() {
        let Content::Image(image) = scenes.read(i)? else { continue };
        let picture = Picture::of(&image).context("an image that is not whole")?;
        let Samples::Bytes(planes) = picture.view(&doubled) else { continue };
        let pixels: Vec<u8> = (0..500 * 375).flat_map(|i| [0, 1, 2].map(|c| planes[c * 500 * 500 + i])).collect();
        let file = std::fs::File::create(folder.join(format!("{i:02}.jpg")))?;
        let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(std::io::BufWriter::new(file), 95);
        encoder.encode(&pixels, 500, 375, image::ExtendedColorType::Rgb8)?;
    }
    Ok(())
}

/// Milliseconds per image of each stage.
#[derive(Default, Serialize)]
struct Stages {
    read: f64,
    decode: f64,
    turn: f64,
    views: f64,
    normalize: f64,
}

impl Stages {
    fn measure(source: &dyn ImageSource, crops: &MultiCrop, images: usize) -> Result<Self> {
        let mut times = [Duration::ZERO; 5];
        for i in 0..images {
            one(source, crops, i, &mut |stage, time| times[stage] += time)?;
        }
        let ms = |stage: usize| 1e3 * times[stage].as_secs_f64() / images as f64;
        Ok(Self { read: ms(0), decode: ms(1), turn: ms(2), views: ms(3), normalize: ms(4) })
    }

    fn print(&self) {
        say!(
            "  read {:.2} ms, decode {:.2}, turn into columns {:.2}, ten views {:.2}, normalise {:.2}",
            self.read,
            self.decode,
            self.turn,
            self.views,
            self.normalize
        );
    }
}

/// Everything that becomes of one image.
fn one(source: &dyn ImageSource, crops: &MultiCrop, i: usize, told: &mut dyn FnMut(usize, Duration)) -> Result<()> {
    let id = i % source.len();
    let mut start = Instant::now();
    let mut lap = |stage: usize| {
        told(stage, start.elapsed());
        start = Instant::now();
    };
    let content = source.read(id)?;
    lap(0);
    let image = match content {
        Content::File(bytes) => Decoding::default().image(&bytes).map_err(anyhow::Error::msg)?,
        Content::Image(image) => image,
    };
    lap(1);
    let picture = Picture::of(&image).context("an image that is not whole")?;
    lap(2);
    let drawn = crops.draw_all(picture.shape(), 0, (i / source.len()) as u64, source.id(id));
    let views: Vec<(Samples, usize)> = drawn.iter().map(|d| (picture.view(d), d.size)).collect();
    lap(3);
    for (view, size) in &views {
        std::hint::black_box(normalized(view, (3, *size), (&MEAN, &STD), &Device::Cpu)?);
    }
    lap(4);
    Ok(())
}

/// Rate with `threads` threads, each taking the next image.
fn pipeline(source: &dyn ImageSource, crops: &MultiCrop, threads: usize, images: usize) -> Result<Rate> {
    let next = AtomicUsize::new(0);
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let work = || -> Result<()> {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= images {
                return Ok(());
            }
            one(source, crops, i, &mut |_, _| ())?;
        }
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        all.into_iter().try_for_each(|t| t.join().unwrap_or_else(|_| bail!("a thread panicked")))
    })?;
    Ok(Rate {
        images_per_second: images as f64 / start.elapsed().as_secs_f64(),
        images_per_cpu_second: images as f64 / (cpu_seconds() - cpu).max(1e-9),
    })
}
