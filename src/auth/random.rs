//! Random bytes for secrets, from the operating system.

/// Fills the buffer with random bytes from the operating system.
///
/// # Panics
/// If the system has none, which Linux and macOS exclude: they wait for them once after they have booted.
pub(super) fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system gives random bytes");
}
