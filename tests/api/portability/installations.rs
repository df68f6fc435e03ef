//! Archives between installations.

use rowhouse::service::archives::{MemberPolicy, NewId};

use super::fixture::{
    SMALL, app_of, command, export, folder_of, import, refusal, schema_of, value,
};
use crate::support::TestApp;

#[tokio::test]
async fn an_archive_of_another_installation_is_imported_only_on_trust() {
    let (first, _files) = app_of(&SMALL).await;
    let archive = export(&first, "acme").await;
    let folder = folder_of(&SMALL);
    let path = folder.path().display().to_string();
    let second = TestApp::builder().with("tenant_migrations", path).spawn().await;
    assert_eq!(refusal(&second, &command("acme"), &archive).await, "archive_signature");
    let mut trusting = command("acme");
    trusting.trust = Some(r#"{"keys":[]}"#.to_owned());
    assert_eq!(refusal(&second, &trusting, &archive).await, "archive_signature");
    let keys = first.anonymous().get("/.well-known/jwks.json").await;
    trusting.trust = Some(keys.body.to_string());
    trusting.id = NewId::Same;
    trusting.members = MemberPolicy::Create;
    trusting.suspended = true;
    let imported = import(&second, &trusting, &archive).await;
    let imported = imported.unwrap_or_else(|error| panic!("{}", error.chain()));
    assert_eq!((imported.members, imported.created, imported.skipped.len()), (1, 1, 0));
    let sql = second.sql().await;
    assert_eq!(
        schema_of(&sql, "acme").await,
        schema_of(&first.sql().await, "acme").await,
        "the id is the same"
    );
    let row = "SELECT concat_ws(' ', t.status, t.name, u.email, m.role, u.password_hash IS NULL)
                 FROM tenants t JOIN memberships m ON m.tenant_id = t.id JOIN users u ON u.id = m.user_id
                WHERE t.slug = 'acme'";
    assert_eq!(value(&sql, row).await, "suspended Tenant acme admin@acme.example.com ADMIN t");
    let audit = "SELECT length(details ->> 'manifest_sha256')::text FROM audit_events WHERE action = 'tenant.import'";
    assert_eq!(value(&sql, audit).await, "64");
}

#[tokio::test]
async fn an_archive_outlives_the_key_that_signed_it_unless_the_key_was_retired() {
    let (app, _files) = app_of(&SMALL).await;
    let archive = export(&app, "acme").await;
    let ctx = app.operator();
    app.services.signing_keys.rotate(&ctx).await.expect("it rotates");
    app.clock.advance(time::Duration::days(30));
    app.services.signing_keys.reload(&app.operator()).await.expect("old keys are deleted");
    let keys = app.services.signing_keys.list(&app.operator()).await.expect("a list");
    assert_eq!(keys.len(), 1, "the first key is gone");
    import(&app, &command("copy"), &archive).await.expect("it is trusted");

    let archive = export(&app, "acme").await;
    app.services.signing_keys.retire(&app.operator(), &keys[0].kid).await.expect("it is retired");
    assert_eq!(refusal(&app, &command("other"), &archive).await, "archive_signature");
}

#[tokio::test]
async fn only_accounts_with_a_proven_address_become_members() {
    let (app, _files) = app_of(&SMALL).await;
    let archive = export(&app, "acme").await;
    let sql = app.sql().await;
    sql.batch_execute(
        "UPDATE users SET address_proven_at = NULL WHERE email = 'admin@acme.example.com'",
    )
    .await
    .unwrap();
    let skipped = import(&app, &command("skipped"), &archive).await.expect("it is imported");
    assert_eq!((skipped.members, skipped.skipped.len()), (0, 1));
    let mut none = command("none");
    none.members = MemberPolicy::None;
    let none = import(&app, &none, &archive).await.expect("it is imported");
    assert_eq!((none.members, none.skipped.len()), (0, 0));
}
