//! Clients that write without a pause and remember what was acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use rowhouse::domain::error::with_causes;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::ledger::{Dialect, Ledger, Life};
use crate::server::ROOT_TOKEN;
use crate::stats::{Ending, Stats};

pub(crate) const PASSWORD: &str = "SecurePass123!";

/// The longest wait for an answer. A server must answer within its own limit of 3 s; the rest is for a busy machine.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// The pause before a request after one that failed.
const PAUSE: Duration = Duration::from_millis(30);

/// How often each kind of write happens, relative to the others. Updates, deletions and reads of profiles have fixed
/// weights.
#[derive(Clone, Copy)]
pub(crate) struct Mix {
    pub(crate) set_ups: u32,
    pub(crate) profiles: u32,
    /// Deletions of tenants.
    pub(crate) deletions: u32,
    /// Whether clients purge what they have deleted, or leave that to the servers.
    pub(crate) purges: bool,
}

impl Default for Mix {
    fn default() -> Self {
        Self { set_ups: 3, profiles: 12, deletions: 1, purges: true }
    }
}

/// What all clients of a scenario share.
pub(crate) struct Shared {
    pub(crate) addresses: Vec<String>,
    pub(crate) ledger: Ledger,
    pub(crate) stats: Stats,
    pub(crate) mix: Mix,
    pub(crate) is_stopping: AtomicBool,
    pub(crate) longest_wait: Option<Duration>,
}

impl Shared {
    /// Sends a request and counts how it ends.
    pub(crate) async fn send(
        &self,
        request: RequestBuilder,
        what: &str,
        attempts: u32,
    ) -> (Ending, Value) {
        let number = self.stats.begin();
        let (ending, body) = outcome(request, attempts).await;
        self.stats.end(number, what, &ending);
        (ending, body)
    }
}

/// The answer to a request that may be sent again, or none.
enum Answer {
    Done(Value),
    /// Refused or not answered; whether it is performed is unknown.
    Unknown,
    /// Another answer, which is counted as wrong.
    Wrong,
}

/// One client. What it has made, it alone changes.
pub(crate) struct Client {
    number: usize,
    shared: Arc<Shared>,
    http: reqwest::Client,
    random: fastrand::Rng,
    count: u64,
    tenants: Vec<String>,
    profiles: Vec<(String, String)>,
    deleted: Vec<String>,
}

impl Client {
    pub(crate) fn new(number: usize, shared: Arc<Shared>) -> Self {
        let wait = shared.longest_wait.unwrap_or(LONGEST_WAIT);
        let http = reqwest::Client::builder().timeout(wait).build().expect("a client is made");
        let (random, count) = (fastrand::Rng::new(), 0);
        let (tenants, profiles, deleted) = (Vec::new(), Vec::new(), Vec::new());
        Self { number, shared, http, random, count, tenants, profiles, deleted }
    }

    /// Writes until the scenario stops.
    pub(crate) async fn work(mut self) {
        while !self.is_stopping() {
            if !self.write_once().await {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.shared.is_stopping.load(Ordering::SeqCst)
    }

    /// Runs one request, and a set-up as often as it needs; returns whether it succeeded.
    async fn write_once(&mut self) -> bool {
        let mix = self.shared.mix;
        let mut drawn = self.random.u32(0..mix.set_ups + mix.profiles + mix.deletions);
        if self.tenants.is_empty() || drawn < mix.set_ups {
            return self.set_up().await;
        }
        drawn -= mix.set_ups;
        if drawn < mix.profiles {
            return match self.random.u32(0..6) {
                0 | 1 => self.read().await,
                2 => self.update().await,
                3 if self.random.bool() => self.delete().await,
                _ => self.add().await,
            };
        }
        if self.deleted.is_empty() || !mix.purges || self.random.bool() {
            self.delete_tenant().await
        } else {
            self.purge_tenant().await
        }
    }

    fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    async fn set_up(&mut self) -> bool {
        let dialect = Dialect::ALL[self.random.usize(0..Dialect::ALL.len())];
        let count = self.next();
        let slug = format!("c{}t{count}", self.number);
        self.shared.ledger.ask_for_tenant(&slug, dialect);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let address = self.address();
            let request = set_up(&self.http, &address, dialect, &slug);
            match self.send(request, &format!("set up {dialect:?}"), attempts).await {
                Answer::Done(body) => {
                    self.shared.ledger.confirm_life(&slug, id_in(&body));
                    self.tenants.push(slug);
                    return attempts == 1;
                }
                Answer::Unknown if dialect.is_repeatable() && !self.is_stopping() => {
                    tokio::time::sleep(PAUSE).await;
                }
                Answer::Unknown | Answer::Wrong => return false,
            }
        }
    }

    async fn add(&mut self) -> bool {
        let (slug, number) = (self.any_tenant(), self.next());
        let email = format!("p{number}@c{}.example.com", self.number);
        let profile = json!({ "email": email, "number": number });
        self.shared.ledger.ask_profile(&slug, &email, Some(number));
        let done = self.call(&slug, "UserCreate", json!({ "profile": profile })).await.is_some();
        if done {
            self.shared.ledger.confirm_profile(&slug, &email);
            self.profiles.push((slug, email));
        }
        done
    }

    async fn update(&mut self) -> bool {
        let Some((slug, email)) = self.take_profile() else { return self.add().await };
        let number = self.next();
        let body = json!({ "mode": "email", "identity": email, "profile": { "number": number } });
        self.shared.ledger.ask_profile(&slug, &email, Some(number));
        let done = self.call(&slug, "UserUpdate", body).await.is_some();
        if done {
            self.shared.ledger.confirm_profile(&slug, &email);
            self.profiles.push((slug, email));
        }
        done
    }

    async fn delete(&mut self) -> bool {
        let Some((slug, email)) = self.take_profile() else { return self.add().await };
        self.shared.ledger.ask_profile(&slug, &email, None);
        let body = json!({ "mode": "email", "identity": email });
        let done = self.call(&slug, "UserDelete", body).await.is_some();
        if done {
            self.shared.ledger.confirm_profile(&slug, &email);
        }
        done
    }

    /// Reads a profile, which must be as it was written last.
    async fn read(&mut self) -> bool {
        let Some((slug, email)) = self.take_profile() else { return self.add().await };
        let body = json!({ "mode": "email", "identity": email });
        let answer = self.call(&slug, "UserGet", body).await;
        let known = self.shared.ledger.profile(&slug, &email);
        let read = answer.as_ref().map(|body| body["profile"]["number"].as_u64());
        if let Some(number) = read
            && !known.allows(&number)
        {
            let wrong = Ending::Wrong(format!("{slug} {email}: read {number:?}, wrote {known:?}"));
            let begun = self.shared.stats.begin();
            self.shared.stats.end(begun, "read", &wrong);
        }
        self.profiles.push((slug, email));
        read.is_some()
    }

    async fn delete_tenant(&mut self) -> bool {
        let slug = self.take_tenant();
        self.shared.ledger.ask_life(&slug, Life::Deleting);
        let path = format!("/control/v1/tenants/{slug}");
        let request = self.control(Method::DELETE, &path);
        let Answer::Done(_) = self.send(request, "delete a tenant", 1).await else { return false };
        self.shared.ledger.confirm_life(&slug, None);
        self.deleted.push(slug);
        true
    }

    async fn purge_tenant(&mut self) -> bool {
        let at = self.random.usize(0..self.deleted.len());
        let slug = self.deleted.swap_remove(at);
        self.shared.ledger.ask_life(&slug, Life::Purged);
        let path = format!("/control/v1/tenants/{slug}/purge");
        let request = self.control(Method::POST, &path);
        let Answer::Done(_) = self.send(request, "purge a tenant", 1).await else { return false };
        self.shared.ledger.confirm_life(&slug, None);
        true
    }

    fn any_tenant(&mut self) -> String {
        self.tenants[self.random.usize(0..self.tenants.len())].clone()
    }

    /// Takes a tenant away, with its profiles.
    fn take_tenant(&mut self) -> String {
        let at = self.random.usize(0..self.tenants.len());
        let slug = self.tenants.swap_remove(at);
        self.profiles.retain(|(of, _)| *of != slug);
        slug
    }

    fn take_profile(&mut self) -> Option<(String, String)> {
        let count = self.profiles.len();
        (count > 0).then(|| self.profiles.swap_remove(self.random.usize(0..count)))
    }

    /// Returns the address of one of the servers.
    fn address(&mut self) -> String {
        self.shared.addresses[self.random.usize(0..self.shared.addresses.len())].clone()
    }

    fn control(&mut self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.address());
        self.http.request(method, url).bearer_auth(ROOT_TOKEN).header("if-match", "*")
    }

    /// Calls Databunker's dialect in a tenant; returns the body of a success.
    async fn call(&mut self, slug: &str, name: &str, body: Value) -> Option<Value> {
        let address = self.address();
        let request = call(&self.http, &address, slug, name, &body);
        match self.send(request, name, 1).await {
            Answer::Done(body) => Some(body),
            Answer::Unknown | Answer::Wrong => None,
        }
    }

    async fn send(&self, request: RequestBuilder, what: &str, attempts: u32) -> Answer {
        let (ending, body) = self.shared.send(request, what, attempts).await;
        match ending {
            Ending::Success => Answer::Done(body),
            Ending::Refused { .. } | Ending::Cut(_) => Answer::Unknown,
            Ending::Wrong(_) => Answer::Wrong,
        }
    }
}

/// Sends a request and reads its answer.
async fn outcome(request: RequestBuilder, attempts: u32) -> (Ending, Value) {
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) => return (Ending::Cut(with_causes(&error)), Value::Null),
    };
    let status = response.status().as_u16();
    let has_retry_after = response.headers().contains_key("retry-after");
    let text = match response.text().await {
        Ok(text) => text,
        Err(error) => return (Ending::Cut(with_causes(&error)), Value::Null),
    };
    let ending = match status {
        200..=299 => Ending::Success,
        429 | 503 => Ending::Refused { status, has_retry_after },
        // The first attempt was cut, and its transaction has not ended yet.
        409 if attempts > 1 && text.contains("still running") => {
            Ending::Refused { status, has_retry_after: true }
        }
        _ => Ending::Wrong(format!("{status} {text}")),
    };
    (ending, serde_json::from_str(&text).unwrap_or(Value::Null))
}

/// Builds a call of Databunker's dialect in a tenant.
pub(crate) fn call(
    http: &reqwest::Client,
    address: &str,
    slug: &str,
    name: &str,
    body: &Value,
) -> RequestBuilder {
    let request = http.post(format!("{address}/v2/{name}")).header("x-bunker-token", ROOT_TOKEN);
    request.header("x-bunker-tenant", slug).json(body)
}

/// Builds the request that sets a tenant up.
pub(crate) fn set_up(
    http: &reqwest::Client,
    address: &str,
    dialect: Dialect,
    slug: &str,
) -> RequestBuilder {
    let post = |path: &str| http.post(format!("{address}{path}")).bearer_auth(ROOT_TOKEN);
    match dialect {
        Dialect::Reten => {
            let request = post("/api/tenant/setup").header("idempotency-key", slug);
            request.json(&reten_body(slug))
        }
        Dialect::Webfluss => post("/api/tenants").json(&json!({ "name": slug, "subdomain": slug })),
        Dialect::Databunker => {
            let request = http.post(format!("{address}/v2/TenantCreate"));
            let request = request.header("x-bunker-token", ROOT_TOKEN);
            request.json(&json!({ "tenantname": slug, "tenantorg": slug }))
        }
        Dialect::Control => {
            let url = format!("{address}/control/v1/tenants/by-external-id/{slug}");
            let request = http.put(url).bearer_auth(ROOT_TOKEN);
            request.json(&json!({ "name": slug, "slug": slug }))
        }
    }
}

/// Returns the body of a set-up in Reten's dialect.
pub(crate) fn reten_body(slug: &str) -> Value {
    json!({
        "name": slug,
        "slug": slug,
        "adminEmail": admin_email(slug),
        "adminPassword": PASSWORD,
        "adminFirstName": "Ada",
        "adminLastName": "Admin",
    })
}

pub(crate) fn admin_email(slug: &str) -> String {
    format!("admin@{slug}.example.com")
}

/// Returns the id of a tenant in an answer, where the dialect tells it.
pub(crate) fn id_in(body: &Value) -> Option<Uuid> {
    body["id"].as_str().or(body["tenant_id"].as_str())?.parse().ok()
}
