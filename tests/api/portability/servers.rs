//! Archives go from one version of PostgreSQL to another, and back.
//!
//! `ROWHOUSE_ARCHIVE_FOLDER` is a folder in which runs on several servers (`TEST_DATABASE_URL`) leave an archive each: every
//! run imports what it finds there.

use std::path::PathBuf;

use rowhouse::service::archives::MemberPolicy;

use super::fixture::{app_of, command, digests, export, import, manifest, run, schema_of, value};
use super::types::{FILES, ROWS};

#[tokio::test]
async fn an_archive_comes_back_on_other_versions_of_the_server() {
    let shared = std::env::var_os("ROWHOUSE_ARCHIVE_FOLDER").map(PathBuf::from);
    let own = tempfile::tempdir().expect("a folder can be made");
    let folder = shared.unwrap_or_else(|| own.path().to_owned());
    let (app, _files) = app_of(&FILES).await;
    let sql = app.sql().await;
    let schema = schema_of(&sql, "acme").await;
    run(&sql, &format!("SET search_path = {schema}, extensions; {ROWS}; RESET search_path")).await;
    let version = value(&sql, "SHOW server_version_num").await;
    let (archive, keys) = (export(&app, "acme").await, "/.well-known/jwks.json");
    let keys = app.anonymous().get(keys).await.body.to_string();
    std::fs::write(folder.join(format!("{version}.jwks")), keys).expect("it can be written");
    std::fs::write(folder.join(format!("{version}.tar")), &archive).expect("it can be written");
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(&folder).expect("it can be read") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "tar") {
            continue;
        }
        let of = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let archive = std::fs::read(&path).expect("it can be read");
        let mut command = command(&format!("of-{of}"));
        let keys = std::fs::read_to_string(path.with_extension("jwks"));
        command.trust = Some(keys.expect("the keys are beside it"));
        command.members = MemberPolicy::None;
        let imported = import(&app, &command, &archive).await;
        imported.unwrap_or_else(|error| panic!("{of} on {version}: {}", error.chain()));
        let again = export(&app, command.slug.as_str()).await;
        assert_eq!(digests(&archive), digests(&again), "{of} on {version}");
        assert_eq!(
            manifest(&archive)["sequences"],
            manifest(&again)["sequences"],
            "{of} on {version}"
        );
        seen.push(of);
    }
    assert!(seen.contains(&version), "{seen:?}");
    println!("on {version}: archives of {}", seen.join(", "));
}
