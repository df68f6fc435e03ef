//! What the next borrower of a connection finds after one that went wrong: on a pool of one connection,
//! so that there is no doubt which connection it is.

use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use rowhouse::domain::names::TenantId;
use rowhouse::pg::rules::{Isolation, Statements};
use rowhouse::pg::{Db, Failure, Param};
use tokio_postgres::types::{IsNull, ToSql, Type};

use super::house::{
    House, MODES, next_borrower_finds, next_borrower_finds_quickly, schema, secret,
};

/// Handlers that end in every way there is. None of them commits what it writes.
pub const HANDLERS: usize = 8;

pub async fn handle(db: &Db, tenant: TenantId, which: usize) -> Result<(), Failure> {
    const WRITE: &str = "INSERT INTO notes (id, body) VALUES (gen_random_uuid(), 'uncommitted')";
    let tx = db.tenant(tenant).await?;
    match which % HANDLERS {
        0 => {
            let rows = tx.query("SELECT body FROM notes", &[]).await?;
            assert!(rows.iter().all(|row| row.get::<_, String>(0) == secret(tenant)));
            tx.commit().await
        }
        1 => {
            let rows = tx.query_and_commit("SELECT body FROM notes WHERE true", &[]).await?;
            assert!(rows.iter().all(|row| row.get::<_, String>(0) == secret(tenant)));
            Ok(())
        }
        2 => {
            tx.execute(WRITE, &[]).await?;
            tx.query("SELECT body FROM notes", &[]).await?;
            Ok(()) // a forgotten commit
        }
        3 => {
            tx.execute(WRITE, &[]).await?;
            tx.query("SELECT 1 / 0", &[]).await?;
            tx.commit().await
        }
        4 => {
            tx.execute(WRITE, &[]).await?;
            // Unlike panic! it does not print.
            std::panic::resume_unwind(Box::new("a panic between two statements"))
        }
        5 => {
            tx.execute(WRITE, &[]).await?;
            let _ = tx.query("SELECT 1 / 0", &[]).await;
            tx.commit().await // of a failed transaction
        }
        6 => {
            let two = futures_util::future::join(
                tx.query("SELECT body FROM notes", &[]),
                tx.execute(WRITE, &[]),
            );
            let (one, other) = two.await;
            one?;
            other?;
            Ok(())
        }
        _ => {
            tx.execute(WRITE, &[]).await?;
            tx.query_and_commit("SELECT $1 / 0", &[&1_i32]).await.map(drop)
        }
    }
}

/// Polls a future at most so many times and then drops it. None where it was cut.
pub async fn cut_after<T>(polls: usize, work: impl Future<Output = T>) -> Option<T> {
    let mut work = Box::pin(work);
    let mut left = polls;
    std::future::poll_fn(move |cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match work.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Drops a future at a moment; by the clock and not by tokio's timer, which counts in milliseconds.
async fn cut_at<T>(until: Instant, work: impl Future<Output = T>) -> Option<T> {
    let mut work = Box::pin(work);
    std::future::poll_fn(move |cx| {
        if let Poll::Ready(outcome) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(outcome));
        }
        if Instant::now() >= until {
            return Poll::Ready(None);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// Numbers that look random and are the same in every run.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % limit
    }
}

async fn written_without_a_commit(house: &House) -> String {
    let tables: Vec<String> = house
        .tenants
        .iter()
        .map(|t| format!("SELECT body FROM {}.notes WHERE body = 'uncommitted'", schema(*t)))
        .collect();
    house.ask(&format!("SELECT count(*) FROM ({}) x", tables.join(" UNION ALL "))).await
}

#[tokio::test]
async fn errors_rollbacks_and_panics_leave_nothing_to_the_next_borrower() {
    let house = House::build(Isolation::Role, 2).await;
    for statements in MODES {
        let db = house.door(statements, 1);
        let clean = next_borrower_finds(&db).await;
        assert!(clean.contains("rowhouse_runtime") && clean.contains("\nt\n"), "{clean}");
        for which in 0..HANDLERS * 4 {
            let tenant = house.tenants[which / HANDLERS % 2];
            let work = std::panic::AssertUnwindSafe(handle(&db, tenant, which)).catch_unwind();
            let outcome = work.await;
            let goes_well = matches!(which % HANDLERS, 0..=2 | 6);
            let went_well = matches!(outcome, Ok(Ok(())));
            assert_eq!(went_well, goes_well, "{which} in {statements:?}: {outcome:?}");
            assert_eq!(next_borrower_finds(&db).await, clean, "{which} in {statements:?}");
        }
    }
    assert_eq!(written_without_a_commit(&house).await, "0");
}

#[tokio::test]
async fn a_future_dropped_after_any_number_of_polls_leaves_nothing_to_the_next_borrower() {
    const MOST_POLLS: usize = 12;
    const REPEATS: usize = 3;
    let house = House::build(Isolation::Role, 2).await;
    let mut cut = 0;
    for statements in MODES {
        let db = house.door(statements, 1);
        let clean = next_borrower_finds_quickly(&db).await;
        for round in 0..REPEATS * HANDLERS * MOST_POLLS {
            let (which, polls) = (round % HANDLERS, round / HANDLERS % MOST_POLLS);
            let tenant = house.tenants[round % 2];
            let work = std::panic::AssertUnwindSafe(handle(&db, tenant, which)).catch_unwind();
            cut += usize::from(cut_after(polls, work).await.is_none());
            let found = next_borrower_finds_quickly(&db).await;
            assert_eq!(found, clean, "{which} cut after {polls} polls in {statements:?}");
        }
    }
    assert!(cut > 100, "only {cut} were cut at all");
    assert_eq!(written_without_a_commit(&house).await, "0");
}

#[tokio::test]
async fn a_future_dropped_at_a_random_moment_leaves_nothing_to_the_next_borrower() {
    const ROUNDS: usize = 400;
    let house = House::build(Isolation::Role, 2).await;
    let mut dice = Dice::new(7);
    let mut cut = 0;
    for statements in MODES {
        let db = house.door(statements, 1);
        let clean = next_borrower_finds_quickly(&db).await;
        for round in 0..ROUNDS {
            let (which, tenant) = (round % HANDLERS, house.tenants[round % 2]);
            let patience = Duration::from_micros(dice.below(1_500));
            let work = std::panic::AssertUnwindSafe(handle(&db, tenant, which)).catch_unwind();
            cut += usize::from(cut_at(Instant::now() + patience, work).await.is_none());
            let found = next_borrower_finds_quickly(&db).await;
            assert_eq!(found, clean, "{which} cut after {patience:?} in {statements:?}");
        }
    }
    assert!(cut > ROUNDS / 4, "only {cut} were cut at all");
    assert_eq!(written_without_a_commit(&house).await, "0");
}

/// A parameter that cannot be encoded, or panics while it is.
#[derive(Debug)]
struct Bad {
    panics: bool,
}

impl ToSql for Bad {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut bytes::BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(b"half a value");
        if self.panics {
            std::panic::resume_unwind(Box::new("a panic in the middle of a message"));
        }
        Err("it cannot be encoded".into())
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    tokio_postgres::types::to_sql_checked!();
}

impl Param for Bad {
    fn as_sql(&self) -> &(dyn ToSql + Sync) {
        self
    }

    fn sql_type(&self) -> Type {
        Type::TEXT
    }
}

#[tokio::test]
async fn a_panic_in_the_middle_of_a_message_gives_up_the_connection() {
    let house = House::build(Isolation::Role, 1).await;
    for statements in MODES {
        let db = house.door(statements, 1);
        let clean = next_borrower_finds(&db).await;
        for is_first in [true, false] {
            let work = std::panic::AssertUnwindSafe(async {
                let tx = db.tenant(house.tenants[0]).await.expect("a tenant can be entered");
                if !is_first {
                    tx.query("SELECT 1", &[]).await.expect("a query runs");
                }
                tx.query("SELECT body FROM notes WHERE body = $1", &[&Bad { panics: true }]).await
            });
            assert!(work.catch_unwind().await.is_err(), "it panics");
            assert_eq!(next_borrower_finds(&db).await, clean, "{statements:?}");
        }
    }
}

#[tokio::test]
async fn a_last_query_that_cannot_be_sent_commits_nothing_of_what_came_before() {
    let house = House::build(Isolation::Role, 1).await;
    for statements in MODES {
        let db = house.door(statements, 1);
        let clean = next_borrower_finds(&db).await;
        for _ in 0..2 {
            let tx = db.tenant(house.tenants[0]).await.expect("a tenant can be entered");
            tx.execute(
                "INSERT INTO notes (id, body) VALUES (gen_random_uuid(), 'uncommitted')",
                &[],
            )
            .await
            .expect("a note can be written");
            let bad = Bad { panics: false };
            let last = "SELECT body FROM notes WHERE body = $1";
            assert!(tx.query_and_commit(last, &[&bad]).await.is_err());
            assert_eq!(next_borrower_finds(&db).await, clean, "{statements:?}");
        }
    }
    assert_eq!(written_without_a_commit(&house).await, "0");
}

/// How many sessions of the runtime login are still in this query.
async fn still_running(house: &House, query: &str) -> String {
    house
        .ask(&format!(
            "SELECT count(*) FROM pg_stat_activity
              WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid()
                AND query = '{query}'"
        ))
        .await
}

async fn wait_for(house: &House, query: &str, count: &str) -> bool {
    for _ in 0..200 {
        if still_running(house, query).await == count {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

#[tokio::test]
async fn a_query_that_is_dropped_is_cancelled_and_holds_up_nobody() {
    const SLEEP: &str = "SELECT pg_sleep(20)";
    let house = House::build(Isolation::Role, 1).await;
    for statements in MODES {
        let db = house.door(statements, 1);
        let clean = next_borrower_finds(&db).await;
        // The first time cut while the server has long begun; then at the first poll, when it knows of
        // nothing yet, though all is on its way.
        for polls in [None, Some(1), Some(1)] {
            let work = async {
                let tx = db.tenant(house.tenants[0]).await.expect("a tenant can be entered");
                tx.query(SLEEP, &[]).await
            };
            if let Some(polls) = polls {
                assert!(cut_after(polls, work).await.is_none());
            } else {
                let running = async { assert!(wait_for(&house, SLEEP, "1").await) };
                tokio::select! {
                    _ = work => panic!("it sleeps for 20 seconds"),
                    () = running => {}
                }
            }
            let begin = Instant::now();
            assert_eq!(next_borrower_finds(&db).await, clean);
            let took = begin.elapsed();
            assert!(took < Duration::from_secs(2), "the next borrower waited {took:?}");
            assert!(wait_for(&house, SLEEP, "0").await, "the server still sleeps ({statements:?})");
        }
    }
}

#[tokio::test]
async fn a_transaction_dropped_outside_of_any_runtime_leaves_nothing_to_the_next_borrower() {
    let house = House::build(Isolation::Role, 1).await;
    let db = house.door(Statements::Unnamed, 1);
    let clean = next_borrower_finds(&db).await;
    let tx = db.tenant(house.tenants[0]).await.expect("a tenant can be entered");
    tx.query("SELECT 1", &[]).await.expect("a query runs");
    std::thread::spawn(move || drop(tx)).join().expect("dropping does not panic");
    assert_eq!(next_borrower_finds(&db).await, clean);

    let tx = db.tenant(house.tenants[0]).await.expect("a tenant can be entered");
    let mut in_flight =
        Box::pin(async move { tx.query("SELECT pg_sleep(0.2)", &[]).await.map(drop) });
    assert!(futures_util::poll!(in_flight.as_mut()).is_pending());
    std::thread::spawn(move || drop(in_flight)).join().expect("dropping does not panic");
    assert_eq!(next_borrower_finds(&db).await, clean);
}

#[tokio::test]
async fn a_connection_that_dies_in_a_transaction_is_replaced_for_the_next_borrower() {
    let house = House::build(Isolation::Role, 1).await;
    for statements in MODES {
        let db = house.door(statements, 1);
        let clean = next_borrower_finds(&db).await;
        let tx = db.tenant(house.tenants[0]).await.expect("a tenant can be entered");
        let pid: i32 = tx.query_one("SELECT pg_backend_pid()", &[]).await.expect("a pid").get(0);
        house.ask(&format!("SELECT pg_terminate_backend({pid}, 5000)")).await;
        assert!(tx.query("SELECT 1", &[]).await.is_err());
        assert!(tx.commit().await.is_err(), "nothing was committed, and it says so");
        assert_eq!(next_borrower_finds(&db).await, clean);
    }
}
