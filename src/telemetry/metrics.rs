//! The metrics of one process, in Prometheus' text form.
//!
//! To add one: a field, its registration, a method that sets it, and a row in `docs/operations.md`.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::connection_waits::ConnectionWaits;
use super::labels::{
    AffinityLabels, ClaimLabels, ConnectionLabels, EngineLabels, FleetLabels, HashLabels,
    JobLabels, JobRunLabels, LimitLabels, RequestLabels, RetirementLabels, TenantsLabels,
    VacancyLabels,
};

/// Upper bounds of the latency histogram, in seconds: from a guarded read to a slow set-up.
const LATENCY_BOUNDS: [f64; 11] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// The outcome of a run of a background job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum JobOutcome {
    /// It did its work, or had none to do.
    Done,
    /// It returned an error.
    Failed,
    /// It panicked.
    Panicked,
}

/// Background jobs.
struct JobMetrics {
    runs: Family<JobRunLabels, Counter>,
    last_success: Family<JobLabels, Gauge<f64, AtomicU64>>,
}

impl JobMetrics {
    fn register(registry: &mut Registry) -> Self {
        let runs = Family::default();
        registry.register(
            "rowhouse_job_runs",
            "Runs of background jobs by outcome: done, failed, panicked",
            runs.clone(),
        );
        let last_success = Family::default();
        registry.register(
            "rowhouse_job_last_success_timestamp_seconds",
            "When a background job last succeeded, in seconds since 1970",
            last_success.clone(),
        );
        Self { runs, last_success }
    }
}

/// The metrics of this process.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    latency: Histogram,
    limited: Family<LimitLabels, Counter>,
    provisioned: Counter,
    connections: Family<ConnectionLabels, Gauge>,
    sharing: Sharing,
    hashes: Family<HashLabels, Gauge>,
    hashes_computed: Gauge,
    fleet_runs: Gauge,
    new_tenants_blocked: Gauge,
    fleet_tenants: Family<FleetLabels, Gauge>,
    started_at: Gauge<f64, AtomicU64>,
    engine: Family<EngineLabels, Gauge>,
    log_lines_dropped: Counter,
    events_unsealed_age: Gauge<f64, AtomicU64>,
    vacancies: VacancyMetrics,
    jobs: JobMetrics,
}

/// The metrics of schemas that are built ahead of time.
struct VacancyMetrics {
    count: Family<VacancyLabels, Gauge>,
    oldest_age: Gauge,
    claims: Family<ClaimLabels, Gauge>,
}

impl VacancyMetrics {
    fn register(registry: &mut Registry) -> Self {
        let count = Family::default();
        registry.register(
            "rowhouse_vacancies",
            "Schemas built ahead of time, by state, as this process last saw them; and how many it wants",
            count.clone(),
        );
        let oldest_age = Gauge::default();
        registry.register(
            "rowhouse_vacancies_oldest_age_seconds",
            "Age of the oldest vacancy that can be taken; 0 where there is none",
            oldest_age.clone(),
        );
        let claims = Family::default();
        registry.register(
            "rowhouse_vacancy_claims",
            "Tenants that this process made in a vacancy, and those it made while there was none",
            claims.clone(),
        );
        Self { count, oldest_age, claims }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::with_waits(&ConnectionWaits::default())
    }
}

impl Metrics {
    /// Registers all metrics; the waits for connections are those that the pools observe.
    #[expect(clippy::too_many_lines, reason = "a flat list: one registration a metric")]
    #[must_use]
    pub fn with_waits(waits: &ConnectionWaits) -> Self {
        Self::of(waits, &[])
    }

    /// As [`Metrics::with_waits`], with those that an application registers.
    #[must_use]
    pub fn of(waits: &ConnectionWaits, own: &[fn(&mut Registry)]) -> Self {
        let mut registry = Registry::default();
        own.iter().for_each(|register| register(&mut registry));
        waits.register(&mut registry);
        let requests = Family::default();
        registry.register("http_requests", "Requests answered", requests.clone());
        let latency = Histogram::new(LATENCY_BOUNDS);
        registry.register(
            "http_request_duration_seconds",
            "Time to answer a request",
            latency.clone(),
        );
        let limited = Family::default();
        registry.register(
            "rowhouse_limited_requests",
            "Requests refused by a limit",
            limited.clone(),
        );
        let provisioned = Counter::default();
        registry.register(
            "rowhouse_tenants_provisioned",
            "Tenants made by this process",
            provisioned.clone(),
        );
        let connections = Family::default();
        registry.register(
            "rowhouse_db_connections",
            "Database connections by purpose: budget, open, idle; and callers waiting for one",
            connections.clone(),
        );
        let sharing = Sharing::register(&mut registry);
        let hashes = Family::default();
        registry.register(
            "rowhouse_password_hashes",
            "Password hashes running and waiting",
            hashes.clone(),
        );
        let hashes_computed = Gauge::default();
        registry.register(
            "rowhouse_password_hashes_computed",
            "Password hashes computed since the start",
            hashes_computed.clone(),
        );
        let new_tenants_blocked = Gauge::default();
        registry.register(
            "rowhouse_new_tenants_blocked",
            "Whether no new tenant can be made from the migrations of this process (1), or they can (0)",
            new_tenants_blocked.clone(),
        );
        let fleet_runs = Gauge::default();
        registry.register(
            "rowhouse_fleet_runs",
            "Fleet migrations that this process runs",
            fleet_runs.clone(),
        );
        let fleet_tenants = Family::default();
        registry.register(
            "rowhouse_fleet_tenants",
            "Tenants that this process migrated (done), could not migrate (failed), or tried again (again)",
            fleet_tenants.clone(),
        );
        let started_at = Gauge::default();
        registry.register(
            "process_start_time_seconds",
            "When this process started",
            started_at.clone(),
        );
        let engine = Family::default();
        registry.register(
            "rowhouse_db_engine",
            "The engine of the database: 1 for the one that was found at start",
            engine.clone(),
        );
        let log_lines_dropped = Counter::default();
        registry.register(
            "rowhouse_log_lines_dropped",
            "Lines of the log that could not be written",
            log_lines_dropped.clone(),
        );
        let events_unsealed_age = Gauge::default();
        registry.register(
            "rowhouse_events_unsealed_age_seconds",
            "Age of the oldest event that is not in the feed yet; 0 where there is none",
            events_unsealed_age.clone(),
        );
        let vacancies = VacancyMetrics::register(&mut registry);
        let jobs = JobMetrics::register(&mut registry);
        Self {
            registry,
            requests,
            latency,
            limited,
            provisioned,
            connections,
            sharing,
            hashes,
            hashes_computed,
            fleet_runs,
            new_tenants_blocked,
            fleet_tenants,
            started_at,
            engine,
            log_lines_dropped,
            events_unsealed_age,
            vacancies,
            jobs,
        }
    }
}

/// The metrics of connections that tenants share.
struct Sharing {
    transactions: Family<AffinityLabels, Counter>,
    retired: Family<RetirementLabels, Counter>,
    tenants: Family<TenantsLabels, Gauge>,
}

impl Sharing {
    fn register(registry: &mut Registry) -> Self {
        let transactions = Family::default();
        registry.register(
            "rowhouse_db_tenant_transactions",
            "Transactions inside tenants, by when their connection had served the tenant: last of all, earlier, \
             or never",
            transactions.clone(),
        );
        let retired = Family::default();
        registry.register(
            "rowhouse_db_connection_retirements",
            "Connections that were replaced because they had served many tenants (done), and tries that failed",
            retired.clone(),
        );
        let tenants = Family::default();
        registry.register(
            "rowhouse_db_tenants_served",
            "Distinct tenants that an open connection has served: of all added up, and of the one with the most",
            tenants.clone(),
        );
        Self { transactions, retired, tenants }
    }
}

impl Metrics {
    /// Sets the time at which the process started, in seconds since 1970.
    pub fn set_started_at(&self, unix_seconds: f64) {
        self.started_at.set(unix_seconds);
    }

    /// Sets the engine of the database, by its word.
    pub fn set_engine(&self, engine: &'static str) {
        self.engine.get_or_create(&EngineLabels { engine }).set(1);
    }

    /// Sets how many lines of the log were dropped.
    pub fn set_log_lines_dropped(&self, count: u64) {
        set(&self.log_lines_dropped, count);
    }

    /// Sets the age of the oldest event that is not sealed.
    pub fn set_events_unsealed_age(&self, age: Duration) {
        self.events_unsealed_age.set(age.as_secs_f64());
    }

    /// Counts an answered request. `route` is a pattern, never a path.
    pub fn count_request(&self, method: &'static str, route: String, status: u16, took: Duration) {
        self.requests.get_or_create(&RequestLabels { method, route, status }).inc();
        self.latency.observe(took.as_secs_f64());
    }

    /// Counts a request that a limit refused; `limit` is the setting's name.
    pub fn count_limited(&self, limit: &'static str) {
        self.limited.get_or_create(&LimitLabels { limit }).inc();
    }

    /// Counts a tenant that was set up.
    pub fn count_provisioned(&self) {
        self.provisioned.inc();
    }

    /// Sets how many connections of a purpose are in a state.
    pub fn set_connections(&self, purpose: &'static str, state: &'static str, count: usize) {
        let labels = ConnectionLabels { purpose, state };
        self.connections.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets how many transactions found a connection that had served their tenant `last`, `earlier` or
    /// `never`.
    pub fn set_affinity(&self, served: &'static str, count: u64) {
        set(&self.sharing.transactions.get_or_create(&AffinityLabels { served }), count);
    }

    /// Sets how many connections were replaced because they had served many tenants (`done`), and how
    /// many tries `failed`.
    pub fn set_retired(&self, outcome: &'static str, count: u64) {
        set(&self.sharing.retired.get_or_create(&RetirementLabels { outcome }), count);
    }

    /// Sets how many distinct tenants open connections have served: `all` of them, added up, or the one
    /// with the `most`.
    pub fn set_tenants_served(&self, connections: &'static str, count: usize) {
        let labels = TenantsLabels { connections };
        self.sharing.tenants.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets how many password hashes are in a state.
    pub fn set_hashes(&self, state: &'static str, count: usize) {
        self.hashes
            .get_or_create(&HashLabels { state })
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets how many password hashes were computed.
    pub fn set_hashes_computed(&self, count: u64) {
        self.hashes_computed.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Counts a run of a background job.
    pub fn count_job_run(&self, job: &'static str, outcome: JobOutcome) {
        let outcome = outcome.into();
        self.jobs.runs.get_or_create(&JobRunLabels { job, outcome }).inc();
    }

    /// Sets when a background job last succeeded, in seconds since 1970.
    pub fn set_job_success(&self, job: &'static str, unix_seconds: f64) {
        self.jobs.last_success.get_or_create(&JobLabels { job }).set(unix_seconds);
    }

    /// Sets how many vacancies are in a state.
    pub fn set_vacancies(&self, state: &'static str, count: usize) {
        let gauge = self.vacancies.count.get_or_create(&VacancyLabels { state });
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets the age of the oldest vacancy, in seconds.
    pub fn set_vacancy_age(&self, seconds: i64) {
        self.vacancies.oldest_age.set(seconds);
    }

    /// Sets how many set-ups found a vacancy (`claimed`) or found none (`missed`).
    pub fn set_vacancy_claims(&self, outcome: &'static str, count: u64) {
        let gauge = self.vacancies.claims.get_or_create(&ClaimLabels { outcome });
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets whether no new tenant can be made.
    pub fn set_new_tenants_blocked(&self, blocked: bool) {
        self.new_tenants_blocked.set(i64::from(blocked));
    }

    /// Sets how many fleet migrations run here.
    pub fn set_fleet_runs(&self, count: usize) {
        self.fleet_runs.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets how many tenants fleet migrations here have brought into a state.
    pub fn set_fleet_tenants(&self, state: &'static str, count: usize) {
        let labels = FleetLabels { state };
        self.fleet_tenants.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Returns all metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            let _ = write!(text, "# the metrics could not be written");
        }
        text
    }
}

/// Sets a counter to a value that was counted elsewhere. It never decreases, even if two threads set it at once.
fn set(counter: &Counter, count: u64) {
    counter.inner().fetch_max(count, Ordering::Relaxed);
}
