//! Who may export and import, and what an archive does not have.

use rowhouse::auth::{CallContext, Membership, Principal};
use rowhouse::domain::Role;
use rowhouse::domain::names::{TenantId, UserId};
use uuid::Uuid;

use super::fixture::{SMALL, app_of, command, export, export_as, members, unpack, value};

#[tokio::test]
async fn an_admin_exports_the_own_tenant_and_imports_nothing() {
    let (app, _files) = app_of(&SMALL).await;
    let other = app.set_up("other").await;
    let user = |tenant: Uuid, role| CallContext {
        principal: Principal::User {
            id: UserId::generate(),
            session: Uuid::new_v4(),
            platform_role: None,
            memberships: vec![Membership { tenant: TenantId::new(tenant), role }],
        },
        ..app.operator()
    };
    let admin = user(other.id, Role::Admin);
    let (exported, archive) = export_as(&app, &admin, "other").await.expect("the own tenant");
    assert_eq!(exported.id.uuid(), other.id);
    let code = |outcome: Result<_, rowhouse::domain::Error>| match outcome {
        Ok(_) => panic!("it was exported"),
        Err(error) => error.detailed_code().to_owned(),
    };
    assert_eq!(code(export_as(&app, &admin, "acme").await), "tenant_not_found");
    assert_eq!(code(export_as(&app, &user(other.id, Role::Fde), "other").await), "forbidden");
    let mut input = archive.as_slice();
    let imported =
        app.services.archives.import(&admin, &command("copy"), &mut input, &|_| ()).await;
    assert_eq!(imported.expect_err("it is refused").detailed_code(), "forbidden");
    let rights = "SELECT concat_ws(' ', has_table_privilege('rowhouse_runtime', 'archive_keys', 'SELECT'),
                         has_table_privilege('tenant_' || replace(id::text, '-', ''), 'archive_keys', 'SELECT'))
                    FROM tenants WHERE slug = 'other'";
    assert_eq!(value(&app.sql().await, rights).await, "f f");
}

#[tokio::test]
async fn an_archive_has_no_secret_and_nothing_of_another_tenant() {
    let (app, _files) = app_of(&SMALL).await;
    let other = app.set_up("other").await;
    let sql = app.sql().await;
    sql.batch_execute(&format!(
        "INSERT INTO {}.notes (body) VALUES ('a canary of another tenant')",
        other.schema()
    ))
    .await
    .unwrap();
    app.log_in("admin@acme.example.com").await;
    app.add_token(&[rowhouse::domain::Permission::ReadProfiles], None, None).await;
    let archive = export(&app, "acme").await;
    let mut text = String::new();
    for (name, content) in members(&archive) {
        let is_packed = name.starts_with("data/") || name.starts_with("audit/");
        let content =
            if is_packed { unpack(&content) } else { String::from_utf8(content).unwrap() };
        text.push_str(&content);
    }
    assert!(text.contains("a seed") && text.contains("admin@acme.example.com"));
    let secrets = "SELECT string_agg(secret, ' ') FROM (
            SELECT password_hash AS secret FROM users WHERE password_hash IS NOT NULL
            UNION ALL SELECT encode(digest, 'hex') FROM tokens
            UNION ALL SELECT encode(private_key, 'hex') FROM signing_keys) secrets";
    let secrets = value(&sql, secrets).await;
    assert!(secrets.split(' ').count() >= 4, "{secrets}");
    for secret in secrets.split(' ').chain(["a canary of another tenant", "$argon2", "admin@other"])
    {
        assert!(!text.contains(secret), "{secret}");
    }
}
