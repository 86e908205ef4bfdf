//! The parameter that puts a coarse op into the graph.

use candle_core::Tensor;

/// The first of an op's parameters that is trained, or the first of all. candle records an op if one of
/// its arguments is tracked; a coarse op holds its parameters itself and passes this one along.
pub(super) fn anchor<'a>(parameters: impl IntoIterator<Item = &'a Tensor>) -> Option<&'a Tensor> {
    let mut parameters = parameters.into_iter();
    let first = parameters.next()?;
    if first.track_op() {
        return Some(first);
    }
    Some(parameters.find(|p| p.track_op()).unwrap_or(first))
}
