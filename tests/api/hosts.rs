//! The tenant that a host names: below the base domain and nowhere else, from one host and never from two, and never
//! against a credential that is bound to another tenant.

use std::sync::Arc;

use actix_web::{HttpResponse, get};
use reqwest::Method;
use rowhouse::config::Settings;
use rowhouse::domain::Permission;
use rowhouse::{Problem, TenantTx};
use serde_json::{Value, json};

use crate::support::callers::send;
use crate::support::control::{assert_problem, pointers, put, send_if_match};
use crate::support::scoped::{make_key, plaintext};
use crate::support::{Answer, Bunker, Caller, Program, TestApp, wire};

/// Answers the schema that the request works in.
#[get("/where")]
async fn whereabouts(tx: TenantTx) -> Result<HttpResponse, Problem> {
    let rows = tx.query_and_commit("SELECT current_schema()::text AS schema", &[]).await?;
    let schemas: Vec<String> = rows.iter().map(|row| row.get("schema")).collect();
    Ok(HttpResponse::Ok().json(schemas.concat()))
}

async fn app(settings: &[(&'static str, &str)]) -> TestApp {
    let mut builder = TestApp::builder().with_routes(Arc::new(|config| {
        config.service(whereabouts);
    }));
    for (key, value) in settings {
        builder = builder.with(key, *value);
    }
    builder.spawn().await
}

async fn at(caller: &Caller, host: &str) -> Answer {
    send(caller.request(Method::GET, "/where").header("host", host)).await
}

/// Returns in whose record a caller finds the login `ada`.
async fn found(caller: &Bunker) -> String {
    let answer = caller.about("UserGet", "login", "ada").await;
    answer.ok()["profile"]["of"].as_str().expect("the record says whose it is").to_owned()
}

#[tokio::test]
async fn a_tenant_that_takes_a_hosts_first_label_as_its_slug_takes_nothing_over() {
    for settings in [&[][..], &[("base_domain", "example.com")]] {
        let app = app(settings).await;
        let (attacker, victim) =
            (app.bunker_tenant("attacker").await, app.bunker_tenant("victim").await);
        victim.add(json!({ "login": "ada", "of": "victim" })).await;
        let root = app.bunker_root();
        let at_server = root.at_host("crm.corp.test");
        let before = json!({ "profile": { "login": "ada", "of": "main" } });
        at_server.call("UserCreate", before).await.ok();

        attacker.admin.call("TenantUpdate", json!({ "tenantname": "crm" })).await.ok();
        attacker.add(json!({ "login": "ada", "of": "attacker" })).await;
        // The root without a tenant header stays in the main tenant, and other tenants stay at home.
        assert_eq!(found(&at_server).await, "main");
        let secret = json!({ "profile": { "login": "bob", "of": "main" } });
        at_server.call("UserCreate", secret).await.ok();
        assert!(!app.schemas_with("bob").await.contains(&attacker.schema()));
        assert_eq!(found(&victim.admin.at_host("crm.corp.test")).await, "victim");

        // In a handler the host names no tenant either; the credential or the header does.
        for host in ["crm.corp.test", "crm.corp.test:8080", "crm"] {
            assert_eq!(at(&app.root(), host).await.bad_fields(), ["x-tenant-id"], "{host}");
        }
        let (_, token) = app.add_token(&[Permission::ReadProfiles], Some(victim.id), None).await;
        assert_eq!(at(&token, "crm.corp.test").await.body, json!(victim.schema()));
    }
}

#[tokio::test]
async fn the_servers_own_names_are_reserved_as_slugs_in_every_dialect() {
    let hosts =
        [("base_domain", "example.com"), ("server_hosts", "crm.corp.test, hub.example.com")];
    let app = app(&hosts).await;
    let (acme, root) = (app.bunker_tenant("acme").await, app.bunker_root());
    for word in ["crm", "hub"] {
        let v2 = json!({ "tenantname": word, "tenantorg": "x" });
        let v1 = json!({ "name": word, "org": "x" });
        for (answer, field) in [
            (acme.admin.call("TenantUpdate", json!({ "tenantname": word })).await, "tenantname"),
            (root.call("TenantCreate", v2).await, "tenantname"),
            (send(root.request(Method::POST, "/v1/tenant").json(&v1)).await, "name"),
            (send(acme.admin.request(Method::PUT, "/v1/tenant").json(&v1)).await, "name"),
        ] {
            let message = format!("The {field} parameter is a reserved word");
            assert_eq!(answer.error(400), message, "{word}");
        }
        let setup = app.root().post("/api/tenant/setup", &TestApp::setup_body(word)).await;
        assert_eq!(setup.bad_rules(), [("slug", "reserved")], "{setup:?}");
        let body = json!({ "slug": word });
        let path = "/control/v1/tenants/acme";
        let renamed = send_if_match(&app.root(), Method::PATCH, path, "*", Some(&body)).await;
        assert_problem(&renamed, 400, "invalid");
        assert_eq!(pointers(&renamed), ["/slug: reserved"]);
        let body = json!({ "slug": word, "name": "x", "admin": { "email": "a@example.com",
            "password": crate::support::PASSWORD, "first_name": "A", "last_name": "B" } });
        let ensured = put(&app.root(), "/control/v1/tenants/by-external-id/7", &body).await;
        assert_eq!(pointers(&ensured), ["/slug: reserved"], "{ensured:?}");
        let subdomain = app.root().post("/api/tenants", &json!({ "subdomain": word })).await;
        assert_eq!(subdomain.status, 422, "{subdomain:?}");
        let expected = json!({ "subdomain": ["The selected subdomain is invalid."] });
        assert_eq!(subdomain.body["errors"], expected);
    }
    let program = Program::on(&app.database).with("ROWHOUSE_SERVER_HOSTS", "crm.corp.test");
    let renamed = program.run(&["tenant", "rename", "acme", "--slug", "crm"]).expect(2);
    assert_eq!(renamed.stderr, "rowhouse: slug is a reserved word\n");
    let row = app.sql().await.query_one("SELECT string_agg(slug, ' ') FROM tenants", &[]).await;
    assert_eq!(row.expect("there are tenants").get::<_, &str>(0), "acme");
}

#[tokio::test]
async fn a_host_of_the_server_names_no_tenant_even_where_one_has_its_label() {
    let before = app(&[("base_domain", "example.com")]).await;
    let old = before.bunker_tenant("hub").await;
    old.add(json!({ "login": "ada", "of": "hub" })).await;
    assert_eq!(found(&before.bunker_root().at_host("hub.example.com")).await, "hub");
    let database = before.stop().await;
    let after = TestApp::builder()
        .on(database)
        .with("base_domain", "example.com")
        .with("server_hosts", "HUB.example.com.")
        .spawn()
        .await;
    let root = after.bunker_root();
    root.call("UserCreate", json!({ "profile": { "login": "ada", "of": "main" } })).await.ok();
    assert_eq!(found(&root.at_host("hub.example.com:443")).await, "main");
    assert_eq!(found(&root.for_tenant("hub")).await, "hub");
    assert_eq!(found(&after.bunker(&old.xtoken).at_host("hub.example.com")).await, "hub");
}

/// Returns the status and the body, which must not depend on the host.
fn told(answer: &Answer) -> (u16, Value) {
    (answer.status, answer.body.clone())
}

#[tokio::test]
async fn a_bound_credential_is_answered_the_same_at_every_host() {
    let app = app(&[("base_domain", "example.com")]).await;
    let (acme, globex) = (app.set_up("acme").await, app.set_up("globex").await);
    let suspend = "UPDATE tenants SET status = 'suspended' WHERE id = $1";
    let asleep = app.set_up("asleep").await;
    app.sql().await.execute(suspend, &[&asleep.id]).await.expect("a status can be set");
    let bunker = app.bunker_tenant("bunker").await;
    let admin = app.log_in(&acme.admin_email).await;
    let key = app.keyed(&plaintext(&make_key(&admin, acme.id, &["READ_PROFILES"]).await));
    let (_, token) = app.add_token(&[Permission::ReadProfiles], Some(acme.id), None).await;
    let (_, weak) = app.add_token(&[Permission::ViewUsers], Some(acme.id), None).await;
    let expected = bunker.admin.call("UserSearch", json!({ "identity": "x" })).await;
    for host in ["acme", "globex", "asleep", "absent", "bunker", "main", "www", "a.b"] {
        let host = format!("{host}.example.com");
        for caller in [&key, &token] {
            assert_eq!(told(&at(caller, &host).await), (200, json!(acme.schema())), "{host}");
        }
        assert_eq!(at(&weak, &host).await.status, 403, "{host}");
        let at_host = bunker.admin.at_host(&host);
        let answer = at_host.call("UserSearch", json!({ "identity": "x" })).await;
        assert_eq!(told(&answer), told(&expected), "{host}");
    }
    // A user is bound to no tenant: the host chooses, and every tenant of others answers like one that does not exist.
    assert_eq!(at(&admin, "acme.example.com").await.body, json!(acme.schema()));
    let absent = at(&admin, "absent.example.com").await;
    absent.refusal(404);
    for host in ["globex.example.com", "asleep.example.com", "bunker.example.com"] {
        assert_eq!(told(&at(&admin, host).await), told(&absent), "{host}");
    }
    let anonymous = at(&app.anonymous(), "acme.example.com").await;
    assert_eq!(told(&anonymous), told(&at(&app.anonymous(), "absent.example.com").await));
    anonymous.refusal(401);
    assert_eq!(at(&app.root(), "globex.example.com").await.body, json!(globex.schema()));
}

#[tokio::test]
async fn an_absolute_target_takes_precedence_over_the_host_header() {
    let app = app(&[("base_domain", "example.com")]).await;
    let (acme, globex) = (app.set_up("acme").await, app.set_up("globex").await);
    let schema_at = async |target: &str, host: &str| {
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
            app.root_token
        );
        let answer = wire::exchange(&app, request.as_bytes()).await;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.trim().to_owned());
        (wire::status(&answer), body.unwrap_or_default())
    };
    let (in_acme, in_globex) =
        (format!("\"{}\"", acme.schema()), format!("\"{}\"", globex.schema()));
    for (target, host, status, body) in [
        ("/where", "acme.example.com", 200, in_acme.as_str()),
        ("http://acme.example.com/where", "globex.example.com", 200, in_acme.as_str()),
        ("http://globex.example.com:80/where", "acme.example.com", 200, in_globex.as_str()),
        ("http://user@globex.example.com/where", "acme.example.com", 200, in_globex.as_str()),
        ("http://absent.example.com/where", "acme.example.com", 404, ""),
        ("http://elsewhere.test/where", "acme.example.com", 400, ""),
    ] {
        let found = schema_at(target, host).await;
        assert_eq!(found.0, status, "{target} {host}: {found:?}");
        assert!(status != 200 || found.1 == body, "{target} {host}: {found:?}");
    }
    // Databunker's dialect reads the same host.
    let made = app.bunker_root().for_tenant("globex");
    made.call("UserCreate", json!({ "profile": { "login": "ada", "of": "globex" } })).await.ok();
    let body = r#"{"mode":"login","identity":"ada"}"#;
    let request = format!(
        "POST http://globex.example.com/v2/UserGet HTTP/1.1\r\nHost: acme.example.com\r\nX-Bunker-Token: {}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        app.root_token,
        body.len()
    );
    let answer = wire::exchange(&app, request.as_bytes()).await;
    assert!(wire::status(&answer) == 200 && answer.contains("\"of\":\"globex\""), "{answer}");
}

#[tokio::test]
async fn only_the_configured_forwarded_header_names_the_host() {
    const X: (&str, &str) = ("x-forwarded-host", "acme.example.com");
    const STANDARD: (&str, &str) = ("forwarded", "for=198.51.100.1;host=globex.example.com");
    const CHAIN: (&str, &str) =
        ("forwarded", "host=acme.example.com, for=198.51.100.1;host=globex.example.com");
    for (header, trusted, lines, expected) in [
        ("x-forwarded-for", "127.0.0.1", &[X, STANDARD][..], Some("acme")),
        ("x-forwarded-for", "127.0.0.1", &[STANDARD], None),
        ("x-forwarded-for", "", &[X, STANDARD], None),
        ("forwarded", "127.0.0.1", &[X, STANDARD], Some("globex")),
        ("forwarded", "127.0.0.1", &[X], None),
        // The client wrote the element on the left.
        ("forwarded", "127.0.0.1", &[CHAIN], Some("globex")),
        ("forwarded", "", &[X, STANDARD], None),
    ] {
        let app = app(&[
            ("base_domain", "example.com"),
            ("http.forwarded_header", header),
            ("http.trusted_proxies", trusted),
        ])
        .await;
        let (acme, globex) = (app.bunker_tenant("acme").await, app.bunker_tenant("globex").await);
        let root = app.bunker_root();
        let profile = |of: &str| json!({ "profile": { "login": "ada", "of": of } });
        for tenant in ["acme", "globex", "main"] {
            root.for_tenant(tenant).call("UserCreate", profile(tenant)).await;
        }
        root.call("UserCreate", profile("main")).await;
        let with_lines = |mut request: reqwest::RequestBuilder| {
            for (name, value) in lines {
                request = request.header(*name, *value);
            }
            request
        };
        let case = format!("{header} {trusted:?} {lines:?}");
        let request = app.root().request(Method::GET, "/where").header("host", "inside:8080");
        let answer = send(with_lines(request)).await;
        let body = json!({ "mode": "login", "identity": "ada" });
        let request = root.at_host("inside:8080").request(Method::POST, "/v2/UserGet").json(&body);
        let record = send(with_lines(request)).await;
        assert_eq!(record.ok()["profile"]["of"], expected.unwrap_or("main"), "{case}");
        match expected {
            Some("acme") => assert_eq!(answer.body, json!(acme.schema()), "{case}"),
            Some(_) => assert_eq!(answer.body, json!(globex.schema()), "{case}"),
            None => assert_eq!(answer.bad_fields(), ["x-tenant-id"], "{case}: {answer:?}"),
        }
    }
}

#[tokio::test]
async fn two_of_a_header_that_chooses_the_tenant_are_refused_in_every_dialect() {
    let app = app(&[("base_domain", "example.com"), ("http.trusted_proxies", "127.0.0.1")]).await;
    let acme = app.bunker_tenant("acme").await;
    let id = acme.id.to_string();
    let headers = [
        ("Host", "acme.example.com", "acme.example.com"),
        ("X-Tenant-Id", &id, &id),
        ("X-Bunker-Tenant", "acme", "acme"),
        ("X-Forwarded-Host", "acme.example.com", "globex.example.com"),
    ];
    let paths = [
        ("GET", "/where", "\"statusCode\":400"),
        ("GET", "/api/tenant", "\"statusCode\":400"),
        ("GET", "/api/api-keys", "\"statusCode\":400"),
        ("GET", "/control/v1/tenants", "malformed_header"),
        ("GET", "/api/tenants/x", "The request could not be read."),
        ("POST", "/v2/UserGet", "\"status\":\"error\""),
        ("POST", "/v1/user", "\"status\":\"error\""),
        ("GET", "/healthz", "\"statusCode\":400"),
    ];
    for (name, first, second) in headers {
        for (method, path, form) in paths {
            let host = if name == "Host" { "" } else { "Host: acme.example.com\r\n" };
            let request = format!(
                "{method} {path} HTTP/1.1\r\n{host}{name}: {first}\r\n{name}: {second}\r\n\
                 Authorization: Bearer {token}\r\nX-Bunker-Token: {token}\r\nContent-Length: 2\r\n\
                 Connection: close\r\n\r\n{{}}",
                token = app.root_token
            );
            let answer = wire::exchange(&app, request.as_bytes()).await;
            assert_eq!(wire::status(&answer), 400, "{name} {path}: {answer}");
            // actix-web refuses two `Host` headers itself, without a body.
            assert!(name == "Host" || answer.contains(form), "{name} {path}: {answer}");
        }
    }
    // So are two credentials, which are bound to tenants.
    for (path, headers, status) in [
        ("/where", "Authorization: Bearer {token}\r\nAuthorization: Bearer {token}", 401),
        ("/v2/UserGet", "X-Bunker-Token: {token}\r\nX-Bunker-Token: {token}", 403),
    ] {
        let method = if path == "/where" { "GET" } else { "POST" };
        let headers = headers.replace("{token}", &app.root_token);
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: acme.example.com\r\n{headers}\r\nContent-Length: 2\r\n\
             Connection: close\r\n\r\n{{}}"
        );
        let answer = wire::exchange(&app, request.as_bytes()).await;
        assert_eq!(wire::status(&answer), status, "{path}: {answer}");
    }
}

#[test]
fn a_bad_host_setting_is_refused_by_name() {
    for (key, value) in [
        ("base_domain", "https://example.com"),
        ("base_domain", "example.com:8080"),
        ("server_hosts", "api.example.com, https://crm.example.com"),
        ("slugs.reserved", "Billing"),
        ("slugs.quarantine", "soon"),
        ("http.management_listen", "somewhere"),
    ] {
        let error = Settings::from_values(&[(key, value.to_owned())]).unwrap_err().to_string();
        assert!(error.contains(&format!("{key}: ")), "{value}: {error}");
    }
    let settings = Settings::from_values(&[]).expect("the defaults are valid");
    assert_eq!(settings.base_domain.as_deref(), Some("localhost"));
    assert_eq!(settings.slugs.quarantine, settings.tenants.grace_period);
}
