//! The reader of archives, with any bytes: it must refuse them by a named code, in bounded memory, and never panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rowhouse::service::archives::scan_unauthorized;

fuzz_target!(|bytes: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut input = bytes;
    if let Err(error) = runtime.block_on(scan_unauthorized(&mut input)) {
        assert!(error.detailed_code().starts_with("archive_"), "{}", error.chain());
    }
});
