//! Every way of doing a step does the same step.

use crate::{Algorithm, Clip, Follower, Optimizer, Rules, Step};
use candle_core::{DType, Device, Result, Tensor};
use candle_nn::Init;
use candle_nn::init::ONE;
use selfpatch_nn::{Params, backward};

/// The CPU, and a GPU if there is one.
fn devices() -> Vec<Device> {
    let cpu = Device::Cpu;
    #[cfg(feature = "cuda")]
    match selfpatch_nn::cuda::new_device(0) {
        Ok(gpu) => return vec![cpu, gpu],
        Err(_) => eprintln!("no CUDA device: skipped"),
    }
    vec![cpu]
}

const TRAINED: [&str; 3] = ["w", "whole", "w.bias"];

/// Student and teacher; elements that do and do not come in fours, one and several chunks.
fn pair(dtype: DType, device: &Device) -> Result<(Params, Params)> {
    let (student, teacher) = (Params::trainable(0), Params::frozen(1));
    for params in [&student, &teacher] {
        let vb = params.builder(dtype, device);
        let normal = Init::Randn { mean: 0., stdev: 1. };
        vb.get_with_hints(3, "frozen", ONE)?;
        vb.get_with_hints((70, 1001), "w", normal)?;
        vb.get_with_hints((64, 520), "whole", normal)?;
        vb.get_with_hints(5, "w.bias", normal)?;
        vb.get_with_hints(5, "bn.running_mean", normal)?;
    }
    Ok((student, teacher))
}

/// One step on the sum of all squares, with `factor` before the squares of `w.bias`.
fn step(optimizer: &mut Optimizer, (student, teacher): &(Params, Params), factor: f64, scale: f64) -> Result<Vec<f64>> {
    let mut loss = None;
    for name in TRAINED {
        let param = student.get(name).expect("the parameter");
        let own = (param.sqr()?.sum_all()? * if name == "w.bias" { factor } else { 1. })?;
        loss = Some(match loss {
            None => own,
            Some(loss) => (loss + own)?,
        });
    }
    let grads = backward(&(loss.expect("three of them") * scale)?)?;
    let rules = Rules { clip: Clip::Each(100.), ..Rules::default() };
    let follower = Follower { params: teacher, momentum: 0.9 };
    let step = Step { lr: 0.01, weight_decay: 0.1, scale };
    let norms = optimizer.step(student, Some(&follower), &grads, &rules, &step)?;
    assert_eq!(norms.names, TRAINED);
    norms.fetch()
}

/// All values on the host, students and teachers.
fn values((student, teacher): &(Params, Params)) -> Result<Vec<(String, Tensor)>> {
    let host = |t: &Tensor| t.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.copy();
    student.iter().chain(teacher.iter()).map(|(name, var)| Ok((name, host(&var)?))).collect()
}

#[test]
fn every_path_equals_the_plain_one_and_leaves_the_frozen_alone() -> Result<()> {
    for algorithm in [Algorithm::AdamW, Algorithm::Sgd, Algorithm::Lars] {
        let run = |dtype, device: &Device| {
            let networks = pair(dtype, device)?;
            let mut optimizer = Optimizer::new(algorithm);
            let norms = (0..3).map(|i| step(&mut optimizer, &networks, 1., [1., 65536., 0.5][i]));
            let norms = norms.collect::<Result<Vec<_>>>()?;
            assert_eq!(optimizer.steps()?, TRAINED.map(|name| (name.to_string(), 3)).into());
            Ok::<_, candle_core::Error>((norms.concat(), values(&networks)?))
        };
        let (want_norms, want) = run(DType::F64, &Device::Cpu)?;
        let start = values(&pair(DType::F64, &Device::Cpu)?)?;
        for device in devices() {
            let (norms, got) = run(DType::F32, &device)?;
            for (got, want) in norms.iter().zip(&want_norms) {
                assert!((got - want).abs() < 1e-5 * want, "{algorithm:?} {device:?}: norm {got}, not {want}");
            }
            for (i, ((name, got), (_, want))) in got.iter().zip(&want).enumerate() {
                let error = (got - want)?.abs()?.max_all()?.to_scalar::<f64>()?;
                assert!(error < 3e-6, "{algorithm:?} {device:?} {name}: {error}"); // of numbers up to 4
                let moved = (got - &start[i].1)?.abs()?.max_all()?.to_scalar::<f64>()? > 0.;
                // Student first; the teacher's frozen parameter is equal to the student's.
                assert_eq!(moved, !["frozen", "bn.running_mean"].contains(&name.as_str()), "{name}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_teacher_follows_parameters_without_gradient() -> Result<()> {
    for device in devices() {
        let networks = pair(DType::F32, &device)?;
        let frozen = |params: &Params| params.get("frozen").expect("the parameter");
        frozen(&networks.0).set(&Tensor::new(&[2f32, 3., 4.], &device)?)?;
        step(&mut Optimizer::new(Algorithm::AdamW), &networks, 1., 1.)?;
        let got = frozen(&networks.1).to_vec1::<f32>()?;
        assert!(got.iter().zip([1.1, 1.2, 1.3]).all(|(a, b)| (a - b).abs() < 1e-6), "{device:?}: {got:?}");
        assert_eq!(frozen(&networks.0).to_vec1::<f32>()?, [2., 3., 4.]);
    }
    Ok(())
}

#[test]
fn a_norm_that_is_not_finite_changes_nothing() -> Result<()> {
    for algorithm in [Algorithm::AdamW, Algorithm::Sgd, Algorithm::Lars] {
        for device in devices() {
            let networks = pair(DType::F32, &device)?;
            let mut optimizer = Optimizer::new(algorithm);
            step(&mut optimizer, &networks, 1., 1.)?;
            let all = |optimizer: &Optimizer| -> Result<Vec<Vec<f64>>> {
                let moments = optimizer.moments().into_iter().map(|(name, m)| (name, m.to_device(&Device::Cpu)));
                let moments = moments.map(|(_, m)| m?.to_dtype(DType::F64)?.flatten_all()?.to_vec1());
                moments.chain(values(&networks)?.iter().map(|(_, value)| value.to_vec1())).collect()
            };
            let (before, counts) = (all(&optimizer)?, optimizer.steps()?);
            for factor in [f64::NAN, f64::INFINITY] {
                let norms = step(&mut optimizer, &networks, factor, 1.)?;
                assert!(norms[0].is_finite() && norms[1].is_finite() && !norms[2].is_finite());
                assert_eq!(all(&optimizer)?, before, "{algorithm:?} {device:?}");
                assert_eq!(optimizer.steps()?, counts);
            }
        }
    }
    Ok(())
}

#[test]
fn restored_moments_continue_identically() -> Result<()> {
    for device in devices() {
        let (a, b) = (pair(DType::F32, &device)?, pair(DType::F32, &device)?);
        let go_on = |optimizer: &mut Optimizer, networks, n| {
            (0..n).try_for_each(|_| step(optimizer, networks, 1., 1.).map(|_| ()))
        };
        go_on(&mut Optimizer::new(Algorithm::AdamW), &a, 5)?;
        let mut first = Optimizer::new(Algorithm::AdamW);
        go_on(&mut first, &b, 2)?;
        // A checkpoint is read on the host.
        let moments = first.moments().into_iter().map(|(name, m)| Ok((name, m.to_device(&Device::Cpu)?)));
        let mut second = Optimizer::new(Algorithm::AdamW);
        second.restore(&moments.collect::<Result<_>>()?, &first.steps()?)?;
        go_on(&mut second, &b, 3)?;
        for ((name, a), (_, b)) in values(&a)?.iter().zip(values(&b)?) {
            assert_eq!(a.to_vec1::<f64>()?, b.to_vec1::<f64>()?, "{device:?} {name}");
        }
    }
    Ok(())
}

#[test]
fn moments_of_another_shape_are_refused() -> Result<()> {
    for device in devices() {
        let networks = pair(DType::F32, &device)?;
        let mut optimizer = Optimizer::new(Algorithm::AdamW);
        let moments = Tensor::zeros((2, 7), DType::F32, &device)?;
        optimizer.restore(&[("w".to_string(), moments)].into(), &[("w".to_string(), 1)].into())?;
        let error = step(&mut optimizer, &networks, 1., 1.).unwrap_err().to_string();
        assert!(error.contains("w: moments [2, 7] do not fit"), "{error}");
    }
    Ok(())
}

#[cfg(feature = "cuda")]
#[test]
fn a_gradient_on_another_device_is_refused() -> Result<()> {
    let [_, device] = &devices()[..] else { return Ok(()) };
    let (student, _) = pair(DType::F32, device)?;
    let w = student.get("w").expect("the parameter");
    let mut grads = backward(&w.sqr()?.sum_all()?)?;
    for other in devices() {
        grads.set(&w, Tensor::zeros((70, 1001), DType::F32, &other)?);
        let done = Optimizer::new(Algorithm::AdamW).step(&student, None, &grads, &Rules::default(), &Step::default());
        assert!(done.is_err_and(|e| e.to_string().starts_with("w: the gradient")), "{other:?}");
    }
    Ok(())
}
