//! Drops this process's databases when it ends, on a server that runs on.

use std::sync::Once;
use std::time::Duration;

use super::TestPostgres;

/// The longest time that a process takes for it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Registers what drops the databases of this process that still exist when it exits. A test runner exits without
/// dropping what is static; a process that is killed leaves its databases to the next one.
#[expect(
    unsafe_code,
    reason = "std has no hook for the end of a process; atexit takes a plain function"
)]
pub(super) fn drop_databases_at_exit() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // It fails only without memory; then the next process drops them.
        let _ = unsafe { libc::atexit(drop_databases) };
    });
}

extern "C" fn drop_databases() {
    // A thread of its own: the thread-local values of this one may be gone by now.
    let dropping = std::thread::spawn(|| {
        let Some(server) = TestPostgres::found() else { return };
        let names: Vec<String> = server.live().iter().cloned().collect();
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
            return;
        };
        let _ = runtime.block_on(async {
            tokio::time::timeout(TIMEOUT, async {
                for name in names {
                    if let Err(error) = server.drop_database(&name).await {
                        tracing::warn!(%error, name, "cannot drop a database of a test");
                    }
                }
            })
            .await
        });
    });
    let _ = dropping.join();
}
