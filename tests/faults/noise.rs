//! Clients that read in certain tenants without a pause, beside those that write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rowhouse::domain::error::with_causes;
use serde_json::json;
use tokio::task::JoinSet;

use crate::client::{self, set_up};
use crate::ledger::Dialect;
use crate::stage::Stage;

/// The longest wait for an answer.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// A tenant that no other client changes.
pub(crate) struct Made {
    pub(crate) slug: String,
    /// The name of its schema.
    pub(crate) name: String,
}

/// Sets up a tenant that no other client changes.
pub(crate) async fn make_tenant(stage: &Stage, slug: &str) -> Made {
    let ledger = &stage.shared.ledger;
    ledger.ask_for_tenant(slug, Dialect::Webfluss);
    let http = reqwest::Client::new();
    let request = set_up(&http, &stage.servers[0].address, Dialect::Webfluss, slug);
    let answer = request.send().await.expect("the server answers");
    let (status, body) = (answer.status(), answer.json().await.unwrap_or_default());
    assert!(status.is_success(), "{status} {body}");
    ledger.confirm_life(slug, client::id_in(&body));
    let sql = stage.cluster().connect().await;
    let id = sql.query_one("SELECT id FROM tenants WHERE slug = $1", &[&slug]).await;
    let id: uuid::Uuid = id.expect("the tenant is there").get(0);
    Made { slug: slug.to_owned(), name: format!("tenant_{}", id.simple()) }
}

/// Running clients.
pub(crate) struct Noise {
    is_stopping: Arc<AtomicBool>,
    clients: JoinSet<Vec<String>>,
}

impl Noise {
    /// Starts clients, each of which reads in one of the tenants.
    pub(crate) fn start(address: &str, slugs: &[String], count: usize) -> Self {
        let is_stopping = Arc::new(AtomicBool::new(false));
        // One for all, since making it reads the certificates of the system, which takes longer than the clients have.
        let http = reqwest::Client::builder().timeout(LONGEST_WAIT).build();
        let http = http.expect("a client is made");
        let mut clients = JoinSet::new();
        for number in 0..count {
            let (address, slug) = (address.to_owned(), slugs[number % slugs.len()].clone());
            clients.spawn(read(http.clone(), address, slug, Arc::clone(&is_stopping)));
        }
        Self { is_stopping, clients }
    }

    /// Has each client wait for its last answer; returns what no request may be answered.
    pub(crate) async fn finish(self) -> Vec<String> {
        self.is_stopping.store(true, Ordering::SeqCst);
        self.clients.join_all().await.concat()
    }
}

async fn read(
    http: reqwest::Client,
    address: String,
    slug: String,
    is_stopping: Arc<AtomicBool>,
) -> Vec<String> {
    let body = json!({ "mode": "email", "identity": "absent@example.com" });
    let mut wrong = Vec::new();
    while !is_stopping.load(Ordering::SeqCst) {
        match client::call(&http, &address, &slug, "UserGet", &body).send().await {
            // There is no such profile.
            Ok(answer) if [404, 429, 503].contains(&answer.status().as_u16()) => {
                let _ = answer.bytes().await;
            }
            Ok(answer) => wrong.push(format!("a read in {slug} is answered {}", answer.status())),
            Err(error) => wrong.push(format!("a read in {slug}: {}", with_causes(&error))),
        }
        wrong.truncate(3);
    }
    wrong
}
