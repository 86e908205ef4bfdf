//! Supervised tasks on a pre-trained backbone, each a [`Task`](selfpatch_run::Task) of the crate `run`: the
//! [linear probe](linear).

pub use candle_core;

pub mod linear;
