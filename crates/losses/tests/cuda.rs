//! Heads and objectives on a GPU beside the CPU.
#![cfg(feature = "cuda")]

use selfpatch_losses::candle_core::{DType, Device, Result, Tensor};
use selfpatch_losses::{CropGroup, Dino, HeadConfig, PatchLoss, ProjectionHead, TeacherViews};
use selfpatch_nn::random::normal;
use selfpatch_nn::{Params, Precision, autocast, backward};

const IMAGES: usize = 3;
const VIEWS: usize = 5;
/// What half precision has room for with so few images.
const LOSS_SCALE: f64 = 1024.;
const GROUPS: [CropGroup; 2] = [CropGroup { crops: 2, rows: IMAGES * 16 }, CropGroup { crops: 3, rows: IMAGES * 4 }];

/// Both losses, both means of the teacher's logits, and the gradient of every parameter for a loss that is
/// scaled as for half precision; on the CPU.
fn step(device: &Device, precision: Precision) -> Result<Vec<(String, Tensor)>> {
    let rows = |seed: u64, rows: usize| normal(seed, (rows, 24))?.to_device(device);
    let patches = GROUPS.iter().map(|g| g.crops * g.rows).sum();
    let config = |out: usize| HeadConfig { hidden_dim: 32, bottleneck_dim: 16, ..HeadConfig::dino(24, out) };
    let params = [Params::trainable(1), Params::frozen(2)];
    let heads = params.each_ref().map(|params| {
        let vb = params.builder(DType::F32, device);
        let patch = HeadConfig { norm_last_layer: false, ..config(202) };
        Ok((ProjectionHead::new(&config(1001), vb.pp("c"))?, ProjectionHead::new(&patch, vb.pp("p"))?))
    });
    for (name, var) in params.iter().flat_map(Params::iter).filter(|(name, _)| name.contains("mlp")) {
        // Rows that are as long as those of wide heads.
        var.set(&(var.as_tensor() * 10.)?.detach()).map_err(|e| e.context(name))?;
    }
    let [student, teacher]: [Result<(ProjectionHead, ProjectionHead)>; 2] = heads;
    let ((c, p), (tc, tp)) = (student?, teacher?);
    let (class, patch) = (Dino::new(1001, 0.9, DType::F32, device)?, PatchLoss::new(202, 0.9, DType::F32, device)?);
    let (class, patch) = autocast(precision, || {
        let student = c.forward(&rows(1, VIEWS * IMAGES)?)?.reshape((VIEWS, IMAGES, 1001))?;
        let teacher = tc.forward(&rows(2, VIEWS * IMAGES)?)?.reshape((VIEWS, IMAGES, 1001))?;
        let class = class.loss_of_logits(&student, &TeacherViews::of(&teacher, 2)?, 0.04)?;
        let patch = patch.loss(&p.project(&rows(3, patches)?)?, &tp.project(&rows(4, patches)?)?, &GROUPS, 0.04)?;
        Ok::<_, selfpatch_losses::candle_core::Error>((class, patch))
    })?;
    let gradients = backward(&((&class.loss + (&patch.loss * 0.1)?)? * LOSS_SCALE)?)?;
    let mut all = vec![
        ("class loss".to_string(), class.loss),
        ("patch loss".to_string(), patch.loss),
        ("class mean".to_string(), class.teacher_mean),
        ("patch mean".to_string(), patch.teacher_mean),
        ("entropy".to_string(), class.teacher_entropy),
    ];
    for (name, var) in params[0].iter() {
        // A frozen gain has none.
        all.extend(gradients.get(&var).map(|gradient| (name, gradient)));
    }
    let plain = |t: Tensor| t.flatten_all()?.to_device(&Device::Cpu)?.to_dtype(DType::F64);
    all.into_iter().map(|(name, t)| Ok((name, plain(t)?))).collect()
}

#[test]
fn the_gpu_computes_what_the_cpu_computes() -> Result<()> {
    let Ok(device) = selfpatch_nn::cuda::new_device(0) else {
        println!("no CUDA device: skipped");
        return Ok(());
    };
    let norm = |t: &Tensor| t.sqr()?.sum_all()?.sqrt()?.to_scalar::<f64>();
    let want = step(&Device::Cpu, Precision::F32)?;
    // In half precision small temperatures magnify what rounding does to logits.
    for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::F16, 5e-3), (Precision::Bf16, 0.05)] {
        let got = step(&device, precision)?;
        assert_eq!(got.len(), want.len());
        for ((name, got), (same, want)) in got.iter().zip(&want) {
            assert_eq!(name, same);
            let (error, size) = (norm(&(got - want)?)?, norm(want)?);
            assert!(error <= tolerance * size, "{precision:?} {name}: {error:e} of {size:e}");
        }
    }
    Ok(())
}
