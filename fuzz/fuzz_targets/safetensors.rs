//! `cargo fuzz run --features libfuzzer fuzz-safetensors`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    selfpatch_fuzz::weights::read(bytes);
});
