//! Every kind of principal calls every operation of the OpenAPI document, and gets the status that
//! `matrix/expected.txt` says. An operation without a line there fails the test, so that no route is released without a
//! decision about its callers.
//!
//! To add a route: document it, run `BLESS=1 cargo test --test api matrix::`, and review the line that this adds. A field
//! or parameter that the requests of [`wrong_callers`](crate::wrong_callers) do not know gets a value there; a path whose
//! `{id}` is no token's gets one in [`Matrix::id_for`].
//!
//! Whatever the table says, no answer is 5xx, a refused call changes nothing, and the rules of [`broken_rule`] hold.

mod expected;
mod principals;
mod saved;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use reqwest::header::HeaderValue;
use rowhouse::domain::Permission;
use rowhouse::service::fleet::MigrationRequest;
use serde_json::{Value, json};
use tokio_postgres::Client;
use uuid::Uuid;

use self::expected::{Line, lines};
use self::principals::{COLUMNS, Principal, Principals};
use self::saved::Saved;
use crate::fleet::fixture::no_events;
use crate::support::callers::send;
use crate::support::documented::{Operation, operations};
use crate::support::{Answer, PASSWORD, Snapshot};
use crate::wrong_callers::{FLEET_PREFIX, Fixture, SECRET, Target, scheme, selects_alpha};

/// The operation that takes a credential or none. `invitations.rs` calls it with bad ones.
const OPTIONAL_CREDENTIAL: &str = "/control/v1/invitations/accept";

/// The tables that a refused call may change: refusals are recorded, and records are sealed.
const RECORDS: &[&str] = &["audit_events", "audit_heads"];

#[test]
fn every_documented_operation_has_a_line_and_every_line_an_operation() {
    let documented: BTreeSet<_> =
        operations().into_iter().map(|operation| (operation.template, operation.method)).collect();
    let known: Vec<_> = lines().into_iter().map(|line| (line.path, line.method)).collect();
    let lines: BTreeSet<_> = known.iter().cloned().collect();
    assert_eq!(lines.len(), known.len(), "an operation has two lines");
    let missing: Vec<_> = documented.difference(&lines).collect();
    let left_over: Vec<_> = lines.difference(&documented).collect();
    assert!(missing.is_empty(), "without a line in matrix/expected.txt: {missing:?}");
    assert!(left_over.is_empty(), "not in the OpenAPI document: {left_over:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_principal_gets_the_expected_status_from_every_operation() {
    let mut matrix = Box::pin(Matrix::build()).await;
    let known = lines();
    let mut found = Vec::new();
    for operation in operations() {
        let of =
            |line: &&Line| (&line.method, &line.path) == (&operation.method, &operation.template);
        let expected = known.iter().find(of);
        found.push(matrix.line(&operation, expected).await);
    }
    let (wrong, broken) = (matrix.wrong, matrix.broken);
    let is_blessed = expected::bless(&found);
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    if is_blessed {
        return;
    }
    assert!(
        wrong.is_empty(),
        "{}\n\nIf these are right, BLESS=1 writes them into tests/api/matrix/expected.txt.",
        wrong.join("\n")
    );
}

/// The server, its callers, and what was found.
struct Matrix {
    fixture: Fixture,
    principals: Principals,
    /// The suspended tenant, which its own member calls.
    suspended: Target,
    /// The id of a fleet migration that is done.
    migration: Uuid,
    /// The id of an API key.
    key: Uuid,
    /// The id of an invitation.
    invitation: Uuid,
    sql: Client,
    saved: Saved,
    before: Snapshot,
    rows_before: Vec<String>,
    /// Statuses that differ from the table.
    wrong: Vec<String>,
    /// What no table may allow.
    broken: Vec<String>,
}

impl Matrix {
    async fn build() -> Self {
        let fixture = Fixture::build().await;
        let suspended = suspended_tenant(&fixture).await;
        let principals = Principals::create(&fixture, &suspended).await;
        let (app, sql) = (&fixture.app, fixture.app.superuser_sql().await);
        let suspend = "UPDATE tenants SET status = 'suspended' WHERE id = $1";
        sql.execute(suspend, &[&suspended.alpha.id]).await.expect("a tenant can be suspended");
        let (fleet, ctx) = (&app.services.fleet, app.operator());
        let made = fleet.start(&ctx, &MigrationRequest::default()).await;
        let made = made.expect("a migration can be started");
        fleet.run(&ctx, made.id, no_events()).await.expect("a migration runs");
        let key = "SELECT id FROM tokens WHERE kind = 'api_key' AND name = $1";
        let key = sql.query_one(key, &[&SECRET]).await.expect("Alpha has a key").get(0);
        let invitation = "SELECT id FROM invitations WHERE tenant_id = $1";
        let invitation = sql.query_one(invitation, &[&fixture.alpha.id]).await;
        let invitation = invitation.expect("Alpha has an invitation").get(0);
        // The first call without a tenant's name creates the main tenant.
        let profile = json!({ "profile": { "email": "main@example.com" } });
        app.bunker_root().call("UserCreate", profile).await.ok();
        app.services.audit.seal(&ctx).await.expect("the operator may");
        let saved = Saved::of(&sql).await;
        let before = Snapshot::take(&sql).await;
        let rows_before = fixture.alpha_rows().await;
        Self {
            migration: made.id,
            key,
            invitation,
            principals,
            suspended,
            sql,
            saved,
            before,
            rows_before,
            wrong: Vec::new(),
            broken: Vec::new(),
            fixture,
        }
    }

    /// The id in the path of these operations, if it is not the token's.
    fn id_for(&self, template: &str) -> Option<Uuid> {
        if template.starts_with(FLEET_PREFIX) {
            Some(self.migration)
        } else if template.starts_with("/api/api-keys/") {
            Some(self.key)
        } else if template.contains("/invitations/{id}") {
            Some(self.invitation)
        } else {
            None
        }
    }

    /// A body with which the operation succeeds, if the smallest that the document allows does not.
    fn body_for(operation: &Operation) -> Option<Value> {
        match (operation.method.as_str(), operation.template.as_str()) {
            ("POST", "/api/auth/login") => {
                Some(json!({ "identifier": "lonely@example.com", "password": PASSWORD }))
            }
            ("POST", "/control/v1/tenants/{tenant}/members") => {
                Some(json!({ "email": "lonely@example.com", "role": "VIEWER" }))
            }
            // The document requires no field of these.
            ("POST" | "PUT", path) if path.starts_with("/v1/") => Some(json!({
                "name": "other", "org": "org", "profile": { "email": "new@example.com" },
            })),
            // A real one outlives its request.
            ("POST", FLEET_PREFIX) => Some(json!({ "dry_run": true })),
            ("POST", "/control/v1/tenants/{tenant}/archives") => Some(json!({ "unknown": true })),
            ("POST", "/control/v1/examinations") => Some(json!({ "tenants": ["no-such-tenant"] })),
            // Cannot be undone: a caller who may is told 404.
            ("POST", "/v2/TenantDelete") => Some(json!({ "tenantid": 999_999 })),
            _ => None,
        }
    }

    async fn call(&self, operation: &Operation, principal: &Principal) -> Answer {
        let target = if principal.is_suspended { &self.suspended } else { &self.fixture.target };
        let request = principal.request(&self.fixture.app, operation, target);
        let request = match Self::body_for(operation) {
            Some(body) => request.json(&body),
            None => request,
        };
        let (client, request) = request.build_split();
        let mut request = request.expect("it is a request");
        if operation.template.ends_with("/purge") {
            // Cannot be undone: a caller who may is told 412.
            request.headers_mut().insert("if-match", HeaderValue::from_static("\"999\""));
        }
        if let Some(id) = self.id_for(&operation.template) {
            let path = request.url().path().replace(&target.token.to_string(), &id.to_string());
            request.url_mut().set_path(&path);
        }
        send(reqwest::RequestBuilder::from_parts(client, request)).await
    }

    /// Calls an operation as every principal, first as those that are to be refused.
    async fn line(&mut self, operation: &Operation, expected: Option<&Line>) -> Line {
        let access = expected.map_or_else(|| access_of(operation), |line| line.access.clone());
        let needed = access.parse::<Permission>().ok();
        let is_refused = |column: usize| expected.is_none_or(|line| line.statuses[column] >= 300);
        let mut statuses = vec![0; COLUMNS.len()];
        for refused in [true, false] {
            for column in (0..COLUMNS.len()).filter(|column| is_refused(*column) == refused) {
                let principals = self.principals.of(column, needed);
                // A caller without a credential is not refused as one with a bad credential is.
                let is_optional = operation.template == OPTIONAL_CREDENTIAL;
                let is_called =
                    |one: &Principal| !is_optional || one.column != "none" || one.has_none();
                for principal in principals.into_iter().filter(is_called) {
                    let answer = self.call(operation, &principal).await;
                    if answer.status < 300 && operation.method != "GET" {
                        self.saved.restore(&self.sql).await;
                    }
                    self.judge(operation, &principal, needed, &answer);
                    if statuses[column] != 0 && statuses[column] != answer.status {
                        self.broken.push(format!(
                            "{} {}: {}: {}, and {} for others of this column",
                            operation.method,
                            operation.template,
                            principal.who,
                            answer.status,
                            statuses[column]
                        ));
                    }
                    statuses[column] = answer.status;
                    let wanted = expected.map(|line| line.statuses[column]);
                    if wanted != Some(answer.status) {
                        self.wrong.push(difference(operation, &principal, wanted, &answer));
                    }
                }
            }
            if refused {
                self.assert_unchanged(operation).await;
            }
        }
        let (method, path) = (operation.method.clone(), operation.template.clone());
        Line { method, path, access, statuses }
    }

    fn judge(
        &mut self,
        operation: &Operation,
        principal: &Principal,
        needed: Option<Permission>,
        answer: &Answer,
    ) {
        if let Some(rule) = broken_rule(operation, principal, needed, answer) {
            let (method, path, who) = (&operation.method, &operation.template, principal.who);
            self.broken.push(format!("{method} {path}: {who}: {rule}: {answer:?}"));
        }
    }

    /// Notes what refused calls have changed.
    async fn assert_unchanged(&mut self, operation: &Operation) {
        let after = Snapshot::take(&self.sql).await;
        let mut changed = after.changed_since(&self.before);
        changed.retain(|name| !RECORDS.contains(&name.as_str()));
        if self.fixture.alpha_rows().await != self.rows_before {
            changed.push("rows of Alpha".to_owned());
        }
        if !changed.is_empty() {
            let (method, path) = (&operation.method, &operation.template);
            self.broken.push(format!("{method} {path}: refused calls changed {changed:?}"));
            self.saved.restore(&self.sql).await;
        }
    }
}

/// Creates the tenant that is suspended later, with an admin.
async fn suspended_tenant(fixture: &Fixture) -> Target {
    let app = &fixture.app;
    let gamma = app.bunker_tenant("gamma").await;
    let record = gamma.add(json!({ "email": "ada@example.com" })).await;
    let user = app.add_user("gamma@example.com", None).await;
    principals::add_member(app, gamma.id, user, "ADMIN").await;
    let (token, _) = app.add_token(&[Permission::ViewTenants], Some(gamma.id), None).await;
    Target {
        record,
        event: fixture.event.clone(),
        token: token.uuid(),
        user,
        unlock: fixture.unlock.clone(),
        alpha: gamma,
    }
}

/// What the document says of the callers of an operation: `public`, the scheme of the credential, or the permission.
fn access_of(operation: &Operation) -> String {
    let Some(scheme) = scheme(operation) else { return "public".to_owned() };
    let refusal = operation.described()["responses"]["403"]["description"].as_str();
    let mut words =
        refusal.unwrap_or_default().split(|c: char| !c.is_ascii_uppercase() && c != '_');
    let permission = words.find_map(|word| word.parse::<Permission>().ok());
    match permission {
        Some(permission) if scheme == "bearer" => permission.as_str().to_owned(),
        _ => scheme.to_owned(),
    }
}

/// Returns the rule that an answer breaks, whatever the table expects.
fn broken_rule(
    operation: &Operation,
    principal: &Principal,
    needed: Option<Permission>,
    answer: &Answer,
) -> Option<&'static str> {
    let served = answer.status < 400;
    let is_control = operation.template.starts_with("/control/");
    let is_secured = scheme(operation).is_some();
    let message = answer.body["message"].as_str().unwrap_or_default();
    match principal.column {
        _ if answer.status >= 500 => Some("a server error"),
        // Databunker's contract has no 401.
        "none" if is_secured && ![401, 403].contains(&answer.status) => {
            Some("served without a good credential")
        }
        // Laravel's form has no such header.
        "none" if is_secured && answer.status == 401 && !is_webfluss(operation) => {
            let is_told = answer.header("www-authenticate").is_some();
            let is_told = is_told && (is_control || message.starts_with("Unauthorized: "));
            (!is_told).then_some("a 401 does not say why")
        }
        "less" | "nokey" | "watch" if needed.is_some() && served && principal.lacks(needed) => {
            Some("served without the permission")
        }
        "less" if needed.is_some() && answer.status == 403 => {
            let permission = needed.map_or("", |permission| permission.as_str());
            let names_it = if is_control {
                answer.body["missing"] == json!([permission])
            } else {
                is_webfluss(operation) || message == format!("Missing permission: {permission}")
            };
            (!names_it).then_some("a 403 does not name the missing permission")
        }
        "other" | "there" | "lonely" if served && selects_alpha(operation) && is_secured => {
            Some("serves what belongs to another tenant")
        }
        _ if answer.text.contains(SECRET) && principal.is_stranger() => {
            Some("reveals what belongs to another tenant")
        }
        _ if !served && is_control => {
            let media = answer.header("content-type");
            (media != Some("application/problem+json")).then_some("a refusal in another form")
        }
        _ => None,
    }
}

fn is_webfluss(operation: &Operation) -> bool {
    operation.template.starts_with("/api/tenants")
}

fn difference(
    operation: &Operation,
    principal: &Principal,
    wanted: Option<u16>,
    answer: &Answer,
) -> String {
    let mut text = format!("{} {}: {}: ", operation.method, operation.template, principal.who);
    let _ = match wanted {
        Some(wanted) => write!(text, "expected {wanted}, got {}", answer.status),
        None => write!(text, "has no line, got {}", answer.status),
    };
    let body: String = answer.text.chars().take(200).collect();
    let _ = write!(text, ": {body}");
    text
}
