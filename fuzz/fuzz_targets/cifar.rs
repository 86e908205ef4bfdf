//! `cargo fuzz run --features libfuzzer,idx fuzz-cifar`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    selfpatch_fuzz::records::cifar(bytes);
});
