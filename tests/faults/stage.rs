//! A scenario's database, servers and clients, and what happens to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::check::{self, Expected, Findings};
use crate::client::{Client, Mix, Shared};
use crate::cluster::{Cluster, Shape};
use crate::inspection;
use crate::ledger::Ledger;
use crate::proxy::Proxy;
use crate::report::{self, Row};
use crate::server::{Log, Server, run_program};
use crate::stats::{Phase, Stats};

/// How many clients write at the same time.
const CLIENTS: usize = 4;
/// How many writes are acknowledged before the first fault.
const WRITES_BEFORE: usize = 40;
/// The longest time from the end of a fault to the last request that fails. A request may take 3 s; the rest is for a
/// busy machine. The table shows the time that it took.
const LONGEST_TO_HEAL: Duration = Duration::from_secs(20);

/// How long a scenario is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// A few seconds, for every run of the tests.
    Short,
    /// As `make faults` runs it.
    Long,
}

impl Length {
    /// Reads the length from the environment.
    pub(crate) fn wanted() -> Self {
        match std::env::var_os("ROWHOUSE_FAULTS") {
            None => Self::Short,
            Some(word) if word == "long" => Self::Long,
            Some(word) => panic!("ROWHOUSE_FAULTS is `long` or unset, not `{}`", word.display()),
        }
    }

    /// Returns how often a fault happens.
    pub(crate) fn rounds(self, short: usize) -> usize {
        match self {
            Self::Short => short,
            Self::Long => short * 10,
        }
    }
}

/// How a scenario differs from the usual one: a server on a database of its own.
pub(crate) struct Setup {
    pub(crate) servers: usize,
    pub(crate) shape: Shape,
    pub(crate) is_proxied: bool,
    /// Whether the server starts an embedded PostgreSQL.
    pub(crate) is_embedded: bool,
    /// Whether servers are killed or stopped, so that connections to them break.
    pub(crate) allows_cuts: bool,
    pub(crate) mix: Mix,
    pub(crate) log: Log,
    pub(crate) environment: Vec<(String, String)>,
    /// The words before the program, for the first servers.
    pub(crate) wrappers: Vec<Vec<String>>,
    /// The longest wait of a client, where a server may answer nothing.
    pub(crate) longest_wait: Option<Duration>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            servers: 1,
            shape: Shape::default(),
            is_proxied: false,
            is_embedded: false,
            allows_cuts: false,
            mix: Mix::default(),
            log: Log::File,
            environment: Vec::new(),
            wrappers: Vec::new(),
            longest_wait: None,
        }
    }
}

impl Setup {
    /// Sets a variable of all servers.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A running scenario.
pub(crate) struct Stage {
    /// `None` if the server starts an embedded one.
    cluster: Option<Cluster>,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) servers: Vec<Server>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) expected: Expected,
    /// What a scenario found itself.
    pub(crate) problems: Vec<String>,
    clients: JoinSet<()>,
    longest_to_heal: Duration,
}

impl Stage {
    /// Starts the database and the servers, and no client yet.
    pub(crate) async fn open(setup: Setup) -> Self {
        let (mut cluster, mut proxy, mut url) = (None, None, None);
        if !setup.is_embedded {
            let started = cluster.insert(Cluster::start_new(setup.shape).await);
            if setup.is_proxied {
                proxy = Some(Proxy::to(&started.url(None)).await);
            }
            url = Some(started.url(proxy.as_ref().map(|proxy| proxy.port)));
        }
        let mut servers = Vec::new();
        for number in 0..setup.servers {
            let mut server = Server::new(url.as_deref(), &setup.environment, setup.log);
            if let Some(wrapper) = setup.wrappers.get(number) {
                server.wrapper.clone_from(wrapper);
            }
            server.start().await;
            servers.push(server);
        }
        let shared = Shared {
            addresses: servers.iter().map(|server| server.address.clone()).collect(),
            ledger: Ledger::default(),
            stats: Stats::new(setup.allows_cuts),
            mix: setup.mix,
            is_stopping: AtomicBool::new(false),
            longest_wait: setup.longest_wait,
        };
        Self {
            cluster,
            proxy,
            servers,
            shared: Arc::new(shared),
            expected: Expected { version: inspection::built_in_version(), are_purged: false },
            problems: Vec::new(),
            clients: JoinSet::new(),
            longest_to_heal: Duration::ZERO,
        }
    }

    /// Starts the clients, and waits until they have written something.
    pub(crate) async fn load(&mut self) {
        for number in 0..CLIENTS {
            self.clients.spawn(Client::new(number, Arc::clone(&self.shared)).work());
        }
        self.wait_for_writes(WRITES_BEFORE).await;
    }

    /// Waits until this many more writes are acknowledged.
    pub(crate) async fn wait_for_writes(&self, count: usize) {
        let (began, goal) = (Instant::now(), self.shared.ledger.acknowledged() + count);
        while self.shared.ledger.acknowledged() < goal {
            let seen = self.shared.stats.summary();
            assert!(began.elapsed() < Duration::from_mins(1), "too few writes succeed: {seen}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Lets a fault happen and end, and waits until every request succeeds again.
    pub(crate) async fn fault(&mut self, fault: impl AsyncFnOnce(&mut Self)) {
        self.shared.stats.enter(Phase::Fault);
        fault(self).await;
        let ended = Instant::now();
        loop {
            if let Some(took) = self.shared.stats.healed(ended) {
                self.longest_to_heal = self.longest_to_heal.max(took);
                break;
            }
            if ended.elapsed() > LONGEST_TO_HEAL {
                self.longest_to_heal = ended.elapsed();
                self.problems.push(format!("requests fail {LONGEST_TO_HEAL:?} after the fault"));
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.shared.stats.enter(Phase::Calm);
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        self.cluster.as_ref().expect("the scenario has a database of its own")
    }

    /// Connects to the database as the owner.
    pub(crate) async fn connect(&self) -> tokio_postgres::Client {
        match &self.cluster {
            Some(cluster) => cluster.connect().await,
            None => self.servers[0].connect_to_embedded().await,
        }
    }

    pub(crate) fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("the scenario has a proxy")
    }

    /// Stops the clients, compares everything, and fails unless all is right.
    pub(crate) async fn finish(mut self, name: &str) {
        self.shared.is_stopping.store(true, Ordering::SeqCst);
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("a client does not panic");
        }
        let sql = self.connect().await;
        check::wait_until_idle(&sql).await;
        let ledger = &self.shared.ledger;
        let findings = check::compare(&sql, ledger, self.expected).await;
        let mut problems = std::mem::take(&mut self.problems);
        problems.extend(check::ask_the_server(&self.servers[0].address, ledger).await);
        for server in &mut self.servers {
            if !server.is_running() {
                problems.push(format!("a server has ended:\n{}", server.last_log_lines()));
            }
            problems.extend(server.log_lines_with("panicked"));
        }
        problems.extend(self.doctor().await);
        problems.extend(self.shared.stats.wrong());
        self.report(name, &findings, &problems);
    }

    /// Returns what the program's own examination finds.
    async fn doctor(&self) -> Option<String> {
        let folder = self.servers[0].folder();
        let url = self.cluster.as_ref().map(|cluster| cluster.url(None));
        let mut arguments = vec!["doctor", "--json"];
        let migrations = folder.join("migrations").display().to_string();
        if folder.join("migrations").exists() {
            arguments.extend(["--tenant-migrations", &migrations]);
        }
        run_program(url.as_deref(), folder, &arguments).await.err()
    }

    fn report(&self, name: &str, findings: &Findings, problems: &[String]) {
        report::add(Row {
            scenario: name.to_owned(),
            acknowledged: self.shared.ledger.acknowledged(),
            lost: findings.lost.len(),
            half_made: findings.half_made.len(),
            unanswered: findings.unanswered,
            longest_to_heal: self.longest_to_heal,
            endings: self.shared.stats.summary(),
        });
        let all: Vec<_> = [&findings.lost[..], &findings.half_made, problems]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        if !all.is_empty() {
            let logs = self.servers.iter().map(Server::last_log_lines);
            let logs = logs.collect::<Vec<_>>().join("\n----\n");
            panic!("{}\n---- logs of the servers\n{logs}", all.join("\n"));
        }
    }
}
