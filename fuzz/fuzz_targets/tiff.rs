//! `cargo fuzz run --features libfuzzer fuzz-tiff`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    selfpatch_fuzz::pictures::read(bytes);
});
