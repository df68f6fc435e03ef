//! `GET /api/tenant` and `GET /api/tenant/mine`.

use rowhouse::domain::Permission;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::support::{Answer, TestApp};

fn slugs(answer: &Answer) -> Vec<&str> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let tenants = answer.body.as_array().expect("the body is an array");
    tenants.iter().map(|tenant| tenant["slug"].as_str().expect("there is a slug")).collect()
}

#[tokio::test]
async fn the_list_has_id_name_slug_and_creation_time() {
    let app = TestApp::spawn().await;
    assert_eq!(app.root().get("/api/tenant").await.body, json!([]));
    let tenant = app.set_up("acme").await;
    let list = app.root().get("/api/tenant").await;
    let created_at = list.body[0]["createdAt"].as_str().expect("there is a time");
    let expected = json!([{
        "id": tenant.id, "name": "Tenant acme", "slug": "acme", "createdAt": created_at,
    }]);
    assert_eq!(list.body, expected);
    let at = OffsetDateTime::parse(created_at, &Rfc3339).expect("the time is RFC 3339");
    assert!((app.clock.now() - at).abs() < time::Duration::minutes(1));
}

#[tokio::test]
async fn a_user_sees_the_tenants_where_the_role_permits_it() {
    let app = TestApp::spawn().await;
    let [a, b, c] = [app.set_up("a").await, app.set_up("b").await, app.set_up("c").await];
    for role in ["SUPER_ADMIN", "ADMIN", "FDE", "VIEWER"] {
        app.add_user(&format!("{role}@example.com").to_lowercase(), Some(role)).await;
    }
    let join = app.add_user("both@example.com", None).await;
    let sql = app.sql().await;
    for (tenant, role) in [(&a, "ADMIN"), (&b, "ADMIN"), (&c, "VIEWER")] {
        let link = "INSERT INTO memberships (tenant_id, user_id, role, created_at) VALUES ($1, $2, $3, now())";
        sql.execute(link, &[&tenant.id, &join, &role]).await.unwrap();
    }
    for (email, all) in [
        ("super_admin@example.com", Some(&["a", "b", "c"][..])),
        ("admin@example.com", Some(&["a", "b", "c"])),
        ("fde@example.com", None),
        ("viewer@example.com", None),
        ("admin@a.example.com", Some(&["a"])),
        ("both@example.com", Some(&["a", "b"])),
    ] {
        let list = app.log_in(email).await.get("/api/tenant").await;
        match all {
            Some(all) => assert_eq!(slugs(&list), all, "{email}"),
            None => assert_eq!(list.refusal(403), "Missing permission: VIEW_TENANTS", "{email}"),
        }
    }
    for (email, mine) in [
        ("super_admin@example.com", &[][..]),
        ("viewer@example.com", &[]),
        ("admin@b.example.com", &["b"]),
        ("both@example.com", &["a", "b", "c"]),
    ] {
        let list = app.log_in(email).await.get("/api/tenant/mine").await;
        assert_eq!(slugs(&list), mine, "{email}");
    }
    for role in ["VIEWER", "FDE"] {
        sql.execute("UPDATE memberships SET role = $1", &[&role]).await.unwrap();
        let admin = app.log_in("admin@a.example.com").await;
        assert_eq!(admin.get("/api/tenant").await.refusal(403), "Missing permission: VIEW_TENANTS");
        assert_eq!(slugs(&admin.get("/api/tenant/mine").await), ["a"]);
    }
}

#[tokio::test]
async fn a_token_lists_permitted_tenants_and_its_bound_tenant_is_mine() {
    let app = TestApp::spawn().await;
    let (a, _) = (app.set_up("a").await, app.set_up("b").await);
    let (_, free) = app.add_token(&[Permission::ViewTenants], None, None).await;
    let (_, bound) = app.add_token(&[Permission::ViewTenants], Some(a.id), None).await;
    let (_, weak) = app.add_token(&[Permission::ViewUsers], Some(a.id), None).await;
    assert_eq!(slugs(&free.get("/api/tenant").await), ["a", "b"]);
    assert_eq!(slugs(&free.get("/api/tenant/mine").await), [""; 0]);
    assert_eq!(slugs(&bound.get("/api/tenant").await), ["a"]);
    assert_eq!(slugs(&bound.get("/api/tenant/mine").await), ["a"]);
    assert_eq!(weak.get("/api/tenant").await.refusal(403), "Missing permission: VIEW_TENANTS");
    assert_eq!(slugs(&weak.get("/api/tenant/mine").await), ["a"]);
    assert_eq!(slugs(&app.root().get("/api/tenant/mine").await), [""; 0]);
}

#[tokio::test]
async fn a_suspended_tenant_is_listed_for_its_admins_and_is_not_mine() {
    let app = TestApp::spawn().await;
    let (a, b) = (app.set_up("a").await, app.set_up("b").await);
    let (_, bound) = app.add_token(&[Permission::ViewTenants], Some(a.id), None).await;
    let suspend = "UPDATE tenants SET status = 'suspended' WHERE id = $1";
    app.sql().await.execute(suspend, &[&a.id]).await.unwrap();
    assert_eq!(slugs(&app.root().get("/api/tenant").await), ["a", "b"]);
    let admin = app.log_in(&a.admin_email).await;
    assert_eq!(slugs(&admin.get("/api/tenant").await), ["a"]);
    assert_eq!(slugs(&admin.get("/api/tenant/mine").await), [""; 0]);
    assert_eq!(slugs(&bound.get("/api/tenant/mine").await), [""; 0]);
    let other = app.log_in(&b.admin_email).await;
    assert_eq!(slugs(&other.get("/api/tenant/mine").await), ["b"]);
}

#[tokio::test]
async fn a_thousand_tenants_are_all_listed_oldest_first() {
    let app = TestApp::spawn().await;
    let user = app.add_user("una@example.com", None).await;
    // Only rows, because the list reads nothing else; younger ones first, so that the list must sort them.
    let rows = "WITH made AS (
                    INSERT INTO tenants (id, slug, name, status, cluster, migrations_version,
                                         migrations_fingerprint, created_at, updated_at)
                    SELECT gen_random_uuid(), 't' || n, 'Tenant ' || n, 'active', 'default', 2, 'x',
                           timestamptz '2030-01-01' - make_interval(mins => n), now()
                      FROM generate_series(1, 1000) n
                 RETURNING id)
                INSERT INTO memberships (tenant_id, user_id, role, created_at)
                SELECT id, $1, 'ADMIN', now() FROM made";
    app.sql().await.execute(rows, &[&user]).await.unwrap();
    let expected: Vec<String> = (1..=1000).rev().map(|n| format!("t{n}")).collect();
    let member = app.log_in("una@example.com").await;
    for (caller, path) in
        [(app.root(), "/api/tenant"), (member.clone(), "/api/tenant"), (member, "/api/tenant/mine")]
    {
        assert_eq!(slugs(&caller.get(path).await), expected, "{path}");
    }
    // With equal creation times the order is still stable.
    app.sql().await.execute("UPDATE tenants SET created_at = now()", &[]).await.unwrap();
    let first: Value = app.root().get("/api/tenant").await.body;
    assert_eq!(app.root().get("/api/tenant").await.body, first);
}
