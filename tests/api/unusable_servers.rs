//! PostgreSQL servers that cannot be used as they are: a standby, and a version that is too old.

use std::time::Duration;

use serde_json::json;

use crate::support::control::assert_problem;
use crate::support::own_cluster::{self, Cluster};
use crate::support::{Answer, Caller, Program, SECRET_KEY, Snapshot, TestDatabase};

const TENANTS: &str = "/control/v1/tenants";
const ROOT_TOKEN: &str = "3b0f8f0a-8a49-4a53-9f4e-0c7f5a0e9d21";

/// Asks until an answer has this status: connections break when a database changes its part, and a standby is a little
/// behind.
async fn until(status: u16, ask: impl AsyncFn() -> Answer) -> Answer {
    for _ in 0..300 {
        let answer = ask().await;
        if answer.status == status {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let last = ask().await;
    panic!("not {status}: {last:?}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_standby_no_server_starts_and_one_whose_database_becomes_one_serves_reads_and_heals() {
    let folder = own_cluster::folder();
    let mut first = Cluster::at(folder.path(), "first", 5432);
    first.create();
    first.start();
    let on = |cluster: &Cluster| {
        Program::embedded()
            .with("DATABASE_URL", &cluster.url())
            .with("ROWHOUSE_SECRET_KEY", SECRET_KEY)
    };
    let server = on(&first).with("ROWHOUSE_ROOT_TOKEN", ROOT_TOKEN).serve(&[]);
    let root = Caller::new(&server.address, Some(ROOT_TOKEN));
    let make = async |slug: &str| root.post(TENANTS, &json!({ "name": "x", "slug": slug })).await;
    let read = async |slug: &str| root.get(&format!("{TENANTS}/{slug}")).await;
    assert_eq!(make("acme").await.status, 201);
    let mut second = Cluster::at(folder.path(), "second", 5433);
    second.create_from(&first, &["-R"]);
    second.start();

    let program = on(&second);
    for verb in ["serve", "migrate"] {
        let refused = program.run(&[verb]).expect(1);
        assert!(refused.stderr.contains(":5433"), "{refused:?}");
        let why =
            "is read-only: its server is a standby, or still recovers; connect to the primary";
        assert!(refused.stderr.contains(why), "{refused:?}");
    }
    assert!(program.run(&["tenant", "list"]).expect(0).stdout.contains("acme"));
    let refused = program.run(&["tenant", "suspend", "acme"]).expect(1);
    assert!(refused.stderr.contains("the database is read-only"), "{refused:?}");

    // The two change their parts.
    first.stop();
    second.promote();
    first.follow(&second);
    first.start();
    until(200, async || read("acme").await).await;
    let refused = until(503, async || make("globex").await).await;
    assert_problem(&refused, 503, "read_only");
    assert!(refused.retry_after() >= 1, "{refused:?}");
    assert_eq!(root.get("/readyz").await.status, 200, "reads are served");
    program.create_tenant("initech").expect(0);
    until(200, async || read("initech").await).await;
    second.stop();
    first.promote();
    until(201, async || make("globex").await).await;
    server.stop("TERM").expect(0);
    on(&first).run(&["doctor"]).expect(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_an_old_version_is_refused_by_a_sentence_with_both_versions() {
    let database = TestDatabase::create().await;
    let sql = database.connect().await;
    // An old server is one that says so.
    let old = format!(
        "CREATE SCHEMA old;
         CREATE FUNCTION old.current_setting(name text) RETURNS text LANGUAGE sql AS $$
             SELECT CASE name WHEN 'server_version_num' THEN '140022' WHEN 'server_version' THEN '14.22'
                              ELSE pg_catalog.current_setting(name) END $$;
         ALTER DATABASE {} SET search_path = old, pg_catalog, public",
        database.name()
    );
    sql.batch_execute(&old).await.expect("the owner may");
    let before = Snapshot::take(&sql).await;
    let program = Program::on(&database);
    for verb in [&["serve"][..], &["migrate"], &["tenant", "list"], &["doctor"]] {
        let refused = program.run(verb).expect(1);
        let why = "the server is PostgreSQL 14.22; rowhouse needs 15 or newer";
        assert!(refused.stderr.contains(why), "{refused:?}");
    }
    assert_eq!(Snapshot::take(&sql).await, before);
}
