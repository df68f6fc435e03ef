//! A rehearsal tells what would happen and leaves nothing.

use rowhouse::domain::{SchemaName, TenantId};

use super::ground::{Ground, SECOND};
use crate::support::Snapshot;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rehearsal_runs_the_files_and_takes_them_back() {
    let ground = Ground::with(2).await;
    ground.write(SECOND);
    ground.write((
        "V3__index.sql",
        "-- rowhouse: no-transaction\nCREATE INDEX CONCURRENTLY notes_runs_idx ON notes (runs);",
    ));
    let backend = ground.backend(&[]).await;
    let sql = ground.sql().await;
    let before = Snapshot::take(&sql).await;
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let files = Ok(vec!["V2__add_mood.sql".to_owned(), "V3__index.sql".to_owned()]);
    let first = fleet.rehearse(&ctx, None).await.unwrap().unwrap();
    assert_eq!((first.schema.as_str(), &first.outcome), (ground.schema(0).as_str(), &files));
    let named = fleet.rehearse(&ctx, Some("t1")).await.unwrap().unwrap();
    assert_eq!((named.schema.as_str(), &named.outcome), (ground.schema(1).as_str(), &files));
    let schema = SchemaName::of(TenantId::new(ground.tenants[1]));
    assert_eq!(fleet.rehearse_on(&ctx, &schema).await.unwrap().outcome, files);
    assert_eq!(Snapshot::take(&sql).await, before);
    assert_eq!((ground.runs().await, ground.versions(0).await), (vec![0, 0], vec![1]));
    assert!(fleet.rehearse(&ctx, Some("nobody")).await.is_err());
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rehearsal_names_the_file_and_the_line_that_would_fail() {
    let ground = Ground::with(1).await;
    ground.write(("V2__break.sql", "UPDATE notes SET runs = 5;\n\nSELECT nonsense\n  FROM notes;"));
    let backend = ground.backend(&[]).await;
    let rehearsed = backend.services.fleet.rehearse(&backend.operator(), None).await;
    let reason = rehearsed.unwrap().unwrap().outcome.unwrap_err();
    assert!(reason.starts_with("V2__break.sql, line 3: column \"nonsense\""), "{reason}");
    assert_eq!(ground.runs().await, [0]);
    backend.close().await;
}
