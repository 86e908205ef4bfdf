//! `cargo fuzz run --features libfuzzer fuzz-jpeg`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    selfpatch_fuzz::pictures::read(bytes);
});
