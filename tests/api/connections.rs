//! Connection affinity: which connection a tenant gets, and when a connection is replaced.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use futures_util::future::{join_all, poll_immediate};
use rowhouse::domain::names::TenantId;
use rowhouse::pg::db::Database;
use rowhouse::pg::pool::{PoolStatus, Purpose};
use rowhouse::pg::rules::{Fairness, Isolation, PoolSizes, RUNTIME_LOGIN, Sharing, Statements};
use rowhouse::pg::{Db, TenantTx};
use serde_json::json;

use crate::isolation::fixture::Fixture;
use crate::support::TestApp;

/// How often [`wait_until`] checks its condition, and the pause between two checks.
const ATTEMPTS: u32 = 3_000;
const POLL_INTERVAL: Duration = Duration::from_millis(10);

const PID: &str = "SELECT pg_backend_pid()";

/// Tenants and the connections that they share.
struct Shared {
    fixture: Fixture,
    database: Database,
    db: Db,
}

impl Shared {
    async fn new(tenants: usize, connections: usize, tenants_per_connection: usize) -> Self {
        let fixture = Fixture::build(Isolation::Role, tenants).await;
        let tenants_per_connection = NonZeroUsize::new(tenants_per_connection);
        // Without a reserve, which would keep one of these few connections free.
        let fairness = Fairness { reserve: 0, ..Fairness::default() };
        let sharing = Sharing { tenants_per_connection, fairness, ..Sharing::default() };
        let database = fixture.database_with(Statements::Unnamed, sharing);
        let db = pools(&database, connections);
        Self { fixture, database, db }
    }

    fn tenant(&self, number: usize) -> TenantId {
        self.fixture.tenants[number]
    }

    async fn enter(&self, number: usize) -> TenantTx {
        self.db.tenant(self.tenant(number)).await.expect("a connection is available")
    }

    /// Runs one transaction of a tenant and returns the backend process that served it.
    async fn serve(&self, number: usize) -> i32 {
        let rows = self.enter(number).await.query_and_commit(PID, &[]).await;
        rows.expect("a query runs")[0].get(0)
    }

    fn status(&self) -> PoolStatus {
        let all = self.database.status();
        all.into_iter().find(|pool| pool.purpose == Purpose::Runtime).expect("there is one")
    }

    /// Opens this many transactions at once, so that as many connections are open; returns their processes.
    async fn open_connections(&self, count: usize) -> Vec<i32> {
        let held = join_all((0..count).map(|number| self.enter(number))).await;
        let mut pids = Vec::new();
        for tx in held {
            pids.push(pid(&tx).await);
            tx.commit().await.expect("it commits");
        }
        pids
    }

    /// Returns the backend processes of the runtime login in this database.
    async fn backends(&self) -> HashSet<i32> {
        let sql =
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND usename = $1";
        let rows = self.fixture.owner.query(sql, &[&RUNTIME_LOGIN]).await;
        rows.expect("activity can be read").iter().map(|row| row.get(0)).collect()
    }
}

fn pools(database: &Database, connections: usize) -> Db {
    database.pools(PoolSizes { control: 1, runtime: connections }).expect("pools can be made")
}

async fn pid(tx: &TenantTx) -> i32 {
    tx.query_one(PID, &[]).await.expect("a query runs").get(0)
}

/// Waits until a condition holds that another task or process brings about.
async fn wait_until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..ATTEMPTS {
        if holds().await {
            return;
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    panic!("{what}: not within {:?}", POLL_INTERVAL * ATTEMPTS);
}

#[tokio::test]
async fn a_tenant_gets_the_connection_that_served_it_last() {
    let shared = Shared::new(3, 3, 0).await;
    let pids = shared.open_connections(3).await;
    assert_eq!(
        pids.iter().collect::<HashSet<_>>().len(),
        3,
        "three transactions at once use three connections"
    );
    for number in [0, 1, 0, 2, 2, 1, 0, 0, 2, 1] {
        assert_eq!(shared.serve(number).await, pids[number], "tenant {number}");
    }
    let status = shared.database.sharing_status();
    assert_eq!((status.on_last, status.on_earlier, status.on_other), (10, 0, 3));
    assert_eq!((status.tenants, status.tenants_at_most, status.retired), (3, 1, 0));
}

#[tokio::test]
async fn a_new_tenant_gets_the_open_connection_with_the_fewest_tenants() {
    let shared = Shared::new(4, 3, 0).await;
    let pids = shared.open_connections(2).await;
    let (third, fourth) = (shared.serve(2).await, shared.serve(3).await);
    assert_eq!(HashSet::from([third, fourth]), pids.iter().copied().collect());
    assert_eq!(shared.status().open, 2, "no connection is opened while one is idle");
    assert_eq!(shared.database.sharing_status().tenants_at_most, 2, "tenants are spread evenly");
}

#[tokio::test]
async fn a_tenant_does_not_wait_for_its_busy_connection_while_another_is_idle() {
    let shared = Shared::new(2, 2, 0).await;
    let pids = shared.open_connections(2).await;
    let held = shared.enter(0).await;
    assert_eq!(pid(&held).await, pids[0]);
    // If it waited for its own connection, the test would never end.
    assert_eq!(shared.serve(0).await, pids[1]);
    assert_eq!(shared.serve(0).await, pids[1]);
    held.commit().await.expect("it commits");
    // The second connection is now the last one that served it; if that is busy, the first is preferred.
    let held = shared.enter(0).await;
    assert_eq!(pid(&held).await, pids[1]);
    assert_eq!(shared.serve(0).await, pids[0]);
    held.commit().await.expect("it commits");
    let status = shared.database.sharing_status();
    assert_eq!((status.on_last, status.on_earlier, status.on_other), (3, 1, 3));
}

#[tokio::test]
async fn waiting_requests_get_the_returned_connections_in_order() {
    let shared = Shared::new(2, 2, 0).await;
    let (first, second) = (shared.enter(0).await, shared.enter(1).await);
    let (first_pid, second_pid) = (pid(&first).await, pid(&second).await);
    let (mut early, mut late) = (Box::pin(shared.serve(0)), Box::pin(shared.serve(0)));
    assert!(
        poll_immediate(&mut early).await.is_none() && poll_immediate(&mut late).await.is_none()
    );
    assert_eq!(shared.status().waiting, 2);
    // The connection that both would prefer is not the first to be returned.
    second.commit().await.expect("it commits");
    assert!(poll_immediate(&mut late).await.is_none(), "the earlier request comes first");
    assert_eq!(early.await, second_pid);
    first.commit().await.expect("it commits");
    assert!([first_pid, second_pid].contains(&late.await));
    let status = shared.status();
    assert_eq!((status.waiting, status.open, status.idle), (0, 2, 2));
}

#[tokio::test]
async fn a_discarded_connection_is_forgotten_and_its_slot_is_free_again() {
    let shared = Shared::new(1, 1, 0).await;
    let tx = shared.enter(0).await;
    let discarded = pid(&tx).await;
    {
        let mut sleeping = Box::pin(tx.query("SELECT pg_sleep(60)", &[]));
        assert!(poll_immediate(&mut sleeping).await.is_none());
    }
    drop(tx);
    assert_ne!(shared.serve(0).await, discarded);
    let status = shared.database.sharing_status();
    assert_eq!((status.on_other, status.on_last), (2, 0), "a new connection has served no tenant");
    assert_eq!((shared.status().open, shared.status().idle), (1, 1));
}

#[tokio::test]
async fn a_connection_is_replaced_when_it_has_served_more_tenants_than_the_limit() {
    let shared = Shared::new(3, 1, 2).await;
    let first = shared.serve(0).await;
    for number in [1, 0, 0, 1, 1, 0] {
        assert_eq!(
            shared.serve(number).await,
            first,
            "two tenants are within the limit, however often they come"
        );
    }
    tokio::task::yield_now().await;
    assert_eq!(shared.database.sharing_status().retired, 0);
    assert_eq!(shared.serve(2).await, first, "the third tenant is still served by it");
    wait_until("it is replaced", async || shared.database.sharing_status().retired == 1).await;
    let second = shared.serve(2).await;
    assert_ne!(second, first);
    wait_until("the old one ends", async || shared.backends().await == HashSet::from([second]))
        .await;
    let status = shared.database.sharing_status();
    assert_eq!((status.tenants, status.tenants_at_most, status.not_retired), (1, 1, 0));
}

#[tokio::test]
async fn without_a_limit_a_connection_is_never_replaced() {
    let shared = Shared::new(5, 1, 0).await;
    let pids = [0, 1, 2, 3, 4, 0].map(|number| shared.serve(number));
    let mut seen = HashSet::new();
    for pid in pids {
        seen.insert(pid.await);
    }
    tokio::task::yield_now().await;
    assert_eq!((seen.len(), shared.database.sharing_status().retired), (1, 0));
    assert_eq!(shared.status().budget, 1, "no slot is reserved for a replacement");
}

#[tokio::test]
async fn the_old_connection_serves_until_there_is_a_new_one() {
    let shared = Shared::new(2, 1, 1).await;
    let old = shared.serve(0).await;
    shared.fixture.database.refuse_new_connections().await;
    assert_eq!(shared.serve(1).await, old);
    // It is due for replacement, which fails. A request that waited for a new connection would fail too.
    wait_until("a replacement is tried", async || {
        assert_eq!(shared.serve(0).await, old);
        shared.database.sharing_status().not_retired > 0
    })
    .await;
    for number in [1, 0, 1, 0] {
        assert_eq!(shared.serve(number).await, old);
    }
    assert_eq!(shared.database.sharing_status().retired, 0);
    shared.fixture.database.open().await;
    wait_until("it is replaced", async || {
        let pid = shared.serve(0).await;
        let is_retired = shared.database.sharing_status().retired > 0;
        assert!(is_retired || pid == old);
        is_retired
    })
    .await;
    assert_ne!(shared.serve(0).await, old);
}

#[tokio::test]
async fn the_connection_with_the_most_tenants_is_replaced_first() {
    let shared = Shared::new(5, 2, 1).await;
    let pids = shared.open_connections(2).await;
    shared.fixture.database.refuse_new_connections().await;
    // The connection with the most tenants comes second in the order in which slots are checked.
    let held = shared.enter(1).await;
    assert_eq!(pid(&held).await, pids[1]);
    for number in [2, 3] {
        assert_eq!(shared.serve(number).await, pids[0]);
    }
    drop(held);
    let held = shared.enter(0).await;
    assert_eq!(pid(&held).await, pids[0]);
    assert_eq!(shared.serve(4).await, pids[1]);
    held.commit().await.expect("it commits");
    // One connection has two tenants, the other three; both are due.
    assert_eq!(shared.database.sharing_status().tenants, 5);
    shared.fixture.database.open().await;
    while shared.database.sharing_status().retired == 0 {
        tokio::task::yield_now().await; // opening the second new connection takes longer than one check
    }
    let status = shared.database.sharing_status();
    assert_eq!((status.retired, status.tenants_at_most), (1, 2));
}

#[tokio::test]
async fn a_busy_connection_is_replaced_when_its_transaction_ends() {
    let shared = Shared::new(2, 1, 1).await;
    let (first, second) = (shared.serve(0).await, shared.serve(1).await);
    assert_eq!(first, second);
    // Lets the replacement begin, and takes the old connection before the new one is open.
    tokio::task::yield_now().await;
    let held = shared.enter(0).await;
    assert_eq!(pid(&held).await, first);
    wait_until("a new one is ready", async || shared.status().open == 2).await;
    assert_eq!(shared.status().budget, 2, "the new connection is part of the budget");
    assert_eq!(pid(&held).await, first, "a transaction keeps its connection");
    held.commit().await.expect("it commits");
    assert_ne!(shared.serve(0).await, first);
    assert_eq!((shared.status().open, shared.database.sharing_status().retired), (1, 1));
}

#[tokio::test]
async fn a_replacement_is_closed_if_the_old_connection_broke() {
    let shared = Shared::new(2, 1, 1).await;
    let (first, _) = (shared.serve(0).await, shared.serve(1).await);
    tokio::task::yield_now().await;
    let held = shared.enter(0).await;
    assert_eq!(pid(&held).await, first);
    wait_until("a new one is ready", async || shared.status().open == 2).await;
    {
        let mut sleeping = Box::pin(held.query("SELECT pg_sleep(60)", &[]));
        assert!(poll_immediate(&mut sleeping).await.is_none());
    }
    drop(held); // the old connection is discarded
    assert_eq!(shared.status().open, 0);
    let third = shared.serve(0).await;
    wait_until("one connection is left", async || {
        shared.backends().await == HashSet::from([third])
    })
    .await;
    // Its part of the budget is free again, so the next replacement can be opened.
    shared.serve(1).await;
    wait_until("it is replaced", async || shared.database.sharing_status().retired == 1).await;
}

#[tokio::test]
async fn connections_stay_within_the_budget_while_many_are_replaced() {
    const CONNECTIONS: usize = 2;
    let shared = Shared::new(6, CONNECTIONS, 1).await;
    let other = pools(&shared.database, CONNECTIONS);
    let budget = shared.status().budget;
    assert_eq!(budget, 2 * CONNECTIONS + 1);
    let work = async |task: usize| {
        let db = if task.is_multiple_of(2) { &shared.db } else { &other };
        for turn in 0..40 {
            let tx =
                db.tenant(shared.tenant((task + turn) % 6)).await.expect("no transaction fails");
            tx.query_and_commit("SELECT count(*) FROM notes", &[])
                .await
                .expect("no transaction fails");
            let status = shared.status();
            assert!(status.open <= budget, "{status:?}");
        }
    };
    let load = join_all((0..8).map(work));
    let watch = async {
        loop {
            // The process of a closed connection exits a moment later; only a surplus process stays.
            let mut surplus = shared.backends().await;
            for _ in 0..ATTEMPTS {
                if surplus.len() <= budget {
                    break;
                }
                surplus = surplus.intersection(&shared.backends().await).copied().collect();
            }
            assert!(
                surplus.len() <= budget,
                "{} processes, and the budget is {budget}",
                surplus.len()
            );
        }
    };
    tokio::select! {
        _ = load => {}
        () = watch => {}
    }
    assert!(shared.database.sharing_status().retired > 0);
    // Without requests, replacements end and no surplus connection is left.
    wait_until("no surplus connection is left", async || {
        shared.status().open <= 2 * CONNECTIONS
            && shared.backends().await.len() == shared.status().open
    })
    .await;
}

#[tokio::test]
async fn closed_pools_leave_no_connection_open_not_even_a_replacement() {
    let shared = Shared::new(2, 1, 1).await;
    shared.serve(0).await;
    shared.serve(1).await;
    tokio::task::yield_now().await;
    let held = shared.enter(0).await;
    pid(&held).await;
    wait_until("a new one is ready", async || shared.status().open == 2).await;
    shared.database.close();
    assert!(
        shared.db.tenant(shared.tenant(0)).await.is_err(),
        "a closed pool gives out no connection"
    );
    held.commit().await.expect("a running transaction may end");
    wait_until("all connections are closed", async || shared.backends().await.is_empty()).await;
    // The same while a replacement is being opened:
    let shared = Shared::new(2, 1, 1).await;
    shared.serve(0).await;
    shared.serve(1).await;
    tokio::task::yield_now().await;
    shared.database.close();
    wait_until("all connections are closed", async || shared.backends().await.is_empty()).await;
}

#[tokio::test]
async fn metrics_show_how_tenants_share_connections() {
    let app = TestApp::builder().with("database.tenants_per_connection", "1").spawn().await;
    let tenants = [app.bunker_tenant("acme").await, app.bunker_tenant("globex").await];
    for tenant in &tenants {
        tenant.add(json!({ "email": "ada@example.com" })).await;
    }
    let metric = async |line: &str| -> u64 {
        let text = app.anonymous().get("/metrics").await.text;
        let found = text.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' '));
        found.unwrap_or_else(|| panic!("{line} is missing from\n{text}")).parse().expect("a number")
    };
    wait_until("one is replaced", async || {
        metric(r#"rowhouse_db_connection_retirements_total{outcome="done"}"#).await > 0
    })
    .await;
    let served = async |when: &str| {
        metric(&format!("rowhouse_db_tenant_transactions_total{{served=\"{when}\"}}")).await
    };
    assert!(served("never").await >= 2);
    let before = served("last").await;
    for number in 0..3 {
        tenants[1].add(json!({ "email": format!("no-{number}@example.com") })).await;
    }
    assert!(served("last").await >= before + 2, "successive requests use one connection");
    assert!(metric(r#"rowhouse_db_tenants_served{connections="most"}"#).await >= 1);
    assert!(metric(r#"rowhouse_db_tenants_served{connections="all"}"#).await >= 1);
    assert_eq!(metric(r#"rowhouse_db_connection_retirements_total{outcome="failed"}"#).await, 0);
    let budget: u64 = [
        metric(r#"rowhouse_db_connections_max{purpose="control"}"#).await,
        metric(r#"rowhouse_db_connections_max{purpose="runtime"}"#).await,
    ]
    .iter()
    .sum();
    assert_eq!(
        budget, 10,
        "the whole budget of the settings, including the slot for a replacement"
    );
}
