//! Which parameters are decayed.

/// Whether weight decay applies: not to biases nor to tensors of one dimension
/// (`get_params_groups`; position table, class token and a trained gain are decayed, QUIRKS 14).
pub fn is_decayed(name: &str, rank: usize) -> bool {
    !(name.ends_with(".bias") || rank == 1)
}
