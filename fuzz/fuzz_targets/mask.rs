//! `cargo fuzz run --features libfuzzer fuzz-mask`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    selfpatch_fuzz::masks::read(bytes);
});
