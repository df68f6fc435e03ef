//! `rowhouse member list|add|set-role|remove`, compared with what the HTTP API answers.

use serde_json::json;

use crate::support::control::events;
use crate::support::{Completed, PASSWORD, Program, TestApp, TestTenant};

const ADDRESS: &str = "una@example.com";

async fn fixture() -> (TestApp, Program, TestTenant) {
    let app = TestApp::spawn().await;
    let program = Program::on(&app.database);
    let acme = app.set_up("acme").await;
    (app, program, acme)
}

fn member(program: &Program, arguments: &[&str]) -> Completed {
    program.run(&[&["member"], arguments].concat())
}

/// Returns the members from the control-plane API, each as `address: role`.
async fn api_members(app: &TestApp) -> Vec<String> {
    let answer = app.root().get("/control/v1/tenants/acme/members").await;
    let rows = answer.body["data"].as_array().expect("there is data").clone();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    rows.iter().map(|row| format!("{}: {}", text(&row["email"]), text(&row["role"]))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_becomes_a_member_changes_role_and_leaves() {
    let (app, program, acme) = fixture().await;
    let user = app.add_user(ADDRESS, None).await;
    let id = user.to_string();
    let added = member(&program, &["add", "acme", "UNA@example.com", "--role", "viewer", "--json"]);
    let added = added.expect(0).json();
    assert_eq!(
        (&added["user_id"], &added["email"], &added["role"], &added["first_name"]),
        (&json!(user), &json!(ADDRESS), &json!("VIEWER"), &json!("Una"))
    );
    let admin = format!("{}: ADMIN", acme.admin_email);
    assert_eq!(api_members(&app).await, [admin.clone(), format!("{ADDRESS}: VIEWER")]);
    let twice = member(&program, &["add", "acme", ADDRESS, "--role", "ADMIN"]).expect(5);
    assert!(twice.stderr.contains("already a member of acme"), "{twice:?}");

    let raised = member(&program, &["set-role", "acme", ADDRESS, "FDE", "--json"]).expect(0).json();
    assert_eq!(raised["role"], "FDE");
    let by_id = acme.id.to_string();
    member(&program, &["set-role", &by_id, &id, "FDE"]).expect(0);
    assert_eq!(api_members(&app).await, [admin.clone(), format!("{ADDRESS}: FDE")]);
    let list = member(&program, &["list", "acme", "--json"]).expect(0).json();
    assert_eq!((&list[0]["email"], &list[1]["role"]), (&json!(acme.admin_email), &json!("FDE")));
    let table = member(&program, &["list", "acme"]).expect(0).stdout;
    assert!(table.starts_with("EMAIL") && table.contains(&id), "{table}");

    let removed = member(&program, &["remove", "acme", &id, "--json"]).expect(0).json();
    assert_eq!(removed, json!({ "user_id": user, "removed": true }));
    assert_eq!(api_members(&app).await, [admin]);
    for user in [ADDRESS, &id] {
        let twice = member(&program, &["remove", "acme", user]).expect(4);
        assert_eq!(twice.stderr, format!("rowhouse: tenant acme has no such member: {user}\n"));
    }
    for action in ["member.add", "member.set_role", "member.remove"] {
        assert_eq!(events(&app, acme.id, action).await, 1, "{action}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_is_created_with_a_password_from_stdin_and_an_existing_user_keeps_the_old_password()
{
    let (app, program, _) = fixture().await;
    let command = [
        "member",
        "add",
        "acme",
        ADDRESS,
        "--role",
        "FDE",
        "--first-name",
        "Una",
        "--last-name",
        "User",
    ];
    let missing = program.run(&command).expect(2);
    assert!(missing.stderr.contains("--password-stdin"), "{missing:?}");
    let short =
        program.run_with_stdin(&[&command[..], &["--password-stdin"]].concat(), "x\n").expect(2);
    assert!(short.stderr.contains("the member's password must have"), "{short:?}");
    assert!(!api_members(&app).await.iter().any(|row| row.contains(ADDRESS)));

    let with_password = |password: &str| {
        let line = format!("{password}\n");
        program.run_with_stdin(&[&command[..], &["--password-stdin"]].concat(), &line)
    };
    let made = with_password(PASSWORD).expect(0);
    assert!(!made.stdout.contains(PASSWORD) && !made.stderr.contains(PASSWORD), "{made:?}");
    app.log_in(ADDRESS).await;
    member(&program, &["remove", "acme", ADDRESS]).expect(0);
    with_password("another password").expect(0);
    app.log_in(ADDRESS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_admin_cannot_be_removed_and_an_unknown_user_cannot_be_added() {
    let (app, program, acme) = fixture().await;
    let admin = acme.admin_email.as_str();
    for last in [&["remove", "acme", admin][..], &["set-role", "acme", admin, "VIEWER"]] {
        let ran = member(&program, last).expect(5);
        assert_eq!(ran.stderr, "rowhouse: a tenant keeps its last admin\n");
    }
    let unknown = member(&program, &["add", "acme", "no@body.com", "--role", "FDE"]).expect(4);
    assert!(unknown.stderr.contains("no user has the e-mail address no@body.com"), "{unknown:?}");
    for arguments in [
        &["list", "unknown"][..],
        &["add", "unknown", admin, "--role", "FDE"],
        &["set-role", "unknown", admin, "FDE"],
        &["remove", "unknown", admin],
    ] {
        let ran = member(&program, arguments).expect(4);
        assert_eq!(ran.stderr, "rowhouse: no such tenant: unknown\n", "{arguments:?}");
    }
    assert_eq!(api_members(&app).await, [format!("{admin}: ADMIN")]);
}

#[test]
fn a_usage_error_is_reported_without_a_database() {
    let program = Program::embedded();
    for arguments in [
        &["list"][..],
        &["list", "No Slug"],
        &["add", "acme", "una", "--role", "FDE"],
        &["add", "acme", ADDRESS],
        &["add", "acme", ADDRESS, "--role", "SUPER_ADMIN"],
        &["add", "acme", ADDRESS, "--role", "FDE", "--first-name", "Una"],
        &["add", "acme", ADDRESS, "--role", "FDE", "--password-stdin"],
        &["set-role", "acme", ADDRESS, "BOSS"],
        &["set-role", "acme", "una", "FDE"],
        &["remove", "acme"],
        &["remove", "No Slug", ADDRESS],
    ] {
        let ran = member(&program, arguments).expect(2);
        assert!(ran.stdout.is_empty() && !ran.stderr.is_empty(), "{arguments:?}: {ran:?}");
    }
}
