//! Logs panics. The default hook writes to stderr itself, and would block a thread where stderr is not read.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;
use std::thread;

use tracing::field::display;

/// Logs each panic of this process from now on as one line, with a backtrace if `RUST_BACKTRACE` asks for one.
pub(super) fn log() {
    std::panic::set_hook(Box::new(log_one));
}

fn log_one(panic: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| display(&backtrace));
    tracing::error!(
        thread = thread.name(),
        location = panic.location().map(display),
        backtrace,
        "a thread panicked: {}",
        panic.payload_as_str().unwrap_or("no message")
    );
}
