//! Concurrent load: many tasks, several tenants, few connections, futures dropped at random, and panics.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use rowhouse::pg::rules::Isolation;

use super::fixture::{Fixture, STATEMENT_MODES, secret};
use super::session_state::{HANDLERS, Random, drop_after, handle};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_concurrent_load_each_query_returns_its_own_tenants_rows() {
    const TASKS: u64 = 16;
    const ROUNDS: usize = 60;
    let fixture = Arc::new(Fixture::build(Isolation::Role, 4).await);
    for statements in STATEMENT_MODES {
        let db = fixture.db(statements, 3);
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let (db, fixture) = (db.clone(), Arc::clone(&fixture));
                tokio::spawn(async move {
                    let mut random = Random::new(task);
                    let mut answers = 0;
                    for round in 0..ROUNDS {
                        let at = usize::try_from(random.below(4)).expect("four fits");
                        let tenant = fixture.tenants[at];
                        let which = usize::try_from(random.below(16)).expect("sixteen fits");
                        if which < HANDLERS {
                            let polls = usize::try_from(random.below(10)).expect("ten fits");
                            let work = handle(&db, tenant, which);
                            let work = std::panic::AssertUnwindSafe(work).catch_unwind();
                            let _ = drop_after(polls, work).await;
                            continue;
                        }
                        let tx = db.tenant(tenant).await.expect("a connection can be had");
                        if round % 3 == 0 {
                            tokio::time::sleep(Duration::from_micros(random.below(500))).await;
                        }
                        let rows = tx
                            .query_and_commit("SELECT body, current_user::text FROM notes", &[])
                            .await
                            .expect("a query runs");
                        assert_eq!(rows.len(), 3);
                        for row in &rows {
                            assert_eq!(row.get::<_, String>(0), secret(tenant));
                            assert_eq!(row.get::<_, String>(1), super::fixture::schema(tenant));
                        }
                        answers += 1;
                    }
                    answers
                })
            })
            .collect();
        let mut answers = 0;
        for task in tasks {
            answers += task.await.expect("no answer was wrong");
        }
        assert!(answers > 200, "only {answers} answers were checked");
    }
}
