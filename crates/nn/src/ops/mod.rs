//! Fused differentiable ops. Each file holds one op: its maths, a plain candle `reference` that is
//! the truth in tests and the path taken on other devices and dtypes, the fused CPU kernel for
//! `f32`, and the test that both agree in value and gradient.

mod attention;
mod centered_softmax;
mod cpu;
mod gelu;
mod layer_norm;
mod linear;
mod math;
mod sequential;
mod soft_cross_entropy;
mod weight_norm;

pub use attention::{attention, attention_probs, reference as attention_reference};
pub use centered_softmax::{centered_softmax, centered_softmax_reference, row_mean};
pub use cpu::dot;
pub use gelu::{gelu, reference as gelu_reference};
pub use layer_norm::{layer_norm, reference as layer_norm_reference};
pub use linear::{linear, linear_in_order, reference as linear_reference};
pub use soft_cross_entropy::{reference as soft_cross_entropy_reference, soft_cross_entropy};
pub use weight_norm::{reference as weight_norm_reference, weight_norm};
