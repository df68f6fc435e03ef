//! Archives that are uploaded, and the checks of those that are stored.

use reqwest::Method;
use serde_json::{Value, json};

use super::fixture::export;
use super::store::{ended, exported, fetch, files, stored, with_store};
use crate::support::control::assert_problem;
use crate::support::{Answer, Caller, TestApp};

const ARCHIVES: &str = "/control/v1/archives";

async fn upload(caller: &Caller, content: impl Into<reqwest::Body>) -> Answer {
    let request =
        caller.request(Method::POST, ARCHIVES).header("content-type", "application/x-tar");
    crate::support::callers::send(request.body(content)).await
}

#[tokio::test]
async fn an_upload_is_checked_as_it_comes_and_one_that_is_refused_leaves_nothing() {
    let files = files();
    let app = with_store(&files, &[("archives.max_bytes", "1048576")]).spawn().await;
    app.set_up("acme").await;
    let root = app.root();
    let archive = export(&app, "acme").await;
    let mut damaged = archive.clone();
    let middle =
        damaged.windows(4).position(|part| part == b"\x28\xb5\x2f\xfd").expect("a frame") + 40;
    damaged[middle] ^= 1;
    let mut longer = archive.clone();
    longer.push(0);
    for (what, content, status, code) in [
        ("cut off", archive[..archive.len() / 2].to_vec(), 422, "archive_invalid"),
        ("damaged", damaged, 422, "archive_invalid"),
        ("longer", longer, 422, "archive_invalid"),
        ("encrypted", b"age-encryption.org/v1\n".repeat(30), 422, "archive_encrypted"),
        ("another file", b"{}".to_vec(), 422, "archive_invalid"),
        ("nothing", Vec::new(), 422, "archive_invalid"),
        ("announced as too large", vec![0; (1 << 20) + 1], 413, "archive_too_large"),
    ] {
        let refused = upload(&root, content).await;
        assert_eq!(
            (refused.status, &refused.body["code"]),
            (status, &json!(code)),
            "{what}: {refused:?}"
        );
        assert_eq!(stored(&files), Vec::<String>::new(), "{what}");
    }
    assert_eq!(root.get(ARCHIVES).await.body["data"], json!([]));
    // Its key stands for its content.
    let keyed = |content: Vec<u8>| {
        let request = root.request(Method::POST, ARCHIVES).header("idempotency-key", "k");
        crate::support::callers::send(request.body(content))
    };
    let first = keyed(archive.clone()).await;
    assert_eq!((first.status, &first.body["trusted"]), (201, &json!(true)), "{first:?}");
    assert_eq!((&first.body["slug"], &first.body["keep_until"]), (&json!("acme"), &Value::Null));
    let again = keyed(archive.clone()).await;
    assert_eq!(
        (again.status, again.header("idempotent-replayed")),
        (201, Some("true")),
        "{again:?}"
    );
    assert_eq!(again.body["id"], first.body["id"]);
    assert_problem(&keyed(export(&app, "acme").await).await, 422, "idempotency_key_reused");
    assert_eq!(stored(&files).len(), 1);
    let path = format!("{ARCHIVES}/{}", first.body["id"].as_str().unwrap());
    assert_eq!(fetch(&root, &path, &[]).await.bytes().await.unwrap(), archive);
    let uploads = "SELECT count(*)::text FROM audit_events WHERE action = 'archive.upload'
                      AND details->>'manifest_sha256' IS NOT NULL";
    assert_eq!(super::fixture::value(&app.sql().await, uploads).await, "1");
}

#[tokio::test]
async fn an_archive_of_another_installation_is_stored_and_not_trusted() {
    let files = files();
    let app = with_store(&files, &[]).spawn().await;
    let elsewhere = TestApp::spawn().await;
    elsewhere.set_up("acme").await;
    // Databases of tests are cloned with their keys.
    let sql = elsewhere.sql().await;
    sql.batch_execute("DELETE FROM archive_keys").await.unwrap();
    elsewhere.services.signing_keys.rotate(&elsewhere.operator()).await.expect("the operator may");
    let archive = export(&elsewhere, "acme").await;
    let stored = upload(&app.root(), archive).await;
    assert_eq!((stored.status, &stored.body["trusted"]), (201, &json!(false)), "{stored:?}");
}

#[tokio::test]
async fn a_check_finds_a_stored_archive_that_was_changed() {
    let files = files();
    let app = with_store(&files, &[]).spawn().await;
    app.set_up("acme").await;
    let root = app.root();
    let (path, archive) = exported(&root).await;
    let verified = async || {
        let begun = root.post(&format!("{path}/verify"), &json!({})).await;
        assert_eq!(
            (begun.status, &begun.body["check"]["state"]),
            (202, &json!("running")),
            "{begun:?}"
        );
        loop {
            let found = ended(&root, &path).await["check"].clone();
            if found["state"] != "running" {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let passed = verified().await;
    assert_eq!((&passed["state"], &passed["error"]), (&json!("passed"), &Value::Null));
    let file = files.path().join("archives").join(&stored(&files)[0]);
    let mut content = std::fs::read(&file).unwrap();
    let at = content.len() / 2;
    content[at] ^= 1;
    std::fs::write(&file, &content).unwrap();
    assert_eq!(verified().await["state"], "failed");
    std::fs::write(&file, &content[..at]).unwrap();
    let failed = verified().await;
    let why = "the archive is damaged: the archive has another size than the manifest says";
    assert_eq!((&failed["state"], &failed["error"]), (&json!("failed"), &json!(why)));
    std::fs::remove_file(&file).unwrap();
    let gone = root.get(&format!("{path}/content")).await;
    assert_problem(&gone, 503, "store_unavailable");
    assert_eq!(archive["check"], Value::Null);
}
