//! What `config.json` and `preprocessor_config.json` beside a weight file state.

use selfpatch_vit::Stated;

#[test]
fn files_beside_state_heads_epsilon_and_scale() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let beside = |config: &str, images: &str, width: usize| {
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        std::fs::write(folder.path().join("preprocessor_config.json"), images).unwrap();
        Stated::beside(&path, width, 2)
    };
    let timm = |name: &str, width: usize, arguments: &str| {
        let head = format!("\"architecture\": \"{name}\", \"num_features\": {width}");
        beside(&format!("{{{head}, \"model_args\": {arguments}, \"pretrained_cfg\": {{}}}}"), "{}", width)
    };
    for (name, width, heads) in [
        ("vit_huge_patch14_224", 1280, Some(16)),
        ("vit_base_patch16_gap_224", 768, Some(16)),
        ("test_vit2", 64, Some(2)),
        ("vit_base_patch16_224", 768, None),
    ] {
        assert_eq!(timm(name, width, "{}").unwrap().num_heads, heads, "{name}");
    }
    let stated = timm("vit_huge_patch14_224", 1280, r#"{"num_heads": 20, "norm_eps": 0.1}"#).unwrap();
    assert_eq!((stated.num_heads, stated.norm_eps), (Some(20), Some(0.1)));
    for (name, arguments) in [("vit_base_patch16_rpn_224", "{}"), ("vit_x", r#"{"block_fn": "ResPostBlock"}"#)] {
        let error = timm(name, 768, arguments).unwrap_err();
        assert!(error.contains(name) && error.contains("norms"), "{error}");
    }
    // What is stated of x, a byte over 255, is that (x - mean) / std is what the program computes.
    for (images, mean, std) in [
        (r#"{"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}"#, [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]),
        (
            r#"{"rescale_factor": 0.00392156862745098, "image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1]}"#,
            [0.1, 0.2, 0.3],
            [1.; 3],
        ),
        (r#"{"do_normalize": false, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}"#, [0.; 3], [1.; 3]),
        (
            r#"{"rescale_factor": 0.00784313725490196, "image_mean": [1, 1, 1], "image_std": [1, 1, 1]}"#,
            [0.5; 3],
            [0.5; 3],
        ),
        (r#"{"rescale_factor": 0.00784313725490196, "offset": true, "do_normalize": false}"#, [0.5; 3], [0.5; 3]),
        (
            r#"{"do_rescale": false, "image_mean": [127.5, 127.5, 127.5], "image_std": [255, 255, 255]}"#,
            [0.5; 3],
            [1.; 3],
        ),
    ] {
        let stated = beside(r#"{"hidden_size": 16}"#, images, 16).unwrap();
        let off = |values: Option<Vec<f32>>, wanted: [f32; 3]| {
            values.unwrap().iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(0., f32::max)
        };
        assert!(off(stated.mean, mean) < 1e-6 && off(stated.std, std) < 1e-6, "{images}");
    }
    let error = beside(r#"{"hidden_size": 16}"#, r#"{"rescale_factor": 0}"#, 16).unwrap_err();
    assert!(error.contains("rescale_factor"), "{error}");
}
