//! `losses`: heads, image objectives and the patch loss.

mod calls;
mod heads;
mod objective_heads;
mod objectives;

use selfpatch_fixture::Check;

/// Every fixture of this crate.
pub const CHECKS: &[Check] = &[
    Check::single("heads", heads::dino_heads),
    Check::single("loss_2p2", calls::selfpatch),
    Check::single("loss_2p8", calls::selfpatch),
    Check::manifest("heads", objective_heads::every_head),
    Check::manifest("dino", objectives::dino),
    Check::manifest("selfpatch_total_dino", objectives::total),
];
