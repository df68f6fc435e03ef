//! Warns before the server runs out of something that grows with the number of tenants. No I/O.

use crate::pg::control::capacity::{Connections, Facts};
use crate::service::doctor::report::{Area, Finding, Gravity};
use crate::service::doctor::request::Budget;

/// Our own work may need one part in this many of the lock table. The rest is for requests, which take about a dozen
/// locks each.
const LOCKS_SHARE: i64 = 2;

/// The least locks a table takes when it is dropped: itself, its TOAST table and the index of that, its key,
/// its type (measured: a schema of 200 tables, dropped in one transaction, held 2,204).
const LOCKS_TO_DROP_A_TABLE: i64 = 11;

/// Tables that one transaction of a purge drops.
const DROPPED_AT_ONCE: i64 = 20;

/// What a backend keeps in its caches for each relation of a tenant's schema that it has used, in bytes, at most.
/// Measured: with 37 relations a tenant, writes to several tables kept 139 MB for 1,000 tenants and 670 MB for 5,000;
/// a read of one table keeps a sixth of that.
const BYTES_OF_A_RELATION: i64 = 4 * 1024;

/// The most relations that one database should have. Each is one or more files, a row in several catalogs, and work
/// for autovacuum; 10,000 tenants with the built-in tables have about 300,000.
const RELATIONS_MANY: i64 = 1_000_000;

/// The catalogs may fill one part in this many of `shared_buffers`; more would evict the tenants' own pages.
const CATALOG_SHARE: i64 = 4;

/// From this many roles on, `SET ROLE` is slow on a server before PostgreSQL 16: the look-up is quadratic, and with
/// 10,000 roles the first of each backend took 260 to 310 ms; with 4,000 it takes about 45.
const ROLES_MANY: i64 = 4_000;

/// The first version that looks roles up in less than quadratic time.
const ROLES_FAST_SINCE: u32 = 160_000;

/// The connections that are kept free: `doctor` holds the lock of a schema in one while it reads with another, and tests
/// the isolation of tenants with a second login.
const KEPT_FREE: i64 = 2;

/// Dead rows in the catalogs, in hundredths of the live ones. Autovacuum starts at 20.
const DEAD_PERCENT_MANY: i64 = 100;

/// Dead rows matter in catalogs of at least this size, in bytes; smaller catalogs are read quickly anyway.
const CATALOGS_LARGE: i64 = 64 << 20;

/// Something of the server that may run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource {
    /// Its name, such as `connections`.
    pub name: &'static str,
    /// How much is in use, or may come to be: connections and locks that our servers may take.
    pub used: i64,
    /// How much there is, or should be at most.
    pub limit: i64,
    /// What is counted: `count`, `bytes` or `percent`.
    pub unit: &'static str,
}

/// The capacity of the server.
#[derive(Debug, Clone)]
pub struct Capacity {
    /// What may run out.
    pub resources: Vec<Resource>,
    /// What will, or may soon.
    pub warnings: Vec<Finding>,
}

/// Returns what may run out, and warnings. The locks of set-ups are not among it: only a set-up shows how many one takes.
pub(super) fn capacity(facts: &Facts, budget: &Budget) -> Capacity {
    let connections = &facts.connections;
    let free = connections.max - connections.reserved;
    let holders = connections.max + facts.max_prepared_transactions;
    let locks = facts.largest_schema.max(LOCKS_TO_DROP_A_TABLE * DROPPED_AT_ONCE);
    let resource = |name, used, limit, unit| Resource { name, used, limit, unit };
    let mut resources = vec![
        resource(
            "connections",
            connections.budgets.max(whole(budget.connections)),
            connections.own_limit.map_or(free, |limit| free.min(limit)),
            "number",
        ),
        resource("locks", locks, facts.max_locks_per_transaction * holders / LOCKS_SHARE, "number"),
        resource("relations", facts.relations, RELATIONS_MANY, "number"),
        resource("catalogs", facts.catalog_bytes, facts.shared_buffers / CATALOG_SHARE, "bytes"),
        resource("dead_rows", facts.dead_percent, DEAD_PERCENT_MANY, "percent"),
        resource(
            "memory",
            memory_of_backends(facts, budget),
            facts.effective_cache_size / 2,
            "bytes",
        ),
    ];
    if facts.server_version < ROLES_FAST_SINCE {
        resources.push(resource("roles", facts.roles, ROLES_MANY, "number"));
    }
    Capacity { resources, warnings: judge(facts, budget, 0) }
}

/// What the backends of all connections may come to keep in memory, in bytes.
fn memory_of_backends(facts: &Facts, budget: &Budget) -> i64 {
    memory_of_backend(facts, budget) * whole(budget.connections)
}

/// What one backend may come to keep, in bytes: the tenants that its connection may touch, with their relations.
fn memory_of_backend(facts: &Facts, budget: &Budget) -> i64 {
    if facts.schemas == 0 {
        return 0;
    }
    facts.in_schemas / facts.schemas * BYTES_OF_A_RELATION * touched(facts, budget)
}

/// How many tenants a connection may come to touch.
fn touched(facts: &Facts, budget: &Budget) -> i64 {
    budget.tenants_per_connection.map_or(facts.schemas, |n| facts.schemas.min(whole(n)))
}

/// Returns a warning for each resource that may run out. `setup_locks` is how many locks one set-up was seen to hold.
pub(super) fn judge(facts: &Facts, budget: &Budget, setup_locks: i64) -> Vec<Finding> {
    let mut all = Vec::new();
    let mut warn = |what: String, next: String| {
        all.push(Finding::new(Area::Capacity, Gravity::Warning, None, what, next));
    };
    locks(facts, budget, setup_locks, &mut warn);
    if let Some((what, next)) = connection_shortage(&facts.connections, budget.connections) {
        warn(what, next);
    }
    memory(facts, budget, &mut warn);
    catalogs(facts, &mut warn);
    all
}

fn locks(facts: &Facts, budget: &Budget, setup_locks: i64, warn: &mut impl FnMut(String, String)) {
    let holders = facts.connections.max + facts.max_prepared_transactions;
    let slots = facts.max_locks_per_transaction * holders;
    let raise_for = |locks: i64| {
        let per_holder = (locks * LOCKS_SHARE + holders - 1) / holders.max(1);
        format!("set max_locks_per_transaction to {per_holder} or more and restart the server")
    };
    let setups = setup_locks * whole(budget.setups_at_once);
    let purge = LOCKS_TO_DROP_A_TABLE * DROPPED_AT_ONCE;
    let (needed, by) = [
        (setups, format!("{} set-ups at once", budget.setups_at_once)),
        (facts.largest_schema, "a migration of the largest schema".to_owned()),
        (purge, "a step of a purge".to_owned()),
    ]
    .into_iter()
    .max()
    .unwrap_or_default();
    if needed > slots / LOCKS_SHARE {
        let what = format!(
            "locks: {by} may hold {needed}, and the server has {slots} in all \
             (max_locks_per_transaction {} times {holders} connections)",
            facts.max_locks_per_transaction
        );
        warn(what, raise_for(needed));
    }
    if facts.dumped > slots {
        let what = format!(
            "locks: pg_dump of the whole database locks {} tables at once, and the server has {slots} locks",
            facts.dumped
        );
        let next =
            format!("dump tenant by tenant (pg_dump --schema), or {}", raise_for(facts.dumped));
        warn(what, next);
    }
}

/// Returns how many connections one server should open if there are fewer than its budget: some are kept free for
/// `doctor`.
#[must_use]
pub fn most_connections(found: &Connections, budget: usize) -> Option<usize> {
    let most = usize::try_from(given(found) - KEPT_FREE).unwrap_or(0);
    (most < budget).then_some(most)
}

/// The number of connections that PostgreSQL gives the servers.
fn given(found: &Connections) -> i64 {
    let free = found.max - found.reserved;
    found.own_limit.map_or(free, |limit| free.min(limit))
}

/// Returns what is wrong and what helps if the servers may open more connections than there are, less those that are kept
/// free for `doctor` and for operators.
#[must_use]
pub fn connection_shortage(found: &Connections, budget: usize) -> Option<(String, String)> {
    let free = given(found);
    let (servers, wanted) = (found.servers.max(1), found.budgets.max(whole(budget)));
    if wanted + KEPT_FREE <= free {
        return None;
    }
    let by = match servers {
        1 => "one server".to_owned(),
        more => format!("the {more} servers on it (database.max_connections of each, added up)"),
    };
    let limit = found.own_limit.map_or(String::new(), |limit| {
        format!("; the database or the runtime login is limited to {limit}")
    });
    let what = format!(
        "connections: {by} may open {wanted}, doctor needs {KEPT_FREE} more, and PostgreSQL gives {free} (max_connections {}, \
         of which {} are reserved{limit})",
        found.max, found.reserved,
    );
    let each = (free - KEPT_FREE) / servers;
    let next = format!(
        "set database.max_connections to at most {each} on each server, or raise max_connections"
    );
    Some((what, next))
}

fn memory(facts: &Facts, budget: &Budget, warn: &mut impl FnMut(String, String)) {
    let (backend, all) = (memory_of_backend(facts, budget), memory_of_backends(facts, budget));
    let tenants = touched(facts, budget);
    if all > facts.effective_cache_size / 2 {
        let retired = match budget.tenants_per_connection {
            Some(_) => "and is then retired",
            None => "and is never retired",
        };
        let what = format!(
            "memory: a connection may come to touch {tenants} tenants {retired}, its backend then keeps up to \
             {}; {} of them are {}, and effective_cache_size says that the machine has {}",
            bytes(backend),
            budget.connections,
            bytes(all),
            bytes(facts.effective_cache_size)
        );
        let next = "lower database.tenants_per_connection or database.max_connections; where the machine has \
                    more memory, say so by effective_cache_size";
        warn(what, next.to_owned());
    }
}

fn catalogs(facts: &Facts, warn: &mut impl FnMut(String, String)) {
    if facts.relations > RELATIONS_MANY {
        let what = format!(
            "relations: the database has {} in {} schemas, {RELATIONS_MANY} is a sensible limit",
            facts.relations, facts.schemas
        );
        warn(what, "put further tenants into a second database".to_owned());
    }
    if facts.catalog_bytes > facts.shared_buffers / CATALOG_SHARE {
        let what = format!(
            "catalogs: they are {} on disk, and shared_buffers is {}",
            bytes(facts.catalog_bytes),
            bytes(facts.shared_buffers)
        );
        let next = format!(
            "set shared_buffers to {} or more and restart the server",
            bytes(facts.catalog_bytes * CATALOG_SHARE)
        );
        warn(what, next);
    }
    if facts.server_version < ROLES_FAST_SINCE && facts.roles > ROLES_MANY {
        let what = format!(
            "roles: the server has {}, and before PostgreSQL 16 entering a tenant takes a fresh connection time \
             with their square",
            facts.roles
        );
        warn(what, "upgrade the server to PostgreSQL 16 or newer".to_owned());
    }
    if !facts.autovacuum {
        let what =
            "autovacuum is off: the catalogs grow with each set-up, migration and purge".to_owned();
        warn(what, "set autovacuum and track_counts to on".to_owned());
    } else if facts.dead_percent > DEAD_PERCENT_MANY && facts.catalog_bytes > CATALOGS_LARGE {
        let what = format!(
            "autovacuum: the catalogs have {} dead rows to 100 live ones",
            facts.dead_percent
        );
        let next = "look for a transaction that stays open (pg_stat_activity), and raise \
                    autovacuum_vacuum_cost_limit";
        warn(what, next.to_owned());
    }
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Bytes for people, whole and in the unit of the server's settings.
fn bytes(bytes: i64) -> String {
    const MIB: i64 = 1 << 20;
    match bytes / MIB {
        0 => format!("{} kB", bytes / 1024),
        mib if mib < 10 * 1024 => format!("{mib} MB"),
        mib => format!("{} GB", mib / 1024),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: i64 = 1 << 20;

    /// A server with default settings and ten tenants.
    fn small() -> Facts {
        Facts {
            server_version: 150_000,
            max_locks_per_transaction: 64,
            connections: Connections {
                max: 100,
                reserved: 3,
                own_limit: None,
                servers: 0,
                budgets: 0,
            },
            max_prepared_transactions: 0,
            shared_buffers: 128 * MIB,
            effective_cache_size: 4096 * MIB,
            autovacuum: true,
            schemas: 10,
            relations: 800,
            dumped: 60,
            largest_schema: 24,
            in_schemas: 240,
            catalog_bytes: 8 * MIB,
            dead_percent: 10,
            roles: 20,
        }
    }

    fn budget() -> Budget {
        Budget { connections: 40, setups_at_once: 8, tenants_per_connection: None }
    }

    /// The first word or words of each warning.
    fn warnings(facts: &Facts, budget: &Budget, setup_locks: i64) -> Vec<String> {
        let all = judge(facts, budget, setup_locks);
        assert!(all.iter().all(|f| f.gravity == Gravity::Warning && !f.next.is_empty()));
        let first = |f: &Finding| f.what.split(':').next().unwrap_or_default().to_owned();
        all.iter().map(first).collect()
    }

    #[test]
    fn a_few_tenants_on_a_server_with_default_settings_give_no_warning() {
        assert_eq!(warnings(&small(), &budget(), 60), Vec::<String>::new());
    }

    #[test]
    fn each_resource_is_told_with_its_limit() {
        let Capacity { resources, warnings } = capacity(&small(), &budget());
        assert!(warnings.is_empty(), "{warnings:?}");
        let of = |name| {
            let found: Option<&Resource> = resources.iter().find(|one| one.name == name);
            found.map(|one| (one.used, one.limit, one.unit))
        };
        assert_eq!(of("connections"), Some((40, 97, "number")));
        assert_eq!(of("locks"), Some((220, 3_200, "number")));
        assert_eq!(of("catalogs"), Some((8 * MIB, 32 * MIB, "bytes")));
        // 24 relations of 4 KiB for each of 10 tenants in each of 40 backends.
        assert_eq!(of("memory"), Some((24 * 4 * 1024 * 10 * 40, 2_048 * MIB, "bytes")));
        assert_eq!(of("roles"), Some((20, 4_000, "number")));
        let newer = capacity(&Facts { server_version: 160_000, ..small() }, &budget());
        assert!(newer.resources.iter().all(|one| one.name != "roles"));
        let empty = capacity(&Facts { schemas: 0, in_schemas: 0, ..small() }, &budget());
        assert!(empty.resources.iter().any(|one| one.name == "memory" && one.used == 0));
    }

    #[test]
    fn concurrent_set_ups_that_need_half_of_the_lock_table_give_a_warning() {
        // 6,400 slots, of which 3,200 may be ours: 8 set-ups of 400 fit, of 401 do not.
        assert_eq!(warnings(&small(), &budget(), 400), Vec::<String>::new());
        let found = judge(&small(), &budget(), 401);
        assert!(found[0].what.contains("8 set-ups at once may hold 3208"), "{}", found[0].what);
        assert!(found[0].next.contains("max_locks_per_transaction to 65"), "{}", found[0].next);
        let facts = Facts { max_prepared_transactions: 100, ..small() };
        assert_eq!(warnings(&facts, &budget(), 401), Vec::<String>::new());
        let facts = Facts { largest_schema: 3_201, ..small() };
        assert!(judge(&facts, &budget(), 60)[0].what.contains("largest schema may hold 3201"));
        let facts = Facts { dumped: 6_401, ..small() };
        assert!(judge(&facts, &budget(), 60)[0].what.contains("pg_dump"));
    }

    #[test]
    fn servers_that_may_open_as_many_connections_as_there_are_give_a_warning() {
        let with = |connections: Connections| Facts { connections, ..small() };
        let of = |max: i64| Connections { max, ..small().connections };
        // 40 of the server, 2 for `doctor`, 3 reserved.
        assert_eq!(warnings(&with(of(45)), &budget(), 60), Vec::<String>::new());
        assert_eq!(warnings(&with(of(44)), &budget(), 60), ["connections"]);
        let limited = Connections { own_limit: Some(40), ..of(100) };
        let found = judge(&with(limited), &budget(), 60);
        assert!(found[0].what.contains("limited to 40"), "{}", found[0].what);
        let three = |max| Connections { servers: 3, budgets: 110, ..of(max) };
        assert_eq!(warnings(&with(three(115)), &budget(), 60), Vec::<String>::new());
        let found = judge(&with(three(114)), &budget(), 60);
        assert!(found[0].what.contains("the 3 servers on it"), "{}", found[0].what);
        assert!(found[0].what.contains("may open 110"), "{}", found[0].what);
        assert!(found[0].next.contains("to at most 36 on each"), "{}", found[0].next);
        let most = |max| most_connections(&of(max), 40);
        assert_eq!((most(45), most(44), most(14)), (None, Some(39), Some(9)));
    }

    #[test]
    fn backends_that_are_never_retired_and_may_fill_the_memory_give_a_warning() {
        // 24 relations of 4 KiB are 96 KiB a tenant; 40 backends of 1,000 tenants are 3.7 GiB.
        let facts = Facts { schemas: 1_000, in_schemas: 24_000, ..small() };
        assert_eq!(warnings(&facts, &budget(), 60), ["memory"]);
        let retired = Budget { tenants_per_connection: Some(100), ..budget() };
        assert_eq!(warnings(&facts, &retired, 60), Vec::<String>::new());
    }

    #[test]
    fn catalogs_roles_and_dead_rows_over_their_limits_give_a_warning() {
        let facts = Facts { catalog_bytes: 33 * MIB, ..small() };
        assert_eq!(warnings(&facts, &budget(), 60), ["catalogs"]);
        let facts = Facts { relations: 1_000_001, ..small() };
        assert_eq!(warnings(&facts, &budget(), 60), ["relations"]);
        let facts = Facts { roles: 4_001, ..small() };
        assert_eq!(warnings(&facts, &budget(), 60), ["roles"]);
        let facts = Facts { roles: 4_001, server_version: 160_000, ..small() };
        assert_eq!(warnings(&facts, &budget(), 60), Vec::<String>::new());
        let facts = Facts { dead_percent: 101, ..small() };
        assert_eq!(warnings(&facts, &budget(), 60), Vec::<String>::new());
        let facts = Facts {
            dead_percent: 101,
            catalog_bytes: 65 * MIB,
            shared_buffers: 512 * MIB,
            ..small()
        };
        assert_eq!(warnings(&facts, &budget(), 60), ["autovacuum"]);
        let facts = Facts { autovacuum: false, ..small() };
        assert_eq!(warnings(&facts, &budget(), 60), ["autovacuum is off"]);
    }
}
