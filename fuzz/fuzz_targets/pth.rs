//! `cargo fuzz run --features libfuzzer fuzz-pth`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    selfpatch_fuzz::weights::read(bytes);
});
