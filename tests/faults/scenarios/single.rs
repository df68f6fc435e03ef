//! One server is killed, told to stop, or stands still; its clients hang up.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::{Mix, reten_body};
use crate::inspection;
use crate::ledger::Dialect;
use crate::server::{Log, ROOT_TOKEN};
use crate::stage::{Length, Setup, Stage};

/// Mostly set-ups, which have the longest transactions.
const SET_UPS: Mix = Mix { set_ups: 10, profiles: 6, deletions: 1, purges: true };

/// How many kills must interrupt an open transaction.
const HITS: usize = 2;
/// The largest number of kills for that, as a multiple.
const MAX_FACTOR: usize = 20;

pub(crate) async fn a_server_is_killed(name: &'static str, length: Length) {
    let setup = Setup { allows_cuts: true, mix: SET_UPS, ..Setup::default() };
    kill_inside_transactions(name, length, setup).await;
}

/// Every other time its PostgreSQL is killed first, which replays its log at the next start; otherwise it stops by itself
/// when the server is gone.
pub(crate) async fn a_server_is_killed_with_its_embedded_database(
    name: &'static str,
    length: Length,
) {
    let setup = Setup { is_embedded: true, allows_cuts: true, mix: SET_UPS, ..Setup::default() };
    kill_inside_transactions(name, length, setup).await;
}

/// Most set-ups take a vacancy and some find none. The kills interrupt set-ups that build a schema as well as the
/// replenisher.
pub(crate) async fn a_server_is_killed_while_it_fills_vacancies(
    name: &'static str,
    length: Length,
) {
    let setup = Setup { allows_cuts: true, mix: SET_UPS, ..Setup::default() };
    kill_inside_transactions(name, length, setup.with("ROWHOUSE_TENANTS__VACANCIES", "6")).await;
}

/// Kills the server until enough kills have met an open transaction. To know that, the server is stopped first: from
/// then on it sends nothing.
async fn kill_inside_transactions(name: &'static str, length: Length, setup: Setup) {
    let is_embedded = setup.is_embedded;
    let mut stage = Stage::open(setup).await;
    stage.load().await;
    let (wanted, mut hits, mut kills) = (length.rounds(HITS), 0, 0);
    while hits < wanted && kills < wanted * MAX_FACTOR {
        let sql = stage.connect().await;
        let mut open = Vec::new();
        stage
            .fault(async |stage| {
                tokio::time::sleep(Duration::from_micros(fastrand::u64(0..20_000))).await;
                stage.servers[0].freeze();
                open = inspection::open_transactions(&sql).await;
                if is_embedded && usize::is_multiple_of(kills, 2) {
                    stage.servers[0].kill_embedded();
                }
                stage.servers[0].kill().await;
                stage.servers[0].start().await;
            })
            .await;
        (hits, kills) = (hits + usize::from(!open.is_empty()), kills + 1);
        stage.wait_for_writes(1 + fastrand::usize(0..8)).await;
    }
    if hits < wanted {
        stage.problems.push(format!("{hits} of {kills} kills met an open transaction"));
    }
    stage.finish(name).await;
}

/// What runs may finish, what is committed stays, and the process ends in time and with success.
pub(crate) async fn a_server_is_told_to_stop(name: &'static str, length: Length) {
    let setup = Setup { allows_cuts: true, mix: SET_UPS, ..Setup::default() };
    let mut stage = Stage::open(setup).await;
    stage.load().await;
    for _ in 0..length.rounds(2) {
        stage
            .fault(async |stage| {
                let (is_success, took) = stage.servers[0].terminate().await;
                if !is_success {
                    stage.problems.push("a server that is told to stop ends with an error".into());
                }
                // It lets requests finish for 3 s; the rest is for a busy machine.
                if took > Duration::from_secs(10) {
                    stage.problems.push(format!("a server took {took:?} to stop"));
                }
                stage.servers[0].start().await;
            })
            .await;
    }
    stage.finish(name).await;
}

/// The process stands still, as in a machine that is suspended: once for a moment, and once for longer than the
/// database lets a transaction wait.
pub(crate) async fn a_server_stands_still(name: &'static str, length: Length) {
    let longest_wait = Some(Duration::from_secs(3));
    let setup = Setup { allows_cuts: true, mix: SET_UPS, longest_wait, ..Setup::default() };
    let setup = setup.with("ROWHOUSE_DATABASE__IDLE_IN_TRANSACTION_TIMEOUT", "2s");
    let mut stage = Stage::open(setup).await;
    stage.load().await;
    for _ in 0..length.rounds(1) {
        for still in [Duration::from_millis(300), Duration::from_secs(4)] {
            stage
                .fault(async |stage| {
                    stage.servers[0].freeze();
                    tokio::time::sleep(still).await;
                    stage.servers[0].thaw();
                })
                .await;
        }
    }
    stage.finish(name).await;
}

/// Clients close their connections in the middle of a set-up: before the request is whole, or before its answer. The
/// others notice nothing.
pub(crate) async fn clients_hang_up_half_way(name: &'static str, length: Length) {
    let mut stage = Stage::open(Setup::default()).await;
    stage.load().await;
    for number in 0..length.rounds(100) {
        hang_up(&stage, number).await;
    }
    stage.finish(name).await;
}

async fn hang_up(stage: &Stage, number: usize) {
    let slug = format!("hang-up-{number}");
    let body = reten_body(&slug).to_string();
    let request = format!(
        "POST /api/tenant/setup HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {ROOT_TOKEN}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let is_whole = number.is_multiple_of(2);
    let sent = if is_whole { request.len() } else { fastrand::usize(1..request.len()) };
    if is_whole {
        stage.shared.ledger.ask_for_tenant(&slug, Dialect::Reten);
    } else {
        stage.shared.ledger.expect_no_tenant(&slug, Dialect::Reten);
    }
    let address = ("127.0.0.1", stage.servers[0].port());
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    stream.write_all(&request.as_bytes()[..sent]).await.expect("the server reads");
    if is_whole {
        tokio::time::sleep(Duration::from_micros(fastrand::u64(0..30_000))).await;
    }
}

/// Every line of the log fails to be written, and no request does.
pub(crate) async fn the_log_is_full(name: &'static str, length: Length) {
    log_much(name, length, Log::Full).await;
}

/// The log is a pipe that is never read, and is full soon.
pub(crate) async fn the_log_is_not_read(name: &'static str, length: Length) {
    log_much(name, length, Log::Unread).await;
}

async fn log_much(name: &str, length: Length, log: Log) {
    let setup = Setup { log, ..Setup::default() }.with("ROWHOUSE_LOG__FILTER", "debug");
    let mut stage = Stage::open(setup).await;
    stage.load().await;
    stage.wait_for_writes(length.rounds(300)).await;
    stage.finish(name).await;
}
