//! `GET /api/user/tenant-users`: the users of a tenant in pages, and the tenant that a request selects.

use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use crate::support::callers::send;
use crate::support::control::transition;
use crate::support::scoped::{add_member, get_in, join, make_key, plaintext, user_id};
use crate::support::{Snapshot, TestApp};

const USERS: &str = "/api/user/tenant-users";

#[tokio::test]
async fn the_users_of_a_tenant_are_listed_in_pages_with_their_roles() {
    let app = TestApp::spawn().await;
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    let admin = app.log_in(&acme.admin_email).await;
    add_member(&app, &acme, "fde@example.com", "FDE").await;
    let chief = app.add_user("chief@example.com", Some("SUPER_ADMIN")).await;
    join(&app, &acme, chief, "ADMIN").await;
    add_member(&app, &other, "stranger@example.com", "VIEWER").await;

    let all = get_in(&admin, acme.id, USERS).await;
    assert_eq!(all.status, 200, "{all:?}");
    assert_eq!(all.body["meta"], json!({ "page": 1, "limit": 20, "total": 3, "totalPages": 1 }));
    let id = user_id(&app, &acme.admin_email).await;
    let first = json!({ "id": id, "email": acme.admin_email, "firstName": "Ada", "lastName": "Admin", "roles": ["ADMIN"] });
    assert_eq!(all.body["data"][0], first);
    assert_eq!(all.body["data"][1]["email"], "fde@example.com");
    assert_eq!(all.body["data"][1]["roles"], json!(["FDE"]));
    assert_eq!(all.body["data"][2]["roles"], json!(["SUPER_ADMIN", "ADMIN"]));
    assert_eq!(all.body["data"].as_array().map(Vec::len), Some(3));

    let mut seen = Vec::new();
    for page in 1..=2 {
        let part = get_in(&admin, acme.id, &format!("{USERS}?page={page}&limit=2")).await;
        let meta = json!({ "page": page, "limit": 2, "total": 3, "totalPages": 2 });
        assert_eq!(part.body["meta"], meta);
        seen.extend(part.body["data"].as_array().unwrap().clone());
    }
    assert_eq!(json!(seen), all.body["data"], "the pages together are the list");
    let past = get_in(&admin, acme.id, &format!("{USERS}?page=3&limit=2")).await;
    assert_eq!((past.status, &past.body["data"]), (200, &json!([])));
    assert_eq!(past.body["meta"]["total"], 3);
    let far = get_in(&admin, acme.id, &format!("{USERS}?page=1000000&limit=100")).await;
    assert_eq!((far.status, &far.body["data"]), (200, &json!([])));
}

#[tokio::test]
async fn an_invalid_page_or_limit_is_refused_and_not_clamped() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    for bad in ["0", "-1", "1.5", "", "ten", "1e3", "%20", "99999999999999999999", "1000001"] {
        for (query, fields) in [
            (format!("page={bad}"), vec![("page", "out_of_range")]),
            (
                format!("page={bad}&limit={bad}"),
                vec![("page", "out_of_range"), ("limit", "out_of_range")],
            ),
        ] {
            let answer = get_in(&app.root(), acme.id, &format!("{USERS}?{query}")).await;
            assert_eq!(answer.refusal(400), "Validation failed");
            assert_eq!(answer.bad_rules(), fields, "{query}");
        }
    }
    let over = get_in(&app.root(), acme.id, &format!("{USERS}?limit=101")).await;
    assert_eq!(over.bad_rules(), [("limit", "out_of_range")]);
    assert_eq!(
        over.body["errors"][0]["message"], "limit must be a whole number from 1 to 100",
        "the message names the largest limit"
    );
    assert_eq!(get_in(&app.root(), acme.id, &format!("{USERS}?limit=100")).await.status, 200);
    let twice = get_in(&app.root(), acme.id, &format!("{USERS}?page=1&page=2")).await;
    assert_eq!(twice.bad_fields(), ["page"]);
    // Unknown parameters are ignored.
    assert_eq!(get_in(&app.root(), acme.id, &format!("{USERS}?sort=email")).await.status, 200);
}

#[tokio::test]
async fn the_x_tenant_id_header_selects_the_tenant() {
    let app = TestApp::spawn().await;
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    let admin = app.log_in(&acme.admin_email).await;
    for caller in [&admin, &app.root()] {
        let missing = caller.get(USERS).await;
        assert_eq!(missing.refusal(400), "Validation failed");
        assert_eq!(missing.bad_rules(), [("x-tenant-id", "required")]);
        for bad in ["acme", "", "00000000", "' OR true --", &format!("{},{}", acme.id, other.id)] {
            let request = caller.request(Method::GET, USERS).header("x-tenant-id", bad);
            let answer = send(request).await;
            answer.refusal(400);
            assert_eq!(answer.bad_rules(), [("x-tenant-id", "uuid_format")], "{bad}");
        }
        let request = caller.request(Method::GET, USERS);
        let twice = request.header("x-tenant-id", acme.id.to_string());
        let twice = send(twice.header("x-tenant-id", other.id.to_string())).await;
        assert!(twice.refusal(400).contains("x-tenant-id"), "{twice:?}");
    }
    // The host does not select a tenant on this route, so that a missing header is always reported.
    let host = admin.request(Method::GET, USERS).header("host", "acme.example.com");
    assert_eq!(send(host).await.bad_fields(), ["x-tenant-id"]);
    // A caller who is not a member gets the same answer for existing and missing tenants.
    let there = get_in(&admin, other.id, USERS).await;
    let missing = get_in(&admin, Uuid::new_v4(), USERS).await;
    assert_eq!(there.refusal(403), missing.refusal(403));
    assert_eq!(there.body, missing.body);
    let nowhere = get_in(&app.root(), Uuid::new_v4(), USERS).await;
    assert_eq!(nowhere.refusal(404), "Tenant not found");
}

#[tokio::test]
async fn permissions_come_from_the_role_in_the_selected_tenant() {
    let app = TestApp::spawn().await;
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    let user = add_member(&app, &acme, "una@example.com", "FDE").await;
    join(&app, &other, user, "VIEWER").await;
    let una = app.log_in("una@example.com").await;
    assert_eq!(get_in(&una, acme.id, USERS).await.status, 200);
    let refused = get_in(&una, other.id, USERS).await;
    assert_eq!(refused.refusal(403), "Missing permission: VIEW_USERS");
    // A platform role applies in every tenant, also where the user has a lower role or none.
    app.add_user("chief@example.com", Some("ADMIN")).await;
    let chief = app.log_in("chief@example.com").await;
    for tenant in [acme.id, other.id] {
        assert_eq!(get_in(&chief, tenant, USERS).await.status, 200);
    }
    // A removed membership takes effect immediately.
    let sql = "DELETE FROM memberships WHERE user_id = $1 AND tenant_id = $2";
    app.sql().await.execute(sql, &[&user, &acme.id]).await.unwrap();
    get_in(&una, acme.id, USERS).await.refusal(403);
}

#[tokio::test]
async fn a_suspended_or_deleted_tenant_answers_none_of_these_routes() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in(&acme.admin_email).await;
    let made = make_key(&admin, acme.id, &["VIEW_USERS", "MANAGE_API_KEYS", "RESET_USER_PASSWORD"]);
    let made = made.await;
    let key = app.keyed(&plaintext(&made));
    let fde = add_member(&app, &acme, "fde@example.com", "FDE").await;
    let revoke = format!("/api/api-keys/{}/revoke", made.body["id"].as_str().unwrap());
    for verb in ["suspend", "delete"] {
        let done = transition(&app.root(), "acme", verb).await;
        assert!(done.status < 300, "{done:?}");
        let before = Snapshot::of(&app).await;
        for caller in [&admin, &app.root(), &key] {
            for (method, path, body) in [
                (Method::GET, USERS, None),
                (Method::GET, "/api/api-keys", None),
                (Method::POST, revoke.as_str(), None),
                (
                    Method::POST,
                    "/api/auth/reset-user-password",
                    Some(json!({ "userId": fde, "newPassword": "NewSecurePass456!" })),
                ),
                (
                    Method::POST,
                    "/api/api-keys",
                    Some(json!({ "name": "x", "permissions": ["VIEW_USERS"] })),
                ),
            ] {
                let request = caller.request(method, path);
                let request = request.header("x-tenant-id", acme.id.to_string());
                let answer = send(match &body {
                    Some(body) => request.json(body),
                    None => request,
                })
                .await;
                // A key never creates keys, so it is answered 403.
                if answer.status != 403 {
                    assert_eq!(answer.refusal(404), "Tenant not found", "{verb} {path}");
                }
            }
        }
        assert_eq!(Snapshot::of(&app).await, before);
    }
}
