//! Who sees, revokes and rotates which token: the same callers in every dialect.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::callers::send;
use crate::support::control::{assert_problem, pointers, transition};
use crate::support::scoped::{add_member, get_in, make_key, plaintext, post_in};
use crate::support::tokens::{MadeToken, TOKENS, id_of, listed, made, make_token};
use crate::support::{Answer, Caller, TestApp};

const KEYS: &str = "/api/api-keys";
const MANAGER: [&str; 2] = ["MANAGE_API_KEYS", "VIEW_USERS"];

async fn act(caller: &Caller, verb: &str, id: Uuid) -> Answer {
    caller.post(&format!("{TOKENS}/{id}/{verb}"), &json!({})).await
}

/// Asserts that a credential exists, is good, and does not exist for the caller.
async fn assert_hidden(app: &TestApp, caller: &Caller, id: Uuid) {
    for query in ["", "&kind=person"] {
        assert!(!listed(caller, query).await.contains(&id));
    }
    for verb in ["revoke", "rotate"] {
        assert_problem(&act(caller, verb, id).await, 404, "token_not_found");
    }
    let row = app
        .sql()
        .await
        .query_one(
            "SELECT revoked_at IS NULL AND rotated_at IS NULL FROM tokens WHERE id = $1",
            &[&id],
        )
        .await
        .expect("it exists");
    assert!(row.get::<_, bool>(0), "it has not changed");
}

#[tokio::test]
async fn an_api_key_that_only_manages_keys_reaches_no_credential_of_others_in_any_dialect() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let xtoken_of = app.bunker_tenant("globex").await;
    let admin = app.log_in(&acme.admin_email).await;
    add_member(&app, &acme, "bo@example.com", "ADMIN").await;
    let bo = app.log_in("bo@example.com").await;
    let manager = make_key(&admin, acme.id, &["MANAGE_API_KEYS"]).await;
    let key = app.keyed(&plaintext(&manager));
    let roots_key = make_key(&app.root(), acme.id, &["VIEW_USERS"]).await;
    let own_key = make_key(&admin, acme.id, &["VIEW_USERS"]).await;
    let bos_key = make_key(&bo, acme.id, &["MANAGE_API_KEYS"]).await;
    let mut others = vec![id_of(&roots_key), id_of(&own_key), id_of(&bos_key)];
    for by in [&admin, &bo, &app.root()] {
        for permissions in [&["MANAGE_API_KEYS"][..], &["VIEW_USERS"]] {
            others.push(make_token(&app, by, permissions, Some(acme.id)).await.id);
        }
    }
    others.extend(listed(&app.root(), "&kind=xtoken").await);
    for id in &others {
        assert_hidden(&app, &key, *id).await;
    }
    for other in [&roots_key, &own_key, &bos_key] {
        let path = format!("{KEYS}/{}/revoke", id_of(other));
        assert_eq!(
            post_in(&key, acme.id, &path, &json!({})).await.refusal(403),
            "You may not do this"
        );
        assert_eq!(app.keyed(&plaintext(other)).get("/api/tenant/mine").await.status, 200);
    }
    // It reaches itself, in both dialects.
    assert_eq!(listed(&key, "").await, [id_of(&manager)]);
    let keys = get_in(&key, acme.id, KEYS).await;
    assert_eq!(keys.body.as_array().map(Vec::len), Some(1), "{keys:?}");
    assert_eq!(act(&key, "revoke", id_of(&manager)).await.status, 200);
    key.get(KEYS).await.refusal(401);
    xtoken_of.admin.call("BulkListUnlock", json!({})).await.ok();
}

#[tokio::test]
async fn a_token_reaches_only_what_it_could_make_itself() {
    let app = TestApp::spawn().await;
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    let tenant = app.bunker_tenant("globex").await;
    let root = app.root();
    let manager = make_token(&app, &root, &MANAGER, Some(acme.id)).await;
    let within = make_token(&app, &root, &["VIEW_USERS"], Some(acme.id)).await;
    let key_within = make_key(&root, acme.id, &["VIEW_USERS"]).await;
    let child = make_token(&app, &manager.caller, &["VIEW_USERS"], Some(acme.id)).await;
    for hidden in [
        make_token(&app, &root, &["VIEW_USERS", "VIEW_AUDIT"], Some(acme.id)).await.id,
        make_token(&app, &root, &["VIEW_USERS"], Some(other.id)).await.id,
        make_token(&app, &root, &["VIEW_USERS"], None).await.id,
        id_of(&make_key(&root, acme.id, &["READ_PROFILES"]).await),
        listed(&root, "&kind=xtoken").await[0],
        Uuid::nil(),
    ] {
        if hidden.is_nil() {
            assert_problem(&act(&manager.caller, "revoke", hidden).await, 404, "token_not_found");
        } else {
            assert_hidden(&app, &manager.caller, hidden).await;
        }
    }
    let mut seen = vec![manager.id, within.id, id_of(&key_within), child.id];
    seen.sort();
    assert_eq!(listed(&manager.caller, "").await, seen);
    // Reten's list and revocation keep to the same rule.
    let keys = get_in(&manager.caller, acme.id, KEYS).await;
    assert_eq!(keys.body.as_array().map(Vec::len), Some(1), "{keys:?}");
    // What others made it may end, and must not have the secret of; what it made it may rotate.
    for id in [within.id, id_of(&key_within)] {
        assert_problem(&act(&manager.caller, "rotate", id).await, 403, "forbidden");
        assert_eq!(act(&manager.caller, "revoke", id).await.status, 200);
    }
    for id in [child.id, manager.id] {
        assert_eq!(act(&manager.caller, "rotate", id).await.status, 200);
    }
    // A token with every permission of one tenant manages the tenant's own xtoken, and must not have its secret.
    let all: Vec<&str> =
        rowhouse::domain::Permission::ALL.iter().map(|permission| permission.as_str()).collect();
    let strong = make_token(&app, &root, &all, Some(tenant.id)).await;
    let xtoken = listed(&strong.caller, "&kind=xtoken").await;
    assert_eq!(xtoken.len(), 1);
    assert_problem(&act(&strong.caller, "rotate", xtoken[0]).await, 403, "forbidden");
}

#[tokio::test]
async fn users_manage_what_works_for_them_and_for_users_below_in_every_dialect() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in(&acme.admin_email).await;
    let user = add_member(&app, &acme, "bo@example.com", "ADMIN").await;
    let bo = app.log_in("bo@example.com").await;
    let token = make_token(&app, &bo, &MANAGER, Some(acme.id)).await;
    let child = make_token(&app, &token.caller, &["VIEW_USERS"], Some(acme.id)).await;
    let key = make_key(&bo, acme.id, &["VIEW_USERS"]).await;
    let operators = make_token(&app, &app.root(), &["VIEW_USERS"], Some(acme.id)).await;
    let all = [token.id, child.id, id_of(&key)];
    for id in all.into_iter().chain([operators.id]) {
        assert_hidden(&app, &admin, id).await;
    }
    let revoke = format!("{KEYS}/{}/revoke", id_of(&key));
    post_in(&admin, acme.id, &revoke, &json!({})).await.refusal(403);
    // A SUPER_ADMIN holds everything everywhere, and must still not have the secrets of others.
    app.add_user("una@example.com", Some("SUPER_ADMIN")).await;
    let una = app.log_in("una@example.com").await;
    let mut everything = all.to_vec();
    everything.push(operators.id);
    everything.sort();
    assert_eq!(listed(&una, "").await, everything);
    for id in &everything {
        assert_problem(&act(&una, "rotate", *id).await, 403, "forbidden");
    }
    // A user whose role is lower by now is below the admin.
    let lower = "UPDATE memberships SET role = 'FDE' WHERE user_id = $1";
    app.sql().await.execute(lower, &[&user]).await.unwrap();
    let mut below = vec![token.id, child.id, id_of(&key)];
    below.sort();
    assert_eq!(listed(&admin, "").await, below);
    assert_problem(&act(&admin, "rotate", child.id).await, 403, "forbidden");
    assert_eq!(act(&admin, "revoke", child.id).await.status, 200);
    assert_eq!(child.caller.get("/api/tenant/mine").await.status, 401);
    // Users themselves see and rotate all that works for them, made by a token of theirs or not.
    let raise = "UPDATE memberships SET role = 'ADMIN' WHERE user_id = $1";
    app.sql().await.execute(raise, &[&user]).await.unwrap();
    assert_eq!(listed(&bo, "").await, below);
    for id in [token.id, id_of(&key)] {
        assert_eq!(act(&bo, "rotate", id).await.status, 200);
    }
}

#[tokio::test]
async fn a_persons_xtoken_is_listed_by_its_kind_and_revoked_by_its_id() {
    let app = TestApp::spawn().await;
    let (tenant, other) = (app.bunker_tenant("acme").await, app.bunker_tenant("other").await);
    for tenant in [&tenant, &other] {
        tenant.add(json!({ "email": "ada@example.com" })).await;
    }
    let make = async |tenant: &crate::support::BunkerTenant| {
        let made = tenant.admin.about("XTokenCreateForUser", "email", "ada@example.com").await;
        tenant.admin.with_token(made.ok()["xtoken"].as_str().unwrap())
    };
    let (person, stays) = (make(&tenant).await, make(&tenant).await);
    let elsewhere = make(&other).await;
    person.get("ada@example.com").await.ok();
    assert_eq!(listed(&app.root(), "").await.len(), 2, "the tenants' own");
    assert_eq!(listed(&app.root(), "&kind=person").await.len(), 3);
    let of_tenant = format!("&kind=person&tenant_id={}", tenant.id);
    assert_eq!(listed(&app.root(), &of_tenant).await.len(), 2);
    let used = app.root().get(&format!("{TOKENS}?kind=person&tenant_id={}", tenant.id)).await;
    let used: Vec<&Value> = used.body["data"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["last_used_at"].is_string())
        .collect();
    assert_eq!(used.len(), 1);
    assert_eq!((&used[0]["kind"], used[0]["profile_id"].is_string()), (&json!("person"), true));
    let id: Uuid = used[0]["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(act(&app.root(), "revoke", id).await.status, 200);
    assert_eq!(person.get("ada@example.com").await.error(403), "Access denied");
    for caller in [&stays, &elsewhere] {
        caller.get("ada@example.com").await.ok();
    }
    // A caller that could not have made it does not see it.
    let reader =
        make_token(&app, &app.root(), &["MANAGE_API_KEYS", "READ_PROFILES"], Some(tenant.id)).await;
    let writer =
        make_token(&app, &app.root(), &["MANAGE_API_KEYS", "WRITE_PROFILES"], Some(tenant.id))
            .await;
    assert_eq!(listed(&reader.caller, "&kind=person").await, Vec::<Uuid>::new());
    let good = listed(&app.root(), &of_tenant).await.into_iter().find(|other| *other != id);
    assert_hidden(&app, &reader.caller, good.expect("one is left")).await;
    assert_eq!(listed(&writer.caller, "&kind=person").await.len(), 2);
}

#[tokio::test]
async fn a_list_of_tokens_is_filtered_by_kind_and_tenant_and_its_pages_are_full() {
    let app = TestApp::spawn().await;
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    let admin = app.log_in(&acme.admin_email).await;
    let mut own = Vec::new();
    for _ in 0..3 {
        // What the admin must not see lies between what the admin sees.
        make_token(&app, &app.root(), &["VIEW_USERS"], Some(acme.id)).await;
        own.push(make_token(&app, &admin, &["VIEW_USERS"], Some(acme.id)).await.id);
        make_token(&app, &app.root(), &["VIEW_USERS"], Some(other.id)).await;
    }
    let key = id_of(&make_key(&admin, acme.id, &["VIEW_USERS"]).await);
    let page = admin.get(&format!("{TOKENS}?limit=2")).await;
    assert_eq!(page.body["data"].as_array().map(Vec::len), Some(2), "{page:?}");
    let cursor = page.body["next_cursor"].as_str().expect("there are more");
    let rest = admin.get(&format!("{TOKENS}?limit=2&cursor={cursor}")).await;
    assert_eq!(rest.body["data"].as_array().map(Vec::len), Some(2), "{rest:?}");
    assert_eq!(rest.body["next_cursor"], Value::Null);
    own.sort();
    assert_eq!(listed(&admin, "&kind=token").await, own);
    assert_eq!(listed(&admin, "&kind=api_key").await, [key]);
    assert_eq!(listed(&admin, &format!("&tenant_id={}", acme.id)).await.len(), 4);
    let foreign = admin.get(&format!("{TOKENS}?tenant_id={}", other.id)).await;
    assert_problem(&foreign, 404, "tenant_not_found");
    let bad = admin.get(&format!("{TOKENS}?kind=root&tenant_id=acme&user=x")).await;
    assert_problem(&bad, 400, "invalid");
    assert_eq!(
        pointers(&bad),
        ["?kind: not_one_of", "?tenant_id: uuid_format", "?user: unknown_field"]
    );
}

#[tokio::test]
async fn the_members_of_a_suspended_tenant_manage_no_tokens_there() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in(&acme.admin_email).await;
    let manager = make_token(&app, &admin, &MANAGER, Some(acme.id)).await;
    let token = make_token(&app, &admin, &["VIEW_USERS"], Some(acme.id)).await;
    assert_eq!(transition(&app.root(), "acme", "suspend").await.status, 200);
    let body = json!({ "name": "x", "permissions": ["VIEW_USERS"], "tenant_id": acme.id });
    for caller in [&admin, &manager.caller] {
        let answer = caller.post(TOKENS, &body).await;
        assert!((400..500).contains(&answer.status), "{answer:?}");
        for verb in ["revoke", "rotate"] {
            let answer = act(caller, verb, token.id).await;
            assert!((400..500).contains(&answer.status), "{answer:?}");
        }
    }
    let left = app
        .sql()
        .await
        .query_one("SELECT count(*) FROM tokens WHERE revoked_at IS NULL", &[])
        .await;
    assert_eq!(left.unwrap().get::<_, i64>(0), 2);
    // Those above do.
    assert_eq!(act(&app.root(), "revoke", token.id).await.status, 200);
}

#[tokio::test]
async fn no_caller_gets_a_secret_that_outlives_its_own_access() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in(&acme.admin_email).await;
    let parent = make_token(&app, &admin, &MANAGER, Some(acme.id)).await;
    let sibling = make_token(&app, &admin, &["VIEW_USERS"], Some(acme.id)).await;
    let child = make_token(&app, &parent.caller, &MANAGER, Some(acme.id)).await;
    // Not of one that the same user made otherwise, and not of the one that made it.
    for id in [sibling.id, parent.id] {
        assert_problem(&act(&child.caller, "rotate", id).await, 403, "forbidden");
    }
    assert_problem(&act(&parent.caller, "rotate", sibling.id).await, 403, "forbidden");
    let rotated: MadeToken = made(&app, &act(&parent.caller, "rotate", child.id).await);
    assert_eq!(rotated.id, child.id);
    assert_eq!(act(&admin, "revoke", parent.id).await.status, 200);
    assert_eq!(rotated.caller.get("/api/tenant/mine").await.status, 401);
    let request = sibling.caller.request(Method::GET, "/api/tenant/mine");
    assert_eq!(send(request).await.status, 200);
}
