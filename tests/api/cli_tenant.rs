//! `rowhouse tenant rename|settings|suspend|resume|delete|restore|purge`, compared with what the HTTP API
//! answers.

use serde_json::{Value, json};

use crate::support::control::{events, put};
use crate::support::program::finish_with_open_stdin;
use crate::support::{Completed, Program, TestApp, TestTenant};

/// Starts a server with a tenant; returns both, and a program on the same database.
async fn fixture() -> (TestApp, Program, TestTenant) {
    let app = TestApp::builder().with("tenants.purge_interval", "1h").spawn().await;
    let program = Program::on(&app.database);
    let acme = app.set_up("acme").await;
    (app, program, acme)
}

fn tenant(program: &Program, arguments: &[&str]) -> Completed {
    program.run(&[&["tenant"], arguments].concat())
}

/// Returns the tenant from the control-plane API, or null if the API does not answer 200.
async fn api_tenant(app: &TestApp, named: impl std::fmt::Display) -> Value {
    let answer = app.root().get(&format!("/control/v1/tenants/{named}")).await;
    if answer.status == 200 { answer.body } else { Value::Null }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn show_prints_every_field_of_the_control_plane() {
    let (app, program, acme) = fixture().await;
    let shown = tenant(&program, &["show", "acme", "--json"]).expect(0).json();
    let answered = api_tenant(&app, acme.id).await;
    for (printed_as, answered_as) in [
        ("id", "id"),
        ("slug", "slug"),
        ("name", "name"),
        ("status", "status"),
        ("external_id", "external_id"),
        ("settings", "settings"),
        ("revision", "revision"),
        ("created_at", "created_at"),
        ("updated_at", "updated_at"),
        ("purge_after", "purge_after"),
    ] {
        assert_eq!(shown[printed_as], answered[answered_as], "{shown} {answered}");
    }
    assert_eq!(shown["schema"], acme.schema());
    let table = tenant(&program, &["show", "acme"]).expect(0).stdout;
    assert!(table.contains(&acme.id.to_string()) && table.contains("active"), "{table}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rename_takes_effect_at_once_and_is_idempotent() {
    let (app, program, acme) = fixture().await;
    let command = ["rename", "acme", "--name", "Acme Ltd", "--slug", "acme-ltd", "--json"];
    let renamed = tenant(&program, &command).expect(0).json();
    assert_eq!((&renamed["slug"], &renamed["name"]), (&json!("acme-ltd"), &json!("Acme Ltd")));
    assert_eq!(api_tenant(&app, "acme-ltd").await["id"], json!(acme.id));
    assert_eq!(api_tenant(&app, "acme").await, Value::Null);
    let gone = tenant(&program, &command).expect(4);
    let error: Value = serde_json::from_str(&gone.stderr).expect("with --json it is JSON");
    assert_eq!(error["error"]["message"], "no such tenant: acme");
    let id = acme.id.to_string();
    let again = tenant(&program, &["rename", &id, "--slug", "acme-ltd", "--json"]).expect(0);
    assert_eq!(again.json()["revision"], renamed["revision"], "nothing changed");
    assert_eq!(events(&app, acme.id, "tenant.update").await, 1);

    app.set_up("other").await;
    let taken = tenant(&program, &["rename", "other", "--slug", "acme-ltd"]).expect(5);
    assert_eq!(
        (taken.stdout.as_str(), taken.stderr.as_str()),
        ("", "rowhouse: the slug is taken\n")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_are_printed_and_merged_and_an_invalid_patch_changes_nothing() {
    let (app, program, acme) = fixture().await;
    assert_eq!(tenant(&program, &["settings", "acme"]).expect(0).json(), json!({}));
    let patch = |text: &str| {
        program.run_with_stdin(&["tenant", "settings", "acme", "--patch", "-", "--json"], text)
    };
    let made = patch(r#"{"plan": "pro", "limits": {"seats": 5, "disk": 1}}"#).expect(0).json();
    assert_eq!(made, json!({ "plan": "pro", "limits": { "seats": 5, "disk": 1 } }));
    std::fs::write(program.folder().join("patch.json"), r#"{"plan": null, "limits": {"disk": 2}}"#)
        .expect("a file can be written");
    let merged = tenant(&program, &["settings", "acme", "--patch", "patch.json"]).expect(0).json();
    assert_eq!(merged, json!({ "limits": { "seats": 5, "disk": 2 } }));
    let large = format!(r#"{{"text": "{}"}}"#, "x".repeat(70_000));
    for bad in ["", "null", "[1]", "\"text\"", "{\"plan\": }", "{\"a\": \"\\u0000\"}", &large] {
        let ran = patch(bad).expect(2);
        let refused = ran.stderr.contains("--patch") || ran.stderr.contains("settings must");
        assert!(refused && ran.stdout.is_empty(), "{bad}: {ran:?}");
    }
    tenant(&program, &["settings", "acme", "--patch", "no-such-file.json"]).expect(2);
    assert_eq!(api_tenant(&app, "acme").await["settings"], merged);
    assert_eq!(events(&app, acme.id, "tenant.update").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_tenant_answers_nothing_until_it_is_resumed() {
    let (app, program, acme) = fixture().await;
    let admin = app.log_in(&acme.admin_email).await;
    let mine = async || admin.get("/api/tenant/mine").await.body;
    assert_eq!(mine().await[0]["slug"], "acme");

    let suspended = tenant(&program, &["suspend", "acme", "--json"]).expect(0).json();
    assert_eq!(suspended["status"], "suspended");
    assert_eq!(api_tenant(&app, "acme").await["status"], "suspended");
    assert_eq!(mine().await, json!([]));
    let twice = tenant(&program, &["suspend", "acme", "--json"]).expect(0).json();
    assert_eq!(twice["status"], "suspended");

    tenant(&program, &["resume", "acme"]).expect(0);
    assert_eq!(mine().await[0]["slug"], "acme");
    let twice = tenant(&program, &["resume", "acme", "--json"]).expect(0).json();
    assert_eq!(twice["status"], "active");
    for (action, count) in [("tenant.suspend", 1), ("tenant.resume", 1)] {
        assert_eq!(events(&app, acme.id, action).await, count, "{action}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_tenant_can_be_restored_to_its_status_and_a_purged_one_cannot() {
    let (app, program, acme) = fixture().await;
    tenant(&program, &["suspend", "acme"]).expect(0);
    let early = tenant(&program, &["purge", "acme", "--yes"]).expect(5);
    assert_eq!(early.stderr, "rowhouse: tenant acme is not deleted; delete it before purging it\n");

    let deleted = tenant(&program, &["delete", "acme", "--yes", "--json"]).expect(0).json();
    assert_eq!(deleted["status"], "deleting");
    assert!(deleted["purge_after"].is_string(), "{deleted}");
    let twice = tenant(&program, &["delete", "acme", "--yes", "--json"]).expect(0).json();
    assert_eq!(twice, deleted);
    let restored = tenant(&program, &["restore", "acme", "--json"]).expect(0).json();
    assert_eq!(
        (&restored["status"], &restored["purge_after"]),
        (&json!("suspended"), &Value::Null)
    );

    tenant(&program, &["delete", "acme", "--yes"]).expect(0);
    let purged = tenant(&program, &["purge", "acme", "--yes", "--json"]).expect(0).json();
    assert_eq!(purged, json!({ "id": acme.id, "slug": "acme", "purged": true }));
    assert_eq!(api_tenant(&app, acme.id).await, Value::Null);
    let left: i64 = app
        .sql()
        .await
        .query_one(
            "SELECT (SELECT count(*) FROM pg_namespace WHERE nspname = $1)
                  + (SELECT count(*) FROM pg_roles WHERE rolname = $1)",
            &[&acme.schema()],
        )
        .await
        .expect("what is left can be counted")
        .get(0);
    assert_eq!(left, 0);
    assert_eq!(events(&app, acme.id, "tenant.purge").await, 1);
    let twice = tenant(&program, &["purge", "acme", "--yes"]).expect(4);
    assert_eq!(twice.stderr, "rowhouse: no such tenant: acme\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destructive_command_without_a_terminal_needs_yes() {
    let (app, program, _) = fixture().await;
    tenant(&program, &["suspend", "acme"]).expect(0);
    let binary = env!("CARGO_BIN_EXE_rowhouse");
    for verb in ["delete", "purge"] {
        for ran in [
            tenant(&program, &[verb, "acme"]),
            // An answer on stdin does not count unless stdin is a terminal.
            program.run_with_stdin(&["tenant", verb, "acme"], "acme\n"),
            finish_with_open_stdin(program.command(binary, &["tenant", verb, "acme"])),
        ] {
            let ran = ran.expect(2);
            assert!(ran.stderr.contains("pass --yes") && ran.stdout.is_empty(), "{ran:?}");
        }
    }
    assert_eq!(api_tenant(&app, "acme").await["status"], "suspended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_with_an_old_revision_is_refused() {
    let (app, program, acme) = fixture().await;
    let revision = |ran: Completed| ran.expect(0).json()["revision"].to_string();
    let old = revision(tenant(&program, &["show", "acme", "--json"]));
    let new = revision(tenant(&program, &["rename", "acme", "--name", "New", "--json"]));
    assert_ne!(old, new);
    for verb in [
        &["suspend", "acme"][..],
        &["delete", "acme", "--yes"],
        &["rename", "acme", "--name", "Newer"],
    ] {
        let late = tenant(&program, &[verb, &["--if-revision", &old]].concat()).expect(5);
        assert!(late.stderr.contains("tenant acme has changed meanwhile"), "{late:?}");
    }
    assert_eq!(api_tenant(&app, acme.id).await["name"], "New");
    tenant(&program, &["suspend", "acme", "--if-revision", &new]).expect(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_is_found_by_slug_by_id_and_by_its_external_id() {
    let (app, program, acme) = fixture().await;
    let body = json!({ "name": "Globex", "slug": "globex" });
    let path = "/control/v1/tenants/by-external-id/crm%204711";
    assert_eq!(put(&app.root(), path, &body).await.status, 201);
    let by_own_id = ["suspend", "--external-id", "crm 4711", "--json"];
    assert_eq!(tenant(&program, &by_own_id).expect(0).json()["slug"], "globex");
    let id = acme.id.to_string();
    assert_eq!(tenant(&program, &["suspend", &id, "--json"]).expect(0).json()["slug"], "acme");
    for arguments in [
        &["show", "unknown"][..],
        &["show", "--external-id", "unknown"],
        &["rename", "unknown", "--name", "x"],
        &["settings", "unknown"],
        &["suspend", "unknown"],
        &["resume", "unknown"],
        &["delete", "unknown", "--yes"],
        &["restore", "unknown"],
        &["purge", "unknown", "--yes"],
    ] {
        let ran = tenant(&program, arguments).expect(4);
        assert_eq!(ran.stdout, "", "{arguments:?}");
        assert_eq!(ran.stderr, "rowhouse: no such tenant: unknown\n", "{arguments:?}");
    }
}

#[test]
fn a_usage_error_is_reported_without_a_database() {
    let program = Program::embedded();
    for arguments in [
        &["rename", "acme"][..],
        &["rename", "acme", "--slug", "No Slug"],
        &["rename", "acme", "--name", ""],
        &["suspend"],
        &["suspend", "No Slug"],
        &["suspend", "acme", "--external-id", "x"],
        &["suspend", "--external-id", ""],
        &["suspend", "acme", "--if-revision", "old"],
        &["settings", "acme", "--if-revision", "1"],
        &["delete", "acme"],
        &["purge", "acme"],
        &["delete", "No Slug", "--yes"],
    ] {
        let ran = tenant(&program, arguments).expect(2);
        assert!(ran.stdout.is_empty() && !ran.stderr.is_empty(), "{arguments:?}: {ran:?}");
    }
    let both = tenant(&program, &["rename", "acme", "--slug", "No Slug", "--name", ""]).expect(2);
    assert!(both.stderr.contains("--slug") && both.stderr.contains("--name"), "{both:?}");
    let entries = std::fs::read_dir(program.folder()).expect("a folder can be listed");
    assert_eq!(entries.count(), 0);
}
