//! Everything at once: many tasks, several tenants, few connections, random cuts and panics.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use rowhouse::pg::rules::Isolation;

use super::house::{House, MODES, secret};
use super::leaks::{Dice, HANDLERS, cut_after, handle};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_crowd_every_answer_is_the_callers_own() {
    const TASKS: u64 = 16;
    const ROUNDS: usize = 60;
    let house = Arc::new(House::build(Isolation::Role, 4).await);
    for statements in MODES {
        let db = house.door(statements, 3);
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let (db, house) = (db.clone(), Arc::clone(&house));
                tokio::spawn(async move {
                    let mut dice = Dice::new(task);
                    let mut answers = 0;
                    for round in 0..ROUNDS {
                        let at = usize::try_from(dice.below(4)).expect("four fits");
                        let tenant = house.tenants[at];
                        let which = usize::try_from(dice.below(16)).expect("sixteen fits");
                        if which < HANDLERS {
                            let polls = usize::try_from(dice.below(10)).expect("ten fits");
                            let work = handle(&db, tenant, which);
                            let work = std::panic::AssertUnwindSafe(work).catch_unwind();
                            let _ = cut_after(polls, work).await;
                            continue;
                        }
                        let tx = db.tenant(tenant).await.expect("a connection can be had");
                        if round % 3 == 0 {
                            tokio::time::sleep(Duration::from_micros(dice.below(500))).await;
                        }
                        let rows = tx
                            .query_and_commit("SELECT body, current_user::text FROM notes", &[])
                            .await
                            .expect("a query runs");
                        assert_eq!(rows.len(), 3);
                        for row in &rows {
                            assert_eq!(row.get::<_, String>(0), secret(tenant));
                            assert_eq!(row.get::<_, String>(1), super::house::schema(tenant));
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
