//! The reader of archives, with any bytes: it must refuse them by a named code, in bounded memory, and never panic.
#![no_main]

mod mutate;

use futures_util::FutureExt;
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use rowhouse::service::archives::scan_unauthorized;

fuzz_target!(|bytes: &[u8]| {
    let mut input = bytes;
    let scanned = scan_unauthorized(&mut input).now_or_never();
    if let Err(error) = scanned.expect("a slice never waits") {
        assert!(error.detailed_code().starts_with("archive_"), "{}", error.chain());
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::archive(data, size, max_size, seed)
});
