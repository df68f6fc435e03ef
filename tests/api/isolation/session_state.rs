//! The session state that a failed, dropped or panicked transaction leaves for the next checkout, on a pool of
//! one connection, so that both use the same one.

use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use rowhouse::domain::names::TenantId;
use rowhouse::pg::rules::{Isolation, Statements};
use rowhouse::pg::{Db, Failure, Param};
use tokio_postgres::types::{IsNull, ToSql, Type};

use super::fixture::{
    Fixture, STATEMENT_MODES, brief_session_state, schema, secret, session_state,
};

/// Number of handlers; each ends in another way, and none commits what it writes.
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
            Ok(()) // without a commit
        }
        3 => {
            tx.execute(WRITE, &[]).await?;
            tx.query("SELECT 1 / 0", &[]).await?;
            tx.commit().await
        }
        4 => {
            tx.execute(WRITE, &[]).await?;
            // Unlike `panic!`, this prints nothing.
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

/// Polls a future at most this many times and then drops it. Returns `None` if it was dropped.
pub async fn drop_after<T>(polls: usize, work: impl Future<Output = T>) -> Option<T> {
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

/// Polls a future until a moment and then drops it. Uses the clock, because tokio's timer counts in
/// milliseconds.
async fn drop_at<T>(until: Instant, work: impl Future<Output = T>) -> Option<T> {
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

/// A pseudo-random generator with the same numbers in every run.
pub struct Random(u64);

impl Random {
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

async fn count_uncommitted(fixture: &Fixture) -> String {
    let tables: Vec<String> = fixture
        .tenants
        .iter()
        .map(|t| format!("SELECT body FROM {}.notes WHERE body = 'uncommitted'", schema(*t)))
        .collect();
    fixture.query_text(&format!("SELECT count(*) FROM ({}) x", tables.join(" UNION ALL "))).await
}

#[tokio::test]
async fn errors_rollbacks_and_panics_leave_a_clean_session() {
    let fixture = Fixture::build(Isolation::Role, 2).await;
    for statements in STATEMENT_MODES {
        let db = fixture.db(statements, 1);
        let clean = session_state(&db).await;
        assert!(clean.contains("rowhouse_runtime") && clean.contains("\nt\n"), "{clean}");
        for which in 0..HANDLERS * 4 {
            let tenant = fixture.tenants[which / HANDLERS % 2];
            let work = std::panic::AssertUnwindSafe(handle(&db, tenant, which)).catch_unwind();
            let outcome = work.await;
            let should_succeed = matches!(which % HANDLERS, 0..=2 | 6);
            let succeeded = matches!(outcome, Ok(Ok(())));
            assert_eq!(succeeded, should_succeed, "{which} in {statements:?}: {outcome:?}");
            assert_eq!(session_state(&db).await, clean, "{which} in {statements:?}");
        }
    }
    assert_eq!(count_uncommitted(&fixture).await, "0");
}

#[tokio::test]
async fn a_future_dropped_after_any_number_of_polls_leaves_a_clean_session() {
    const MOST_POLLS: usize = 12;
    const REPEATS: usize = 3;
    let fixture = Fixture::build(Isolation::Role, 2).await;
    let mut dropped = 0;
    for statements in STATEMENT_MODES {
        let db = fixture.db(statements, 1);
        let clean = brief_session_state(&db).await;
        for round in 0..REPEATS * HANDLERS * MOST_POLLS {
            let (which, polls) = (round % HANDLERS, round / HANDLERS % MOST_POLLS);
            let tenant = fixture.tenants[round % 2];
            let work = std::panic::AssertUnwindSafe(handle(&db, tenant, which)).catch_unwind();
            dropped += usize::from(drop_after(polls, work).await.is_none());
            let found = brief_session_state(&db).await;
            assert_eq!(found, clean, "{which} dropped after {polls} polls in {statements:?}");
        }
    }
    assert!(dropped > 100, "only {dropped} were dropped");
    assert_eq!(count_uncommitted(&fixture).await, "0");
}

#[tokio::test]
async fn a_future_dropped_at_a_random_moment_leaves_a_clean_session() {
    const ROUNDS: usize = 400;
    let fixture = Fixture::build(Isolation::Role, 2).await;
    let mut random = Random::new(7);
    let mut dropped = 0;
    for statements in STATEMENT_MODES {
        let db = fixture.db(statements, 1);
        let clean = brief_session_state(&db).await;
        for round in 0..ROUNDS {
            let (which, tenant) = (round % HANDLERS, fixture.tenants[round % 2]);
            let timeout = Duration::from_micros(random.below(1_500));
            let work = std::panic::AssertUnwindSafe(handle(&db, tenant, which)).catch_unwind();
            dropped += usize::from(drop_at(Instant::now() + timeout, work).await.is_none());
            let found = brief_session_state(&db).await;
            assert_eq!(found, clean, "{which} dropped after {timeout:?} in {statements:?}");
        }
    }
    assert!(dropped > ROUNDS / 4, "only {dropped} were dropped");
    assert_eq!(count_uncommitted(&fixture).await, "0");
}

/// A parameter whose encoding fails or panics.
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
async fn a_panic_while_encoding_a_message_discards_the_connection() {
    let fixture = Fixture::build(Isolation::Role, 1).await;
    for statements in STATEMENT_MODES {
        let db = fixture.db(statements, 1);
        let clean = session_state(&db).await;
        for is_first in [true, false] {
            let work = std::panic::AssertUnwindSafe(async {
                let tx = db.tenant(fixture.tenants[0]).await.expect("a tenant can be entered");
                if !is_first {
                    tx.query("SELECT 1", &[]).await.expect("a query runs");
                }
                tx.query("SELECT body FROM notes WHERE body = $1", &[&Bad { panics: true }]).await
            });
            assert!(work.catch_unwind().await.is_err(), "the encoding panics");
            assert_eq!(session_state(&db).await, clean, "{statements:?}");
        }
    }
}

#[tokio::test]
async fn a_last_query_that_cannot_be_encoded_commits_nothing() {
    let fixture = Fixture::build(Isolation::Role, 1).await;
    for statements in STATEMENT_MODES {
        let db = fixture.db(statements, 1);
        let clean = session_state(&db).await;
        for _ in 0..2 {
            let tx = db.tenant(fixture.tenants[0]).await.expect("a tenant can be entered");
            tx.execute(
                "INSERT INTO notes (id, body) VALUES (gen_random_uuid(), 'uncommitted')",
                &[],
            )
            .await
            .expect("a note can be written");
            let bad = Bad { panics: false };
            let last = "SELECT body FROM notes WHERE body = $1";
            assert!(tx.query_and_commit(last, &[&bad]).await.is_err());
            assert_eq!(session_state(&db).await, clean, "{statements:?}");
        }
    }
    assert_eq!(count_uncommitted(&fixture).await, "0");
}

/// Returns the number of other sessions that run this query.
async fn still_running(fixture: &Fixture, query: &str) -> String {
    // Only a superuser sees the queries of another login.
    let superuser = fixture.database.connect_as_superuser().await;
    let count = "SELECT count(*)::text FROM pg_stat_activity
                  WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid()
                    AND query = $1";
    superuser.query_one(count, &[&query]).await.expect("activity can be read").get(0)
}

async fn wait_for(fixture: &Fixture, query: &str, count: &str) -> bool {
    for _ in 0..200 {
        if still_running(fixture, query).await == count {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

#[tokio::test]
async fn a_dropped_query_is_cancelled_and_does_not_delay_the_next_checkout() {
    const SLEEP: &str = "SELECT pg_sleep(20)";
    let fixture = Fixture::build(Isolation::Role, 1).await;
    for statements in STATEMENT_MODES {
        let db = fixture.db(statements, 1);
        let clean = session_state(&db).await;
        // First dropped while the query runs on the server, then twice after the first poll, when the messages
        // are sent and not yet received.
        for polls in [None, Some(1), Some(1)] {
            let work = async {
                let tx = db.tenant(fixture.tenants[0]).await.expect("a tenant can be entered");
                tx.query(SLEEP, &[]).await
            };
            if let Some(polls) = polls {
                assert!(drop_after(polls, work).await.is_none());
            } else {
                let running = async { assert!(wait_for(&fixture, SLEEP, "1").await) };
                tokio::select! {
                    _ = work => panic!("the query ended within its 20 seconds"),
                    () = running => {}
                }
            }
            let begin = Instant::now();
            assert_eq!(session_state(&db).await, clean);
            let took = begin.elapsed();
            assert!(took < Duration::from_secs(2), "the next checkout waited {took:?}");
            assert!(wait_for(&fixture, SLEEP, "0").await, "the query still runs ({statements:?})");
        }
    }
}

#[tokio::test]
async fn a_transaction_dropped_outside_a_runtime_leaves_a_clean_session() {
    let fixture = Fixture::build(Isolation::Role, 1).await;
    let db = fixture.db(Statements::Unnamed, 1);
    let clean = session_state(&db).await;
    let tx = db.tenant(fixture.tenants[0]).await.expect("a tenant can be entered");
    tx.query("SELECT 1", &[]).await.expect("a query runs");
    std::thread::spawn(move || drop(tx)).join().expect("dropping does not panic");
    assert_eq!(session_state(&db).await, clean);

    let tx = db.tenant(fixture.tenants[0]).await.expect("a tenant can be entered");
    let mut in_flight =
        Box::pin(async move { tx.query("SELECT pg_sleep(0.2)", &[]).await.map(drop) });
    assert!(futures_util::poll!(in_flight.as_mut()).is_pending());
    std::thread::spawn(move || drop(in_flight)).join().expect("dropping does not panic");
    assert_eq!(session_state(&db).await, clean);
}

#[tokio::test]
async fn a_connection_lost_in_a_transaction_is_replaced() {
    let fixture = Fixture::build(Isolation::Role, 1).await;
    for statements in STATEMENT_MODES {
        let db = fixture.db(statements, 1);
        let clean = session_state(&db).await;
        let tx = db.tenant(fixture.tenants[0]).await.expect("a tenant can be entered");
        let pid: i32 = tx.query_one("SELECT pg_backend_pid()", &[]).await.expect("a pid").get(0);
        let end = format!("SELECT pg_terminate_backend({pid}, 5000)");
        let superuser = fixture.database.connect_as_superuser().await;
        superuser.batch_execute(&end).await.expect("a superuser may end a connection");
        assert!(tx.query("SELECT 1", &[]).await.is_err());
        assert!(tx.commit().await.is_err(), "the commit reports that nothing was committed");
        assert_eq!(session_state(&db).await, clean);
    }
}
