#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| tallybook_fuzz::check("payments", data));
