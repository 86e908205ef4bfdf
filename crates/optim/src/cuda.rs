//! AdamW on a CUDA device: all parameters in one pass, through a table of where everything lies.

use crate::ema::Follower;
use crate::norms::Norms;
use crate::rules::{Clip, Rules};
use crate::state::States;
use crate::step::Step;
use candle_core::{DType, Device, Result, Tensor, Var, bail};
use selfpatch_nn::cuda::{Grid, Module, address, launch, uninitialised};
use selfpatch_nn::{Gradients, Params, cuda_args, cuda_module};

const MODULE: Module = cuda_module!("adamw");

/// Elements of one block, threads of one block, words of an entry: as in `adamw.cu`.
const CHUNK: usize = 8192;
const THREADS: usize = 256;
const WORDS: usize = 8;

/// Whether all parameters can take the pass: f32 on one CUDA device, with rules that the kernel has.
pub(crate) fn applies(params: &Params, follower: Option<&Follower>, rules: &Rules) -> bool {
    if matches!(rules.clip, Clip::Together(_)) || !rules.rates.is_empty() {
        return false;
    }
    let followers = follower.into_iter().flat_map(|follower| follower.params.iter());
    let mut all = params.iter().chain(followers).map(|(_, var)| var);
    let Some(first) = all.next() else { return false };
    let suits = |var: &Var| var.dtype() == DType::F32 && var.device().same_device(first.device());
    first.device().is_cuda() && suits(&first) && all.all(|var| suits(&var))
}

/// One row of the table; the layout of `Entry` in `adamw.cu`.
struct Entry {
    param: u64,
    teacher: u64,
    gradient: u64,
    moments: u64,
    steps: u64,
    size: usize,
    decayed: bool,
}

/// Does the step of [`Optimizer::step`](crate::Optimizer::step), without waiting for the device.
pub(crate) fn adamw(
    states: &mut States,
    params: &Params,
    follower: Option<&Follower>,
    grads: &Gradients,
    rules: &Rules,
    step: &Step,
) -> Result<Norms> {
    let (mut names, mut trained, mut others, mut gradients) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (name, param) in params.iter() {
        let teacher =
            follower.and_then(|follower| follower.of(&name)).map(|var| address(&var)).transpose()?.unwrap_or(0);
        let size = param.elem_count();
        let entry = Entry { param: address(&param)?, teacher, gradient: 0, moments: 0, steps: 0, size, decayed: false };
        let Some(gradient) = grads.get(&param) else {
            others.extend((teacher != 0).then_some(entry));
            continue;
        };
        let gradient = gradient.to_dtype(DType::F32)?.contiguous()?;
        if gradient.elem_count() != size {
            bail!("{name}: a gradient {:?} for a parameter {:?}", gradient.dims(), param.dims())
        }
        if !gradient.device().same_device(param.device()) {
            bail!("{name}: the gradient is not on the device of its parameter")
        }
        let state = states.of(&name, &param, 2)?;
        trained.push(Entry {
            gradient: address(&gradient)?,
            moments: address(&state.moments)?,
            steps: address(&state.steps)?,
            decayed: rules.decay.applies(&name, param.rank()),
            ..entry
        });
        gradients.push(gradient); // until the kernels are launched
        names.push(name);
    }
    let Some((_, first)) = params.iter().next() else { bail!("an optimiser without parameters") };
    let numbers = Settings { momentum: follower.map_or(1., |follower| follower.momentum), clip: rules.clip, step };
    let values = run(&trained, &others, &numbers, first.device())?;
    Ok(Norms { names, values })
}

/// Settings of the kernels.
struct Settings<'a> {
    momentum: f64,
    clip: Clip,
    step: &'a Step,
}

/// Launches the kernels and returns the norms of the trained entries.
fn run(trained: &[Entry], others: &[Entry], settings: &Settings, device: &Device) -> Result<Tensor> {
    let (mut words, mut chunks) = (Vec::new(), Vec::new());
    let mut chunk = 0;
    for e in trained.iter().chain(others) {
        let addresses = [e.param, e.teacher, e.gradient, e.moments, e.steps];
        words.extend(addresses.map(|a| a as i64));
        words.extend([e.size as i64, chunk as i64, i64::from(e.decayed)]);
        chunk += e.size.div_ceil(CHUNK);
        chunks.push(chunk);
    }
    let count = trained.len();
    let all = chunk;
    let of_gradients = if count == 0 { 0 } else { chunks[count - 1] };
    let table = Tensor::from_vec(words, (chunks.len(), WORDS), device)?;
    let sums = uninitialised(of_gradients.max(1), DType::F32, device)?;
    let norms = uninitialised(count.max(1), DType::F32, device)?;
    let coefficients = uninitialised((count.max(1), 4), DType::F32, device)?;
    let applied = uninitialised((), DType::U32, device)?;
    let Settings { momentum, clip, step } = settings;
    let unscale = (1. / step.scale) as f32;
    let (stay, take) = (*momentum as f32, (1. - momentum) as f32);
    let clip = if let Clip::Each(most) = clip { *most as f32 } else { 0. };
    // SAFETY: each argument is what `adamw.cu` declares. The table names arrays of as many f32 as it says (twice as
    // many moments, one u32 of steps), all of which live until the launch; the kernels write to parameters, moments,
    // steps and teachers, each of which one entry alone names.
    unsafe {
        let squares = Grid::new(of_gradients, THREADS);
        launch(device, MODULE, "sp_gradient_squares", squares, cuda_args![&table, count, unscale, &sums])?;
        let (lr, decay) = (step.lr as f32, step.weight_decay as f32);
        let args = cuda_args![&table, count, &sums, clip, unscale, lr, decay, &coefficients, &norms, &applied];
        launch(device, MODULE, "sp_adamw_coefficients", Grid::new(1, 1024), args)?;
        let args = cuda_args![&table, chunks.len(), count, &coefficients, &applied, stay, take];
        launch(device, MODULE, "sp_adamw", Grid::new(all, THREADS), args)?;
    }
    if count == 0 { Tensor::zeros(0, DType::F32, &Device::Cpu) } else { Ok(norms) }
}
