//! Translates other projects' names into those of DINO and timm.

use crate::place::{CLIP, HYBRID, Naming, PYRAMID, ROTARY};

/// The role of a file's tensor for a backbone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A parameter of the backbone, by its name here.
    Part(String),
    /// The queries (0), keys (1) or values (2) of an attention with separate projections, with the name of the joint
    /// one.
    Third(String, usize),
    /// A tensor of a head or a decoder, which features do not need.
    Beside,
    /// A tensor of a model that computes something else: the kind of model, and the nearest remedy.
    Refused(&'static str),
}

/// Top-level modules that do not belong to a backbone: classifiers, projection heads, masked and pooled tokens.
const BESIDE: [&str; 18] = [
    "head",
    "head_dist",
    "heads",
    "fc",
    "pre_logits",
    "mask_token",
    "masked_embed",
    "pooler",
    "classifier",
    "cls_classifier",
    "distillation_classifier",
    "last_layer",
    "dino_head",
    "ibot_head",
    "ca_head",
    "c_head",
    "p_head",
    "predictor",
];

pub(crate) const SWIGLU: &str = "the feed-forward part is gated (SwiGLU), which is not computed here; the S, B and L models of \
                                 DINOv2 have a plain one";
const RELATIVE: &str = "attention has relative positions or windows (BEiT, Swin), which are not computed here; take a plain ViT, \
                        such as DINO, DINOv2, MAE or DeiT";
const QK_NORM: &str = "queries and keys have norms of their own (qk_norm), which are not computed here; take a ViT without, such \
                       as DINO, DINOv2, MAE or DeiT";
const SPLIT_BIAS: &str = "queries and values have biases and keys have none (BEiT, EVA), and such models have relative or rotary \
                          positions; take a plain ViT, such as DINO, DINOv2, MAE or DeiT";
const ADAPTED: &str =
    "it holds low-rank updates (LoRA) beside the weights; merge them in Python (merge_and_unload) and save again";
const PARALLEL: &str = "attention and feed-forward part are parallel, which is not computed here; take a plain ViT, such as \
                        DINO, DINOv2, MAE or DeiT";
const QUANTISED: &str = "its weights are quantised integers with scales beside them; save the model before quantisation, in f32, \
                         f16 or bf16";

/// Parts of names that indicate another computation.
const FOREIGN: [(&str, &str); 27] = [
    ("rope", ROTARY),
    ("freqs", ROTARY),
    ("rotary", ROTARY),
    ("mlp.w1", SWIGLU),
    ("mlp.w2", SWIGLU),
    ("mlp.w3", SWIGLU),
    ("mlp.weights_in", SWIGLU),
    ("mlp.weights_out", SWIGLU),
    ("mlp.fc1_g", SWIGLU),
    ("mlp.gate_proj", SWIGLU),
    ("relative_position", RELATIVE),
    ("rel_pos", RELATIVE),
    ("q_norm", QK_NORM),
    ("k_norm", QK_NORM),
    ("attn.q_bias", SPLIT_BIAS),
    ("attn.v_bias", SPLIT_BIAS),
    ("norm_pre.", CLIP),
    ("pre_layrnorm.", CLIP),
    ("attn_pool.", CLIP),
    ("patch_embed.backbone.", HYBRID),
    ("patch_embeddings.backbone.", HYBRID),
    (".in_proj.", PARALLEL),
    (".attns.", PARALLEL),
    ("stages.", PYRAMID),
    ("lora_", ADAPTED),
    (".SCB", QUANTISED),
    (".absmax", QUANTISED),
];

/// Parameters of a backbone that belong to no layer.
const TOKENS: [&str; 5] = ["cls_token", "pos_embed", "reg_token", "register_tokens", "dist_token"];

/// Whether a tensor called `name`, without prefix, whose shape or dtype is not that of a weight may be a counter or a
/// flag of the training program (`global_step`) beside a backbone without a prefix.
pub(crate) fn may_be_beside(name: &str) -> bool {
    !name.contains('.') && !TOKENS.contains(&name)
}

/// The role of the tensor called `name`, without prefix.
pub(crate) fn role(name: &str, naming: Naming) -> Role {
    let first = name.split('.').next().unwrap_or_default();
    if BESIDE.contains(&first) || first.starts_with("decoder") {
        return Role::Beside;
    }
    if let Some((_, reason)) = FOREIGN.iter().find(|(part, _)| name.contains(part)) {
        return Role::Refused(reason);
    }
    match naming {
        Naming::Timm => Role::Part(timm(name)),
        Naming::Transformers => transformers(name),
    }
}

/// Names of timm for those of DINOv2, which keeps its blocks in chunks (`blocks.0.3.norm1.weight` is of block 3) and
/// has other names for registers, and of DeiT III, whose branches have gains `gamma_1` and `gamma_2`.
fn timm(name: &str) -> String {
    if name == "register_tokens" {
        return "reg_token".into();
    }
    let Some(rest) = name.strip_prefix("blocks.") else { return name.into() };
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let Some((chunk, inner)) = rest.split_once('.') else { return name.into() };
    let (block, part) = match inner.split_once('.') {
        Some((block, part)) if is_number(block) => (block, part),
        _ => (chunk, inner),
    };
    let part = match part {
        "gamma_1" => "ls1.gamma",
        "gamma_2" => "ls2.gamma",
        other => other,
    };
    format!("blocks.{block}.{part}")
}

/// The role of a tensor of transformers, by either generation of names: `encoder.layer.0.attention.attention.query`,
/// and `layers.0.attention.q_proj` of version 5.
fn transformers(name: &str) -> Role {
    let whole = match name {
        "embeddings.cls_token" => "cls_token",
        "embeddings.position_embeddings" => "pos_embed",
        "embeddings.distillation_token" => "dist_token",
        "embeddings.register_tokens" => "register_tokens",
        "embeddings.patch_embeddings.projection.weight" => "patch_embed.proj.weight",
        "embeddings.patch_embeddings.projection.bias" => "patch_embed.proj.bias",
        "embeddings.mask_token" => return Role::Beside,
        "layernorm.weight" => "norm.weight",
        "layernorm.bias" => "norm.bias",
        _ => "",
    };
    if !whole.is_empty() {
        return Role::Part(whole.into());
    }
    let layers = ["encoder.layer.", "encoder.layers.", "layers.", "layer."];
    let Some((block, part)) = layers.iter().find_map(|p| name.strip_prefix(p)?.split_once('.')) else {
        return Role::Part(name.into());
    };
    let (part, kind) = match part.rsplit_once('.') {
        Some((part, kind @ ("weight" | "bias"))) => (part, kind),
        _ => (part, ""),
    };
    let third = |which| Role::Third(format!("blocks.{block}.attn.qkv.{kind}"), which);
    let part = match part {
        "attention.attention.query" | "attention.q_proj" => return third(0),
        "attention.attention.key" | "attention.k_proj" => return third(1),
        "attention.attention.value" | "attention.v_proj" => return third(2),
        "attention.output.dense" | "attention.o_proj" => "attn.proj",
        "intermediate.dense" | "mlp.fc1" => "mlp.fc1",
        "output.dense" | "mlp.fc2" => "mlp.fc2",
        "layernorm_before" | "norm1" => "norm1",
        "layernorm_after" | "norm2" => "norm2",
        "layer_scale1.lambda1" => return Role::Part(format!("blocks.{block}.ls1.gamma")),
        "layer_scale2.lambda1" => return Role::Part(format!("blocks.{block}.ls2.gamma")),
        _ => return Role::Part(name.into()),
    };
    Role::Part(format!("blocks.{block}.{part}.{kind}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_generations_and_chunks_have_one_name() {
        let part = |name: &str, naming| match role(name, naming) {
            Role::Part(name) => name,
            Role::Third(name, which) => format!("{name} {which}"),
            other => format!("{other:?}"),
        };
        for (name, expected) in [
            ("blocks.0.3.norm1.weight", "blocks.3.norm1.weight"),
            ("blocks.7.ls1.gamma", "blocks.7.ls1.gamma"),
            ("blocks.1.gamma_2", "blocks.1.ls2.gamma"),
            ("register_tokens", "reg_token"),
            ("decoder_blocks.0.norm1.weight", "Beside"),
            ("head.mlp.0.weight", "Beside"),
        ] {
            assert_eq!(part(name, Naming::Timm), expected);
        }
        for (name, expected) in [
            ("encoder.layer.2.attention.attention.key.bias", "blocks.2.attn.qkv.bias 1"),
            ("layers.2.attention.k_proj.bias", "blocks.2.attn.qkv.bias 1"),
            ("encoder.layer.0.attention.output.dense.weight", "blocks.0.attn.proj.weight"),
            ("encoder.layer.0.output.dense.weight", "blocks.0.mlp.fc2.weight"),
            ("encoder.layer.0.layer_scale1.lambda1", "blocks.0.ls1.gamma"),
            ("pooler.dense.weight", "Beside"),
        ] {
            assert_eq!(part(name, Naming::Transformers), expected);
        }
        for name in ["blocks.0.attn.q_norm.weight", "norm_pre.weight", "blocks.0.mlp.w12.weight", "rope.periods"] {
            assert!(matches!(role(name, Naming::Timm), Role::Refused(_)), "{name}");
        }
    }
}
