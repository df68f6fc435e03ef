//! Tests of an application, on a real PostgreSQL and the same server as in production.
//!
//! ```
//! # mod notes {
//! #     pub fn application() -> rowhouse::Application { rowhouse::Application::new("notes") }
//! # }
//! use rowhouse::testing::TestTenant;
//!
//! #[rowhouse::test(notes::application)]
//! async fn an_admin_sees_the_own_tenant(t: TestTenant) {
//!     let tenants = t.get("/api/tenant").await.expect(200);
//!     assert_eq!(tenants[0]["slug"], t.slug());
//! }
//! ```
//!
//! All processes of a test run share one PostgreSQL server, the tests of one process share one server of
//! the application on a database of its own ([`TestServer`]), and each test has a tenant of its own ([`TestTenant`]). So it
//! is with `cargo test` and with `cargo nextest`. Nothing is left behind, however a test ends. The page *Testing your
//! application* of the book has the whole of it.

mod client;
mod document;
mod reply;
mod server;
mod tenant;
mod time;

pub use self::client::{TestClient, TestRequest};
pub use self::reply::Reply;
pub use self::server::TestServer;
pub use self::tenant::TestTenant;
pub use crate::disposable::TestError;

// For `#[rowhouse::test]`, and for our own tests.
#[doc(hidden)]
pub use self::{document::Document, server::ApplicationFn};
#[doc(hidden)]
pub use crate::disposable::{TestDatabase, TestPostgres};

/// What a test function takes: a [`TestTenant`], or a [`TestServer`] where it needs a whole server.
pub trait Fixture: Sized {
    /// Makes it for one test.
    fn set_up(application: ApplicationFn) -> impl Future<Output = Self>;
}

impl Fixture for TestTenant {
    async fn set_up(application: ApplicationFn) -> Self {
        match TestServer::shared(application).await {
            Ok(server) => server.tenant().await,
            Err(error) => server::fail(&error),
        }
    }
}

impl Fixture for TestServer {
    async fn set_up(application: ApplicationFn) -> Self {
        match Self::start(&application()).await {
            Ok(server) => server,
            Err(error) => server::fail(&error.to_string()),
        }
    }
}

/// Runs a test with its fixture; `#[rowhouse::test]` calls it.
///
/// # Panics
/// If the fixture cannot be made, and where the test panics.
#[doc(hidden)]
pub fn run<F: Fixture, T, R: Future<Output = T>>(
    application: ApplicationFn,
    test: impl FnOnce(F) -> R,
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("the system has what a runtime needs");
    runtime.block_on(async { test(F::set_up(application).await).await })
}
