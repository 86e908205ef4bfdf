//! Each fused op beside its plain reference and its floor, at the sizes of a ViT-Ti/16 step.

use crate::bounds::whole;
use crate::machine::{self, median};
use crate::step::{Shape, StepTimes};
use anyhow::{Result, bail};
use candle_core::{DType, Device, Tensor, Var};
use selfpatch_aggregation::{Aggregator, AggregatorConfig};
use selfpatch_matching::{Border, Neighbours, positives};
use selfpatch_nn::candle_nn::{Init, init};
use selfpatch_nn::ops::{self, Activations, Temperatures};
use selfpatch_nn::{Block, ClassBlock, Linear, Params, Sequences, backward};
use selfpatch_train::{Memory, work};
use std::time::Instant;

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    shape: Shape,
    /// Only ops whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Timed calls of each
    #[arg(long, default_value_t = 7, value_parser = whole(1, 1000000))]
    calls: usize,
    /// Leave out the plain references, which take long
    #[arg(long)]
    fused_only: bool,
    /// Only the teacher's targets, as one line of JSON for `versus-pytorch --targets`
    #[arg(long, hide = true)]
    targets_json: bool,
}

/// One op: what it must do at least, and two ways to do it.
struct Case<'a> {
    name: &'static str,
    flops: f64,
    /// Bytes that must be read and written.
    bytes: f64,
    fused: Box<dyn Fn() -> candle_core::Result<()> + Sync + 'a>,
    plain: Box<dyn Fn() -> candle_core::Result<()> + Sync + 'a>,
}

const DIM: usize = 192;
const HEADS: usize = 3;
const HIDDEN: usize = 2048;
const BOTTLENECK: usize = 256;
const CLASSES: usize = 65536;
const PATCH_CLASSES: usize = 4096;

pub fn run(args: &Args) -> Result<()> {
    machine::set_threads(args.shape.threads.unwrap_or_else(machine::cores))?;
    if args.calls == 0 || args.shape.batch == 0 {
        bail!("--calls and --batch must be at least 1")
    }
    if args.targets_json {
        return targets(args);
    }
    Memory::admit(&args.shape.config(), 0)?;
    let (peak, bandwidth) = (machine::gemm_peak(), machine::bandwidth());
    let b = args.shape.batch;
    let sequences = Sequences::new(&[(2 * b, 196), (8 * b, 36)]);
    let (t, squares) = (sequences.tokens(), sequences.lengths().iter().map(|n| n * n).sum::<usize>());
    let params = Params::trainable(0);
    let vb = params.builder(DType::F32, &Device::Cpu);
    let random = |shape: &[usize]| Tensor::randn(0f32, 1f32, shape, &Device::Cpu);
    let x = random(&[t, DIM])?;
    let tracked = Var::from_tensor(&x)?;
    let tracked = tracked.as_tensor();
    let grad = |y: Tensor| backward(&y.sum_all()?).map(drop);

    let qkv = Var::from_tensor(&random(&[t, 3 * DIM])?)?;
    let blocks = [Block::new(DIM, HEADS, 4 * DIM, true, 1e-6, vb.pp("block"))?];
    let class_blocks = (0..2)
        .map(|i| ClassBlock::new(DIM, HEADS, 4, 1e-6, vb.pp(format!("class{i}"))))
        .collect::<candle_core::Result<Vec<_>>>()?;
    let cls = vb.get_with_hints((1, 1, DIM), "cls", Init::Randn { mean: 0., stdev: 0.02 })?;
    let head = [
        Linear::new(DIM, HIDDEN, vb.pp(1))?,
        Linear::new(HIDDEN, HIDDEN, vb.pp(2))?,
        Linear::new(HIDDEN, BOTTLENECK, vb.pp(3))?,
    ];
    let prototypes = |n: usize, name: &str| -> candle_core::Result<(Tensor, Tensor)> {
        let v = vb.get_with_hints((n, BOTTLENECK), &format!("{name}v"), Init::Randn { mean: 0., stdev: 1. })?;
        Ok((v, vb.get_with_hints((n, 1), &format!("{name}g"), init::ONE)?.detach()))
    };
    let ((pv, pg), (cv, cg)) = (prototypes(PATCH_CLASSES, "p")?, prototypes(CLASSES, "c")?);
    let embedded = Var::from_tensor(&ops::normalize(&random(&[t, BOTTLENECK])?)?)?;
    let views = 10 * b;
    let class_embedded = Var::from_tensor(&embedded.narrow(0, 0, views)?.copy()?)?;
    let (student, teacher) =
        (Var::from_tensor(&(random(&[t, PATCH_CLASSES])? * 0.1)?)?, (random(&[t, PATCH_CLASSES])? * 0.1)?);
    let center = Tensor::zeros((1, PATCH_CLASSES), DType::F32, &Device::Cpu)?;
    let weights = vec![1. / t as f64; t];
    let temperatures = Temperatures { student: 0.1, teacher: 0.04 };
    let class_student = Var::from_tensor(&(random(&[views, CLASSES])? * 0.1)?)?;
    let class_targets = ops::sharpened(
        &(random(&[2 * b, CLASSES])? * 0.1)?,
        &Tensor::zeros((1, CLASSES), DType::F32, &Device::Cpu)?,
        0.04,
    )?
    .0;
    let pairs: Vec<Vec<usize>> =
        (0..views).map(|r| (0..2).filter(|v| *v != r / b).map(|v| v * b + r % b).collect()).collect();
    let class_weights = vec![1. / (18 * b) as f64; views];
    let frozen = Params::frozen(0);
    let aggregator = Aggregator::new(&AggregatorConfig::new(DIM, HEADS), frozen.builder(DType::F32, &Device::Cpu))?;
    let plain_params = Params::frozen(0);
    let plain_vb = plain_params.builder(DType::F32, &Device::Cpu);
    let plain_class = (0..2)
        .map(|i| ClassBlock::new(DIM, HEADS, 4, 1e-6, plain_vb.pp(format!("class{i}"))))
        .collect::<candle_core::Result<Vec<_>>>()?;
    let plain_cls = plain_vb.get_with_hints((1, 1, DIM), "cls", Init::Randn { mean: 0., stdev: 0.02 })?;
    let grids = [(2 * b, 14), (8 * b, 6)];
    let groups = sequences.split(&x)?;
    let near = grids
        .iter()
        .map(|&(_, side)| Neighbours::new(side, side, 3, Border::Torus))
        .collect::<candle_core::Result<Vec<_>>>()?;
    let chosen =
        groups.iter().zip(&near).map(|(x, near)| positives(x, near, 4)).collect::<candle_core::Result<Vec<_>>>()?;

    let (tf, sq, d) = (t as f64, squares as f64, DIM as f64);
    let mb = |elements: f64| 4. * elements;
    let pooled = |x: &Tensor, p: &selfpatch_matching::Positives| -> candle_core::Result<(Tensor, Tensor)> {
        let (n, patches, k) = p.ids.dims3()?;
        Ok((x.reshape((n * patches, DIM))?, p.rows()?.reshape((n * patches, k))?))
    };
    let mlp_params = (DIM * HIDDEN + HIDDEN * HIDDEN + HIDDEN * BOTTLENECK) as f64;
    let cases = [
        Case {
            name: "attention, forward",
            flops: 4. * d * sq,
            bytes: mb(4. * tf * d),
            fused: Box::new(|| ops::attention(&qkv.detach(), &sequences, HEADS).map(drop)),
            plain: Box::new(|| ops::attention_reference(&qkv.detach(), &sequences, HEADS).map(drop)),
        },
        Case {
            name: "attention, both ways",
            flops: 12. * d * sq,
            bytes: mb(11. * tf * d),
            fused: Box::new(|| grad(ops::attention(&qkv, &sequences, HEADS)?)),
            plain: Box::new(|| grad(ops::attention_reference(&qkv, &sequences, HEADS)?)),
        },
        Case {
            name: "transformer block, forward",
            flops: 24. * tf * d * d + 4. * d * sq,
            bytes: mb(2. * tf * d + 12. * d * d),
            fused: Box::new(|| ops::transformer(&x.detach(), &sequences, &blocks, None, Activations::Keep).map(drop)),
            plain: Box::new(|| ops::transformer_reference(&x.detach(), &sequences, &blocks, None).map(drop)),
        },
        Case {
            name: "transformer block, both ways",
            flops: 3. * (24. * tf * d * d + 4. * d * sq),
            bytes: mb(4. * tf * d + 36. * d * d),
            fused: Box::new(|| grad(ops::transformer(tracked, &sequences, &blocks, None, Activations::Keep)?)),
            plain: Box::new(|| grad(ops::transformer_reference(tracked, &sequences, &blocks, None)?)),
        },
        Case {
            name: "class attention, both ways",
            flops: 3. * 2. * (4. * (tf + views as f64) * d * d + 20. * views as f64 * d * d + 4. * tf * d),
            bytes: mb(4. * tf * d + 72. * d * d),
            fused: Box::new(|| grad(ops::class_attention(tracked, &sequences, &cls, &class_blocks)?)),
            plain: Box::new(|| grad(ops::class_attention_reference(tracked, &sequences, &cls, &class_blocks)?)),
        },
        Case {
            name: "matching",
            flops: 19. * tf * d,
            bytes: mb(tf * d + 8. * tf),
            fused: Box::new(|| groups.iter().zip(&near).try_for_each(|(x, near)| positives(x, near, 4).map(drop))),
            plain: Box::new(|| {
                groups
                    .iter()
                    .zip(&near)
                    .try_for_each(|(x, near)| selfpatch_matching::similarities(x, near)?.sort_last_dim(false).map(drop))
            }),
        },
        Case {
            name: "aggregation of positives",
            flops: work::aggregation(t as f64, DIM as f64, 2., 4.),
            bytes: mb(2. * tf * d + 24. * d * d),
            fused: Box::new(|| groups.iter().zip(&chosen).try_for_each(|(x, p)| aggregator.patches(x, p).map(drop))),
            plain: Box::new(|| {
                groups.iter().zip(&chosen).try_for_each(|(x, p)| {
                    let (x, rows) = pooled(x, p)?;
                    ops::pool_positives_reference(&x, &rows, None, &plain_cls, &plain_class).map(drop)
                })
            }),
        },
        Case {
            name: "patch head without prototypes, both ways",
            flops: 6. * tf * mlp_params,
            bytes: mb(2. * tf * (d + BOTTLENECK as f64) + 3. * mlp_params),
            fused: Box::new(|| grad(ops::mlp(tracked, &head)?)),
            plain: Box::new(|| grad(ops::mlp_reference(tracked, &head)?)),
        },
        Case {
            name: "patch prototypes, both ways",
            flops: 6. * tf * (BOTTLENECK * PATCH_CLASSES) as f64,
            bytes: mb(2. * tf * (BOTTLENECK + PATCH_CLASSES) as f64 + 3. * (BOTTLENECK * PATCH_CLASSES) as f64),
            fused: Box::new(|| grad(ops::prototypes(&embedded, &pv, &pg)?)),
            plain: Box::new(|| grad(ops::prototypes_reference(&embedded, &pv, &pg)?)),
        },
        Case {
            name: "class prototypes, both ways",
            flops: 6. * (views * BOTTLENECK * CLASSES) as f64,
            bytes: mb(2. * (views * (BOTTLENECK + CLASSES)) as f64 + 3. * (BOTTLENECK * CLASSES) as f64),
            fused: Box::new(|| grad(ops::prototypes(&class_embedded, &cv, &cg)?)),
            plain: Box::new(|| grad(ops::prototypes_reference(&class_embedded, &cv, &cg)?)),
        },
        Case {
            name: "patch loss with gradient",
            flops: 0.,
            bytes: mb(3. * tf * PATCH_CLASSES as f64),
            fused: Box::new(|| {
                grad(ops::matched_cross_entropy(&student, &teacher, &center, &weights, temperatures)?.0)
            }),
            plain: Box::new(|| {
                grad(ops::matched_cross_entropy_reference(&student, &teacher, &center, &weights, temperatures)?.0)
            }),
        },
        Case {
            name: "image loss with gradient",
            flops: 0.,
            bytes: mb((2 * views + 2 * b) as f64 * CLASSES as f64),
            fused: Box::new(|| {
                grad(ops::paired_cross_entropy(&class_student, &class_targets, &pairs, &class_weights, 0.1)?)
            }),
            plain: Box::new(|| {
                grad(ops::paired_cross_entropy_reference(&class_student, &class_targets, &pairs, &class_weights, 0.1)?)
            }),
        },
    ];
    let chosen: Vec<&Case> = cases.iter().filter(|c| c.name.contains(&args.only)).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = cases.iter().map(|c| c.name).collect();
        bail!("--only: no op is called {:?}; there are: {}", args.only, names.join("; "))
    }
    say!(
        "{} threads; GEMM peak {:.0} GF/s, copying {:.1} GB/s",
        rayon::current_num_threads(),
        peak / 1e9,
        bandwidth / 1e9
    );
    say!("| op | fused, ms | floor, ms | of the floor | GF/s | plain, ms | plain / fused |");
    say!("|---|---|---|---|---|---|---|");
    for case in chosen {
        let fused = median(timed(&*case.fused, args.calls)?);
        let floor = (case.flops / peak).max(case.bytes / bandwidth);
        let (plain, ratio) = match args.fused_only {
            true => ("-".into(), "-".into()),
            false => {
                let plain = median(timed(&*case.plain, (args.calls / 2).max(1))?);
                (format!("{:.1}", plain * 1e3), format!("{:.1}", plain / fused))
            }
        };
        let rate = if case.flops > 0. { format!("{:.0}", case.flops / fused / 1e9) } else { "-".into() };
        say!(
            "| {} | {:.2} | {:.2} | {:.0} % | {rate} | {plain} | {ratio} |",
            case.name,
            fused * 1e3,
            floor * 1e3,
            100. * floor / fused
        );
    }
    Ok(())
}

/// Seconds of each call, after three that are not timed; on a thread of the pool, as in a step.
fn timed(f: &(dyn Fn() -> candle_core::Result<()> + Sync), calls: usize) -> Result<Vec<f64>> {
    rayon::scope(|_| {
        for _ in 0..3 {
            f()?;
        }
        let mut took = Vec::with_capacity(calls);
        for _ in 0..calls {
            let start = Instant::now();
            f()?;
            took.push(start.elapsed().as_secs_f64());
        }
        Ok(took)
    })
}

/// Times matching and aggregation of all crops of a batch, and prints one line of JSON.
fn targets(args: &Args) -> Result<()> {
    let shape = &args.shape;
    let config = shape.config();
    Memory::admit(&config, 0)?;
    let vit = config.vit()?;
    let params = Params::frozen(0);
    let aggregator = Aggregator::new(&config.aggregator()?, params.builder(DType::F32, &Device::Cpu))?;
    let crops = work::crops(&config)
        .into_iter()
        .map(|(count, size)| {
            let (rows, cols) = vit.grid(size, size)?;
            let x = Tensor::randn(0f32, 1f32, (count, rows * cols, vit.embed_dim), &Device::Cpu)?;
            Ok((x, Neighbours::new(rows, cols, 3, Border::Torus)?))
        })
        .collect::<candle_core::Result<Vec<_>>>()?;
    let once =
        || crops.iter().try_for_each(|(x, near)| aggregator.patches(x, &positives(x, near, shape.k_num)?).map(drop));
    let report = StepTimes::of(shape, rayon::current_num_threads(), timed(&once, args.calls)?, 0.);
    say!("{}", serde_json::to_string(&report)?);
    Ok(())
}

/// Times of matching and aggregation of all crops of a batch, in a process of its own.
pub fn targets_apart(shape: &Shape, calls: usize) -> Result<StepTimes> {
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command.args(["ops", "--targets-json", "--calls", &calls.to_string()]).args(shape.arguments());
    crate::scaling::reported(command)
}
