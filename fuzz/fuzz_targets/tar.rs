//! `cargo fuzz run --features libfuzzer fuzz-tar`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    selfpatch_fuzz::shards::read(bytes);
});
