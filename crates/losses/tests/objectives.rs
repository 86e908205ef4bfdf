//! The objectives against their definitions, written out pair by pair in f64.

use selfpatch_losses::candle_core::{DType, Device, Result, Tensor, Var};
use selfpatch_losses::{CropGroup, Dino, HeadConfig, PatchLoss, ProjectionHead, TeacherViews};
use selfpatch_nn::Params;
use selfpatch_nn::random::normal;

fn softmax(row: &[f64], center: &[f64], temperature: f64) -> Vec<f64> {
    let z: Vec<f64> = row.iter().zip(center).map(|(x, c)| (x - c) / temperature).collect();
    let top = z.iter().cloned().fold(f64::MIN, f64::max);
    let total: f64 = z.iter().map(|z| (z - top).exp()).sum();
    z.iter().map(|z| (z - top).exp() / total).collect()
}

fn cross_entropy(target: &[f64], student: &[f64]) -> f64 {
    let p = softmax(student, &vec![0.; student.len()], 0.1);
    -target.iter().zip(p).map(|(q, p)| q * p.ln()).sum::<f64>()
}

fn random(seed: u64, shape: &[usize]) -> Result<Tensor> {
    normal(seed, shape)?.to_dtype(DType::F64)
}

#[test]
fn dino_is_the_mean_over_pairs_of_different_views() -> Result<()> {
    let (views, b, k) = (5, 3, 7);
    let (student, teacher, center) = (random(1, &[views, b, k])?, random(2, &[views, b, k])?, random(3, &[1, k])?);
    let mut dino = Dino::new(k, 0.9, DType::F64, &Device::Cpu)?;
    dino.center_mut().set(&center)?;
    let term = dino.loss_of_logits(&student, &TeacherViews::of(&teacher, 2)?, 0.04)?;
    let got = term.loss.to_scalar::<f64>()?;

    let (s, t) = (student.to_vec3::<f64>()?, teacher.to_vec3::<f64>()?);
    let c = center.flatten_all()?.to_vec1::<f64>()?;
    let (mut sum, mut pairs) = (0., 0);
    for (i, global) in t.iter().take(2).enumerate() {
        for (_, view) in s.iter().enumerate().filter(|(j, _)| *j != i) {
            pairs += 1;
            for image in 0..b {
                sum += cross_entropy(&softmax(&global[image], &c, 0.04), &view[image]) / b as f64;
            }
        }
    }
    assert_eq!(pairs, 8);
    assert!((got - sum / pairs as f64).abs() < 1e-10, "{got} {}", sum / pairs as f64);

    dino.center_mut().update(&term.teacher_mean)?;
    let moved = dino.center().value().flatten_all()?.to_vec1::<f64>()?;
    for (j, moved) in moved.iter().enumerate() {
        let mean = t.iter().flatten().map(|row| row[j]).sum::<f64>() / (views * b) as f64;
        assert!((moved - (0.9 * c[j] + 0.1 * mean)).abs() < 1e-12);
    }
    Ok(())
}

#[test]
fn crops_weigh_the_same_whatever_their_patches() -> Result<()> {
    let groups = [CropGroup { crops: 2, rows: 6 }, CropGroup { crops: 3, rows: 2 }];
    let (student, teacher) = (random(4, &[18, 4])?, random(5, &[18, 4])?);
    let patch = PatchLoss::new(4, 0.9, DType::F64, &Device::Cpu)?;
    let got = patch.loss_of_logits(&student, &teacher, &groups, 0.05)?.loss.to_scalar::<f64>()?;
    let (s, t) = (student.to_vec2::<f64>()?, teacher.to_vec2::<f64>()?);
    let row = |r: usize| cross_entropy(&softmax(&t[r], &[0.; 4], 0.05), &s[r]);
    let crop = |from: usize, rows: usize| (from..from + rows).map(row).sum::<f64>() / rows as f64;
    let want = (crop(0, 6) + crop(6, 6) + crop(12, 2) + crop(14, 2) + crop(16, 2)) / 5.;
    assert!((got - want).abs() < 1e-10, "{got} {want}");
    assert!(patch.loss_of_logits(&student, &teacher, &groups[..1], 0.05).is_err());
    Ok(())
}

#[test]
fn teachers_get_no_gradient() -> Result<()> {
    let (student, teacher) = (Var::from_tensor(&random(6, &[3, 2, 5])?)?, Var::from_tensor(&random(7, &[3, 2, 5])?)?);
    let dino = Dino::new(5, 0.9, DType::F64, &Device::Cpu)?;
    let grads =
        dino.loss_of_logits(student.as_tensor(), &TeacherViews::of(teacher.as_tensor(), 2)?, 0.04)?.loss.backward()?;
    assert!(grads.get(&student).is_some() && grads.get(&teacher).is_none());
    Ok(())
}

#[test]
fn head_names_are_the_published_ones() -> Result<()> {
    let names = |config: &HeadConfig| -> Result<Vec<String>> {
        let params = Params::trainable(0);
        ProjectionHead::new(config, params.builder(DType::F32, &Device::Cpu).pp("head"))?;
        Ok(params.iter().map(|(name, _)| name).filter(|n| n.ends_with("weight") || n.contains("weight_")).collect())
    };
    let plain = HeadConfig { hidden_dim: 8, bottleneck_dim: 4, ..HeadConfig::dino(6, 10) };
    assert_eq!(
        names(&plain)?,
        ["mlp.0.weight", "mlp.2.weight", "mlp.4.weight", "last_layer.weight_g", "last_layer.weight_v"]
            .map(|n| format!("head.{n}"))
    );
    let normed = HeadConfig { batch_norm: true, ..plain.clone() };
    assert_eq!(
        names(&normed)?[..5],
        ["mlp.0.weight", "mlp.1.weight", "mlp.3.weight", "mlp.4.weight", "mlp.6.weight"].map(|n| format!("head.{n}"))
    );
    assert_eq!(names(&HeadConfig { layers: 1, ..plain.clone() })?[0], "head.mlp.weight");
    assert!(names(&HeadConfig { out_dim: 0, ..plain }).is_err());
    Ok(())
}

#[test]
fn batch_norm_moves_its_running_statistics() -> Result<()> {
    let config = HeadConfig { batch_norm: true, hidden_dim: 8, bottleneck_dim: 4, ..HeadConfig::dino(6, 10) };
    for params in [Params::trainable(0), Params::frozen(0)] {
        let head = ProjectionHead::new(&config, params.builder(DType::F64, &Device::Cpu))?;
        let x = random(8, &[16, 6])?;
        head.forward(&x)?;
        let get = |name: &str| params.get(name).expect("a parameter").as_tensor().clone();
        let linear = x.matmul(&get("mlp.0.weight").t()?)?;
        let mean = (linear.mean(0)? * 0.1)?;
        let error = (get("mlp.1.running_mean") - mean)?.abs()?.max_all()?.to_scalar::<f64>()?;
        assert!(error < 1e-12, "{error}");
        let spread = linear.broadcast_sub(&linear.mean_keepdim(0)?)?.sqr()?.sum(0)?;
        let variance = ((spread * (0.1 / 15.))? + 0.9)?;
        let error = (get("mlp.1.running_var") - variance)?.abs()?.max_all()?.to_scalar::<f64>()?;
        assert!(error < 1e-12, "{error}");
    }
    Ok(())
}
