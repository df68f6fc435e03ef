//! The `doctor` command: its output and its exit code.

use super::Fixture;
use crate::support::{Completed, Program};

/// Returns the program on the fixture's database, with the migrations of the workshop.
pub(super) fn program(fixture: &Fixture) -> Program {
    Program::on(&fixture.app.database)
        .with("ROWHOUSE_TENANT_MIGRATIONS", &super::workshop().display().to_string())
}

/// Runs `doctor` for these two tenants only, because other tests have roles on the same server.
fn doctor(program: &Program, more: &[&str]) -> Completed {
    let mut arguments = vec!["doctor", "--tenant", "acme-corp", "--tenant", "globex-corp"];
    arguments.extend(more);
    program.run(&arguments)
}

#[tokio::test]
async fn the_exit_code_shows_whether_anything_is_wrong_and_whether_some_of_it_was_repaired() {
    let fixture = Fixture::open().await;
    let program = program(&fixture);
    let ran = doctor(&program, &[]).expect(0);
    assert_eq!(ran.stdout, "2 tenants examined, all as it should be\n");

    fixture.run("ALTER TABLE {acme}.items DROP COLUMN share").await;
    fixture.run("ALTER TABLE {globex}.items DROP COLUMN share").await;
    fixture.run("REVOKE DELETE ON {acme}.items FROM {acme}").await;
    let ran = doctor(&program, &[]).expect(1);
    let mut lines = ran.stdout.lines();
    assert_eq!(lines.next(), Some("structure"));
    let shared = "  acme-corp, globex-corp: table items: column share is missing";
    assert_eq!(lines.next(), Some(shared), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("2 tenants examined, 3 wrong\n"), "{}", ran.stdout);

    let ran = doctor(&program, &["--fix"]).expect(3);
    assert!(ran.stdout.contains("DELETE, INSERT, SELECT, UPDATE [repaired]"), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("2 tenants examined, 1 repaired, 2 wrong\n"), "{}", ran.stdout);
    doctor(&program, &["--fix"]).expect(1);

    fixture.run("ALTER TABLE {acme}.items ADD COLUMN share {acme}.percent").await;
    fixture.run("ALTER TABLE {globex}.items ADD COLUMN share {globex}.percent").await;
    // A column that was added by hand is the last one, which is reported.
    let ran = doctor(&program, &[]).expect(1);
    let last = " number, name, mood, twice, shelf, share";
    let line = ran.stdout.lines().find(|line| line.contains("table items: order of columns is id"));
    assert!(line.is_some_and(|line| line.contains(last)), "{}", ran.stdout);
}

#[tokio::test]
async fn a_repair_that_leaves_nothing_wrong_exits_with_0() {
    let fixture = Fixture::open().await;
    fixture.run("REVOKE DELETE ON {acme}.items FROM {acme}").await;
    let ran = doctor(&program(&fixture), &["--fix", "--json"]).expect(0);
    let report = ran.json();
    assert_eq!(
        (&report["repaired_count"], &report["wrong_count"]),
        (&1.into(), &0.into()),
        "{report}"
    );
    let finding = &report["findings"][0];
    for (key, value) in [
        ("area", "rights"),
        ("gravity", "wrong"),
        ("tenant", "acme-corp"),
        ("is", "INSERT, SELECT, UPDATE"),
        ("should", "DELETE, INSERT, SELECT, UPDATE"),
    ] {
        assert_eq!(finding[key], value, "{report}");
    }
    assert_eq!(finding["tenant_id"], fixture.acme.id.to_string());
    assert_eq!(finding["repaired"], true);
}

#[tokio::test]
async fn warnings_alone_exit_with_0() {
    let fixture = Fixture::open().await;
    let folder = super::workshop_up_to(3);
    std::fs::write(folder.path().join("V4__add_box.sql"), "ALTER TABLE items ADD COLUMN box text")
        .unwrap();
    let path = folder.path().display().to_string();
    let program = Program::on(&fixture.app.database).with("ROWHOUSE_TENANT_MIGRATIONS", &path);
    let ran = doctor(&program, &[]).expect(0);
    assert!(
        ran.stdout.contains("it is behind: at version 3, the files go up to 4"),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.ends_with("2 tenants examined, 2 warnings\n"), "{}", ran.stdout);
    // Exceeding the server's capacity is a warning too.
    let program = program.with("ROWHOUSE_DATABASE__MAX_CONNECTIONS", "9999");
    let report = program.run(&["doctor", "--json"]).json();
    let findings = report["findings"].as_array().unwrap();
    let capacity = findings
        .iter()
        .find(|f| f["what"].as_str().is_some_and(|what| what.starts_with("connections: ")));
    let capacity = capacity.unwrap_or_else(|| panic!("{report}"));
    assert_eq!((&capacity["area"], &capacity["gravity"]), (&"capacity".into(), &"warning".into()));
    assert!(capacity["what"].as_str().unwrap().contains("may open 9999"), "{capacity}");
    assert!(capacity["next"].as_str().unwrap().contains("database.max_connections"), "{capacity}");
}

#[tokio::test]
async fn a_token_without_an_end_that_was_not_used_for_ninety_days_is_a_warning() {
    let fixture = Fixture::open().await;
    let ids = [(); 5].map(|()| uuid::Uuid::new_v4());
    let [unused, bound, used, ending, revoked] = ids;
    let insert = "INSERT INTO tokens (id, digest, hint, name, permissions, created_by, created_at)
                  SELECT id, sha256(id::text::bytea), 'rh_x…', 'nightly', ARRAY['VIEW_TENANTS'], 'root',
                         now() - interval '91 days'
                    FROM unnest($1::uuid[]) AS id";
    fixture.sql.execute(insert, &[&ids.to_vec()]).await.unwrap();
    for (id, change) in [
        (bound, format!("tenant_id = '{}'", fixture.acme.id)),
        (used, "last_used_at = now() - interval '89 days'".to_owned()),
        (ending, "expires_at = now() + interval '1 day'".to_owned()),
        (revoked, "revoked_at = now()".to_owned()),
    ] {
        fixture.run(&format!("UPDATE tokens SET {change} WHERE id = '{id}'")).await;
    }
    // Of everything, because a check of some tenants is about these alone.
    let report = program(&fixture).run(&["doctor", "--json"]).expect(0).json();
    let findings = report["findings"].as_array().unwrap();
    let found: Vec<_> = findings.iter().filter(|f| f["area"] == "credentials").collect();
    assert_eq!(found.len(), 2, "{report}");
    let (of_tenant, of_none) = (found[0], found[1]);
    assert_eq!(of_tenant["tenant"], "acme-corp", "{report}");
    assert!(of_tenant["next"].as_str().unwrap().contains(&bound.to_string()), "{report}");
    assert!(of_none["what"].as_str().unwrap().contains(&unused.to_string()), "{report}");
    for finding in [of_tenant, of_none] {
        assert_eq!(finding["gravity"], "warning");
        let what = finding["what"].as_str().unwrap();
        assert!(what.contains("never expires and was not used for 90 days"), "{what}");
    }
}

#[tokio::test]
async fn an_unknown_tenant_is_named_and_an_invalid_name_is_a_usage_error() {
    let fixture = Fixture::open().await;
    let program = program(&fixture);
    let ran = program.run(&["doctor", "--tenant", "absent"]).expect(4);
    assert!(ran.stderr.contains("no such tenant: absent"), "{ran:?}");
    program.run(&["doctor", "--tenant", "Not A Slug"]).expect(2);
    let ran = program.run(&["doctor", "--fix", "--yes", "--drop-orphans", "public"]).expect(2);
    assert!(ran.stderr.contains("\"public\" is not the name"), "{ran:?}");
}

#[tokio::test]
async fn orphans_are_dropped_only_with_fix_yes_and_drop_orphans_together() {
    let fixture = Fixture::open().await;
    let program = program(&fixture);
    for arguments in [
        ["doctor", "--drop-orphans"].as_slice(),
        &["doctor", "--fix", "--drop-orphans"],
        &["doctor", "--drop-orphans", "--yes"],
        &["doctor", "--fix", "--yes", "--drop-orphans", "--tenant", "acme-corp"],
    ] {
        program.run(arguments).expect(2);
    }
    fixture.run("DELETE FROM tenants WHERE slug = 'acme-corp'").await;
    let schema = fixture.acme.schema();
    let ran = program.run(&["doctor", "--fix", "--yes", "--drop-orphans", &schema, "--json"]);
    let report = ran.json();
    let findings = report["findings"].as_array().unwrap();
    let own = findings.iter().find(|f| f["what"].as_str().unwrap().contains(&schema));
    assert_eq!(own.expect("the schema is reported")["repaired"], true, "{report}");
    let row =
        fixture.sql.query_one("SELECT to_regnamespace($1) IS NULL", &[&schema]).await.unwrap();
    assert!(row.get::<_, bool>(0));
}
