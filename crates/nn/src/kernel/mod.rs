//! What the fused CPU ops are made of: loops over `f32` slices, without tensors. Every sum is grouped
//! in a fixed way, so that results do not depend on the number of threads.

mod buffer;
mod gemm;
mod math;
mod rows;
mod sequential;
mod storage;
mod transpose;

pub(crate) use buffer::Buffer;
pub(crate) use gemm::{Mat, gemm, gemm_parallel, matmul_rows, row_block};
pub(crate) use math::{exp, normal_cdf};
pub use rows::dot;
pub(crate) use rows::{ROWS_PER_TASK, add_up, column_sums, max, sum};
pub(crate) use sequential::product as product_in_order;
pub(crate) use storage::{View, fusible, slice, with};
pub(crate) use transpose::transposed;
