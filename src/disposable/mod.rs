//! PostgreSQL servers and databases that exist for a test.
//!
//! All processes of a test run use one server: the one that `TEST_DATABASE_URL` names, or an embedded one without
//! durability that the first process starts and that ends with the last. A process gets databases of its own on it,
//! cloned from a template that is migrated once for all processes.
//!
//! Where each test is a process of its own, the processes use databases together ([`lent`]).
//!
//! Promises: a database is dropped with its last handle. What a killed process leaves is recognised by its name, which
//! holds the id of the process, and is dropped by the next process; each process holds a session whose
//! `application_name` has that id. With the embedded server everything goes when the server ends.
//!
//! Must not know: tenants, HTTP, how a test is written.

mod database;
mod error;
mod exit;
mod lent;
mod postgres;
mod server;
mod template;

use std::sync::OnceLock;

use tokio::runtime::{Builder, Handle};

pub use database::TestDatabase;
pub use error::TestError;
pub use postgres::TestPostgres;
pub(crate) use server::DisposableServer;

/// Threads of the runtime of this process's connections and servers.
const THREADS: usize = 2;

/// Returns the runtime that outlives each test: a connection or a server that a test started on its own runtime would
/// end with it.
///
/// # Panics
/// If the system gives no thread.
#[must_use]
pub(crate) fn runtime() -> &'static Handle {
    static RUNTIME: OnceLock<Handle> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("rowhouse-testing")
            .enable_all()
            .build();
        let runtime = runtime.expect("the system has a thread for the tests");
        let handle = runtime.handle().clone();
        // It ends with the process.
        std::mem::forget(runtime);
        handle
    })
}

/// Runs work on the [`runtime`], also if the caller is cancelled.
pub(crate) async fn on_runtime<T: Send + 'static>(
    work: impl Future<Output = Result<T, TestError>> + Send + 'static,
) -> Result<T, TestError> {
    runtime().spawn(work).await.unwrap_or_else(|panicked| Err(TestError::Panicked(panicked)))
}
