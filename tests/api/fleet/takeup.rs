//! A run whose process is gone is gone on with, by one server and by nobody who should not.

use std::process::{Child, Stdio};

use rowhouse::app::{Backend, Options};
use rowhouse::config::Settings;
use rowhouse::domain::page::Window;
use rowhouse::pg::rules::Statements;
use rowhouse::service::fleet::{Look, Wish};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_postgres::Client;
use tokio_postgres::config::Host;
use uuid::Uuid;

use super::ground::{GATED, Gate, Ground, SECOND, migrate, outcome, provision, quiet, wait_for};
use super::kills::signal;
use super::moves::heard_twice;
use crate::support::{Snapshot, TestApp, settings_for};

/// A server that looks all the time.
async fn attentive(ground: &Ground) -> TestApp {
    TestApp::builder()
        .with("tenant_migrations", ground.folder.path().display().to_string())
        .with("fleet.lease", "2s")
        .with("fleet.take_up_interval", "50ms")
        .on(ground.database.clone())
        .spawn()
        .await
}

/// An operation as a process leaves it that is killed right after it took it up.
async fn left(backend: &Backend, sql: &Client) -> Uuid {
    let made = backend.services.fleet.start(&backend.operator(), &Wish::default()).await;
    let made = made.expect("a migration can be started");
    sql.batch_execute(
        "UPDATE operations
            SET state = 'running', runner = gen_random_uuid(), runner_host = 'gone', runner_pid = 1,
                runner_since = now(), started_at = now(), lease_until = now() - interval '1 second'",
    )
    .await
    .expect("it can be written");
    made.id
}

async fn is_done(sql: &Client) {
    wait_for(sql, "SELECT count(*) = 1 FROM operations WHERE state = 'done'").await;
}

/// How often it was gone on with, asked or not.
async fn resumed(sql: &Client, asked: bool) -> i64 {
    let events = "SELECT count(*) FROM audit_events
                   WHERE action = 'migration.resume' AND (details->>'asked')::boolean = $1";
    sql.query_one(events, &[&asked]).await.expect("events can be counted").get(0)
}

/// A process that migrates one tenant after the other, and stands before the gate with the first.
async fn process_before(gate: &Gate, ground: &Ground, lease: &str) -> Child {
    let program = ground.program().with("ROWHOUSE_FLEET__LEASE", lease);
    let mut process =
        program.command(env!("CARGO_BIN_EXE_rowhouse"), &["migrate", "--workers", "1"]);
    process.stdout(Stdio::null()).stderr(Stdio::null());
    let process = process.spawn().expect("the program starts");
    gate.reached(ground).await;
    process
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_goes_on_with_what_a_killed_process_left() {
    let ground = Ground::with(4).await;
    ground.write(GATED);
    let gate = Gate::shut(&ground).await;
    let mut process = process_before(&gate, &ground, "500ms").await;
    process.kill().expect("it can be killed");
    process.wait().expect("it can be waited for");
    let app = attentive(&ground).await;
    gate.open().await;
    let sql = app.sql().await;
    is_done(&sql).await;
    assert_eq!(ground.runs().await, [1; 4]);
    assert_eq!((resumed(&sql, false).await, resumed(&sql, true).await), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_migrated_and_not_written_down_is_written_down_by_whoever_goes_on() {
    let ground = Ground::with(2).await;
    ground.write(SECOND);
    let backend = ground.backend(&[]).await;
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let sql = ground.sql().await;
    let id = left(&backend, &sql).await;
    let committed = format!(
        "UPDATE operation_tenants SET state = 'running', attempts = 1, runner = gen_random_uuid() WHERE slug = 't0';
         {}",
        ground.as_if_committed(0, fleet.set())
    );
    sql.batch_execute(&committed).await.unwrap();
    let record = fleet.run(&ctx, id, quiet()).await.unwrap();
    assert_eq!(outcome(&record), ("done", None, [0, 2, 0, 0]));
    assert_eq!(ground.runs().await, [1; 2]);
    let behind = "SELECT count(*) = 0 FROM tenants WHERE migrations_version <> 2";
    assert!(sql.query_one(behind, &[]).await.unwrap().get::<_, bool>(0));
    let work = fleet.tenants(&ctx, id, None, &Window { after: None, limit: 10 }).await.unwrap();
    for row in &work.rows {
        assert_eq!(row.applied.as_deref(), Some(&["V2__add_mood.sql".to_owned()][..]), "{row:?}");
    }
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_sleeps_through_its_lease_begins_nothing_more() {
    let ground = Ground::with(3).await;
    ground.write(GATED);
    let gate = Gate::shut(&ground).await;
    let mut process = process_before(&gate, &ground, "500ms").await;
    signal("STOP", process.id());
    let sql = ground.sql().await;
    wait_for(&sql, "SELECT lease_until <= now() FROM operations").await;
    let backend = ground.backend(&[]).await;
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let left = fleet.find_open(&ctx).await.unwrap().expect("it is open");
    fleet.cancel(&ctx, left.id).await.unwrap();
    gate.open().await;
    // The database ends what it was sent before.
    wait_for(&sql, &format!("SELECT runs = 1 FROM {}.notes", ground.schema(0))).await;
    signal("CONT", process.id());
    process.wait().expect("it can be waited for");
    assert_eq!(ground.runs().await, [1, 0, 0]);
    assert_eq!(outcome(&migrate(&backend, &Wish::default()).await).0, "done");
    assert_eq!(ground.runs().await, [1; 3]);
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_living_process_runs_is_left_to_it() {
    let ground = Ground::with(2).await;
    ground.write(GATED);
    let gate = Gate::shut(&ground).await;
    let mut process = process_before(&gate, &ground, "2s").await;
    let app = attentive(&ground).await;
    let sql = app.sql().await;
    heard_twice(&sql).await;
    let look = app.services.fleet.take_up_left(&app.operator()).await;
    assert_eq!(look.unwrap(), Look::Nothing);
    let pid: i32 = sql.query_one("SELECT runner_pid FROM operations", &[]).await.unwrap().get(0);
    assert_eq!(pid.unsigned_abs(), process.id());
    gate.open().await;
    assert!(process.wait().expect("it ends").success());
    assert_eq!(ground.runs().await, [1; 2]);
    assert_eq!(resumed(&sql, false).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_hands_its_run_to_another() {
    let ground = Ground::with(3).await;
    ground.write(GATED);
    let gate = Gate::shut(&ground).await;
    let first = attentive(&ground).await;
    let wish = serde_json::json!({ "workers": 1 });
    let started = first.root().post("/control/v1/migrations", &wish).await;
    assert_eq!(started.status, 202, "{started:?}");
    gate.reached(&ground).await;
    let second = attentive(&ground).await;
    let sql = second.sql().await;
    let (_, ()) = tokio::join!(first.stop(), async {
        heard_twice(&sql).await;
        gate.open().await;
    });
    is_done(&sql).await;
    assert_eq!(ground.runs().await, [1; 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_those_who_look_at_once_one_goes_on() {
    let ground = Ground::with(2).await;
    ground.write(GATED);
    let gate = Gate::shut(&ground).await;
    let (one, two) = (ground.backend(&[]).await, ground.backend(&[]).await);
    let sql = ground.sql().await;
    let id = left(&one, &sql).await;
    let ctx = one.operator();
    let looks =
        tokio::join!(one.services.fleet.take_up_left(&ctx), two.services.fleet.take_up_left(&ctx));
    let looks = [looks.0.unwrap(), looks.1.unwrap()];
    let taken = looks.iter().filter(|look| **look == Look::Taken(id)).count();
    assert_eq!(taken, 1, "{looks:?}");
    assert!(looks.iter().any(|look| matches!(look, Look::Late(_) | Look::Nothing)), "{looks:?}");
    gate.open().await;
    is_done(&sql).await;
    assert_eq!(ground.runs().await, [1; 2]);
    assert_eq!(resumed(&sql, false).await, 1);
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_on_one_database_go_on_with_a_run_once() {
    let ground = Ground::with(3).await;
    ground.write(SECOND);
    let backend = ground.backend(&[]).await;
    let servers = [attentive(&ground).await, attentive(&ground).await];
    let sql = ground.sql().await;
    left(&backend, &sql).await;
    is_done(&sql).await;
    assert_eq!(ground.runs().await, [1; 3]);
    assert_eq!(resumed(&sql, false).await, 1);
    drop(servers);
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_running_or_was_stopped_on_purpose_waits_for_a_word() {
    let ground = Ground::with(1).await;
    ground.write(SECOND);
    let backend = ground.backend(&[]).await;
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let sql = ground.sql().await;
    left(&backend, &sql).await;
    let mut standings: Vec<String> = ["planned", "paused", "done", "failed", "cancelled"]
        .map(|state| format!("state = '{state}', lease_until = now() - interval '1 hour'"))
        .into();
    standings.push("state = 'running', lease_until = now() + interval '1 hour'".to_owned());
    standings.push("state = 'running', lease_until = NULL, runner = NULL".to_owned());
    for standing in standings {
        sql.batch_execute(&format!("UPDATE operations SET {standing}")).await.unwrap();
        let before = Snapshot::take(&sql).await;
        assert_eq!(fleet.take_up_left(&ctx).await.unwrap(), Look::Nothing, "{standing}");
        assert_eq!(Snapshot::take(&sql).await, before, "{standing}");
    }
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_is_told_to_stop_leaves_its_run_to_whoever_stopped_it() {
    let ground = Ground::with(3).await;
    ground.write(GATED);
    let (one, two) = (ground.backend(&[]).await, ground.backend(&[]).await);
    let id = stopped_midway(&ground, &one).await;
    let (fleet, ctx) = (&two.services.fleet, two.operator());
    assert_eq!(fleet.take_up_left(&ctx).await.unwrap(), Look::Nothing);
    let record = fleet.run(&ctx, id, quiet()).await.unwrap();
    assert_eq!(outcome(&record), ("done", None, [0, 3, 0, 0]));
    assert_eq!(ground.runs().await, [1; 3]);
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_told_to_stop_leaves_its_run_to_any_other_at_once() {
    let ground = Ground::with(3).await;
    ground.write(GATED);
    let mut values = settings_for(&ground.database.url());
    values.push(("tenant_migrations", ground.folder.path().display().to_string()));
    // Longer than anybody waits: the lease is ended, and does not run out.
    values.push(("fleet.lease", "1h".to_owned()));
    let settings = Settings::from_values(&values).unwrap();
    let one = Backend::open(&settings, &Options::default()).await.unwrap();
    let two = ground.backend(&[]).await;
    let id = stopped_midway(&ground, &one).await;
    one.close().await;
    let (fleet, ctx) = (&two.services.fleet, two.operator());
    assert_eq!(fleet.take_up_left(&ctx).await.unwrap(), Look::Taken(id));
    is_done(&ground.sql().await).await;
    assert_eq!(ground.runs().await, [1; 3]);
    two.close().await;
}

/// Stops a run of three tenants while the first is migrated.
async fn stopped_midway(ground: &Ground, backend: &Backend) -> Uuid {
    let gate = Gate::shut(ground).await;
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let wish = Wish { workers: Some(1), ..Wish::default() };
    let made = fleet.start(&ctx, &wish).await.expect("a migration can be started");
    let (ran, ()) = tokio::join!(fleet.run(&ctx, made.id, quiet()), async {
        gate.reached(ground).await;
        // In this order: it is told before the gate opens.
        tokio::join!(fleet.stop(), gate.open());
    });
    let record = ran.expect("a run can be stopped");
    assert_eq!(outcome(&record), ("running", None, [2, 1, 0, 0]));
    assert!(!record.is_held);
    made.id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_towards_other_files_is_left_to_those_who_have_them() {
    let ground = Ground::with(2).await;
    let older = ground.backend(&[]).await;
    ground.write(SECOND);
    let newer = ground.backend(&[]).await;
    let sql = ground.sql().await;
    let id = left(&newer, &sql).await;
    let before = Snapshot::take(&sql).await;
    for _ in 0..2 {
        let look = older.services.fleet.take_up_left(&older.operator()).await.unwrap();
        assert_eq!(look, Look::OtherSet { id, target_version: 2 });
    }
    assert_eq!(Snapshot::take(&sql).await, before);
    let look = newer.services.fleet.take_up_left(&newer.operator()).await.unwrap();
    assert_eq!(look, Look::Taken(id));
    is_done(&sql).await;
    assert_eq!(ground.runs().await, [1; 2]);
    older.close().await;
    newer.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_between_the_look_and_the_taking_holds() {
    let ground = Ground::with(1).await;
    ground.write(SECOND);
    let backend = ground.backend(&[]).await;
    let sql = ground.sql().await;
    let id = left(&backend, &sql).await;
    let pausing = ground.sql().await;
    pausing
        .batch_execute(
            "BEGIN; UPDATE operations SET state = 'paused', pause_reason = 'asked', lease_until = NULL",
        )
        .await
        .unwrap();
    let ctx = backend.operator();
    let (look, ()) = tokio::join!(backend.services.fleet.take_up_left(&ctx), async {
        wait_for(
            &sql,
            "SELECT count(*) > 0 FROM pg_stat_activity
              WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )
        .await;
        pausing.batch_execute("COMMIT").await.unwrap();
    });
    assert_eq!(look.unwrap(), Look::Late(id));
    let record = backend.services.fleet.read(&ctx, id).await.unwrap();
    assert_eq!(outcome(&record), ("paused", Some("asked"), [1, 0, 0, 0]));
    assert_eq!(ground.runs().await, [0]);
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_pooler_a_run_is_gone_on_with_that_needs_no_direct_connection() {
    let ground = Ground::with(2).await;
    ground.write(SECOND);
    let backend = behind_a_pooler(&ground).await;
    let sql = ground.sql().await;
    let id = left(&backend, &sql).await;
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    assert_eq!(fleet.take_up_left(&ctx).await.unwrap(), Look::Taken(id));
    is_done(&sql).await;
    assert_eq!(ground.runs().await, [1; 2]);
    backend.close().await;

    ground.write((
        "V3__index.sql",
        "-- rowhouse: no-transaction\nCREATE INDEX CONCURRENTLY notes_runs_idx ON notes (runs);",
    ));
    sql.batch_execute("DELETE FROM operations").await.unwrap();
    let backend = behind_a_pooler(&ground).await;
    let id = left(&backend, &sql).await;
    let before = Snapshot::take(&sql).await;
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    assert_eq!(fleet.take_up_left(&ctx).await.unwrap(), Look::NotDirect(id));
    assert_eq!(Snapshot::take(&sql).await, before);
    // Whoever is direct may.
    let direct = ground.backend(&[]).await;
    assert_eq!(direct.services.fleet.take_up_left(&ctx).await.unwrap(), Look::Taken(id));
    is_done(&sql).await;
    assert_eq!(ground.versions(1).await, [1, 2, 3]);
    direct.close().await;
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_of_the_control_plane_are_cached_unasked_where_no_pooler_can_lose_them() {
    let ground = Ground::with(0).await;
    let url = ground.database.url();
    for (wanted, control, tenants) in [
        ("auto", Statements::Cached, Statements::Unnamed),
        ("unnamed", Statements::Unnamed, Statements::Unnamed),
        ("cached", Statements::Cached, Statements::Cached),
    ] {
        let backend =
            ground.backend(&[("database.url", &url), ("database.statements", wanted)]).await;
        let rules = backend.rules();
        assert_eq!((rules.control_statements, rules.statements), (control, tenants), "{wanted}");
        provision(&backend, wanted).await;
        backend.close().await;
    }
    let backend = behind_a_pooler(&ground).await;
    assert_eq!(backend.rules().control_statements, Statements::Unnamed);
    backend.close().await;
}

/// A process that reaches the database through something that takes no `options`, as a pooler does not.
async fn behind_a_pooler(ground: &Ground) -> Backend {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let upstream: tokio_postgres::Config = ground.database.url().parse().expect("it is a URL");
    let login = upstream.get_user().expect("it has a user").to_owned();
    let password =
        String::from_utf8_lossy(upstream.get_password().unwrap_or_default()).into_owned();
    let name = upstream.get_dbname().expect("it has a database").to_owned();
    let url = format!("postgres://{login}:{password}@127.0.0.1:{port}/{name}");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let upstream = upstream.clone();
            tokio::spawn(async move { pass_on(client, &upstream).await });
        }
    });
    let mut values = settings_for(&url);
    // The pooler of the suite, where there is one, does not stand before this one.
    values.push(("database.url", url));
    values.push(("tenant_migrations", ground.folder.path().display().to_string()));
    let settings = Settings::from_values(&values).expect("the settings of a test are good");
    Backend::open(&settings, &Options::default()).await.expect("the backend of a test opens")
}

const SSL_REQUEST: [u8; 4] = 80_877_103_u32.to_be_bytes();

async fn pass_on(mut client: TcpStream, upstream: &tokio_postgres::Config) -> std::io::Result<()> {
    let first = loop {
        let length = client.read_u32().await?;
        let mut message = vec![0; usize::try_from(length).unwrap_or(0).saturating_sub(4)];
        client.read_exact(&mut message).await?;
        if message != SSL_REQUEST {
            break [&length.to_be_bytes()[..], &message].concat();
        }
        client.write_all(b"N").await?;
    };
    if first.windows(9).any(|part| part == b"\0options\0") {
        let fields = b"SFATAL\0C08P01\0Munsupported startup parameter: options\0\0";
        let length = u32::try_from(fields.len() + 4).unwrap_or(0).to_be_bytes();
        return client.write_all(&[b"E", &length[..], &fields[..]].concat()).await;
    }
    let port = upstream.get_ports().first().copied().unwrap_or(5432);
    match &upstream.get_hosts()[0] {
        Host::Tcp(host) => {
            let mut server = TcpStream::connect((host.as_str(), port)).await?;
            server.write_all(&first).await?;
            copy_bidirectional(&mut client, &mut server).await?;
        }
        Host::Unix(folder) => {
            let mut server = UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).await?;
            server.write_all(&first).await?;
            copy_bidirectional(&mut client, &mut server).await?;
        }
    }
    Ok(())
}
