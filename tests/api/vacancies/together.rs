//! Set-ups at the same moment share a transaction, and none of them is the worse for it.

use std::time::Duration;

use futures_util::future::join_all;
use rowhouse::domain::error::{Conflict, Error, Noun};
use rowhouse::domain::names::Email;
use rowhouse::service::provisioning::{Admin, ProvisionTenant, Provisioned};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::house::{Process, provision_command, schemas, vacancies};
use crate::support::{Snapshot, TestDatabase};

/// A process with so many vacancies and no tenant, and a connection.
async fn with_stock(database: &TestDatabase, wanted: usize) -> (Process, Client) {
    let (process, sql) = (Process::on(database, wanted).await, database.connect().await);
    process.fill().await;
    (process, sql)
}

/// A wish that needs no password, so that all of them are ready at once.
fn quick(slug: &str) -> ProvisionTenant {
    ProvisionTenant { admin: Admin::Nobody, ..provision_command(slug) }
}

fn for_existing(slug: &str, email: &str) -> ProvisionTenant {
    let admin = Admin::Existing(Email::parse(email).expect("an address"));
    ProvisionTenant { admin, ..provision_command(slug) }
}

async fn make_all(
    process: &Process,
    wishes: Vec<ProvisionTenant>,
) -> Vec<Result<Provisioned, Error>> {
    let operator = process.operator();
    let provisioning = &process.backend.services.provisioning;
    join_all(wishes.into_iter().map(|wish| provisioning.provision(&operator, wish))).await
}

/// Makes one without waiting for it.
fn begin(process: &Process, wish: ProvisionTenant) -> JoinHandle<Result<Provisioned, Error>> {
    let (provisioning, operator) =
        (process.backend.services.provisioning.clone(), process.operator());
    tokio::spawn(async move { provisioning.provision(&operator, wish).await })
}

/// Whoever makes a tenant of this slug takes their time with it.
async fn slow_down(sql: &Client, slug: &str) {
    let sleep = format!(
        "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql
             AS $$ BEGIN PERFORM pg_sleep(3); RETURN NEW; END $$;
         CREATE TRIGGER dawdle BEFORE INSERT ON tenants
             FOR EACH ROW WHEN (NEW.slug = '{slug}') EXECUTE FUNCTION dawdle()"
    );
    sql.batch_execute(&sleep).await.expect("a trigger can be made");
}

/// Waits until so many are at it.
async fn wait_for_sleepers(sql: &Client, wanted: i64) {
    let query = "SELECT count(*) FROM pg_stat_activity
                  WHERE datname = current_database() AND wait_event = 'PgSleep'";
    for _ in 0..500 {
        let row = sql.query_one(query, &[]).await.expect("it can be counted");
        if row.get::<_, i64>(0) == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("there are never {wanted} of them");
}

async fn slugs(sql: &Client) -> Vec<String> {
    let rows =
        sql.query("SELECT slug FROM tenants ORDER BY slug", &[]).await.expect("it can be read");
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn set_ups_at_once_share_transactions_and_each_is_whole() {
    let database = TestDatabase::create().await;
    let (process, sql) = with_stock(&database, 12).await;
    let stock = vacancies(&sql, "ready").await;
    let made = make_all(&process, (0..12).map(|n| quick(&format!("t-{n:02}"))).collect()).await;
    let made: Vec<Provisioned> = made.into_iter().map(|made| made.expect("it is made")).collect();
    for (number, made) in made.iter().enumerate() {
        // Each has what it asked for, and not its neighbour's.
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
async fn what_is_refused_to_one_is_not_refused_to_those_beside_it() {
    let database = TestDatabase::create().await;
    let (process, sql) = with_stock(&database, 12).await;
    process.set_up("taken").await;
    let wishes = vec![
        quick("a"),
        quick("taken"),
        quick("b"),
        for_existing("nobodys", "nobody@example.com"),
        quick("twice"),
        quick("twice"),
        provision_command("with-admin"),
    ];
    let made = make_all(&process, wishes).await;
    let [a, taken, b, nobodys, once, twice, with_admin] = &made[..] else { panic!("{made:?}") };
    assert!(a.is_ok() && b.is_ok() && with_admin.is_ok(), "{made:?}");
    assert!(matches!(taken, Err(Error::Conflict(Conflict::SlugTaken))), "{taken:?}");
    assert!(matches!(nobodys, Err(Error::NotFound(Noun::User))), "{nobodys:?}");
    let refused = [once, twice].into_iter().filter_map(|made| made.as_ref().err());
    let refused: Vec<&Error> = refused.collect();
    assert!(matches!(refused[..], [Error::Conflict(Conflict::SlugTaken)]), "{refused:?}");
    assert_eq!(slugs(&sql).await, ["a", "b", "taken", "twice", "with-admin"]);
    assert_eq!(vacancies(&sql, "ready").await.len(), 12 - 5, "none is lost");
    process.close().await;
}

#[tokio::test]
async fn where_there_are_too_few_vacancies_for_all_the_rest_is_built() {
    let database = TestDatabase::create().await;
    let (process, sql) = with_stock(&database, 3).await;
    let made = make_all(&process, (0..6).map(|n| quick(&format!("t-{n}"))).collect()).await;
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    assert!(vacancies(&sql, "ready").await.is_empty());
    assert_eq!(schemas(&sql).await, 6);
    process.close().await;
}

#[tokio::test]
async fn one_that_waits_for_a_slug_that_somebody_holds_holds_nobody_up() {
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
    assert!(!held.is_finished(), "it waits for the holder");
    holder.rollback().await.unwrap();
    held.await.unwrap().expect("it is made");
    process.close().await;
}

#[tokio::test]
async fn one_whose_caller_goes_while_it_waits_for_its_turn_is_not_made() {
    let database = TestDatabase::create().await;
    let (process, sql) = with_stock(&database, 4).await;
    slow_down(&sql, "slow").await;
    let slow = begin(&process, quick("slow"));
    wait_for_sleepers(&sql, 1).await;
    let (gone, stays) = (begin(&process, quick("gone")), begin(&process, quick("stays")));
    tokio::time::sleep(Duration::from_millis(100)).await;
    gone.abort();
    slow.await.unwrap().expect("it is made");
    stays.await.unwrap().expect("it is made");
    assert_eq!(slugs(&sql).await, ["slow", "stays"]);
    process.close().await;
}

#[tokio::test]
async fn where_all_callers_have_gone_the_transaction_is_broken_off() {
    let database = TestDatabase::create().await;
    let (process, sql) = with_stock(&database, 4).await;
    slow_down(&sql, "slow").await;
    let before = Snapshot::take(&sql).await;
    let slow = begin(&process, quick("slow"));
    wait_for_sleepers(&sql, 1).await;
    slow.abort();
    wait_for_sleepers(&sql, 0).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(Snapshot::take(&sql).await, before);
    process.set_up("next").await;
    process.close().await;
}

#[tokio::test]
async fn a_connection_that_ends_under_several_makes_none_and_says_so_to_each() {
    let database = TestDatabase::create().await;
    let (process, sql) = with_stock(&database, 4).await;
    slow_down(&sql, "slow").await;
    let first = begin(&process, quick("slow"));
    wait_for_sleepers(&sql, 1).await;
    // They wait for its end and go together, and the second of that slug is slow as well.
    let both = [begin(&process, quick("beside")), begin(&process, quick("slow"))];
    first.await.unwrap().expect("it is made");
    wait_for_sleepers(&sql, 1).await;
    let before = Snapshot::take(&sql).await;
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event = 'PgSleep'";
    sql.batch_execute(kill).await.unwrap();
    for one in both {
        let lost = one.await.unwrap();
        assert!(matches!(lost, Err(Error::Unavailable { .. })), "{lost:?}");
    }
    assert_eq!(Snapshot::take(&sql).await, before);
    process.set_up("beside").await;
    process.close().await;
}
