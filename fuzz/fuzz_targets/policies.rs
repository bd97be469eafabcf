//! See `policies` in `src/lib.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rhizome_fuzz::policies(data));
