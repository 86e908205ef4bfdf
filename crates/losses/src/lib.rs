//! Projection heads, the DINO image objective and the SelfPatch patch objective, with their centres
//! and temperatures exactly as in the published program.
//!
//! Refused: logits that do not fit the stated crops, heads with a zero dimension.
//!
//! The patch loss and its gradient:
//!
//! ```
//! use selfpatch_losses::candle_core::{DType, Device, Tensor, Var};
//! use selfpatch_losses::{CropGroup, PatchLoss};
//!
//! # fn main() -> selfpatch_losses::candle_core::Result<()> {
//! let device = Device::Cpu;
//! // 2 global crops of 3 images with 16 patches each, then 4 local crops with 4 patches each.
//! let groups = [CropGroup { crops: 2, rows: 3 * 16 }, CropGroup { crops: 4, rows: 3 * 4 }];
//! let rows = 2 * 48 + 4 * 12;
//! let student = Var::randn(0f32, 1f32, (rows, 64), &device)?; // logits over 64 prototypes
//! let teacher = Tensor::randn(0f32, 1f32, (rows, 64), &device)?;
//!
//! let mut objective = PatchLoss::new(64, 0.9, DType::F32, &device)?;
//! let term = objective.loss_of_logits(student.as_tensor(), &teacher, &groups, 0.04)?;
//! let gradient = term.loss.backward()?.remove(&student).expect("the student is a variable");
//! objective.commit(&term.teacher_mean)?; // moves the centre
//! assert_eq!(gradient.dims(), [rows, 64]);
//! # Ok(())
//! # }
//! ```

pub use candle_core;
pub use candle_nn;

mod center;
mod dino;
mod head;
mod objective;
mod patch;
mod plan;
mod spread;
mod temperature;

pub use center::Center;
pub use dino::{CenterViews, Dino, DinoTerm, TeacherViews, Temperature, signs};
pub use head::{HeadConfig, ProjectionHead};
pub use objective::{At, Branches, HeadOutput, Objective, Piece, Sign, Term, Update};
pub use patch::{CropGroup, PatchLoss, PatchTerm};
pub use plan::{Freeze, Head, Layer, Mlp, Moves, NormOver, Plan, Target, Views};
pub use selfpatch_nn::ops::Projected;
pub use spread::SPREAD_ROWS;
pub use temperature::teacher_temperature;
