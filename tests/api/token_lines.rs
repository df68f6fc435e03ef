//! A credential that a token or an API key made ends no later than that one, and with it: all kinds, all dialects.

use std::time::Duration;

use rowhouse::domain::Permission;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::support::control::{assert_problem, events, pointers};
use crate::support::scoped::{get_in, make_key, plaintext, post_in};
use crate::support::tokens::{MadeToken, TOKENS, id_of, listed, made, make_token};
use crate::support::{Caller, TestApp};

const MAKER: [&str; 2] = ["MANAGE_API_KEYS", "VIEW_USERS"];
const MEMBERS: &str = "/control/v1/tenants/acme/members";

fn text(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).expect("a time can be written")
}

fn end_of(token: &Value) -> OffsetDateTime {
    let text = token["expires_at"].as_str().unwrap_or_else(|| panic!("it has no end: {token}"));
    OffsetDateTime::parse(text, &Rfc3339).expect("it is a time")
}

async fn make_token_until(
    app: &TestApp,
    by: &Caller,
    tenant: Uuid,
    end: OffsetDateTime,
) -> MadeToken {
    let body =
        json!({ "name": "ci", "permissions": MAKER, "tenant_id": tenant, "expires_at": text(end) });
    made(app, &by.post(TOKENS, &body).await)
}

#[tokio::test]
async fn a_child_without_an_end_gets_the_end_of_the_token_that_made_it() {
    let app = TestApp::builder().with_stopped_clock().spawn().await;
    let acme = app.set_up("acme").await;
    let end = (app.clock.now() + time::Duration::HOUR).replace_nanosecond(0).unwrap();
    let parent = make_token_until(&app, &app.root(), acme.id, end).await;
    let child = make_token(&app, &parent.caller, &MAKER, Some(acme.id)).await;
    let grandchild = make_token(&app, &child.caller, &["VIEW_USERS"], Some(acme.id)).await;
    let key = make_key(&child.caller, acme.id, &["VIEW_USERS"]).await;
    for token in [&child, &grandchild] {
        assert_eq!(end_of(&token.body), end_of(&parent.body));
    }
    assert_eq!(key.body["expiresAt"], parent.body["expires_at"]);
    assert_eq!(child.body["parent_id"], json!(parent.id));
    assert_eq!(parent.body["parent_id"], Value::Null);
    let callers = [&parent.caller, &child.caller, &grandchild.caller, &app.keyed(&plaintext(&key))]
        .map(Caller::clone);
    for caller in &callers {
        assert_eq!(caller.get(MEMBERS).await.status, 200);
    }
    app.clock.advance(time::Duration::HOUR);
    for caller in &callers {
        let answer = caller.get(MEMBERS).await;
        assert_problem(&answer, 401, "unauthenticated");
        assert_eq!(answer.body["detail"], "The token has expired");
    }
}

#[tokio::test]
async fn an_end_beyond_that_of_the_token_that_makes_it_is_refused_and_named() {
    let app = TestApp::builder().with_stopped_clock().spawn().await;
    let acme = app.set_up("acme").await;
    let end = (app.clock.now() + time::Duration::HOUR).replace_nanosecond(0).unwrap();
    let parent = make_token_until(&app, &app.root(), acme.id, end).await;
    let new = |end: OffsetDateTime| json!({ "name": "x", "permissions": ["VIEW_USERS"], "tenant_id": acme.id, "expires_at": text(end) });
    let late = new(end + time::Duration::SECOND);
    let refused = parent.caller.post(TOKENS, &late).await;
    assert_problem(&refused, 400, "invalid");
    assert_eq!(pointers(&refused), ["/expires_at: beyond_parent"]);
    let sentence = refused.body["errors"][0]["message"].as_str().unwrap();
    assert!(sentence.contains(&text(end)), "{sentence}");
    let body = json!({ "name": "x", "permissions": ["VIEW_USERS"], "expiresAt": text(end + time::Duration::SECOND) });
    let refused = post_in(&parent.caller, acme.id, "/api/api-keys", &body).await;
    assert_eq!(refused.refusal(400), "Validation failed");
    assert_eq!(refused.bad_rules(), [("expiresAt", "beyond_parent")]);
    assert_eq!(listed(&app.root(), "").await, [parent.id], "nothing was made");
    // Up to the same moment it is good.
    for end in [end, end - time::Duration::MINUTE] {
        let child = made(&app, &parent.caller.post(TOKENS, &new(end)).await);
        assert_eq!(end_of(&child.body), end);
    }
}

#[tokio::test]
async fn a_revocation_ends_everything_below_at_the_next_request_in_every_process() {
    let app = TestApp::spawn().await;
    let second = TestApp::builder().on(app.database.clone()).spawn().await;
    let acme = app.set_up("acme").await;
    let first = make_token(&app, &app.root(), &MAKER, Some(acme.id)).await;
    let child = make_token(&app, &first.caller, &MAKER, Some(acme.id)).await;
    let grandchild = make_token(&app, &child.caller, &MAKER, Some(acme.id)).await;
    let last = make_token(&app, &grandchild.caller, &["VIEW_USERS"], Some(acme.id)).await;
    let key = make_key(&child.caller, acme.id, &["VIEW_USERS"]).await;
    let sibling = make_token(&app, &first.caller, &["VIEW_USERS"], Some(acme.id)).await;
    let below = |app: &TestApp| {
        let tokens = [&child, &grandchild, &last].map(|token| app.bearer(token.caller.token()));
        let mut callers = tokens.to_vec();
        callers.push(app.keyed(&plaintext(&key)));
        callers
    };
    for caller in below(&app).iter().chain(&below(&second)) {
        assert_eq!(caller.get(MEMBERS).await.status, 200);
    }
    assert_eq!(app.root().post(&child.path("revoke"), &json!({})).await.status, 200);
    for caller in below(&app).iter().chain(&below(&second)) {
        assert_problem(&caller.get(MEMBERS).await, 401, "unauthenticated");
    }
    for caller in [&first.caller, &sibling.caller] {
        assert_eq!(caller.get(MEMBERS).await.status, 200, "it is not below");
    }
    // The list and the audit trail say so, too.
    let rows = app.root().get(TOKENS).await.body["data"].as_array().cloned().unwrap();
    let revoked = rows.iter().filter(|row| row["revoked_at"].is_string()).count();
    assert_eq!((rows.len(), revoked), (6, 4));
    assert_eq!(events(&app, acme.id, "token.revoke").await, 3);
    assert_eq!(events(&app, acme.id, "api_key.revoke").await, 1);
    let again = app.root().post(&child.path("revoke"), &json!({})).await;
    assert_eq!(again.status, 200);
    assert_eq!(events(&app, acme.id, "token.revoke").await, 3, "nothing is left to revoke");
}

#[tokio::test]
async fn an_ancestor_that_ended_in_any_way_ends_what_is_below() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let sql = app.sql().await;
    for end in [
        "UPDATE tokens SET revoked_at = now() WHERE id = $1",
        "UPDATE tokens SET expires_at = now() - interval '1 second' WHERE id = $1",
        "DELETE FROM tokens WHERE id = $1",
    ] {
        let first = make_token(&app, &app.root(), &MAKER, Some(acme.id)).await;
        let child = make_token(&app, &first.caller, &MAKER, Some(acme.id)).await;
        let grandchild = make_token(&app, &child.caller, &["VIEW_USERS"], Some(acme.id)).await;
        let key = make_key(&child.caller, acme.id, &["VIEW_USERS"]).await;
        let key = app.keyed(&plaintext(&key));
        for caller in [&grandchild.caller, &key] {
            assert_eq!(caller.get(MEMBERS).await.status, 200, "{end}");
        }
        sql.execute(end, &[&first.id]).await.unwrap();
        for caller in [&first.caller, &child.caller, &grandchild.caller, &key] {
            assert_problem(&caller.get(MEMBERS).await, 401, "unauthenticated");
        }
        let used = "SELECT count(*) FROM tokens WHERE id = $1 AND last_used_at > now() - interval '1 minute'";
        sql.execute("UPDATE tokens SET last_used_at = NULL", &[]).await.unwrap();
        grandchild.caller.get(MEMBERS).await;
        let row = sql.query_one(used, &[&grandchild.id]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), 0, "a refused token counts as unused");
    }
}

#[tokio::test]
async fn a_persons_token_ends_with_the_xtoken_that_made_it() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    tenant.add(json!({ "email": "ada@example.com" })).await;
    let body = json!({ "mode": "email", "identity": "ada@example.com", "finaltime": "30d" });
    let person = tenant.admin.call("XTokenCreateForUser", body.clone()).await;
    let person = tenant.admin.with_token(person.ok()["xtoken"].as_str().unwrap());
    let by_root = app.bunker_root().for_tenant("acme").call("XTokenCreateForUser", body).await;
    let by_root = tenant.admin.with_token(by_root.ok()["xtoken"].as_str().unwrap());
    person.get("ada@example.com").await.ok();
    let xtokens = listed(&app.root(), "&kind=xtoken").await;
    assert_eq!(xtokens.len(), 1);
    let revoke = format!("{TOKENS}/{}/revoke", xtokens[0]);
    assert_eq!(app.root().post(&revoke, &json!({})).await.status, 200);
    for caller in [&tenant.admin, &person] {
        assert_eq!(caller.get("ada@example.com").await.error(403), "Access denied");
    }
    by_root.get("ada@example.com").await.ok();
    // The events of people's tokens, which can be very many, are one number.
    assert_eq!(events(&app, tenant.id, "token.revoke").await, 1);
    let details = "SELECT details FROM audit_events WHERE action = 'token.revoke'";
    let details: Value = app.sql().await.query_one(details, &[]).await.unwrap().get(0);
    let expected = json!({ "token": xtokens[0], "kind": "xtoken", "tokens_of_people_ended": 1 });
    assert_eq!(details, expected);
}

#[tokio::test]
async fn a_persons_token_ends_no_later_than_the_xtoken_that_made_it() {
    let app = TestApp::builder().with_stopped_clock().spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    tenant.add(json!({ "email": "ada@example.com" })).await;
    let end = app.clock.now() + time::Duration::minutes(5);
    let limit = "UPDATE tokens SET expires_at = $1";
    app.sql().await.execute(limit, &[&end]).await.unwrap();
    let who = json!({ "mode": "email", "identity": "ada@example.com" });
    let person = tenant.admin.call("XTokenCreateForUser", who.clone()).await;
    let person = tenant.admin.with_token(person.ok()["xtoken"].as_str().unwrap());
    let mut asked = who;
    asked["finaltime"] = json!("1h");
    tenant.admin.call("XTokenCreateForUser", asked).await.error(400);
    person.get("ada@example.com").await.ok();
    app.clock.advance(time::Duration::minutes(5) + time::Duration::SECOND);
    assert_eq!(person.get("ada@example.com").await.error(403), "Access denied");
}

#[tokio::test]
async fn a_token_that_is_made_while_its_maker_is_revoked_is_refused() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    for path in [TOKENS, "/api/api-keys"] {
        let first = make_token(&app, &app.root(), &MAKER, Some(acme.id)).await;
        let maker = make_token(&app, &first.caller, &MAKER, Some(acme.id)).await;
        let before = listed(&app.root(), "").await;
        // The use is recorded now, so that the request below does not wait before it is recognised.
        assert_eq!(maker.caller.get(MEMBERS).await.status, 200);
        let mut sql = app.sql().await;
        let held = sql.transaction().await.unwrap();
        let revoke = "UPDATE tokens SET revoked_at = now() WHERE id = $1";
        held.execute(revoke, &[&first.id]).await.unwrap();
        let (caller, tenant) = (maker.caller.clone(), acme.id);
        let late = tokio::spawn(async move {
            let mut body = json!({ "name": "heir", "permissions": ["VIEW_USERS"] });
            if path == TOKENS {
                body["tenant_id"] = json!(tenant);
            }
            post_in(&caller, tenant, path, &body).await
        });
        let observer = app.sql().await;
        let waiting = "SELECT count(*) FROM pg_stat_activity
                        WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while observer.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            assert!(!late.is_finished(), "the request waits for the lock");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        held.commit().await.unwrap();
        assert_eq!(late.await.unwrap().status, 401, "{path}");
        assert_eq!(listed(&app.root(), "").await, before, "{path}");
    }
}

#[tokio::test]
async fn a_line_of_tokens_has_at_most_sixteen_members() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let mut last = make_token(&app, &app.root(), &MAKER, Some(acme.id)).await;
    for _ in 1..16 {
        last = make_token(&app, &last.caller, &MAKER, Some(acme.id)).await;
    }
    let body = json!({ "name": "x", "permissions": ["VIEW_USERS"], "tenant_id": acme.id });
    assert_problem(&last.caller.post(TOKENS, &body).await, 409, "too_many_generations");
    let body = json!({ "name": "x", "permissions": ["VIEW_USERS"] });
    post_in(&last.caller, acme.id, "/api/api-keys", &body).await.refusal(409);
    assert_eq!(last.caller.get(MEMBERS).await.status, 200);
}

#[tokio::test]
async fn a_token_that_no_token_made_has_no_parent_and_outlives_the_log_in() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in(&acme.admin_email).await;
    let token = make_token(&app, &admin, &["VIEW_USERS"], Some(acme.id)).await;
    assert_eq!(token.body["parent_id"], Value::Null);
    let end = "UPDATE sessions SET revoked_at = now()";
    app.sql().await.execute(end, &[]).await.unwrap();
    assert_eq!(admin.get(MEMBERS).await.status, 401);
    assert_eq!(token.caller.get(MEMBERS).await.status, 200);
}

#[tokio::test]
async fn the_upgrade_ends_existing_tokens_with_what_made_them() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let tenant = app.bunker_tenant("globex").await;
    tenant.add(json!({ "email": "ada@example.com" })).await;
    let person = tenant.admin.about("XTokenCreateForUser", "email", "ada@example.com").await;
    let person = tenant.admin.with_token(person.ok()["xtoken"].as_str().unwrap());
    let first = make_token(&app, &app.root(), &MAKER, Some(acme.id)).await;
    let child = make_token(&app, &first.caller, &MAKER, Some(acme.id)).await;
    let grandchild = make_token(&app, &child.caller, &["VIEW_USERS"], Some(acme.id)).await;
    let key = make_key(&child.caller, acme.id, &["VIEW_USERS"]).await;
    let revoked = make_token(&app, &app.root(), &MAKER, Some(acme.id)).await;
    let survivor = make_token(&app, &revoked.caller, &["VIEW_USERS"], Some(acme.id)).await;
    let ending = make_token(&app, &app.root(), &MAKER, Some(acme.id)).await;
    let endless = make_token(&app, &ending.caller, &["VIEW_USERS"], Some(acme.id)).await;
    let (_, operators) = app.add_token(&[Permission::ViewUsers], Some(acme.id), None).await;
    // The tables as they were before the upgrade.
    let sql = app.sql().await;
    sql.batch_execute(
        "ALTER TABLE tokens DROP COLUMN parent_id, DROP COLUMN previous_digest, DROP COLUMN previous_until,
                            DROP COLUMN rotated_at, DROP CONSTRAINT tokens_kind_check;
         UPDATE tokens SET kind = 'token' WHERE kind <> 'api_key';
         ALTER TABLE tokens ADD CONSTRAINT tokens_kind_check CHECK (kind IN ('token', 'api_key'))",
    )
    .await
    .unwrap();
    let end = (app.clock.now() + time::Duration::DAY).replace_nanosecond(0).unwrap();
    sql.execute("UPDATE tokens SET expires_at = $2 WHERE id = $1", &[&ending.id, &end])
        .await
        .unwrap();
    sql.execute("UPDATE tokens SET revoked_at = now() WHERE id = $1", &[&revoked.id])
        .await
        .unwrap();
    sql.batch_execute(include_str!(
        "../../public_migrations/V22__end_tokens_with_their_parents.sql"
    ))
    .await
    .unwrap();

    assert_problem(&survivor.caller.get(MEMBERS).await, 401, "unauthenticated");
    let rows = app.root().get(&format!("{TOKENS}?limit=100")).await;
    let row = |id: Uuid| {
        let rows = rows.body["data"].as_array().unwrap();
        rows.iter().find(|row| row["id"] == json!(id)).unwrap_or_else(|| panic!("no {id}")).clone()
    };
    assert!(row(survivor.id)["revoked_at"].is_string());
    assert_eq!(end_of(&row(endless.id)), end);
    assert_eq!(row(grandchild.id)["parent_id"], json!(child.id));
    assert_eq!(row(id_of(&key))["parent_id"], json!(child.id));
    assert_eq!(app.root().post(&first.path("revoke"), &json!({})).await.status, 200);
    for caller in [&child.caller, &grandchild.caller, &app.keyed(&plaintext(&key))] {
        assert_problem(&caller.get(MEMBERS).await, 401, "unauthenticated");
    }
    assert_eq!(operators.get(MEMBERS).await.status, 200);
    // The kinds are told apart, so that each is rotated in its own form.
    assert_eq!(listed(&app.root(), "&kind=xtoken").await.len(), 1);
    assert_eq!(listed(&app.root(), "&kind=person").await.len(), 1);
    let xtoken = listed(&app.root(), "&kind=xtoken").await[0];
    let revoke = format!("{TOKENS}/{xtoken}/revoke");
    assert_eq!(app.root().post(&revoke, &json!({})).await.status, 200);
    assert_eq!(person.get("ada@example.com").await.error(403), "Access denied");
    assert_eq!(get_in(&app.root(), acme.id, "/api/api-keys").await.status, 200);
}
