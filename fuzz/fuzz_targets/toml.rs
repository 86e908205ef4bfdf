//! `cargo fuzz run --features libfuzzer fuzz-toml`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    selfpatch_fuzz::settings::read(bytes);
});
