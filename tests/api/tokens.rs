//! API tokens and the root token.

use rowhouse::auth::{CallContext, Principal};
use rowhouse::domain::error::{Error, Noun};
use rowhouse::domain::names::{TenantId, TokenId};
use rowhouse::domain::{Permission, Rule};
use rowhouse::service::tokens::NewToken;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::support::{Snapshot, TestApp};

const SETUP: &str = "/api/tenant/setup";

fn new_token(permissions: &[Permission]) -> NewToken {
    NewToken {
        name: "ci".to_owned(),
        permissions: permissions.to_vec(),
        expires_at: None,
        tenant: None,
    }
}

#[tokio::test]
async fn a_token_has_the_permissions_that_it_lists_and_no_others() {
    let app = TestApp::spawn().await;
    let (_, maker) = app.add_token(&[Permission::CreateTenant], None, None).await;
    assert!(maker.token().starts_with("rh_"));
    assert_eq!(maker.post(SETUP, &TestApp::setup_body("acme")).await.status, 201);
    assert_eq!(maker.get("/api/tenant").await.refusal(403), "Missing permission: VIEW_TENANTS");
    let (_, viewer) = app.add_token(&[Permission::ViewTenants], None, None).await;
    assert_eq!(viewer.get("/api/tenant").await.status, 200);
    let refused = viewer.post(SETUP, &TestApp::setup_body("other")).await;
    assert_eq!(refused.refusal(403), "Missing permission: CREATE_TENANT");
}

#[tokio::test]
async fn a_token_expires_at_its_time() {
    let app = TestApp::spawn().await;
    let lifetime = Some(Duration::days(30));
    let (_, token) = app.add_token(&[Permission::ViewTenants], None, lifetime).await;
    app.clock.advance(Duration::days(30) - Duration::minutes(1));
    assert_eq!(token.get("/api/tenant").await.status, 200);
    let used_at = last_used_at(&app).await;
    app.clock.advance(Duration::minutes(2));
    let answer = token.get("/api/tenant").await;
    assert_eq!(answer.refusal(401), "Unauthorized: the token has expired");
    assert_eq!(last_used_at(&app).await, used_at, "a refused token counts as unused");
}

#[tokio::test]
async fn a_revoked_token_is_refused_immediately_on_every_server() {
    let one = TestApp::spawn().await;
    let two = TestApp::builder().on(one.database.clone()).spawn().await;
    let (id, token) = one.add_token(&[Permission::ViewTenants], None, None).await;
    let on_two = two.bearer(token.token());
    assert_eq!(
        (token.get("/api/tenant").await.status, on_two.get("/api/tenant").await.status),
        (200, 200)
    );
    let used_at = last_used_at(&one).await;
    one.services.tokens.revoke(&one.operator(), id).await.expect("the operator may revoke");
    one.clock.advance(Duration::hours(1));
    for caller in [&token, &on_two] {
        let answer = caller.get("/api/tenant").await;
        assert_eq!(answer.refusal(401), "Unauthorized: the token is not valid");
    }
    assert_eq!(last_used_at(&one).await, used_at);

    let revoked_at = || async {
        let row = one.sql().await.query_one("SELECT revoked_at FROM tokens", &[]).await.unwrap();
        row.get::<_, Option<OffsetDateTime>>(0).expect("the token is revoked")
    };
    let first = revoked_at().await;
    one.services.tokens.revoke(&one.operator(), id).await.expect("a second revocation succeeds");
    assert_eq!(revoked_at().await, first);
    let unknown = one.services.tokens.revoke(&one.operator(), TokenId::generate()).await;
    assert!(matches!(unknown, Err(Error::NotFound(Noun::Token))), "{unknown:?}");
}

#[tokio::test]
async fn the_time_of_last_use_is_recorded_to_the_minute() {
    let app = TestApp::spawn().await;
    let (_, token) = app.add_token(&[Permission::ViewTenants], None, None).await;
    assert_eq!(last_used_at(&app).await, None);
    token.get("/api/tenant").await;
    let first = last_used_at(&app).await.expect("the token was used");
    assert!((app.clock.now() - first).abs() < Duration::minutes(1));
    app.clock.advance(Duration::seconds(20));
    token.get("/api/tenant").await;
    assert_eq!(last_used_at(&app).await, Some(first), "uses within a minute are not written");
    app.clock.advance(Duration::minutes(5));
    token.get("/api/tenant").await;
    assert!(last_used_at(&app).await.is_some_and(|last| last - first >= Duration::minutes(5)));
}

async fn last_used_at(app: &TestApp) -> Option<OffsetDateTime> {
    let row = app.sql().await.query_one("SELECT last_used_at FROM tokens", &[]).await;
    row.expect("there is one token").get(0)
}

#[tokio::test]
async fn a_token_is_shown_once_and_stored_as_a_digest() {
    let app = TestApp::spawn().await;
    let (id, caller) = app.add_token(&[Permission::ViewTenants], None, None).await;
    let (secret, sql) = (caller.token(), app.sql().await);
    let row =
        sql.query_one("SELECT id, digest, hint, tokens::text FROM tokens", &[]).await.unwrap();
    assert_eq!(row.get::<_, Uuid>(0), id.uuid());
    let digest = <sha2::Sha256 as sha2::Digest>::digest(secret.as_bytes());
    assert_eq!(row.get::<_, &[u8]>(1), &digest[..]);
    assert_eq!(row.get::<_, &str>(2), format!("{}…", &secret[..7]));
    assert!(!row.get::<_, &str>(3).contains(secret));

    let listed = app.services.tokens.list(&app.operator()).await.expect("the operator may");
    assert_eq!(listed.len(), 1);
    assert!(!format!("{listed:?}").contains(&secret[7..]), "{listed:?}");
    let events =
        "SELECT string_agg(audit_events::text, '') FROM audit_events WHERE action = 'token.create'";
    let events: String = sql.query_one(events, &[]).await.unwrap().get(0);
    assert!(events.contains(&id.to_string()) && !events.contains(&secret[7..]), "{events}");
}

#[tokio::test]
async fn a_value_that_only_resembles_a_token_is_refused() {
    let app = TestApp::spawn().await;
    let (_, caller) = app.add_token(&[Permission::ViewTenants], None, None).await;
    let secret = caller.token();
    let cut = &secret[..secret.len() - 1];
    let other_case: String =
        secret
            .chars()
            .map(|c| {
                if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }
            })
            .collect();
    let digest = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(secret.as_bytes()));
    for bad in [
        cut,
        &format!("{secret}A"),
        &format!("rhr_{}", &secret[3..]),
        &other_case,
        &digest,
        &secret[..7],
        "rh_' OR 1=1 --",
    ] {
        app.bearer(bad).get("/api/tenant").await.refusal(401);
    }
    assert_eq!(caller.get("/api/tenant").await.status, 200);
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a sequence of callers in one database")]
async fn a_caller_creates_no_token_with_permissions_beyond_its_own() {
    let app = TestApp::spawn().await;
    let (a, b) = (app.set_up("a").await, app.set_up("b").await);
    let user = "SELECT user_id FROM memberships WHERE tenant_id = $1";
    let user: Uuid = app.sql().await.query_one(user, &[&a.id]).await.unwrap().get(0);
    app.log_in(&a.admin_email).await;
    let session = "SELECT id FROM sessions WHERE user_id = $1";
    let session: Uuid = app.sql().await.query_one(session, &[&user]).await.unwrap().get(0);
    let admin = CallContext {
        principal: Principal::User {
            id: rowhouse::domain::UserId::new(user),
            session,
            platform_role: None,
            memberships: vec![rowhouse::auth::Membership {
                tenant: TenantId::new(a.id),
                role: rowhouse::domain::Role::Admin,
            }],
        },
        ..app.operator()
    };
    let tokens = &app.services.tokens;
    let bound = |to: Uuid, permissions: &[Permission]| NewToken {
        tenant: Some(TenantId::new(to)),
        ..new_token(permissions)
    };
    let before = Snapshot::of(&app).await;
    for (command, missing) in [
        (new_token(&[Permission::ViewTenants]), vec![Permission::ManageApiKeys]),
        (bound(b.id, &[Permission::ViewTenants]), vec![Permission::ManageApiKeys]),
        (
            bound(
                a.id,
                &[Permission::ViewUsers, Permission::CreateTenant, Permission::MigrateFleet],
            ),
            vec![Permission::CreateTenant, Permission::MigrateFleet],
        ),
    ] {
        match tokens.create(&admin, command).await {
            Err(Error::Forbidden { missing: found }) => assert_eq!(found, missing),
            other => panic!("{:?}", other.map(|(token, _)| token)),
        }
    }
    assert_eq!(Snapshot::of(&app).await, before);

    let (token, secret) = tokens
        .create(&admin, bound(a.id, &[Permission::ViewTenants, Permission::ManageApiKeys]))
        .await
        .expect("an admin may create a token in its tenant");
    assert_eq!(token.created_by, format!("user:{user}"));
    // A token creates tokens, with no more permissions than its own.
    let by_token = CallContext {
        principal: Principal::Token {
            id: token.id,
            user: token.user,
            permissions: token.permissions.clone(),
            tenant: token.tenant,
        },
        ..app.operator()
    };
    assert!(tokens.create(&by_token, bound(a.id, &[Permission::ViewTenants])).await.is_ok());
    for command in [new_token(&[Permission::ViewTenants]), bound(a.id, &[Permission::ViewAudit])] {
        let refused = tokens.create(&by_token, command).await;
        assert!(matches!(refused, Err(Error::Forbidden { .. })));
    }
    assert_eq!(app.bearer(secret.expose()).get("/api/tenant").await.body[0]["slug"], "a");
    for ctx in [&admin, &by_token] {
        let refused = tokens.list(ctx).await;
        assert!(
            matches!(refused, Err(Error::Forbidden { .. })),
            "the list shows the tokens of every tenant"
        );
    }
}

#[tokio::test]
async fn an_invalid_new_token_is_refused_with_its_rule() {
    let app = TestApp::spawn().await;
    let (tokens, operator) = (&app.services.tokens, app.operator());
    let good = new_token(&[Permission::ViewTenants]);
    for (bad, field, rule) in [
        (NewToken { name: " ".to_owned(), ..good.clone() }, "name", Rule::Required),
        (NewToken { name: "x".repeat(256), ..good.clone() }, "name", Rule::TooLong(255)),
        (NewToken { name: "a\0b".to_owned(), ..good.clone() }, "name", Rule::ControlCharacter),
        (new_token(&[]), "permissions", Rule::Required),
        (NewToken { expires_at: Some(operator.now), ..good.clone() }, "expiresAt", Rule::Past),
    ] {
        match tokens.create(&operator, bad).await {
            Err(Error::Invalid(problems)) => {
                assert_eq!((problems[0].field.as_ref(), problems[0].rule), (field, rule));
            }
            other => panic!("{field}: {:?}", other.map(|(token, _)| token)),
        }
    }
    let nowhere = NewToken { tenant: Some(TenantId::generate()), ..good };
    let refused = tokens.create(&operator, nowhere).await;
    assert!(matches!(refused, Err(Error::NotFound(Noun::Tenant))));
    assert_eq!(Snapshot::of(&app).await.count("tokens"), 0);
}

#[tokio::test]
async fn a_bound_token_is_deleted_with_its_tenant() {
    let app = TestApp::spawn().await;
    let tenant = app.set_up("acme").await;
    let (_, bound) = app.add_token(&[Permission::ViewTenants], Some(tenant.id), None).await;
    let events = "SELECT action FROM audit_events WHERE tenant_id = $1 ORDER BY at, id";
    let events = app.sql().await.query(events, &[&tenant.id]).await.unwrap();
    let actions: Vec<&str> = events.iter().map(|row| row.get(0)).collect();
    assert_eq!(actions, ["tenant.create", "token.create"]);
    app.sql().await.execute("DELETE FROM tenants", &[]).await.unwrap();
    bound.get("/api/tenant").await.refusal(401);
}

#[tokio::test]
async fn the_root_token_is_accepted_in_every_form_of_a_uuid() {
    let app = TestApp::spawn().await;
    let uuid: Uuid = app.root_token.parse().unwrap();
    let forms =
        [uuid.hyphenated().to_string(), uuid.simple().to_string(), app.root_token.to_uppercase()];
    for (number, form) in forms.iter().enumerate() {
        let body = TestApp::setup_body(&format!("t{number}"));
        assert_eq!(app.bearer(form).post(SETUP, &body).await.status, 201);
    }
    for other in [Uuid::new_v4(), Uuid::nil(), Uuid::max()] {
        app.bearer(&other.to_string()).get("/api/tenant").await.refusal(401);
    }
    assert_eq!(Snapshot::of(&app).await.count("tokens"), 0, "the root token is in no table");
}
