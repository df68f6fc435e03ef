//! The command line and the store of archives: on a database, and through a server.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::fixture::{run, value};
use super::store::{files, stored, with_store};
use crate::support::{Program, TestApp};

fn local(app: &TestApp, files: &TempDir) -> Program {
    let path = |name: &str| files.path().join(name).display().to_string();
    Program::on(&app.database)
        .with("ROWHOUSE_TENANT_MIGRATIONS", &path("migrations"))
        .with("ROWHOUSE_ARCHIVES__STORE", &path("archives"))
}

fn remote(app: &TestApp) -> Program {
    Program::embedded()
        .with("ROWHOUSE_SERVER", &app.address)
        .with("ROWHOUSE_TOKEN", &app.root_token)
}

/// Returns the names of the fields.
fn fields(view: &Value) -> Vec<String> {
    view.as_object().expect("an object").keys().cloned().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archives_are_kept_alike_on_a_database_and_through_a_server() {
    let files = files();
    let app = with_store(&files, &[]).spawn().await;
    app.set_up("acme").await;
    let mut seen = Vec::new();
    for (name, program) in [("local", local(&app, &files)), ("remote", remote(&app))] {
        let export = ["tenant", "export", "acme", "--to-store", "--json"];
        let without = program.run(&[&export[..], &["--without-members"]].concat()).expect(0).json();
        assert!(without["warnings"][0].as_str().is_some_and(|text| text.contains("members")));
        let id = without["archive"].as_str().expect("an id");
        program.run(&["archive", "delete", id]).expect(0);
        let exported = program.run(&export).expect(0).json();
        let id = exported["archive"].as_str().expect("an id").to_owned();
        let shown = program.run(&["archive", "show", &id, "--json"]).expect(0).json();
        assert_eq!((&shown["state"], &shown["slug"]), (&json!("ready"), &json!("acme")), "{name}");
        assert_eq!(shown["manifest_sha256"], exported["manifest_sha256"], "{name}");
        let list = ["archive", "list", "--tenant", "acme", "--state", "ready", "--json"];
        assert_eq!(program.run(&list).expect(0).json(), json!([shown]), "{name}");
        program.run(&["archive", "fetch", &id, "-o", "fetched.tar"]).expect(0);
        let kept = files.path().join("archives").join(format!("{id}.rowhouse.tar"));
        let fetched = std::fs::read(program.folder().join("fetched.tar")).expect("it was fetched");
        assert_eq!(fetched, std::fs::read(&kept).expect("it is kept"), "{name}");
        let verified = program.run(&["archive", "verify", &id]).expect(0);
        assert!(verified.stdout.contains("is what was stored"), "{verified:?}");
        let slug = format!("copy-{name}");
        let more = ["--name", "Copy", "--external-id", name];
        let import = [&["tenant", "import", &id, "--slug", &slug, "--json"][..], &more].concat();
        let tried = program.run(&[&import[..], &["--dry-run"]].concat()).expect(0).json();
        assert_eq!((&tried["dry_run"], tried.get("id")), (&json!(true), None), "{name}");
        let imported = program.run(&import).expect(0).json();
        assert_eq!((&imported["slug"], &imported["rows"]), (&json!(slug), &json!(1)), "{name}");
        let copy = program.run(&["tenant", "show", &slug, "--json"]).expect(0).json();
        assert_eq!((&copy["name"], &copy["external_id"]), (&json!("Copy"), &json!(name)));
        let imports = ["archive", "imports", "--archive", &id, "--state", "done", "--json"];
        let imports = program.run(&imports).expect(0).json();
        let rows = imports.as_array().expect("a list");
        let shown_as = |row: &Value| (row["slug"].clone(), row["dry_run"].clone());
        let expected = [(json!(slug), json!(false)), (json!(slug), json!(true))];
        assert_eq!(rows.iter().map(shown_as).collect::<Vec<_>>(), expected, "{name}");
        let other = program.run(&["archive", "imports", "--slug", "other"]).expect(0);
        assert!(other.stderr.contains("no imports"), "{other:?}");
        let import_fields = fields(&rows[0]);
        // In place of what the copy has.
        let into = ["tenant", "import", &id, "--into", &slug, "--json"];
        let tried = program.run(&[&into[..], &["--dry-run"]].concat()).expect(0).json();
        assert_eq!((&tried["slug"], tried.get("id")), (&json!(slug), None), "{name}");
        let replaced = program.run(&into).expect(0).json();
        assert_eq!((&replaced["slug"], &replaced["id"]), (&json!(slug), &copy["id"]), "{name}");
        let beside = replaced["kept"].clone();
        let begin = format!("{slug}-before-20");
        assert!(beside["slug"].as_str().is_some_and(|slug| slug.starts_with(&begin)), "{beside}");
        assert_eq!(
            (&beside["status"], beside["expires_at"].is_string()),
            (&json!("suspended"), true)
        );
        let done = ["archive", "imports", "--slug", &slug, "--state", "done", "--json"];
        let done = program.run(&done).expect(0).json();
        assert_eq!(done[0]["report"]["kept"], beside, "{name}");
        // To a file, without an archive that has to be named.
        program.run(&["tenant", "export", "acme"]).expect(0);
        assert!(program.folder().join("acme.rowhouse.tar").exists(), "{name}");
        std::fs::write(&kept, &fetched[..fetched.len() - 1]).expect("it can be damaged");
        let damaged = program.run(&["archive", "verify", &id]).expect(1);
        assert!(damaged.stdout.contains("another size"), "{damaged:?}");
        program.run(&["archive", "delete", &id]).expect(0);
        assert!(!kept.exists(), "{name}");
        program.run(&["archive", "show", &id]).expect(4);
        let (imported, replaced) =
            (fields(&imported), [fields(&replaced), fields(&beside)].concat());
        let tried = fields(&tried);
        seen.push([fields(&exported), fields(&shown), tried, imported, import_fields, replaced]);
        app.sql().await.batch_execute("UPDATE archives SET state = 'deleted'").await.unwrap();
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_imported_through_a_server_in_one_step_which_leaves_no_upload() {
    let files = files();
    let app = with_store(&files, &[]).spawn().await;
    app.set_up("acme").await;
    let (program, sql) = (remote(&app), app.sql().await);
    program.run(&["tenant", "export", "acme"]).expect(0);
    let uploads =
        "SELECT count(*)::text FROM archives WHERE kind = 'upload' AND state <> 'deleted'";
    let (before, left) = (stored(&files), async || value(&sql, uploads).await);
    let import = ["tenant", "import", "acme.rowhouse.tar", "--slug", "copy", "--json"];
    let made = program.run(&import).expect(0).json();
    assert_eq!(
        (&made["slug"], &made["rows"], &made["dry_run"]),
        (&json!("copy"), &json!(1), &json!(false))
    );
    program.run(&["tenant", "show", "copy"]).expect(0);
    // From a pipe, and in place of what a tenant has.
    let piped = "rowhouse tenant import - --into copy --json < acme.rowhouse.tar";
    let replaced: Value =
        serde_json::from_str(program.shell(piped).expect(0).stdout.trim()).expect("JSON");
    assert_eq!(replaced["id"], made["id"], "{replaced}");
    assert_eq!((stored(&files), left().await), (before.clone(), "0".to_owned()));
    // What is refused leaves nothing either.
    let state = super::fixture::state(&sql).await;
    let taken = program.run(&import).expect(5).stderr;
    assert!(taken.contains(r#""code":"slug_taken""#), "{taken}");
    let archive = std::fs::read(program.folder().join("acme.rowhouse.tar")).expect("it is there");
    std::fs::write(program.folder().join("bad.tar"), &archive[..archive.len() / 2])
        .expect("a file");
    let bad = ["tenant", "import", "bad.tar", "--slug", "bad", "--json"];
    let refused = program.run(&bad).expect(2).stderr;
    assert!(refused.contains(r#""code":"archive_invalid""#), "{refused}");
    program.run(&["tenant", "import", "none.tar", "--slug", "none"]).expect(2);
    assert_eq!((stored(&files), left().await), (before.clone(), "0".to_owned()));
    assert_eq!(super::fixture::state(&sql).await, state);
    // It stays where that is asked for.
    let keep = ["tenant", "import", "acme.rowhouse.tar", "--slug", "kept", "--keep-upload"];
    assert!(program.run(&keep).expect(0).stderr.contains("stays in the store"));
    assert_eq!((stored(&files).len(), left().await), (before.len() + 1, "1".to_owned()));
    local(&app, &files).run(&keep).expect(2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_and_a_killed_process_leave_no_archive() {
    let files = files();
    let app = with_store(&files, &[]).spawn().await;
    let acme = app.set_up("acme").await;
    let (program, mut sql) = (local(&app, &files), app.sql().await);
    run(
        &sql,
        &format!(
            "INSERT INTO {}.notes (body) SELECT md5(n::text) FROM generate_series(1, 5000) n",
            acme.schema()
        ),
    )
    .await;
    // A file may have 64 KiB, as if the disk ended there.
    let full = "trap '' XFSZ; ulimit -f 128; rowhouse tenant export acme --to-store --json";
    let full = program.shell(full).expect(1);
    let failure: Value = serde_json::from_str(full.stderr.trim()).expect("the failure is JSON");
    assert_eq!(failure["error"]["code"], "insufficient_storage", "{full:?}");
    assert_eq!(stored(&files), Vec::<String>::new());
    // One that waits for a table, and is killed.
    let lock = sql.transaction().await.unwrap();
    lock.batch_execute(&format!("LOCK TABLE {}.notes IN ACCESS EXCLUSIVE MODE", acme.schema()))
        .await
        .unwrap();
    let export = ["tenant", "export", "acme", "--to-store"];
    let mut child = program
        .command(env!("CARGO_BIN_EXE_rowhouse"), &export)
        .env("ROWHOUSE_DATABASE__LOCK_TIMEOUT", "30s")
        .spawn()
        .expect("it starts");
    while stored(&files).is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
    lock.rollback().await.unwrap();
    assert!(stored(&files).iter().all(|name| name.contains(".part")), "{:?}", stored(&files));
    run(&sql, "UPDATE archives SET lease_until = now() WHERE state = 'running'").await;
    app.services.stored_archives.sweep(&app.operator()).await.unwrap();
    assert_eq!(stored(&files), Vec::<String>::new());
    let states =
        "SELECT string_agg(state || ' ' || error_code, ', ' ORDER BY created_at) FROM archives";
    assert_eq!(value(&sql, states).await, "failed insufficient_storage, failed server_gone");
    let open = "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database()
                   AND pid <> pg_backend_pid() AND backend_xmin IS NOT NULL";
    while value(&sql, open).await != "0" {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
