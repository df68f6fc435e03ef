//! A tenant of one test.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use uuid::Uuid;

use super::client::{Credential, TestClient, TestRequest};
use super::server::{Login, TestServer, fail};
use super::time::TestTime;
use crate::disposable::runtime;
use crate::domain::Role;
use crate::domain::names::{Email, NewPassword, PersonName, Slug, TenantId, TenantName};
use crate::pg::{Param, Row};
use crate::service::members::{NewMember, NewPerson};
use crate::service::provisioning::{Admin, NewAdmin, ProvisionTenant};
use crate::service::tenants::TenantTx;

/// The password of every user that a test creates.
/// Longer than any common password: a debug build takes milliseconds to look for a shorter one among those.
const PASSWORD: &str = "The password of every user of a test";

/// A tenant of one test, taken from the vacancies of the server that the tests of the process share, and removed when it
/// is dropped. Requests that it sends are those of its admin.
///
/// Other tests run on the same server at the same time, each in a tenant of its own. A test that reads or changes what
/// all tenants share takes a [`TestServer`] instead.
pub struct TestTenant {
    server: TestServer,
    id: TenantId,
    slug: Slug,
    admin: TestClient,
    time: TestTime,
}

impl TestTenant {
    pub(super) async fn create(server: &TestServer, time: &TestTime) -> Self {
        let id = Uuid::new_v4().simple().to_string();
        let slug = Slug::parse(&format!("t-{id}")).expect("letters and digits");
        let login = new_login("admin");
        let command = ProvisionTenant::new(
            TenantName::parse(&format!("Test {id}")).expect("a name"),
            slug.clone(),
            Admin::NewOrExisting(NewAdmin {
                email: login.email.clone(),
                password: login.password.clone(),
                first_name: PersonName::parse("Ada").expect("a name"),
                last_name: PersonName::parse("Admin").expect("a name"),
            }),
        );
        let made = server.operate(time.ahead(), |services, ctx| async move {
            services.provisioning.provision(&ctx, command).await
        });
        let made = made.await;
        let made = made.unwrap_or_else(|e| fail(&format!("cannot create a tenant: {}", e.chain())));
        let admin = TestClient::new(server, Some(made.id), Credential::User(login), time);
        Self { server: server.clone(), id: made.id, slug, admin, time: time.clone() }
    }

    /// Returns its id.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id.uuid()
    }

    /// Returns its slug.
    #[must_use]
    pub fn slug(&self) -> &str {
        self.slug.as_str()
    }

    /// Returns the server.
    #[must_use]
    pub const fn server(&self) -> &TestServer {
        &self.server
    }

    /// Begins a request of the admin, which `.await` sends.
    #[track_caller]
    pub fn request(&self, method: Method, path: &str) -> TestRequest {
        self.admin.request(method, path)
    }

    /// Reads as the admin.
    #[track_caller]
    pub fn get(&self, path: &str) -> TestRequest {
        self.admin.get(path)
    }

    /// Sends a JSON body as the admin.
    #[track_caller]
    pub fn post(&self, path: &str, body: Value) -> TestRequest {
        self.admin.post(path, body)
    }

    /// Sends a JSON body as the admin.
    #[track_caller]
    pub fn put(&self, path: &str, body: Value) -> TestRequest {
        self.admin.put(path, body)
    }

    /// Sends a JSON body as the admin.
    #[track_caller]
    pub fn patch(&self, path: &str, body: Value) -> TestRequest {
        self.admin.patch(path, body)
    }

    /// Deletes as the admin.
    #[track_caller]
    pub fn delete(&self, path: &str) -> TestRequest {
        self.admin.delete(path)
    }

    /// Returns the admin.
    #[must_use]
    pub const fn admin(&self) -> &TestClient {
        &self.admin
    }

    /// Creates a user who is a member with this role.
    ///
    /// # Panics
    /// If the user cannot be created.
    pub async fn member(&self, role: Role) -> TestClient {
        let login = new_login("member");
        let (email, password, tenant) =
            (login.email.clone(), login.password.clone(), self.id.to_string());
        let person = NewPerson {
            password,
            first_name: PersonName::parse("Mia").expect("a name"),
            last_name: PersonName::parse("Member").expect("a name"),
        };
        let added = self.server.operate(self.time.ahead(), move |services, ctx| async move {
            let new = NewMember { email, role, person: Some(person) };
            services.members.add(&ctx, &tenant, &new).await
        });
        if let Err(error) = added.await {
            fail(&format!("cannot add a member: {}", error.chain()));
        }
        self.admin.as_another(Credential::User(login))
    }

    /// Returns a caller without a credential.
    #[must_use]
    pub fn anonymous(&self) -> TestClient {
        self.admin.as_another(Credential::None)
    }

    /// Creates another tenant on the same server, with an admin of its own and the same time.
    ///
    /// # Panics
    /// If it cannot be created.
    pub async fn other_tenant(&self) -> Self {
        Self::create(&self.server, &self.time).await
    }

    /// Begins a transaction inside the tenant that may write. What is not committed is rolled back.
    ///
    /// # Panics
    /// If the tenant cannot be entered.
    pub async fn tx(&self) -> TenantTx {
        let (context, id) = (self.server.context(self.time.ahead()), self.id.to_string());
        match runtime().spawn(async move { context.tenant(&id).await }).await {
            Ok(Ok(tx)) => tx,
            Ok(Err(problem)) => fail(&format!("cannot enter the tenant: {}", problem.chain())),
            Err(panicked) => fail(&format!("cannot enter the tenant: {panicked}")),
        }
    }

    /// Runs one statement inside the tenant, commits, and returns its rows.
    ///
    /// # Panics
    /// If the statement fails.
    pub async fn rows(&self, sql: &str, params: &[&dyn Param]) -> Vec<Row> {
        let rows = self.tx().await.query_and_commit(sql, params).await;
        rows.unwrap_or_else(|failure| fail(&format!("{sql}: {failure:?}")))
    }

    /// Moves the time of this test: for the requests of all its callers, and of no other test.
    pub fn advance(&self, by: Duration) {
        self.time.advance(by);
    }
}

impl TestServer {
    /// Creates a tenant with an admin.
    ///
    /// # Panics
    /// If it cannot be created.
    pub async fn tenant(&self) -> TestTenant {
        TestTenant::create(self, &self.time_of_tenant()).await
    }
}

impl Drop for TestTenant {
    fn drop(&mut self) {
        if self.server.leaves_tenants() {
            return;
        }
        let (server, id) = (self.server.clone(), self.id);
        // Not on the runtime of the test, which is ending.
        runtime().spawn(async move {
            let removed = server.operate(Duration::ZERO, move |services, ctx| async move {
                services.lifecycle.remove(&ctx, id).await
            });
            // What is left goes with the database.
            if let Err(error) = removed.await {
                tracing::debug!(error = %error.chain(), tenant.id = %id, "cannot remove a tenant of a test");
            }
        });
    }
}

/// Returns a user that no other test has.
fn new_login(kind: &str) -> Login {
    let id = Uuid::new_v4().simple();
    Login {
        email: Email::parse(&format!("{kind}@{id}.example.com")).expect("an address"),
        password: NewPassword::parse(PASSWORD).expect("a password"),
    }
}
