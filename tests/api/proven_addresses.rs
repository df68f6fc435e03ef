//! An address belongs to its owner and not to the first caller who writes it: whose word links an account to a tenant,
//! and what power a membership gives over an account.

use futures_util::future::join_all;
use reqwest::Method;
use rowhouse::domain::Permission;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::callers::send;
use crate::support::control::{assert_problem, events, put};
use crate::support::invited::{ACCEPT, accept_as_person, accept_as_user, invite, token_for};
use crate::support::scoped::{add_member, join, make_key, plaintext, post_in, user_id};
use crate::support::{Answer, Caller, PASSWORD, Program, Snapshot, TestApp};

const SETUP: &str = "/api/tenant/setup";
const VICTIM: &str = "victim@example.com";
const OTHER_PASSWORD: &str = "AnotherPass456?";

/// Returns a token that holds `CREATE_TENANT` alone, as a sign-up form has.
async fn form(app: &TestApp) -> Caller {
    app.add_token(&[Permission::CreateTenant], None, None).await.1
}

async fn set_up(caller: &Caller, slug: &str, email: &str, password: &str) -> Answer {
    let mut body = TestApp::setup_body(slug);
    body["adminEmail"] = json!(email);
    body["adminPassword"] = json!(password);
    caller.post(SETUP, &body).await
}

async fn log_in(app: &TestApp, email: &str, password: &str) -> Answer {
    let body = json!({ "identifier": email, "password": password });
    app.anonymous().post("/api/auth/login", &body).await
}

/// Returns the slugs of the tenants of which a user is a member, after a log-in with this password.
async fn tenants_of(app: &TestApp, email: &str, password: &str) -> Vec<String> {
    let answer = log_in(app, email, password).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let caller = app.bearer(answer.body["accessToken"].as_str().expect("a token"));
    let mine = caller.get("/api/tenant/mine").await;
    let rows = mine.body.as_array().expect("a list").clone();
    rows.iter().map(|row| row["slug"].as_str().expect("a slug").to_owned()).collect()
}

async fn reset(caller: &Caller, tenant: Uuid, user: Uuid) -> Answer {
    let body = json!({ "userId": user, "newPassword": OTHER_PASSWORD });
    post_in(caller, tenant, "/api/auth/reset-user-password", &body).await
}

async fn is_proven(app: &TestApp, email: &str) -> bool {
    let sql = "SELECT address_proven_at IS NOT NULL FROM users WHERE email = $1";
    app.sql().await.query_one(sql, &[&email]).await.expect("there is such a user").get(0)
}

/// Returns what the audit event of a tenant's creation says about the account of the admin.
async fn audited(app: &TestApp, slug: &str) -> Value {
    let sql = "SELECT details -> 'admin' FROM audit_events
                WHERE action = 'tenant.create' AND details ->> 'slug' = $1";
    let row = app.sql().await.query_one(sql, &[&slug]).await.expect("there is an event");
    row.get::<_, Option<Value>>(0).unwrap_or_default()
}

#[tokio::test]
async fn a_tenants_admin_creates_no_account_and_adds_none_and_is_told_to_invite() {
    let app = TestApp::spawn().await;
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    let admin = app.log_in(&acme.admin_email).await;
    app.add_user("platform@example.com", Some("ADMIN")).await;
    let platform = app.log_in("platform@example.com").await;
    let (_, token) = app.add_token(Permission::ALL, None, None).await;
    let (_, bound) = app.add_token(Permission::ALL, Some(acme.id), None).await;
    let key = plaintext(&make_key(&admin, acme.id, &["MANAGE_MEMBERS", "READ_PROFILES"]).await);
    app.services.audit.seal(&app.operator()).await.expect("the operator may");
    let before = Snapshot::of(&app).await;
    for caller in [&admin, &platform, &token, &bound, &app.keyed(&key)] {
        for email in [VICTIM, other.admin_email.as_str()] {
            for body in [
                json!({ "email": email, "role": "VIEWER" }),
                json!({ "email": email, "role": "VIEWER", "password": PASSWORD,
                        "first_name": "V", "last_name": "V" }),
            ] {
                let answer = caller.post("/control/v1/tenants/acme/members", &body).await;
                assert_problem(&answer, 403, "invitation_required");
                assert!(answer.body["detail"].as_str().unwrap().contains("invitations"));
            }
        }
    }
    assert_eq!(Snapshot::of(&app).await, before);
    // The root and a SUPER_ADMIN in person add.
    app.add_user("super@example.com", Some("SUPER_ADMIN")).await;
    let superuser = app.log_in("super@example.com").await;
    for (caller, email) in [(&superuser, VICTIM), (&app.root(), other.admin_email.as_str())] {
        let body = json!({ "email": email, "role": "VIEWER", "password": PASSWORD,
                           "first_name": "V", "last_name": "V" });
        let answer = caller.post("/control/v1/tenants/acme/members", &body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        assert!(is_proven(&app, email).await);
    }
    let accounts = "SELECT string_agg(details ->> 'account', ' ' ORDER BY at) FROM audit_events WHERE action = 'member.add'";
    let accounts: String = app.sql().await.query_one(accounts, &[]).await.unwrap().get(0);
    assert_eq!(accounts, "created linked");
}

#[tokio::test]
async fn a_set_up_by_a_token_links_no_account_that_is_not_proven_unless_it_has_its_password() {
    let app = TestApp::spawn().await;
    let form = form(&app).await;
    assert_eq!(set_up(&form, "squatter", VICTIM, PASSWORD).await.status, 201);
    assert!(!is_proven(&app, VICTIM).await);
    app.services.audit.seal(&app.operator()).await.expect("the operator may");
    let before = Snapshot::of(&app).await;
    let refused = set_up(&form, "victims", VICTIM, OTHER_PASSWORD).await;
    let message = refused.refusal(409);
    assert!(message.contains("invite") && !message.contains(VICTIM), "{message}");
    let control = |slug: &str, admin: Value| json!({ "name": "V", "slug": slug, "admin": admin });
    let with_password =
        json!({ "email": VICTIM, "password": OTHER_PASSWORD, "first_name": "V", "last_name": "V" });
    let without = json!({ "email": VICTIM });
    for admin in [&with_password, &without] {
        let body = control("victims", admin.clone());
        assert_problem(&form.post("/control/v1/tenants", &body).await, 409, "admin_unproven");
        let path = "/control/v1/tenants/by-external-id/v-1";
        assert_problem(&put(&form, path, &body).await, 409, "admin_unproven");
    }
    let webfluss = json!({ "email": VICTIM, "subdomain": "victims" });
    let refused = form.post("/api/tenants", &webfluss).await;
    assert_eq!((refused.status, refused.body["errors"].is_null()), (409, true), "{refused:?}");
    assert!(refused.body["message"].as_str().unwrap().contains("invite"), "{refused:?}");
    assert_eq!(Snapshot::of(&app).await, before);

    // With the account's own password, which only its holder knows, each dialect links; the address stays unproven.
    assert_eq!(set_up(&form, "second", VICTIM, PASSWORD).await.status, 201);
    let mut own = with_password.clone();
    own["password"] = json!(PASSWORD);
    let third = form.post("/control/v1/tenants", &control("third", own.clone())).await;
    assert_eq!((third.status, &third.body["admin"]), (201, &json!("linked")), "{third:?}");
    let path = "/control/v1/tenants/by-external-id/v-4";
    let fourth = put(&form, path, &control("fourth", own.clone())).await;
    assert_eq!((fourth.status, &fourth.body["admin"]), (201, &json!("linked")), "{fourth:?}");
    let again = put(&form, path, &control("fourth", own)).await;
    assert_eq!((again.status, again.body.get("admin")), (200, None), "nothing was created now");
    assert!(!is_proven(&app, VICTIM).await);
    let expected = ["squatter", "second", "third", "fourth"];
    assert_eq!(tenants_of(&app, VICTIM, PASSWORD).await, expected);
}

#[tokio::test]
async fn a_set_up_by_a_token_links_an_account_that_is_proven() {
    let app = TestApp::spawn().await;
    let (form, acme) = (form(&app).await, app.set_up("acme").await);
    let token = token_for(&app.log_in(&acme.admin_email).await, "acme", VICTIM, "VIEWER").await;
    assert_eq!(accept_as_person(&app, &token).await.status, 200);
    for (slug, email) in [("by-root", acme.admin_email.as_str()), ("by-invitation", VICTIM)] {
        assert!(is_proven(&app, email).await);
        let made = set_up(&form, slug, email, OTHER_PASSWORD).await;
        assert_eq!(made.status, 201, "{made:?}");
        assert_eq!(audited(&app, slug).await, "linked");
        assert!(tenants_of(&app, email, PASSWORD).await.contains(&slug.to_owned()));
    }
    let webfluss = json!({ "email": VICTIM, "subdomain": "webfluss" });
    assert_eq!(form.post("/api/tenants", &webfluss).await.status, 200);
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one body for each way to name an admin")]
async fn an_operator_who_names_an_account_that_is_not_proven_does_not_give_the_tenant_to_its_first_holder()
 {
    let app = TestApp::spawn().await;
    let form = form(&app).await;
    let program = Program::on(&app.database);
    let root = app.root();
    for (number, by) in ["reten", "control", "member", "cli"].into_iter().enumerate() {
        let email = format!("victim{number}@example.com");
        let squatter = format!("squatter{number}");
        let made = set_up(&form, &squatter, &email, PASSWORD).await;
        let squatters: Uuid = made.body["id"].as_str().unwrap().parse().unwrap();
        let held = app.log_in(&email).await;
        let key = app.keyed(&plaintext(&make_key(&held, squatters, &["VIEW_USERS"]).await));
        let slug = format!("victims{number}");
        let admin = json!({ "email": email, "password": OTHER_PASSWORD, "first_name": "V", "last_name": "V" });
        let status = match by {
            "reten" => set_up(&root, &slug, &email, OTHER_PASSWORD).await.status,
            "control" => {
                let body = json!({ "name": "V", "slug": slug, "admin": admin });
                let made = root.post("/control/v1/tenants", &body).await;
                assert_eq!(made.body["admin"], "linked", "{made:?}");
                made.status
            }
            "member" => {
                app.set_up(&slug).await;
                let mut body = admin.clone();
                body["role"] = json!("ADMIN");
                let members = format!("/control/v1/tenants/{slug}/members");
                root.post(&members, &body).await.status
            }
            _ => {
                let arguments = [
                    "tenant",
                    "create",
                    "--name",
                    "V",
                    "--slug",
                    &slug,
                    "--admin-email",
                    &email,
                    "--admin-first-name",
                    "V",
                    "--admin-last-name",
                    "V",
                    "--admin-password-stdin",
                ];
                let done =
                    program.run_with_stdin(&arguments, &format!("{OTHER_PASSWORD}\n")).expect(0);
                assert!(done.stderr.contains("existed and was linked"), "{done:?}");
                201
            }
        };
        assert_eq!(status, 201, "{by}");
        assert!(is_proven(&app, &email).await, "{by}");
        // Everything that the first holder had ends.
        log_in(&app, &email, PASSWORD).await.refusal(401);
        held.get("/api/tenant/mine").await.refusal(401);
        assert_eq!(key.get(&format!("/control/v1/tenants/{squatter}/members")).await.status, 401);
        assert!(tenants_of(&app, &email, OTHER_PASSWORD).await.contains(&slug), "{by}");
        let taken = "SELECT count(*) FROM audit_events
                      WHERE action = 'user.take_over' AND details ->> 'user' = $1";
        let user = user_id(&app, &email).await.to_string();
        let taken: i64 = app.sql().await.query_one(taken, &[&user]).await.unwrap().get(0);
        assert_eq!(taken, 1, "{by}");
    }
}

#[tokio::test]
async fn the_root_links_an_account_with_its_own_password_or_without_one_as_it_is() {
    let app = TestApp::spawn().await;
    let (form, root) = (form(&app).await, app.root());
    assert_eq!(set_up(&form, "first", VICTIM, PASSWORD).await.status, 201);
    let session = app.log_in(VICTIM).await;
    assert_eq!(set_up(&root, "second", VICTIM, PASSWORD).await.status, 201);
    assert!(is_proven(&app, VICTIM).await);
    // Proven now: another password is ignored.
    assert_eq!(set_up(&root, "third", VICTIM, OTHER_PASSWORD).await.status, 201);
    assert_eq!(session.get("/api/tenant/mine").await.body.as_array().map(Vec::len), Some(3));
    let email = "owner@example.com";
    assert_eq!(set_up(&form, "fourth", email, PASSWORD).await.status, 201);
    let webfluss = json!({ "email": email, "subdomain": "fifth" });
    assert_eq!(root.post("/api/tenants", &webfluss).await.status, 200);
    assert!(is_proven(&app, email).await);
    assert_eq!(tenants_of(&app, email, PASSWORD).await, ["fourth", "fifth"]);
    assert_eq!(audited(&app, "fifth").await, "linked");
}

#[tokio::test]
async fn answers_and_audit_say_whether_the_admin_was_created_or_linked() {
    let app = TestApp::spawn().await;
    let root = app.root();
    let admin =
        json!({ "email": VICTIM, "password": PASSWORD, "first_name": "V", "last_name": "V" });
    let body = |slug: &str| json!({ "name": "V", "slug": slug, "admin": admin });
    for (slug, key, said) in [("one", "k-1", "created"), ("two", "k-2", "linked")] {
        for _ in 0..2 {
            let request =
                root.request(Method::POST, "/control/v1/tenants").header("idempotency-key", key);
            let made = send(request.json(&body(slug))).await;
            assert_eq!((made.status, &made.body["admin"]), (201, &json!(said)), "{made:?}");
        }
        assert_eq!(audited(&app, slug).await, said);
        assert_eq!(root.get(&format!("/control/v1/tenants/{slug}")).await.body.get("admin"), None);
    }
    let none = root.post("/control/v1/tenants", &json!({ "name": "N", "slug": "none" })).await;
    assert_eq!((none.status, none.body.get("admin")), (201, None));
    assert_eq!(audited(&app, "none").await, Value::Null);
    let shown = Program::on(&app.database)
        .run_with_stdin(
            &[
                "tenant",
                "create",
                "--name",
                "V",
                "--slug",
                "three",
                "--admin-email",
                VICTIM,
                "--admin-first-name",
                "V",
                "--admin-last-name",
                "V",
                "--admin-password-stdin",
                "--json",
            ],
            &format!("{PASSWORD}\n"),
        )
        .expect(0)
        .json();
    assert_eq!(shown["admin"], "linked");
}

#[tokio::test]
async fn a_wrong_password_in_a_set_up_counts_as_a_guess() {
    let app =
        TestApp::builder().with_stopped_clock().with("limits.login_pair", "6/3").spawn().await;
    let form = form(&app).await;
    assert_eq!(set_up(&form, "first", VICTIM, PASSWORD).await.status, 201);
    // A right password costs nothing.
    for n in 0..4 {
        assert_eq!(set_up(&form, &format!("own{n}"), VICTIM, PASSWORD).await.status, 201);
    }
    for _ in 0..3 {
        set_up(&form, "guess", VICTIM, OTHER_PASSWORD).await.refusal(409);
    }
    set_up(&form, "guess", VICTIM, OTHER_PASSWORD).await.refusal(429);
    set_up(&form, "guess", VICTIM, PASSWORD).await.refusal(429);
    log_in(&app, VICTIM, PASSWORD).await.refusal(429);
    // Set-ups that try no password are not limited.
    assert_eq!(set_up(&form, "other", "other@example.com", PASSWORD).await.status, 201);
    app.clock.advance(time::Duration::seconds(60));
    assert_eq!(set_up(&form, "guess", VICTIM, PASSWORD).await.status, 201);
}

#[tokio::test]
async fn concurrent_set_ups_by_a_token_with_one_new_admin_and_password_all_succeed() {
    let app = TestApp::builder().with("database.max_connections", "40").spawn().await;
    let form = form(&app).await;
    let slugs: Vec<String> = (0..8).map(|n| format!("t{n}")).collect();
    let answers = join_all(slugs.iter().map(|slug| set_up(&form, slug, VICTIM, PASSWORD))).await;
    for answer in answers {
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    assert_eq!(Snapshot::of(&app).await.count("users"), 1);
    let accepted = "SELECT count(*) FROM memberships WHERE accepted_at IS NOT NULL";
    assert_eq!(app.sql().await.query_one(accepted, &[]).await.unwrap().get::<_, i64>(0), 8);
}

#[tokio::test]
async fn a_user_who_left_the_last_tenant_is_taken_over_by_no_admin() {
    let app = TestApp::spawn().await;
    let (acme, evil) = (app.set_up("acme").await, app.set_up("evil").await);
    let victim = add_member(&app, &acme, VICTIM, "FDE").await;
    let target = format!("/control/v1/tenants/acme/members/{victim}");
    assert_eq!(send(app.root().request(Method::DELETE, &target)).await.status, 204);
    let attacker = app.log_in(&evil.admin_email).await;
    let add = json!({ "email": VICTIM, "role": "VIEWER" });
    let added = attacker.post("/control/v1/tenants/evil/members", &add).await;
    assert_problem(&added, 403, "invitation_required");
    assert_eq!(reset(&attacker, evil.id, victim).await.refusal(404), "User not found");
    app.add_user("platform@example.com", Some("ADMIN")).await;
    let platform = app.log_in("platform@example.com").await;
    let (_, token) = app.add_token(Permission::ALL, None, None).await;
    for caller in [&platform, &token] {
        assert_eq!(reset(caller, evil.id, victim).await.refusal(404), "User not found");
    }
    assert_eq!(log_in(&app, VICTIM, PASSWORD).await.status, 200);
    app.add_user("super@example.com", Some("SUPER_ADMIN")).await;
    let superuser = app.log_in("super@example.com").await;
    assert_eq!(reset(&superuser, evil.id, victim).await.status, 200);
}

#[tokio::test]
async fn a_tenants_admin_cannot_reset_the_password_of_a_user_who_has_not_accepted() {
    let app = TestApp::spawn().await;
    let (form, acme) = (form(&app).await, app.set_up("acme").await);
    let victim = add_member(&app, &acme, VICTIM, "FDE").await;
    let prove = "UPDATE users SET address_proven_at = now() WHERE id = $1";
    app.sql().await.execute(prove, &[&victim]).await.unwrap();
    let made = set_up(&form, "evil", VICTIM, OTHER_PASSWORD).await;
    let evil: Uuid = made.body["id"].as_str().unwrap().parse().unwrap();
    // A token of the new tenant outranks its admin there, and holds no power over an account that did not agree.
    let sql = app.sql().await;
    sql.execute("DELETE FROM memberships WHERE tenant_id = $1", &[&acme.id]).await.unwrap();
    let (_, bound) = app.add_token(Permission::ALL, Some(evil), None).await;
    assert_eq!(reset(&bound, evil, victim).await.refusal(404), "User not found");
    // The user agrees.
    let user = app.log_in(VICTIM).await;
    for tenant in ["evil", &evil.to_string()] {
        let agreed = user.post(ACCEPT, &json!({ "tenant": tenant })).await;
        assert_eq!((agreed.status, &agreed.body["role"]), (200, &json!("ADMIN")), "{agreed:?}");
    }
    assert_eq!(events(&app, evil, "member.accept").await, 1);
    assert_eq!(reset(&bound, evil, victim).await.status, 200);
    // Only a member in person agrees, and only where they are one.
    for (caller, status, code) in [
        (&app.root(), 403, "forbidden"),
        (&bound, 403, "forbidden"),
        (&app.anonymous(), 400, "invalid"),
    ] {
        assert_problem(&caller.post(ACCEPT, &json!({ "tenant": "evil" })).await, status, code);
    }
    let admin = app.log_in(&acme.admin_email).await;
    for tenant in ["evil", "absent"] {
        let refused = admin.post(ACCEPT, &json!({ "tenant": tenant })).await;
        assert_problem(&refused, 404, "tenant_not_found");
    }
}

#[tokio::test]
async fn a_membership_that_was_not_accepted_keeps_no_admin_from_resetting_a_password() {
    let app = TestApp::spawn().await;
    let (form, acme) = (form(&app).await, app.set_up("acme").await);
    let admin = app.log_in(&acme.admin_email).await;
    let token = token_for(&admin, "acme", VICTIM, "FDE").await;
    assert_eq!(accept_as_person(&app, &token).await.status, 200);
    let victim = user_id(&app, VICTIM).await;
    assert_eq!(set_up(&form, "evil", VICTIM, OTHER_PASSWORD).await.status, 201);
    assert_eq!(reset(&admin, acme.id, victim).await.status, 200);
    assert_eq!(tenants_of(&app, VICTIM, OTHER_PASSWORD).await, ["acme", "evil"]);
    // One that the user brought the password for was accepted, and counts.
    assert_eq!(set_up(&form, "own", VICTIM, OTHER_PASSWORD).await.status, 201);
    assert_eq!(reset(&admin, acme.id, victim).await.refusal(403), "You may not do this");
}

#[tokio::test]
async fn a_user_who_was_linked_agrees_by_accepting_an_invitation_and_keeps_the_higher_role() {
    let app = TestApp::spawn().await;
    let (form, acme) = (form(&app).await, app.set_up("acme").await);
    let made = set_up(&form, "evil", &acme.admin_email, OTHER_PASSWORD).await;
    assert_eq!(made.status, 201, "{made:?}");
    let ada = app.log_in(&acme.admin_email).await;
    let token = token_for(&app.root(), "evil", &acme.admin_email, "VIEWER").await;
    let accepted = accept_as_user(&ada, &token).await;
    assert_eq!((accepted.status, &accepted.body["role"]), (200, &json!("ADMIN")), "{accepted:?}");
    let again = token_for(&app.root(), "evil", &acme.admin_email, "VIEWER").await;
    assert_problem(&accept_as_user(&ada, &again).await, 409, "already_member");
}

#[tokio::test]
async fn an_account_that_is_not_proven_becomes_proven_when_its_holder_accepts_an_invitation() {
    let app = TestApp::spawn().await;
    let (form, acme) = (form(&app).await, app.set_up("acme").await);
    assert_eq!(set_up(&form, "own", VICTIM, PASSWORD).await.status, 201);
    let token = token_for(&app.log_in(&acme.admin_email).await, "acme", VICTIM, "FDE").await;
    assert_problem(&accept_as_person(&app, &token).await, 401, "log_in_required");
    assert!(!is_proven(&app, VICTIM).await);
    assert_eq!(accept_as_user(&app.log_in(VICTIM).await, &token).await.status, 200);
    assert!(is_proven(&app, VICTIM).await);
    assert_eq!(set_up(&form, "next", VICTIM, OTHER_PASSWORD).await.status, 201);
}

#[tokio::test]
async fn the_admin_of_the_settings_gets_nothing_that_the_first_holder_of_the_address_had() {
    let app = TestApp::spawn().await;
    let form = form(&app).await;
    let made = set_up(&form, "squatter", VICTIM, PASSWORD).await;
    let squatters: Uuid = made.body["id"].as_str().unwrap().parse().unwrap();
    let held = app.log_in(VICTIM).await;
    let key = plaintext(&make_key(&held, squatters, &["VIEW_USERS"]).await);
    let restarted = TestApp::builder()
        .with("admin_email", VICTIM)
        .with("admin_password", OTHER_PASSWORD)
        .on(app.database.clone())
        .spawn()
        .await;
    log_in(&restarted, VICTIM, PASSWORD).await.refusal(401);
    let path = "/control/v1/tenants/squatter/members";
    assert_eq!(restarted.bearer(held.token()).get(path).await.status, 401);
    assert_eq!(restarted.keyed(&key).get(path).await.status, 401);
    assert!(is_proven(&app, VICTIM).await);
    assert_eq!(log_in(&restarted, VICTIM, OTHER_PASSWORD).await.status, 200);
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a sequence of rows in one database")]
async fn the_upgrade_proves_what_the_root_named_and_assumes_no_agreement() {
    let app = TestApp::spawn().await;
    let (form, acme) = (form(&app).await, app.set_up("acme").await);
    let other = app.set_up("other").await;
    // Created by the root as a member; by a form; by an admin, as before the upgrade, and linked elsewhere since.
    let body = json!({ "email": "named@example.com", "role": "FDE", "password": PASSWORD,
                       "first_name": "N", "last_name": "N" });
    assert_eq!(app.root().post("/control/v1/tenants/acme/members", &body).await.status, 201);
    assert_eq!(set_up(&form, "form", "form@example.com", PASSWORD).await.status, 201);
    let made = app.add_user("made@example.com", None).await;
    let sql = app.sql().await;
    let member = "INSERT INTO memberships (tenant_id, user_id, role, created_at)
                  SELECT $1, id, 'FDE', created_at FROM users WHERE id = $2";
    sql.execute(member, &[&acme.id, &made]).await.unwrap();
    let event = "INSERT INTO audit_events (id, at, actor, action, tenant_id, request_id, details)
                 SELECT gen_random_uuid(), created_at, 'user:' || gen_random_uuid(), 'member.add', $1, 'x', '{}'
                   FROM users WHERE id = $2";
    sql.execute(event, &[&acme.id, &made]).await.unwrap();
    join(&app, &other, made, "ADMIN").await;
    sql.batch_execute(
        "UPDATE users SET address_proven_at = NULL;
         UPDATE memberships SET accepted_at = NULL, predates_acceptance = false",
    )
    .await
    .unwrap();
    let migration = include_str!("../../public_migrations/V21__create_invitations.sql");
    let mut updates = 0;
    for statement in migration.split(";\n") {
        let code: Vec<&str> = statement.lines().filter(|line| !line.starts_with("--")).collect();
        let code = code.join("\n");
        if code.trim_start().starts_with("UPDATE") {
            sql.batch_execute(&code).await.unwrap();
            updates += 1;
        }
    }
    assert_eq!(updates, 3);
    for (email, expected) in [
        (acme.admin_email.as_str(), true),
        ("named@example.com", true),
        ("form@example.com", false),
        ("made@example.com", false),
    ] {
        assert_eq!(is_proven(&app, email).await, expected, "{email}");
    }
    let memberships = "SELECT u.email || ' ' || t.slug, m.accepted_at IS NOT NULL, m.predates_acceptance
                         FROM memberships m JOIN users u ON u.id = m.user_id JOIN tenants t ON t.id = m.tenant_id
                        ORDER BY 1";
    let rows = sql.query(memberships, &[]).await.unwrap();
    let found: Vec<(String, bool, bool)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let expected = [
        ("admin@acme.example.com acme", true, false),
        ("admin@other.example.com other", true, false),
        ("form@example.com form", true, false),
        ("made@example.com acme", true, false),
        ("made@example.com other", false, true),
        ("named@example.com acme", true, false),
    ];
    assert_eq!(found, expected.map(|(what, accepted, old)| (what.to_owned(), accepted, old)));
    // An old membership gives no power, and still counts against that of others.
    let (here, there) = (app.log_in(&acme.admin_email).await, app.root());
    assert_eq!(reset(&here, acme.id, made).await.refusal(403), "You may not do this");
    let (_, bound) = app.add_token(Permission::ALL, Some(other.id), None).await;
    assert_eq!(reset(&bound, other.id, made).await.refusal(404), "User not found");
    assert_eq!(reset(&there, acme.id, made).await.status, 200);
}

#[tokio::test]
async fn an_invitation_reveals_nothing_through_the_members_of_the_tenant() {
    let app = TestApp::spawn().await;
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    let admin = app.log_in(&acme.admin_email).await;
    let made = invite(&admin, "acme", &other.admin_email, "FDE").await;
    assert_eq!(made.status, 201, "{made:?}");
    let id = user_id(&app, &other.admin_email).await;
    assert!(!made.text.contains(&id.to_string()), "{made:?}");
    for path in ["/control/v1/tenants/acme/members", "/control/v1/tenants/acme/invitations"] {
        let listed = admin.get(path).await;
        assert!(!listed.text.contains(&id.to_string()), "{listed:?}");
    }
    let events = admin.get("/control/v1/audit-events").await;
    assert!(!events.text.contains(&id.to_string()) && !events.text.contains(&other.admin_email));
    let target = format!("/control/v1/tenants/acme/members/{id}");
    let removed = send(admin.request(Method::DELETE, &target)).await;
    assert_problem(&removed, 404, "member_not_found");
    assert_eq!(reset(&admin, acme.id, id).await.refusal(404), "User not found");
}
