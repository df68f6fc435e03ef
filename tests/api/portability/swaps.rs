//! What is in two tenants is exchanged: `POST /control/v1/tenants/{tenant}/swap`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Method;
use rowhouse::domain::names::TenantId;
use rowhouse::domain::{Access, Error, Permission};
use rowhouse::service::doctor::{Area, Finding, Selection};
use rowhouse::service::tenants::TenantRef;
use serde_json::{Value, json};
use uuid::Uuid;

use super::fixture::{
    SMALL, app_of, clone, clone_command, digests, export, run, schema_of, state, value,
};
use super::rounds;
use crate::support::callers::send;
use crate::support::control::{assert_problem, send_if_match};
use crate::support::{Answer, BunkerTenant, Caller, TestApp};

/// How often the contents are exchanged while others write.
const SWAPS: u32 = 8;

async fn swap(caller: &Caller, tenant: &str, with: &str) -> Answer {
    let path = format!("/control/v1/tenants/{tenant}/swap");
    send_if_match(caller, Method::POST, &path, "*", Some(&json!({ "with": with }))).await
}

/// Fails if the doctor finds something in the tenants.
async fn assert_sound(app: &TestApp) {
    let report = app.services.doctor.examine(&app.operator(), &Selection::default()).await;
    let findings = report.expect("the check ends").findings;
    let of_tenants = [Area::Structure, Area::Rights, Area::History, Area::Orphans];
    // Roles belong to the server, which other tests use too.
    let is_of_tenants = |found: &&Finding| {
        of_tenants.contains(&found.area) && !found.what.starts_with("the role tenant_")
    };
    let found: Vec<_> = findings.iter().filter(is_of_tenants).collect();
    assert!(found.is_empty(), "{found:?}");
}

/// Writes a row to each of two tables, in one transaction.
async fn write_both(app: &TestApp, tenant: Uuid, id: Uuid) -> Result<(), Error> {
    let (tenants, ctx) = (&app.services.tenants, app.operator());
    let entered = tenants.enter(&ctx, &TenantRef::Id(TenantId::new(tenant))).await?;
    let tx = tenants.begin(&ctx, &entered, Access::Write).await?;
    let version = "INSERT INTO profile_versions (profile_id, version, profile, md5, created_at)
                   VALUES ($1, 1, '{}', '', now())";
    let event = "INSERT INTO profile_events (id, profile_id, at, action, actor, request_id)
                 VALUES ($1, $1, now(), 'test', 'test', 'test')";
    tx.execute(version, &[&id]).await.map_err(|failure| failure.during("write"))?;
    tx.execute(event, &[&id]).await.map_err(|failure| failure.during("write"))?;
    tx.commit().await.map_err(|failure| failure.during("commit"))
}

/// Writes until it is told to stop; returns the ids of what was acknowledged, and how often it was told to come back.
async fn keep_writing(
    app: Arc<TestApp>,
    tenant: Arc<BunkerTenant>,
    over_http: bool,
    stop: Arc<AtomicBool>,
) -> (Vec<Uuid>, u32) {
    let (mut written, mut refused) = (Vec::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        if over_http {
            let email = format!("{}@example.com", Uuid::new_v4().simple());
            let body = json!({ "profile": { "email": email } });
            let answer = tenant.admin.call("UserCreate", body).await;
            match answer.status {
                200 => {
                    let token = answer.body["token"].as_str().expect("a token is a text");
                    written.push(token.parse().expect("it is an id"));
                }
                503 => refused += 1,
                _ => panic!("{answer:?}"),
            }
        } else {
            let id = Uuid::new_v4();
            match write_both(&app, tenant.id, id).await {
                Ok(()) => written.push(id),
                Err(Error::Unavailable { .. }) => refused += 1,
                Err(error) => panic!("{}", error.chain()),
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    (written, refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_write_is_lost_or_split_while_contents_are_exchanged() {
    let app = Arc::new(TestApp::spawn().await);
    let tenants = [app.bunker_tenant("alpha").await, app.bunker_tenant("beta").await].map(Arc::new);
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..8)
        .map(|number| {
            let (app, tenant) = (Arc::clone(&app), Arc::clone(&tenants[number % 2]));
            tokio::spawn(keep_writing(app, tenant, number < 4, Arc::clone(&stop)))
        })
        .collect();
    let wanted = rounds(SWAPS);
    for _ in 0..wanted {
        let answer = swap(&app.root(), "alpha", "beta").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let (mut written, mut refused) = (Vec::new(), 0);
    for writer in writers {
        let (ids, told) = writer.await.expect("it only gets 2xx and 503");
        assert!(!ids.is_empty(), "a writer wrote nothing");
        written.extend(ids);
        refused += told;
    }
    let sql = app.sql().await;
    // Where the parts of each write are: all in one of the two.
    let mut places: HashMap<Uuid, [Vec<usize>; 2]> =
        written.iter().map(|id| (*id, Default::default())).collect();
    for (tenant, in_tenant) in tenants.iter().enumerate() {
        for (part, table) in ["profile_versions", "profile_events"].into_iter().enumerate() {
            let query = format!(
                "SELECT profile_id FROM {}.{table} WHERE profile_id = ANY ($1)",
                in_tenant.schema()
            );
            for row in sql.query(&query, &[&written]).await.unwrap() {
                places.get_mut(&row.get(0)).expect("it was written")[part].push(tenant);
            }
        }
    }
    let count = |is: fn(&[Vec<usize>; 2]) -> bool| places.values().filter(|at| is(at)).count();
    let counts = [
        count(|[version, event]| version.is_empty() || event.is_empty()),
        count(|[version, event]| version != event || version.len() > 1),
        count(|[version, event]| version == event && version.len() == 1),
    ];
    assert_eq!(counts, [0, 0, written.len()], "{refused} were refused");
    println!("{wanted} swaps: {} writes, {refused} answered 503", written.len());
    let swaps = "SELECT count(*)::text FROM audit_events WHERE action = 'tenant.swap'";
    assert_eq!(value(&sql, swaps).await, (2 * wanted).to_string());
    assert_sound(&app).await;
}

#[tokio::test]
async fn a_second_swap_brings_the_first_state_back() {
    let (app, _files) = app_of(&SMALL).await;
    let (sql, root) = (app.sql().await, app.root());
    clone(&app, "acme", &clone_command("other")).await.expect("it is cloned");
    let acme = schema_of(&sql, "acme").await;
    let schema = schema_of(&sql, "other").await;
    // Rights of all kinds, which follow.
    run(
        &sql,
        &format!(
            "INSERT INTO {schema}.notes (body) VALUES ('of other');
                        CREATE FUNCTION {schema}.one() RETURNS int LANGUAGE sql RETURN 1;
                        GRANT EXECUTE ON FUNCTION {schema}.one() TO {schema} WITH GRANT OPTION;
                        REVOKE DELETE ON {schema}.notes FROM {schema};
                        GRANT REFERENCES (body) ON {schema}.notes TO {schema}"
        ),
    )
    .await;
    let contents =
        async || [digests(&export(&app, "acme").await), digests(&export(&app, "other").await)];
    let rights = async |schema: &str| {
        let rights = format!(
            "SELECT concat_ws(' ', has_schema_privilege('{schema}', '{schema}', 'USAGE'),
                    has_table_privilege('{schema}', '{schema}.notes', 'SELECT'),
                    has_table_privilege('{schema}', '{schema}.notes', 'DELETE'),
                    has_column_privilege('{schema}', '{schema}.notes', 'body', 'REFERENCES'),
                    (SELECT string_agg(grantee::regrole::text || privilege_type, ',' ORDER BY privilege_type)
                       FROM pg_default_acl, aclexplode(defaclacl)
                      WHERE defaclnamespace = '{schema}'::regnamespace AND defaclobjtype = 'r'))"
        );
        value(&sql, &rights).await.replace(schema, "tenant ")
    };
    let [first, second] = contents().await;
    assert_ne!(first, second);
    let (of_acme, of_other) = (rights(&acme).await, rights(&schema).await);
    assert!(
        of_acme.starts_with("t t t f tenant ") && of_other.starts_with("t t f t tenant "),
        "{of_acme} {of_other}"
    );
    let answer = swap(&root, "acme", "other").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.body["tenant"]["slug"], "acme");
    assert_eq!(answer.body["with"]["revision"], 2);
    assert_eq!(contents().await, [second.clone(), first.clone()]);
    assert_eq!((rights(&acme).await, rights(&schema).await), (of_other, of_acme));
    assert_eq!(swap(&root, "other", "acme").await.status, 200);
    assert_eq!(contents().await, [first, second]);
    run(
        &sql,
        &format!(
            "DROP FUNCTION {schema}.one(); GRANT DELETE ON {schema}.notes TO {schema};
                        REVOKE REFERENCES (body) ON {schema}.notes FROM {schema}"
        ),
    )
    .await;
    assert_sound(&app).await;
}

#[tokio::test]
async fn one_idempotency_key_swaps_once() {
    let (app, _files) = app_of(&SMALL).await;
    let (sql, root) = (app.sql().await, app.root());
    clone(&app, "acme", &clone_command("other")).await.expect("it is cloned");
    let swaps = "SELECT count(*)::text FROM audit_events WHERE action = 'tenant.swap'";
    let keyed = async |etag: &str, body: Value| {
        let request = root.request(Method::POST, "/control/v1/tenants/acme/swap");
        let request = request.header("idempotency-key", "k").header("if-match", etag);
        send(request.json(&body)).await
    };
    let body = json!({ "with": "other", "with_revision": 1 });
    let etag = root.get("/control/v1/tenants/acme").await.header("etag").unwrap().to_owned();
    let first = keyed(&etag, body.clone()).await;
    assert_eq!((first.status, first.header("idempotent-replayed")), (200, None), "{first:?}");
    // The revisions are others by now, and the answer is the same.
    let again = keyed(&etag, body).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (200, Some("true")));
    assert_eq!((&again.body, again.header("etag")), (&first.body, first.header("etag")));
    assert_problem(&keyed("*", json!({ "with": "other" })).await, 422, "idempotency_key_reused");
    assert_eq!(value(&sql, swaps).await, "2");
    assert_eq!(swap(&root, "acme", "other").await.status, 200, "they are open");
}

#[tokio::test]
async fn a_closed_tenant_answers_503_and_opens_by_time() {
    let app = TestApp::spawn().await;
    let (acme, sql, root) = (app.bunker_tenant("acme").await, app.sql().await, app.root());
    app.bunker_tenant("other").await;
    acme.add(json!({ "email": "ada@example.com" })).await;
    run(&sql, "UPDATE tenants SET closed_until = now() + interval '1 hour' WHERE slug = 'acme'")
        .await;
    for caller in [&acme.admin, &app.bunker_root().for_tenant("acme")] {
        let answer = caller.get("ada@example.com").await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{answer:?}");
    }
    // The control plane has it as before, and another swap does not begin.
    assert_eq!(root.get("/control/v1/tenants/acme").await.body["status"], "active");
    assert_problem(&swap(&root, "other", "acme").await, 409, "swap_busy");
    run(&sql, "UPDATE tenants SET closed_until = now() WHERE slug = 'acme'").await;
    acme.admin.get("ada@example.com").await.ok();
    // A transaction inside is waited for.
    let inside = app.sql().await;
    run(&inside, &format!("BEGIN; LOCK TABLE {}.profiles IN ACCESS SHARE MODE", acme.schema()))
        .await;
    let swapping = tokio::spawn({
        let root = app.root();
        async move { swap(&root, "acme", "other").await }
    });
    let waits = "SELECT count(*)::text FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    while value(&sql, waits).await == "0" {
        assert!(!swapping.is_finished(), "it did not wait");
    }
    assert_eq!(acme.admin.get("ada@example.com").await.status, 503);
    run(&inside, "COMMIT").await;
    assert_eq!(swapping.await.unwrap().status, 200);
    acme.admin.get("ada@example.com").await.error(404);
}

#[tokio::test]
async fn a_swap_that_is_refused_changes_nothing() {
    let (app, _files) = app_of(&SMALL).await;
    let (sql, root) = (app.sql().await, app.root());
    clone(&app, "acme", &clone_command("other")).await.expect("it is cloned");
    let (_, updater) = app.add_token(&[Permission::UpdateTenant], None, None).await;
    let (_, importer) = app.add_token(&[Permission::ImportTenant], None, None).await;
    let rows = "SELECT string_agg(t::text, ' ' ORDER BY id) FROM tenants t";
    let before = (state(&sql).await, value(&sql, rows).await);
    for (caller, missing) in [(&updater, "IMPORT_TENANT"), (&importer, "UPDATE_TENANT")] {
        let answer = swap(caller, "acme", "other").await;
        assert_problem(&answer, 403, "forbidden");
        assert_eq!(answer.body["missing"], json!([missing]));
    }
    assert_problem(&swap(&root, "none", "other").await, 404, "tenant_not_found");
    assert_problem(&swap(&root, "acme", "none").await, 400, "invalid");
    assert_problem(&swap(&root, "acme", "acme").await, 409, "swap_with_itself");
    let path = "/control/v1/tenants/acme/swap";
    let with = json!({ "with": "other" });
    assert_problem(&root.post(path, &with).await, 428, "precondition_required");
    let stale = json!({ "with": "other", "with_revision": 7 });
    for (etag, body) in [("\"7\"", &with), ("*", &stale)] {
        let answer = send_if_match(&root, Method::POST, path, etag, Some(body)).await;
        assert_problem(&answer, 412, "precondition_failed");
    }
    for body in [json!({}), json!({ "with": 1 }), json!({ "with": "other", "with_revision": "1" })]
    {
        let answer = send_if_match(&root, Method::POST, path, "*", Some(&body)).await;
        assert_problem(&answer, 400, "invalid");
    }
    assert_eq!((state(&sql).await, value(&sql, rows).await), before);
    run(&sql, "UPDATE tenants SET migrations_fingerprint = 'x', migrations_version = 0 WHERE slug = 'other'").await;
    assert_problem(&swap(&root, "acme", "other").await, 409, "swap_version_differs");
    run(&sql, "UPDATE tenants SET status = 'deleting' WHERE slug = 'other'").await;
    assert_problem(&swap(&root, "acme", "other").await, 409, "tenant_not_active");
    assert_eq!(
        value(&sql, "SELECT count(*)::text FROM tenants WHERE closed_until IS NOT NULL").await,
        "0"
    );
}
