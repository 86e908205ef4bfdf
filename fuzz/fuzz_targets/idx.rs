//! `cargo fuzz run --features libfuzzer,idx fuzz-idx`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    selfpatch_fuzz::records::idx(bytes);
});
