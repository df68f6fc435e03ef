//! Each test has a tenant of its own, on the application as it runs.

use rowhouse::Role;
use rowhouse::testing::{Reply, TestServer, TestTenant};
use serde_json::{Value, json};
use uuid::Uuid;

async fn notebook(t: &TestTenant, title: &str) -> String {
    let added = t.post("/notebooks", json!({ "title": title })).await.expect(201);
    format!("/notebooks/{}/notes", added["id"].as_str().unwrap())
}

async fn add(t: &TestTenant, notes: &str, title: &str) -> Reply {
    t.post(notes, json!({ "title": title, "body": "words of a body", "tags": ["a"] })).await
}

fn path(note: &Reply) -> String {
    format!("/notes/{}", note["id"].as_str().unwrap())
}

fn titles(notes: &Value) -> Vec<&str> {
    notes.as_array().unwrap().iter().map(|note| note["title"].as_str().unwrap()).collect()
}

#[rowhouse::test(notes::application)]
async fn a_new_tenant_has_an_inbox(t: TestTenant) {
    let notebooks = t.get("/notebooks").await.expect(200);
    assert_eq!(titles(&notebooks.body), ["Inbox"]);
}

#[rowhouse::test(notes::application)]
async fn a_notebook_is_listed_by_title(t: TestTenant) {
    notebook(&t, "Work").await;
    notebook(&t, "Home").await;
    assert_eq!(titles(&t.get("/notebooks").await.body), ["Home", "Inbox", "Work"]);
}

#[rowhouse::test(notes::application)]
async fn a_title_is_unique(t: TestTenant) {
    notebook(&t, "Work").await;
    let taken = t.post("/notebooks", json!({ "title": "Work" })).await.expect(409);
    assert_eq!(taken["code"], "title_taken");
}

#[rowhouse::test(notes::application)]
async fn a_viewer_may_not_add(t: TestTenant) {
    let viewer = t.member(Role::Viewer).await;
    viewer.post("/notebooks", json!({ "title": "x" })).await.expect(403);
    viewer.get("/notebooks").await.expect(200);
}

#[rowhouse::test(notes::application)]
async fn a_caller_without_a_credential_is_refused(t: TestTenant) {
    t.anonymous().get("/notebooks").await.expect(401);
}

#[rowhouse::test(notes::application)]
async fn another_tenant_sees_nothing(t: TestTenant) {
    let note = add(&t, &notebook(&t, "Work").await, "Secret").await.expect(201);
    t.other_tenant().await.get(&path(&note)).await.expect(404);
}

#[rowhouse::test(notes::application)]
async fn a_note_is_read_with_its_tags(t: TestTenant) {
    let note = add(&t, &notebook(&t, "Work").await, "One").await.expect(201);
    let read = t.get(&path(&note)).await.expect(200);
    assert_eq!((&read["title"], &read["tags"]), (&json!("One"), &json!(["a"])));
}

#[rowhouse::test(notes::application)]
async fn a_note_needs_a_title(t: TestTenant) {
    let blank = add(&t, &notebook(&t, "Work").await, " ").await.expect(400);
    assert_eq!(blank["errors"][0]["code"], "blank");
}

#[rowhouse::test(notes::application)]
async fn a_body_without_a_title_names_the_field(t: TestTenant) {
    let refused = t.post(&notebook(&t, "Work").await, json!({ "body": "x" })).await.expect(400);
    assert_eq!(refused["errors"][0]["field"], "title");
}

#[rowhouse::test(notes::application)]
async fn a_note_needs_a_notebook(t: TestTenant) {
    let nowhere = format!("/notebooks/{}/notes", Uuid::now_v7());
    let missing = add(&t, &nowhere, "One").await.expect(404);
    assert_eq!(missing["message"], "Notebook not found");
}

#[rowhouse::test(notes::application)]
async fn two_notes_of_a_notebook_differ_in_title(t: TestTenant) {
    let work = notebook(&t, "Work").await;
    add(&t, &work, "One").await.expect(201);
    add(&t, &work, "One").await.expect(409);
}

#[rowhouse::test(notes::application)]
async fn a_refused_note_leaves_no_tags(t: TestTenant) {
    let work = notebook(&t, "Work").await;
    add(&t, &work, "One").await.expect(201);
    add(&t, &work, "One").await.expect(409);
    assert_eq!(t.rows("SELECT name FROM tags", &[]).await.len(), 1);
}

#[rowhouse::test(notes::application)]
async fn notes_are_listed_in_pages(t: TestTenant) {
    let work = notebook(&t, "Work").await;
    for number in 0..51 {
        add(&t, &work, &format!("note {number}")).await.expect(201);
    }
    let first = t.get(&work).await.expect(200);
    let next = first["next"].as_str().unwrap();
    let second = t.get(&format!("{work}?after={next}")).await.expect(200);
    assert_eq!((titles(&second["notes"]), &second["next"]), (vec!["note 50"], &Value::Null));
}

#[rowhouse::test(notes::application)]
async fn a_page_after_no_note_is_refused(t: TestTenant) {
    let work = notebook(&t, "Work").await;
    t.get(&format!("{work}?after=nonsense")).await.expect(400);
}

#[rowhouse::test(notes::application)]
async fn words_are_found_in_title_and_body(t: TestTenant) {
    add(&t, &notebook(&t, "Work").await, "Shopping").await.expect(201);
    assert_eq!(titles(&t.get("/notes?q=shopping").await.body), ["Shopping"]);
    assert_eq!(titles(&t.get("/notes?q=words+body").await.body), ["Shopping"]);
    assert_eq!(titles(&t.get("/notes?q=absent").await.body), Vec::<&str>::new());
}

#[rowhouse::test(notes::application)]
async fn a_deleted_note_is_not_found(t: TestTenant) {
    let note = add(&t, &notebook(&t, "Work").await, "One").await.expect(201);
    t.delete(&path(&note)).await.expect(204);
    t.get(&path(&note)).await.expect(404);
}

#[rowhouse::test(notes::application)]
async fn only_who_has_the_permission_may_delete(t: TestTenant) {
    let note = add(&t, &notebook(&t, "Work").await, "One").await.expect(201);
    let refused = t.member(Role::Fde).await.delete(&path(&note)).await.expect(403);
    assert_eq!(refused["message"], "Missing permission: NOTES_DELETE");
}

#[rowhouse::test(notes::application)]
async fn the_templates_are_shared_by_all_tenants(t: TestTenant) {
    assert_eq!(t.get("/templates").await.expect(200).body, json!(["Home", "Work"]));
}

#[rowhouse::test(notes::application)]
async fn the_other_dialects_are_not_there(t: TestTenant) {
    t.post("/v2/UserGet", json!({})).await.expect(404);
}

#[rowhouse::test(notes::application)]
async fn what_is_added_is_counted(t: TestTenant) {
    add(&t, &notebook(&t, "Work").await, "One").await.expect(201);
    assert!(t.get("/metrics").await.expect(200).text.contains("notes_added_total"));
}

#[rowhouse::test(notes::application)]
async fn the_command_erases_what_was_deleted(server: TestServer) {
    let t = server.tenant().await;
    let note = add(&t, &notebook(&t, "Work").await, "One").await.expect(201);
    t.delete(&path(&note)).await.expect(204);
    let mut sweep = server.program(env!("CARGO_BIN_EXE_notes"));
    assert!(sweep.arg("sweep").env("APP__KEEP_DAYS", "-1").status().unwrap().success());
    assert_eq!(t.rows("SELECT id FROM notes", &[]).await.len(), 0);
}
