//! Fused differentiable ops. Each file holds one op: its maths, a plain candle `reference` that is
//! the truth in tests and the path taken on other devices and dtypes, the fused CPU kernel for
//! `f32`, and the test that both agree in value and gradient.

mod anchor;
mod attention;
mod class_attention;
mod class_attention_block;
mod cross_entropy;
mod gelu;
mod layer_norm;
mod linear;
mod mlp;
mod normalize;
mod patchify;
mod positives;
mod projected_cross_entropy;
mod prototypes;
mod sum_rows;
mod transformer;
mod transformer_block;
mod weight_norm;

pub use crate::kernel::dot;
pub use attention::{attention, attention_probs, reference as attention_reference};
pub use class_attention::{
    class_attention, reference as class_attention_reference,
    reference_with_attention as class_attention_with_probabilities,
};
pub use cross_entropy::{
    Temperatures, matched_cross_entropy, matched_cross_entropy_reference, paired_cross_entropy,
    paired_cross_entropy_reference, sharpened, sharpened_reference,
};
pub use gelu::{gelu, reference as gelu_reference};
pub use layer_norm::{layer_norm, reference as layer_norm_reference};
pub use linear::{linear, linear_in_order, reference as linear_reference};
pub use mlp::{mlp, reference as mlp_reference};
pub use normalize::{normalize, reference as normalize_reference};
pub use patchify::{patchify, reference as patchify_reference};
pub use positives::{pool_positives, reference as pool_positives_reference};
pub use projected_cross_entropy::{Projected, projected_cross_entropy, projected_cross_entropy_reference};
pub use prototypes::{prototypes, reference as prototypes_reference};
pub use sum_rows::{reference as sum_rows_reference, sum_rows};
pub use transformer::{Activations, Survivals, block_attention, reference as transformer_reference, transformer};
pub use weight_norm::reference as weight_norm_reference;
