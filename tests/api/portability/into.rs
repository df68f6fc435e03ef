//! `rowhouse tenant import FILE --into`: an archive in place of what a tenant has.

use super::fixture::{SMALL, program_on, run, schema_of, state, value};
use crate::support::TestDatabase;

#[tokio::test]
async fn an_archive_takes_the_place_of_what_a_tenant_has_which_is_kept_for_a_while() {
    let database = TestDatabase::create().await;
    let program = program_on(&database, &SMALL);
    let sql = database.connect().await;
    program.create_tenant("acme").expect(0);
    program.run(&["tenant", "export", "acme"]).expect(0);
    let acme = schema_of(&sql, "acme").await;
    run(&sql, &format!("UPDATE {acme}.notes SET body = 'spoiled'")).await;
    let before = state(&sql).await;
    let into = ["tenant", "import", "acme.rowhouse.tar", "--into", "acme", "--json"];
    let would = program.run(&[&into[..], &["--dry-run"]].concat()).expect(0).json();
    assert_eq!((&would["slug"], would["dry_run"].as_bool()), (&"acme".into(), Some(true)));
    assert_eq!(state(&sql).await, before);
    let made = program.run(&into).expect(0).json();
    assert_eq!(schema_of(&sql, "acme").await, acme, "ids stay");
    let notes = async |slug: &str| {
        let schema = schema_of(&sql, slug).await;
        value(&sql, &format!("SELECT string_agg(body, ',') FROM {schema}.notes")).await
    };
    let kept = made["kept"]["slug"].as_str().expect("the tenant that keeps it").to_owned();
    assert!(kept.starts_with("acme-before-20"), "{kept}");
    assert_eq!(made["kept"]["status"], "suspended");
    assert_eq!((notes("acme").await, notes(&kept).await), ("a seed".into(), "spoiled".into()));
    let end = "SELECT (expires_at > now() + interval '6 days')::text FROM tenants WHERE slug LIKE 'acme-before-%'";
    assert_eq!(value(&sql, end).await, "true");
    let members =
        "SELECT string_agg(t.slug, ',') FROM memberships m JOIN tenants t ON t.id = m.tenant_id";
    assert_eq!(value(&sql, members).await, "acme", "members stay at their tenant");
    program.run(&["doctor", "--tenant", "acme", &kept]).expect(0);
    // Back, by the same call.
    assert!(program.run(&["tenant", "swap", "acme", &kept]).expect(2).stderr.contains("--yes"));
    program.run(&["tenant", "swap", "acme", &kept, "--yes"]).expect(0);
    assert_eq!((notes("acme").await, notes(&kept).await), ("spoiled".into(), "a seed".into()));
    // A second one on the same day.
    let made = program.run(&into).expect(0).json();
    assert_eq!(made["kept"]["slug"], format!("{kept}-2"));
    // A tenant of another version is refused before any work.
    run(&sql, "UPDATE tenants SET migrations_fingerprint = 'x' WHERE slug = 'acme'").await;
    let before = state(&sql).await;
    let refused = program.run(&into).expect(1).stderr;
    assert!(refused.contains(r#""code":"swap_version_differs""#), "{refused}");
    assert_eq!(state(&sql).await, before);
    for wrong in [
        &["tenant", "import", "acme.rowhouse.tar", "--into", "acme", "--slug", "b"][..],
        &["tenant", "import", "acme.rowhouse.tar", "--into", "acme", "--same-id"],
        &["tenant", "import", "acme.rowhouse.tar", "--leave-out", "notes"],
    ] {
        program.run(wrong).expect(2);
    }
}
