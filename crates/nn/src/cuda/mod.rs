//! What the CUDA kernels are launched with: tensors in, tensors out, without a graph.
//!
//! Kernels lie beside their op as `.cu` files and are compiled to PTX by `build.rs`. Everything runs on
//! the device's one stream, in the order in which it is launched.

mod device;
mod facts;
mod launch;
mod matmul;
pub mod memory;
mod recorded;
mod run;
mod scale;
mod spread;
mod tensors;

pub use device::{new as new_device, own};
pub use facts::{Facts, facts};
pub use launch::{Arg, Grid, Module, launch};
pub(crate) use matmul::{add_matmul, matmul, matmul_into, t};
pub use recorded::record;
pub(crate) use run::aligned;
pub use run::run;
pub(crate) use scale::scale;
pub(crate) use spread::spread;
pub(crate) use tensors::single;
pub use tensors::{address, fusible, holds, suffix, uninitialised};
