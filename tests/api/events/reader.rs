//! A reader that stores its cursor gets every event once, in an order in which the last word on a tenant is right, while
//! slow requests to several servers change the tenants.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

use super::{EVENTS, SOON, page};
use crate::support::control::transition;
use crate::support::{TestApp, wire};

const WRITERS: usize = 8;

/// Changes of each writer.
const CHANGES: usize = 15;

/// What is told of a tenant: slug, name, status, revision.
type Told = (Value, Value, Value, i64);

/// Sends a change of the name whose body takes its time to arrive.
async fn rename_slowly(app: &TestApp, tenant: Uuid, name: &str, pause: Duration) {
    let body = json!({ "name": name }).to_string();
    let (_, rest) = body.split_at(body.len() / 2);
    let mut stream = wire::begin_rename(app, tenant, &body, pause).await;
    stream.write_all(rest.as_bytes()).await.expect("the server reads");
    let answer = wire::read_answer(&mut stream).await;
    assert_eq!(wire::status(&answer), 200, "{answer}");
}

/// Applies an event to what is told of all tenants, in the order of the feed.
fn fold(told: &mut BTreeMap<Uuid, Told>, event: &Value) {
    let (tenant, data) = (&event["tenant"], &event["data"]);
    let id: Uuid = tenant["id"].as_str().expect("it is about a tenant").parse().expect("an id");
    let revision = data["revision"].as_i64().expect("it has a revision");
    let slug = tenant["slug"].clone();
    match event["type"].as_str().expect("it has a type") {
        "tenant.created" => {
            told.insert(id, (slug, data["name"].clone(), json!("active"), revision));
        }
        "tenant.updated" => {
            let known = told.get_mut(&id).expect("it was created before");
            let name = &data["changes"]["name"];
            assert_eq!(name["from"], known.1, "the events of a tenant follow each other");
            *known = (slug, name["to"].clone(), known.2.clone(), revision);
        }
        "tenant.suspended" | "tenant.resumed" => {
            let known = told.get_mut(&id).expect("it was created before");
            assert_eq!(data["previous_status"], known.2);
            *known = (slug, known.1.clone(), data["status"].clone(), revision);
        }
        other => panic!("{other} was not expected"),
    }
}

#[expect(clippy::too_many_lines, reason = "one scene with writers, a reader and a count")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_comes_once_and_applied_in_order_they_give_the_present_state() {
    let one = TestApp::spawn().await;
    let two = TestApp::builder().on(one.database.clone()).spawn().await;
    let servers = Arc::new([one, two]);
    let mut tenants = Vec::new();
    for number in 0..4 {
        tenants.push(servers[number % 2].set_up(&format!("t{number}")).await.id);
    }
    let ended = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (servers, tenants) = (Arc::clone(&servers), tenants.clone());
            tokio::spawn(async move {
                for change in 0..CHANGES {
                    let server = &servers[(writer + change) % 2];
                    let tenant = tenants[(writer * 3 + change) % 4];
                    let name = format!("{writer}.{change}");
                    if change % 5 == 4 {
                        // One of those who try it at the same time succeeds.
                        let verb = if writer % 2 == 0 { "suspend" } else { "resume" };
                        let moved = transition(&server.root(), &tenant.to_string(), verb).await;
                        assert!([200, 409].contains(&moved.status), "{moved:?}");
                    } else {
                        let pause = Duration::from_millis((writer * 7 + change * 13) as u64 % 60);
                        rename_slowly(server, tenant, &name, pause).await;
                    }
                }
            })
        })
        .collect();

    // The reader keeps its cursor and what it was told, and is stopped in the middle of a read three times.
    let reader = {
        let (servers, ended) = (Arc::clone(&servers), Arc::clone(&ended));
        tokio::spawn(async move {
            let (mut told, mut seen, mut last) = (BTreeMap::new(), BTreeSet::new(), 0);
            let (mut cursor, mut reads, mut stops) = ("0".to_owned(), 0, 0);
            loop {
                reads += 1;
                let caller = servers[reads % 2].root();
                if stops < 3 && reads % 4 == 0 {
                    let query = format!("{EVENTS}?after={cursor}&wait=5");
                    let read = caller.get(&query);
                    let _ = tokio::time::timeout(Duration::from_millis(5), read).await;
                    stops += 1;
                    continue;
                }
                let is_last = ended.load(Ordering::SeqCst);
                let (events, next) = page(&caller, &format!("after={cursor}&limit=7&wait=1")).await;
                if events.is_empty() && is_last {
                    assert_eq!(stops, 3);
                    return (told, seen);
                }
                for event in &events {
                    assert!(
                        seen.insert(event["id"].as_str().unwrap().to_owned()),
                        "twice: {event}"
                    );
                    let position = event["position"].as_i64().unwrap();
                    assert!(position > last, "{position} after {last}");
                    last = position;
                    fold(&mut told, event);
                }
                cursor = next;
            }
        })
    };
    for writer in writers {
        writer.await.expect("a writer ends");
    }
    let sql = servers[0].sql().await;
    let since = Instant::now();
    let left = "SELECT count(*) AS count FROM audit_events WHERE position IS NULL";
    while sql.query_one(left, &[]).await.unwrap().get::<_, i64>("count") > 0 {
        assert!(since.elapsed() < SOON, "some events are not sealed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    ended.store(true, Ordering::SeqCst);
    let (told, seen) = reader.await.expect("the reader ends");

    let stored = "SELECT id FROM audit_events WHERE action LIKE 'tenant.%'";
    let rows = sql.query(stored, &[]).await.unwrap();
    let stored: BTreeSet<_> = rows.iter().map(|row| row.get::<_, Uuid>("id").to_string()).collect();
    assert_eq!(seen, stored, "no event is missing");
    assert!(seen.len() > WRITERS * CHANGES / 2, "{} events", seen.len());
    let records = servers[1].root().get("/control/v1/tenants").await;
    let records = records.body["data"].as_array().expect("there is data").clone();
    let present: BTreeMap<Uuid, Told> = records
        .iter()
        .map(|record| {
            let id = record["id"].as_str().unwrap().parse().unwrap();
            let field = |name: &str| record[name].clone();
            let revision = record["revision"].as_i64().unwrap();
            (id, (field("slug"), field("name"), field("status"), revision))
        })
        .collect();
    assert_eq!(told, present);
    let verdict = servers[0].services.audit.verify(&servers[0].operator()).await.unwrap();
    assert_eq!(verdict.broken, None);
}
