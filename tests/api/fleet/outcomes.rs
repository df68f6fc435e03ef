//! What becomes of a migration is an audit event, also where no caller asked for it.

use rowhouse::domain::operation::Then;
use rowhouse::service::fleet::{Canary, MigrationRequest};
use serde_json::{Value, json};

use super::fixture::{FAILS, Fixture, SECOND, migrate, no_events};

/// Returns actor, action and details of the events of operations, in the order in which they were written.
async fn events(fixture: &Fixture) -> Vec<(String, String, Value)> {
    let events = "SELECT actor, action, details FROM audit_events WHERE action LIKE 'migration.%'
                   ORDER BY write_order";
    let rows = fixture.sql().await.query(events, &[]).await.expect("events can be read");
    rows.iter().map(|row| (row.get("actor"), row.get("action"), row.get("details"))).collect()
}

fn counts(total: i64, pending: i64, done: i64, failed: i64) -> Value {
    json!({
        "total": total, "pending": pending, "running": 0, "done": done, "failed": failed, "skipped": 0,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_pauses_and_ends_by_itself_says_so() {
    let fixture = Fixture::with(3).await;
    fixture.write(SECOND);
    let backend = fixture.backend(&[]).await;
    let canary = Canary { count: 1, tenants: Vec::new(), then: Then::Pause };
    let request = MigrationRequest { canary: Some(canary), ..MigrationRequest::default() };
    let record = migrate(&backend, &request).await;
    backend.services.fleet.run(&backend.operator(), record.id, no_events()).await.unwrap();
    let told = events(&fixture).await;
    let heads: Vec<_> = told.iter().map(|(actor, action, _)| format!("{actor} {action}")).collect();
    assert_eq!(
        heads,
        [
            "operator migration.start",
            "system migration.pause",
            "operator migration.resume",
            "system migration.finish",
        ]
    );
    let details: Vec<_> = told.iter().map(|(.., details)| details).collect();
    for details in &details {
        assert_eq!(details["operation"], json!(record.id));
    }
    let brief = |details: &Value| {
        (details["state"].clone(), details["reason"].clone(), details["counts"].clone())
    };
    assert_eq!(brief(details[0]), (json!("planned"), Value::Null, counts(3, 3, 0, 0)));
    assert_eq!(brief(details[1]), (json!("paused"), json!("canary"), counts(3, 2, 1, 0)));
    assert_eq!(brief(details[2]), (json!("running"), Value::Null, counts(3, 2, 1, 0)));
    assert_eq!(brief(details[3]), (json!("done"), Value::Null, counts(3, 0, 3, 0)));
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_stops_at_failures_or_ends_with_some_says_so() {
    let fixture = Fixture::with(4).await;
    fixture.write(FAILS);
    let backend = fixture.backend(&[]).await;
    let request =
        MigrationRequest { workers: Some(1), max_failures: Some(3), ..MigrationRequest::default() };
    let record = migrate(&backend, &request).await;
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    fleet.run(&ctx, record.id, no_events()).await.unwrap();
    fleet.cancel(&ctx, record.id).await.unwrap_err();
    let told = events(&fixture).await;
    let outcomes: Vec<_> = told
        .iter()
        .filter(|(actor, ..)| actor == "system")
        .map(|(_, action, details)| {
            (action.as_str(), details["reason"].clone(), details["counts"].clone())
        })
        .collect();
    assert_eq!(outcomes[0], ("migration.pause", json!("max_failures"), counts(4, 1, 0, 3)));
    let (action, _, counted) = &outcomes[1];
    assert_eq!((*action, counted), ("migration.finish", &counts(4, 0, 0, 4)));
    assert_eq!(outcomes.len(), 2);
    backend.close().await;
}
