//! Two servers on one database, under load, while keys come and go.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use tokio::sync::Mutex;

use super::{EMAIL, ROTATE, call, kid_of, log_in, published, states};
use crate::support::callers::send;
use crate::support::{Answer, Caller, PASSWORD, Program, TestApp, TestAppBuilder};

/// Two servers with one database and one clock.
struct Pair {
    one: TestApp,
    two: TestApp,
}

impl Pair {
    async fn start() -> Self {
        Self::of(TestApp::builder().with_stopped_clock()).await
    }

    async fn of(builder: TestAppBuilder) -> Self {
        let one = builder.spawn().await;
        let two = TestApp::builder().on(one.database.clone()).with_clock(&one.clock).spawn().await;
        one.add_user(EMAIL, None).await;
        Self { one, two }
    }

    fn both(&self) -> [&TestApp; 2] {
        [&self.one, &self.two]
    }
}

/// What the clients of a load have done.
#[derive(Default)]
struct Load {
    is_over: AtomicBool,
    requests: AtomicUsize,
    refused: Mutex<Vec<String>>,
    kids: Mutex<BTreeSet<String>>,
}

impl Load {
    async fn count(&self, what: &str, answer: &Answer) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if answer.status != 200 {
            self.refused.lock().await.push(format!("{what}: {answer:?}"));
        }
    }

    /// Logs in at one server, uses the token at both, and refreshes it at the other.
    async fn run(&self, home: Caller, other: Caller) {
        while !self.is_over.load(Ordering::Relaxed) {
            let body = json!({ "identifier": EMAIL, "password": PASSWORD });
            let login = home.post("/api/auth/login", &body).await;
            self.count("log-in", &login).await;
            let cookie = login.header("set-cookie").and_then(|cookie| cookie.split(';').next());
            let refresh = other.request(Method::POST, "/api/auth/refresh");
            let refresh = send(refresh.header("cookie", cookie.unwrap_or_default())).await;
            self.count("refresh", &refresh).await;
            for answer in [login, refresh] {
                let Some(token) = answer.body["accessToken"].as_str() else { continue };
                self.kids.lock().await.insert(kid_of(token));
                for server in [&other, &home] {
                    let call = server.request(Method::GET, "/api/tenant/mine").bearer_auth(token);
                    self.count("call", &send(call).await).await;
                }
            }
        }
    }

    /// Waits until every client has sent some requests more.
    async fn proceed(&self) {
        let goal = self.requests.load(Ordering::Relaxed) + 24;
        while self.requests.load(Ordering::Relaxed) < goal {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_refused_through_a_rotation_on_two_servers_under_load() {
    let pair = Pair::start().await;
    let old = published(&pair.one).await;
    let load = Arc::new(Load::default());
    let clients: Vec<_> = [(&pair.one, &pair.two), (&pair.two, &pair.one)]
        .into_iter()
        .cycle()
        .take(4)
        .map(|(home, other)| {
            let (load, home, other) = (Arc::clone(&load), home.anonymous(), other.anonymous());
            tokio::spawn(async move { load.run(home, other).await })
        })
        .collect();
    load.proceed().await;
    let rotated = pair.one.root().post(ROTATE, &json!({})).await;
    assert_eq!(rotated.status, 201, "{rotated:?}");
    let new = rotated.body["kid"].as_str().unwrap().to_owned();
    // A token that is used to its end, issued just before the new key signs.
    let mut last_of_old = None;
    // Thirty minutes and more of the servers' clock, in steps of 30 seconds.
    for step in 0..66 {
        pair.one.clock.advance(time::Duration::seconds(30));
        load.proceed().await;
        for app in pair.both() {
            let token = log_in(app).await.token().to_owned();
            assert_eq!(kid_of(&token) == new, step >= 19, "step {step}");
            let both: BTreeSet<String> = published(app).await.into_iter().collect();
            // The other server has read it within a minute, which is nine before it signs.
            assert!(step == 0 || both.contains(&new), "step {step}");
            if step == 18 {
                last_of_old = Some(token);
            }
        }
        // 15 minutes after it was issued it expires, and not before.
        if (18..48).contains(&step) {
            let token = last_of_old.as_deref().unwrap();
            for app in pair.both() {
                assert_eq!(call(app, token).await.status, 200, "step {step}");
            }
        }
    }
    load.is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let refused = load.refused.lock().await;
    assert!(refused.is_empty(), "{} refused, such as {}", refused.len(), refused[0]);
    assert!(load.requests.load(Ordering::Relaxed) > 1000);
    let seen = load.kids.lock().await.clone();
    assert_eq!(seen, BTreeSet::from([old[0].clone(), new.clone()]));
    for app in pair.both() {
        assert_eq!(published(app).await, [new.as_str()]);
        call(app, last_of_old.as_deref().unwrap()).await.refusal(401);
    }
}

#[tokio::test]
async fn a_server_that_was_idle_through_a_whole_rotation_signs_and_verifies_as_the_others() {
    let pair = Pair::start().await;
    pair.one.root().post(ROTATE, &json!({})).await;
    pair.one.clock.advance(time::Duration::hours(1));
    let tokens = [log_in(&pair.two).await, log_in(&pair.one).await];
    assert_eq!(kid_of(tokens[0].token()), kid_of(tokens[1].token()));
    for token in &tokens {
        for app in pair.both() {
            assert_eq!(call(app, token.token()).await.status, 200);
        }
    }
}

#[tokio::test]
async fn a_retired_key_is_refused_by_every_server_within_a_minute_and_users_refresh_their_tokens() {
    // The command has the system's clock.
    let pair = Pair::of(TestApp::builder()).await;
    let body = json!({ "identifier": EMAIL, "password": PASSWORD });
    let login = pair.one.anonymous().post("/api/auth/login", &body).await;
    let token = login.body["accessToken"].as_str().unwrap();
    let stolen = kid_of(token);
    let retire = ["key", "retire", &stolen, "--now"];
    Program::on(&pair.one.database).run(&retire).expect(0);
    pair.one.clock.advance(time::Duration::minutes(1));
    for app in pair.both() {
        call(app, token).await.refusal(401);
        assert!(!published(app).await.contains(&stolen));
    }
    let cookie = login.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let refresh = pair.two.anonymous().request(Method::POST, "/api/auth/refresh");
    let refresh = send(refresh.header("cookie", cookie)).await;
    let fresh = refresh.body["accessToken"].as_str().unwrap();
    for app in pair.both() {
        assert_eq!(call(app, fresh).await.status, 200);
    }
    let keys = states(&pair.one).await;
    assert_eq!(keys.len(), 2, "one server made the next key, and the other one uses it: {keys:?}");
    assert_eq!(keys[0], (stolen, "ended".to_owned()));
    let events = "SELECT count(*) FROM audit_events WHERE action = 'signing_key.create'";
    let events = pair.one.sql().await.query_one(events, &[]).await.unwrap();
    assert_eq!(events.get::<_, i64>(0), 1);
}

#[tokio::test]
async fn a_token_of_a_key_that_another_server_made_a_moment_ago_is_accepted() {
    let pair = Pair::start().await;
    // Both servers have read the keys at this moment.
    let old = log_in(&pair.one).await;
    assert_eq!(call(&pair.two, old.token()).await.status, 200);
    let kid = kid_of(old.token());
    pair.one.clock.advance(time::Duration::seconds(5));
    // Without a successor, so that the server makes a key that signs at once.
    let ctx = pair.one.operator();
    pair.one.services.signing_keys.retire(&ctx, &kid).await.unwrap();
    pair.one.services.signing_keys.reload(&ctx).await.unwrap();
    let new = log_in(&pair.one).await;
    assert_ne!(kid_of(new.token()), kid);
    assert_eq!(call(&pair.two, new.token()).await.status, 200);
}

#[tokio::test]
async fn tokens_with_invented_key_ids_cause_one_read_at_a_time_and_one_in_five_seconds() {
    let app = TestApp::builder().with_stopped_clock().with("database.max_connections", "40");
    let app = app.spawn().await;
    app.add_user(EMAIL, None).await;
    let token = log_in(&app).await.token().to_owned();
    let (_, rest) = token.split_once('.').unwrap();
    let invented: Vec<String> = (0..20)
        .map(|n| {
            use base64::Engine;
            let header = json!({ "typ": "at+jwt", "alg": "EdDSA", "kid": format!("unknown-{n}") });
            let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
            format!("{}.{rest}", engine.encode(header.to_string()))
        })
        .collect();
    app.clock.advance(time::Duration::seconds(10));
    let mut sql = app.sql().await;
    let watch = app.sql().await;
    let lock = sql.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE signing_keys").await.unwrap();
    let flood = join_all(invented.iter().map(|token| call(&app, token)));
    let flood = async {
        for answer in flood.await {
            answer.refusal(401);
        }
    };
    let release = async {
        let waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'signing_keys'::regclass AND NOT granted";
        let mut most = 0;
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(25)).await;
            most = most.max(watch.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0));
        }
        assert_eq!(most, 1, "reads at the same time");
        lock.commit().await.unwrap();
    };
    tokio::join!(flood, release);
    // Within five seconds of that read there is no other: these would wait for the lock.
    app.clock.advance(time::Duration::seconds(4));
    let lock = sql.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE signing_keys").await.unwrap();
    let flood = join_all(invented.iter().map(|token| call(&app, token)));
    let answers = tokio::time::timeout(Duration::from_secs(3), flood).await;
    for answer in answers.expect("no token waits for a read") {
        answer.refusal(401);
    }
    assert_eq!(call(&app, &token).await.status, 200, "a good token does not wait either");
    lock.commit().await.unwrap();
}
