//! The thin trainer: plan, step, loop, checkpoint, telemetry.
