//! The ViT as a `Backbone`: what any backbone promises those who use it.

use selfpatch_nn::ops::Activations;
use selfpatch_nn::random::{Purpose, stream};
use selfpatch_nn::{Backbone, Params, Pass, backward};
use selfpatch_vit::candle_core::{DType, Device, Result, Tensor, Var};
use selfpatch_vit::{Vit, VitConfig};

const SIZE: (usize, usize) = (16, 24);

fn image() -> Result<Tensor> {
    let (height, width) = SIZE;
    let x = Tensor::arange(0f32, (2 * 3 * height * width) as f32, &Device::Cpu)?;
    (x.reshape((2, 3, height, width))? / 100.)?.sin()
}

/// Backbones of patches only, and with class token, registers and final norm.
fn configs() -> [VitConfig; 2] {
    let plain = VitConfig::new(16, 4, 2, 8).with_image_size(16);
    [plain.clone(), VitConfig { registers: 3, ..plain.with_cls_and_norm() }]
}

fn vit(config: &VitConfig, params: &Params) -> Result<Vit> {
    Vit::new(config, params.builder(DType::F32, &Device::Cpu))
}

fn values(t: &Tensor) -> Result<Vec<f32>> {
    t.flatten_all()?.to_vec1()
}

#[test]
fn maps_are_the_features_of_the_blocks_in_the_order_asked_for() -> Result<()> {
    let x = image()?;
    for config in configs() {
        let vit = vit(&config, &Params::frozen(1))?;
        let (rows, cols) = vit.grid(SIZE.0, SIZE.1)?;
        for taps in [vec![1, 2, 3, 4], vec![4, 1, 4], vec![2], vec![]] {
            let maps = vit.maps(&x, &taps, &Pass::default())?;
            assert_eq!(maps.len(), taps.len());
            for (map, tap) in maps.iter().zip(taps) {
                assert_eq!(map.dims(), [2, vit.width(), rows, cols]);
                let tokens = map.flatten_from(2)?.transpose(1, 2)?.contiguous()?;
                assert_eq!(values(&tokens)?, values(&vit.block_features(&x, tap, false)?)?, "tap {tap}");
            }
        }
        for taps in [[0, 1], [4, 5]] {
            let error = vit.maps(&x, &taps, &Pass::default()).expect_err("refused").to_string();
            assert!(error.contains("blocks 1 to 4"), "{error}");
        }
    }
    Ok(())
}

/// Stochastic depth is drawn for all blocks at once, and what is kept for the backward pass changes no value.
#[test]
fn maps_follow_the_pass() -> Result<()> {
    let x = image()?;
    let config = &configs()[0];
    let vit = vit(config, &Params::frozen(1))?;
    let survivals = vit.stochastic_depth(0.9, &[2], &mut stream(1, Purpose::DropPath, 0, 0));
    for activations in [Activations::Keep, Activations::Recompute] {
        let pass = Pass { survivals: Some(survivals.clone()), activations };
        let maps = vit.maps(&x, &[1, 3, 4], &pass)?;
        let (tokens, _) = vit.packed(&vit.patches(std::slice::from_ref(&x))?, &pass)?;
        let last = maps[2].flatten_from(2)?.transpose(1, 2)?.contiguous()?;
        assert_eq!(values(&last)?, values(&tokens)?);
        assert_ne!(values(&maps[2])?, values(&vit.maps(&x, &[4], &Pass::default())?[0])?);
    }
    let short = Pass { survivals: Some(survivals[1..].to_vec()), ..Pass::default() };
    let error = vit.maps(&x, &[1], &short).expect_err("refused").to_string();
    assert!(error.contains("drawn for 3 blocks, the backbone has 4"), "{error}");
    Ok(())
}

/// Several taps in one loss: each block gets the gradients of all that lie above it.
#[test]
fn gradients_of_all_maps_are_those_of_each_map_alone() -> Result<()> {
    let params = Params::trainable(1);
    let vit = vit(&configs()[0], &params)?;
    let x = Var::from_tensor(&image()?)?;
    let weight = params.get("blocks.0.mlp.fc1.weight").expect("a parameter");
    let gradients = |taps: &[usize]| -> Result<[Vec<f32>; 2]> {
        let losses = vit
            .maps(x.as_tensor(), taps, &Pass::default())?
            .iter()
            .map(|m| m.sqr()?.mean_all())
            .collect::<Result<Vec<_>>>()?;
        let grads = backward(&Tensor::stack(&losses, 0)?.sum_all()?)?;
        let of = |var: &Var| values(&grads.get(var).expect("a gradient"));
        Ok([of(&x)?, of(&weight)?])
    };
    let (all, one, two) = (gradients(&[2, 4])?, gradients(&[2])?, gradients(&[4])?);
    for ((all, one), two) in all.iter().zip(&one).zip(&two) {
        let size = all.iter().fold(0f32, |m, v| m.max(v.abs()));
        assert!(size > 0.);
        assert!(all.iter().zip(one).zip(two).all(|((all, one), two)| (all - one - two).abs() <= 1e-5 * size));
    }
    Ok(())
}

#[test]
fn packed_tokens_of_each_size_are_those_of_a_pass_alone() -> Result<()> {
    let x = image()?;
    let small = x.narrow(2, 0, 8)?.narrow(3, 0, 16)?.contiguous()?;
    for config in configs() {
        let vit = vit(&config, &Params::frozen(2))?;
        let crops = [x.clone(), small.clone()];
        let patches = vit.patches(&crops)?;
        let (tokens, sequences) = vit.packed(&patches, &Pass::default())?;
        for ((of, crop), group) in sequences.split(&tokens)?.iter().zip(&crops).zip(patches.groups()) {
            let (_, _, height, width) = crop.dims4()?;
            assert_eq!((group.rows, group.cols), vit.grid(height, width)?);
            let alone = vit.forward(crop)?;
            assert_eq!(of.dims(), alone.dims());
            let worst = (of - alone)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(worst < 1e-5, "{worst}");
        }
        assert!(vit.grid(16, 20).is_err() && vit.patches(&[x.narrow(3, 0, 20)?]).is_err());
    }
    Ok(())
}
