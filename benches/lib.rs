//! Criterion benches, one file per kernel; the library itself is empty.
//!
//! Each file opens with what it measures and the floor of that work as a formula. The throughput
//! that Criterion prints is that floor per second: "elem/s" are FLOP/s, "B/s" bytes per second.
//! `cargo bench -p selfpatch-benches` runs all within about a minute, `--bench losses` one file.
