//! Set-ups at the same moment share a transaction and do not affect each other; a set-up ends with its caller.

use std::time::Duration;

use futures_util::future::join_all;
use rowhouse::domain::error::{Conflict, Error, Noun};
use rowhouse::domain::names::Email;
use rowhouse::service::provisioning::{Admin, ProvisionTenant, Provisioned};
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use uuid::Uuid;

use super::process::{Process, provision_command, schemas, vacancies};
use crate::support::{Snapshot, TestDatabase};

/// Returns a process with this many vacancies and no tenant, and a connection.
async fn with_stock(database: &TestDatabase, wanted: usize) -> (Process, Client) {
    let (process, sql) = (Process::on(database, wanted).await, database.connect().await);
    process.fill().await;
    (process, sql)
}

/// Returns a command without a password to hash, so that all commands are ready at the same time.
fn quick(slug: &str) -> ProvisionTenant {
    ProvisionTenant { admin: Admin::None, ..provision_command(slug) }
}

fn for_existing(slug: &str, email: &str) -> ProvisionTenant {
    let admin = Admin::Existing(Email::parse(email).expect("an address"));
    ProvisionTenant { admin, ..provision_command(slug) }
}

async fn make_all(
    process: &Process,
    commands: Vec<ProvisionTenant>,
) -> Vec<Result<Provisioned, Error>> {
    let operator = process.operator();
    let provisioning = &process.backend.services.provisioning;
    join_all(commands.into_iter().map(|command| provisioning.provision(&operator, command))).await
}

/// Starts a set-up without waiting for it.
fn begin(process: &Process, command: ProvisionTenant) -> JoinHandle<Result<Provisioned, Error>> {
    let (provisioning, operator) =
        (process.backend.services.provisioning.clone(), process.operator());
    tokio::spawn(async move { provisioning.provision(&operator, command).await })
}

/// Delays every set-up whose slug begins with `slow` by three seconds.
async fn slow_down(sql: &Client) {
    let sleep = "CREATE FUNCTION slow_insert() RETURNS trigger LANGUAGE plpgsql
             AS $$ BEGIN PERFORM pg_sleep(3); RETURN NEW; END $$;
         CREATE TRIGGER slow_insert BEFORE INSERT ON tenants
             FOR EACH ROW WHEN (NEW.slug LIKE 'slow%') EXECUTE FUNCTION slow_insert()";
    sql.batch_execute(sleep).await.expect("a trigger can be made");
}

/// Waits until this many set-ups are delayed.
async fn wait_until_delayed(sql: &Client, wanted: i64) {
    let query = "SELECT count(*) FROM pg_stat_activity
                  WHERE datname = current_database() AND wait_event = 'PgSleep'";
    for _ in 0..500 {
        let row = sql.query_one(query, &[]).await.expect("sessions can be counted");
        if row.get::<_, i64>(0) == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never {wanted} delayed set-ups");
}

async fn slugs(sql: &Client) -> Vec<String> {
    let rows =
        sql.query("SELECT slug FROM tenants ORDER BY slug", &[]).await.expect("slugs can be read");
    rows.iter().map(|row| row.get(0)).collect()
}

async fn tenant_ids(sql: &Client) -> Vec<Uuid> {
    let rows = sql.query("SELECT id FROM tenants", &[]).await.expect("ids can be read");
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn concurrent_set_ups_share_transactions_and_each_is_complete() {
    let database = TestDatabase::create().await;
    let (process, sql) = with_stock(&database, 12).await;
    let stock = vacancies(&sql, "ready").await;
    let made = make_all(&process, (0..12).map(|n| quick(&format!("t-{n:02}"))).collect()).await;
    let made: Vec<Provisioned> =
        made.into_iter().map(|made| made.expect("the tenant is created")).collect();
    for (number, made) in made.iter().enumerate() {
        // Each command got its own tenant.
        let query = "SELECT t.slug, t.number, count(e.id), min(e.details->>'slug')
                       FROM tenants t JOIN audit_events e ON e.tenant_id = t.id
                      WHERE t.id = $1
                      GROUP BY t.id";
        let row = sql.query_one(query, &[&made.id.uuid()]).await.unwrap();
        let slug = format!("t-{number:02}");
        let found: (String, i64, i64, String) = (row.get(0), row.get(1), row.get(2), row.get(3));
        assert_eq!(found, (slug.clone(), made.number, 1, slug));
        assert!(stock.contains(&made.id.uuid()));
    }
    let query = "SELECT count(DISTINCT xmin::text) FROM tenants";
    let transactions: i64 = sql.query_one(query, &[]).await.unwrap().get(0);
    assert!(transactions < 12, "{transactions} transactions for 12 tenants");
    process.close().await;
}

#[tokio::test]
async fn a_refused_set_up_does_not_affect_concurrent_ones() {
    let database = TestDatabase::create().await;
    let (process, sql) = with_stock(&database, 12).await;
    process.set_up("taken").await;
    let commands = vec![
        quick("a"),
        quick("taken"),
        quick("b"),
        for_existing("no-admin", "missing@example.com"),
        quick("twice"),
        quick("twice"),
        provision_command("with-admin"),
    ];
    let made = make_all(&process, commands).await;
    let [a, taken, b, no_admin, once, twice, with_admin] = &made[..] else { panic!("{made:?}") };
    assert!(a.is_ok() && b.is_ok() && with_admin.is_ok(), "{made:?}");
    assert!(matches!(taken, Err(Error::Conflict(Conflict::SlugTaken))), "{taken:?}");
    assert!(matches!(no_admin, Err(Error::NotFound(Noun::User))), "{no_admin:?}");
    let refused = [once, twice].into_iter().filter_map(|made| made.as_ref().err());
    let refused: Vec<&Error> = refused.collect();
    assert!(matches!(refused[..], [Error::Conflict(Conflict::SlugTaken)]), "{refused:?}");
    assert_eq!(slugs(&sql).await, ["a", "b", "taken", "twice", "with-admin"]);
    assert_eq!(vacancies(&sql, "ready").await.len(), 12 - 5, "no vacancy is lost");
    process.close().await;
}

#[tokio::test]
async fn a_set_up_builds_its_schema_if_the_stock_is_empty() {
    let database = TestDatabase::create().await;
    let (process, sql) = with_stock(&database, 3).await;
    let made = make_all(&process, (0..6).map(|n| quick(&format!("t-{n}"))).collect()).await;
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    assert!(vacancies(&sql, "ready").await.is_empty());
    assert_eq!(schemas(&sql).await, 6);
    process.close().await;
}

#[tokio::test]
async fn a_set_up_that_waits_for_a_locked_slug_does_not_block_others() {
    let database = TestDatabase::create().await;
    let (process, mut sql) = with_stock(&database, 12).await;
    let holder = sql.transaction().await.unwrap();
    let insert = "INSERT INTO tenants (id, slug, name, status, cluster, migrations_version, \
                    migrations_fingerprint, created_at, updated_at)
                VALUES (gen_random_uuid(), 'held', 'Held', 'active', 'main', 1, '', now(), now())";
    holder.batch_execute(insert).await.unwrap();
    let held = begin(&process, quick("held"));
    let others = make_all(&process, (0..6).map(|n| quick(&format!("t-{n}"))).collect()).await;
    assert!(others.iter().all(Result::is_ok), "{others:?}");
    assert!(!held.is_finished(), "it waits for the other transaction");
    holder.rollback().await.unwrap();
    held.await.unwrap().expect("the tenant is created");
    process.close().await;
}

#[tokio::test]
async fn no_tenant_is_made_for_a_caller_who_has_gone() {
    let database = TestDatabase::create().await;
    let (process, sql) = with_stock(&database, 4).await;
    slow_down(&sql).await;
    let before = Snapshot::take(&sql).await;
    let slow = begin(&process, quick("slow"));
    wait_until_delayed(&sql, 1).await;
    slow.abort();
    wait_until_delayed(&sql, 0).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(Snapshot::take(&sql).await, before);
    process.set_up("next").await;
    process.close().await;
}

/// Sends one slow set-up and then, while it is under way, others, which go together in the next transaction. Returns
/// the others once the first of them is delayed.
async fn begin_group<const N: usize>(
    process: &Process,
    sql: &Client,
    slugs: [&str; N],
) -> [JoinHandle<Result<Provisioned, Error>>; N] {
    let first = begin(process, quick("slow-first"));
    wait_until_delayed(sql, 1).await;
    let group = slugs.map(|slug| begin(process, quick(slug)));
    first.await.expect("the task ends").expect("the tenant is created");
    wait_until_delayed(sql, 1).await;
    group
}

#[tokio::test]
async fn no_tenant_is_made_for_a_caller_who_has_gone_while_others_wait_for_theirs() {
    let database = TestDatabase::create().await;
    let (process, sql) = with_stock(&database, 4).await;
    let stock = vacancies(&sql, "ready").await;
    slow_down(&sql).await;
    let [a, gone, b] = begin_group(&process, &sql, ["a", "slow-gone", "b"]).await;
    gone.abort();
    let [a, b] = [a, b].map(|one| async { one.await.unwrap().expect("the tenant is created") });
    let _ = (a.await, b.await);
    wait_until_delayed(&sql, 0).await;
    assert_eq!(slugs(&sql).await, ["a", "b", "slow-first"]);
    // One that finds all vacancies still locked by the group that was rolled back builds its own schema.
    let (left, tenants) = (vacancies(&sql, "ready").await, tenant_ids(&sql).await);
    let is_there = |id: &&Uuid| left.contains(id) || tenants.contains(id);
    assert_eq!(stock.iter().filter(is_there).count(), 4, "no vacancy is lost");
    process.close().await;
}

#[tokio::test]
async fn no_tenant_is_made_for_a_caller_who_has_gone_before_it_was_sent() {
    let database = TestDatabase::create().await;
    let (process, sql) = with_stock(&database, 4).await;
    slow_down(&sql).await;
    let first = begin(&process, quick("slow-first"));
    wait_until_delayed(&sql, 1).await;
    let (gone, stays) = (begin(&process, quick("gone")), begin(&process, quick("stays")));
    tokio::time::sleep(Duration::from_millis(100)).await;
    gone.abort();
    for made in [first, stays] {
        made.await.unwrap().expect("the tenant is created");
    }
    assert_eq!(slugs(&sql).await, ["slow-first", "stays"]);
    process.close().await;
}

#[tokio::test]
async fn a_connection_that_ends_makes_no_tenant_and_its_caller_is_told() {
    let database = TestDatabase::create().await;
    let (process, sql) = with_stock(&database, 4).await;
    slow_down(&sql).await;
    let before = Snapshot::take(&sql).await;
    let slow = begin(&process, quick("slow"));
    wait_until_delayed(&sql, 1).await;
    end_delayed(&sql).await;
    let lost = slow.await.unwrap();
    assert!(matches!(lost, Err(Error::Unavailable { .. })), "{lost:?}");
    assert_eq!(Snapshot::take(&sql).await, before);
    process.set_up("beside").await;
    process.close().await;
}

#[tokio::test]
async fn set_ups_whose_shared_connection_ends_before_the_commit_are_made_each_by_itself() {
    let database = TestDatabase::create().await;
    let (process, sql) = with_stock(&database, 4).await;
    slow_down(&sql).await;
    let group = begin_group(&process, &sql, ["a", "slow-b"]).await;
    end_delayed(&sql).await;
    for made in group {
        made.await.unwrap().expect("the tenant is created");
    }
    assert_eq!(slugs(&sql).await, ["a", "slow-b", "slow-first"]);
    process.close().await;
}

/// Ends the connections of the delayed set-ups.
async fn end_delayed(sql: &Client) {
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event = 'PgSleep'";
    sql.batch_execute(kill).await.expect("sessions can be ended");
}
