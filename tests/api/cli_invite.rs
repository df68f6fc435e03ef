//! `rowhouse invite create|list|revoke`, compared with what the HTTP API answers.

use serde_json::json;

use crate::support::control::{assert_problem, events};
use crate::support::invited::{accept_as_person, invitations};
use crate::support::{Completed, Program, TestApp};

fn invite(program: &Program, arguments: &[&str]) -> Completed {
    program.run(&[&["invite"], arguments].concat())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invitation_is_created_listed_accepted_and_revoked() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let program = Program::on(&app.database);
    let made = invite(&program, &["create", "acme", "Bo@example.com", "--role", "fde"]).expect(0);
    let token = made.stdout.trim().to_owned();
    assert!(token.starts_with("rhi_") && !made.stderr.contains(&token), "{made:?}");
    let by_id = acme.id.to_string();
    let json = ["create", &by_id, "cy@example.com", "--role", "ADMIN", "--json"];
    let second = invite(&program, &json).expect(0).json();
    assert_eq!(
        (&second["email"], &second["role"], &second["created_by"], &second["tenant_id"]),
        (&json!("cy@example.com"), &json!("ADMIN"), &json!("operator"), &json!(acme.id))
    );
    assert_eq!(accept_as_person(&app, &token).await.status, 200);

    let id = second["id"].as_str().unwrap();
    for _ in 0..2 {
        let revoked = invite(&program, &["revoke", "acme", id, "--json"]).expect(0).json();
        assert_eq!(revoked, json!({ "id": id, "revoked": true }));
    }
    let refused = accept_as_person(&app, second["token"].as_str().unwrap()).await;
    assert_problem(&refused, 410, "invitation_revoked");
    let listed = invite(&program, &["list", "acme", "--json"]).expect(0);
    assert!(!listed.stdout.contains("rhi_"), "{listed:?}");
    let (listed, answered) = (listed.json(), app.root().get(&invitations("acme")).await);
    for (row, (printed_as, answered_as)) in [0, 1].into_iter().flat_map(|row| {
        [
            ("id", "id"),
            ("accepted_at", "accepted_at"),
            ("revoked_at", "revoked_at"),
            ("expires_at", "expires_at"),
        ]
        .map(|pair| (row, pair))
    }) {
        assert_eq!(listed[row][printed_as], answered.body["data"][row][answered_as], "{listed}");
    }
    let table = invite(&program, &["list", "acme"]).expect(0).stdout;
    assert!(table.starts_with("ID") && table.contains("bo@example.com"), "{table}");
    for (action, count) in
        [("invitation.create", 2), ("invitation.accept", 1), ("invitation.revoke", 1)]
    {
        assert_eq!(events(&app, acme.id, action).await, count, "{action}");
    }
    let used = listed[0]["id"].as_str().unwrap();
    let used_twice = invite(&program, &["revoke", "acme", used]).expect(5);
    assert_eq!(used_twice.stderr, format!("rowhouse: invitation {used} is used already\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_tenant_and_an_unknown_invitation_are_named() {
    let app = TestApp::spawn().await;
    app.set_up("acme").await;
    let program = Program::on(&app.database);
    let id = "6f2c1f6e-3a5b-4d0c-9b1e-0a2b3c4d5e6f";
    for arguments in [
        &["create", "unknown", "bo@example.com", "--role", "FDE"][..],
        &["list", "unknown"],
        &["revoke", "unknown", id],
    ] {
        let ran = invite(&program, arguments).expect(4);
        assert_eq!(ran.stderr, "rowhouse: no such tenant: unknown\n", "{arguments:?}");
    }
    let ran = invite(&program, &["revoke", "acme", id]).expect(4);
    assert_eq!(ran.stderr, format!("rowhouse: tenant acme has no such invitation: {id}\n"));
    let none = invite(&program, &["list", "acme"]).expect(0);
    assert_eq!((none.stdout.as_str(), none.stderr.as_str()), ("", "no invitations\n"));
}

#[test]
fn a_usage_error_is_reported_without_a_database() {
    let program = Program::embedded();
    for arguments in [
        &["list"][..],
        &["list", "No Slug"],
        &["create", "acme", "una", "--role", "FDE"],
        &["create", "acme", "una@example.com"],
        &["create", "acme", "una@example.com", "--role", "SUPER_ADMIN"],
        &["create", "No Slug", "una@example.com", "--role", "FDE"],
        &["revoke", "acme"],
        &["revoke", "acme", "no-id"],
    ] {
        let ran = invite(&program, arguments).expect(2);
        assert!(ran.stdout.is_empty() && !ran.stderr.is_empty(), "{arguments:?}: {ran:?}");
    }
}
