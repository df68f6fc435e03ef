//! The metrics of one process, in Prometheus' text form.
//!
//! To add one: a field, its registration, a method that sets it, and a row in `docs/operations.md`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use time::OffsetDateTime;

use super::catalogue::Catalogue;
use super::connection_waits::ConnectionWaits;
use super::exposition::Exposition;
use super::jobs::{JobMetrics, JobOutcome};
use super::labels::{
    AffinityLabels, BuildLabels, ClaimLabels, ConnectionLabels, EngineLabels, FleetLabels,
    HashLabels, LimitLabels, PoolLabels, RetirementLabels, StatusLabels, TenantsLabels,
    VacancyLabels,
};
use super::measurements::{Load, Measurements, Ring, Totals};
use super::process::ProcessMetrics;
use super::requests::{Bounds, RequestMetrics};

/// The metrics of this process.
pub struct Metrics {
    catalogue: Catalogue,
    process: ProcessMetrics,
    requests: RequestMetrics,
    limited: Family<LimitLabels, Counter>,
    provisioned: Counter,
    connections: ConnectionMetrics,
    hashes: Family<HashLabels, Gauge>,
    hashes_computed: Counter,
    fleet_runs: Gauge,
    new_tenants_blocked: Gauge,
    fleet_tenants: Family<FleetLabels, Counter>,
    tenants: TenantMetrics,
    engine: Family<EngineLabels, Gauge>,
    log_lines_dropped: Counter,
    events_unsealed_age: Gauge<f64, AtomicU64>,
    vacancies: VacancyMetrics,
    jobs: JobMetrics,
    waits: ConnectionWaits,
    totals: Totals,
    measurements: Ring,
}

/// The tenants of the whole installation.
struct TenantMetrics {
    count: Family<StatusLabels, Gauge>,
    behind: Gauge,
}

impl TenantMetrics {
    fn register(catalogue: &mut Catalogue) -> Self {
        Self {
            count: catalogue.add(
                "rowhouse_tenants",
                "Tenants of the whole installation by status, as the database last told this process",
                Family::default(),
            ),
            behind: catalogue.add(
                "rowhouse_tenants_behind",
                "Tenants of the whole installation that lack migrations which this process has",
                Gauge::default(),
            ),
        }
    }
}

/// The metrics of schemas that are built ahead of time.
struct VacancyMetrics {
    count: Family<VacancyLabels, Gauge>,
    wanted: Gauge,
    oldest_age: Gauge,
    claims: Family<ClaimLabels, Counter>,
}

impl VacancyMetrics {
    fn register(catalogue: &mut Catalogue) -> Self {
        Self {
            count: catalogue.add(
                "rowhouse_vacancies",
                "Schemas built ahead of time, by state, as this process last saw them",
                Family::default(),
            ),
            wanted: catalogue.add(
                "rowhouse_vacancies_wanted",
                "Schemas that this process keeps built ahead of time",
                Gauge::default(),
            ),
            oldest_age: catalogue.add(
                "rowhouse_vacancies_oldest_age_seconds",
                "Age of the oldest vacancy that can be taken; 0 where there is none",
                Gauge::default(),
            ),
            claims: catalogue.add(
                "rowhouse_vacancy_claims",
                "Tenants that this process made in a vacancy (claimed), and those it made while there was none (missed)",
                Family::default(),
            ),
        }
    }
}

/// What connections are for.
const PURPOSES: [&str; 2] = ["control", "runtime"];

/// The metrics of database connections.
struct ConnectionMetrics {
    count: Family<ConnectionLabels, Gauge>,
    max: Family<PoolLabels, Gauge>,
    transactions: Family<AffinityLabels, Counter>,
    retired: Family<RetirementLabels, Counter>,
    tenants: Family<TenantsLabels, Gauge>,
}

impl ConnectionMetrics {
    fn register(catalogue: &mut Catalogue) -> Self {
        Self {
            count: catalogue.add(
                "rowhouse_db_connections",
                "Database connections by purpose: all open ones, the idle ones among them, and callers waiting for one",
                Family::default(),
            ),
            max: catalogue.add(
                "rowhouse_db_connections_max",
                "The most database connections that this process opens, by purpose",
                Family::default(),
            ),
            transactions: catalogue.add(
                "rowhouse_db_tenant_transactions",
                "Transactions inside tenants, by when their connection had served the tenant: last of all, earlier, \
                 or never",
                Family::default(),
            ),
            retired: catalogue.add(
                "rowhouse_db_connection_retirements",
                "Connections that were replaced because they had served many tenants (done), and tries that failed",
                Family::default(),
            ),
            tenants: catalogue.add(
                "rowhouse_db_tenants_served",
                "Distinct tenants that an open connection has served: of all added up, and of the one with the most",
                Family::default(),
            ),
        }
    }

    /// Returns how many connections are in use, for all purposes.
    fn in_use(&self) -> i64 {
        let count =
            |purpose, state| self.count.get_or_create(&ConnectionLabels { purpose, state }).get();
        PURPOSES.iter().map(|purpose| count(purpose, "open") - count(purpose, "idle")).sum()
    }

    /// Returns how many connections may be open, for all purposes.
    fn max(&self) -> i64 {
        PURPOSES.iter().map(|purpose| self.max.get_or_create(&PoolLabels { purpose }).get()).sum()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::with_waits(&ConnectionWaits::default(), Duration::from_secs(30))
    }
}

impl Metrics {
    /// Registers all metrics; the waits for connections are those that the pools observe, and no request takes longer
    /// than the time limit.
    #[must_use]
    pub fn with_waits(waits: &ConnectionWaits, time_limit: Duration) -> Self {
        Self::of(waits, time_limit, &[])
    }

    /// As [`Metrics::with_waits`], with those that an application registers.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "a flat list of metrics")]
    pub fn of(waits: &ConnectionWaits, time_limit: Duration, own: &[fn(&mut Registry)]) -> Self {
        let mut catalogue = Catalogue::with(own);
        let all = &mut catalogue;
        let build: Family<BuildLabels, Gauge> = all.add(
            "rowhouse_build_info",
            "The version of this program; always 1",
            Family::default(),
        );
        build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
        waits.register(all);
        Self {
            process: ProcessMetrics::register(all),
            requests: RequestMetrics::register(all, time_limit),
            limited: all.add(
                "rowhouse_limited_requests",
                "Requests refused by a limit",
                Family::default(),
            ),
            provisioned: all.add(
                "rowhouse_tenants_provisioned",
                "Tenants made by this process",
                Counter::default(),
            ),
            connections: ConnectionMetrics::register(all),
            hashes: all.add(
                "rowhouse_password_hashes",
                "Password hashes running and waiting",
                Family::default(),
            ),
            hashes_computed: all.add(
                "rowhouse_password_hashes_computed",
                "Password hashes computed since the start",
                Counter::default(),
            ),
            new_tenants_blocked: all.add(
                "rowhouse_new_tenants_blocked",
                "Whether no new tenant can be made from the migrations of this process (1), or they can (0)",
                Gauge::default(),
            ),
            fleet_runs: all.add(
                "rowhouse_fleet_runs",
                "Fleet migrations that this process runs",
                Gauge::default(),
            ),
            fleet_tenants: all.add(
                "rowhouse_fleet_tenants",
                "Tenants that this process migrated (done), could not migrate (failed), or tried again (again)",
                Family::default(),
            ),
            tenants: TenantMetrics::register(all),
            engine: all.add(
                "rowhouse_db_engine",
                "The engine of the database: 1 for the one that was found at start",
                Family::default(),
            ),
            log_lines_dropped: all.add(
                "rowhouse_log_lines_dropped",
                "Lines of the log that could not be written",
                Counter::default(),
            ),
            events_unsealed_age: all.add(
                "rowhouse_events_unsealed_age_seconds",
                "Age of the oldest event that is not in the feed yet; 0 where there is none",
                Gauge::default(),
            ),
            vacancies: VacancyMetrics::register(all),
            jobs: JobMetrics::register(all),
            waits: waits.clone(),
            totals: Totals::with_bounds(&Bounds::up_to(time_limit).0),
            measurements: Ring::default(),
            catalogue,
        }
    }

    /// Returns the names of all metrics, also of those that have no series yet.
    #[must_use]
    pub fn names(&self) -> &[String] {
        self.catalogue.names()
    }
}

impl Metrics {
    /// Sets the time at which the process started, in seconds since 1970.
    pub fn set_started_at(&self, unix_seconds: f64) {
        self.process.started_at.set(unix_seconds);
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
        self.totals.count_request(&route, status, took);
        self.requests.count(method, route, status, took);
    }

    /// Counts a request that a limit refused; `limit` is the setting's name.
    pub fn count_limited(&self, limit: &'static str) {
        self.totals.count_limited();
        self.limited.get_or_create(&LimitLabels { limit }).inc();
    }

    /// Counts a tenant that was set up.
    pub fn count_provisioned(&self) {
        self.provisioned.inc();
    }

    /// Sets how many connections of a purpose are in a state.
    pub fn set_connections(&self, purpose: &'static str, state: &'static str, count: usize) {
        set_gauge(
            &self.connections.count.get_or_create(&ConnectionLabels { purpose, state }),
            count,
        );
    }

    /// Sets how many connections of a purpose may be open.
    pub fn set_connections_max(&self, purpose: &'static str, count: usize) {
        set_gauge(&self.connections.max.get_or_create(&PoolLabels { purpose }), count);
    }

    /// Sets how many transactions found a connection that had served their tenant `last`, `earlier` or
    /// `never`.
    pub fn set_affinity(&self, served: &'static str, count: u64) {
        set(&self.connections.transactions.get_or_create(&AffinityLabels { served }), count);
    }

    /// Sets how many connections were replaced because they had served many tenants (`done`), and how
    /// many tries `failed`.
    pub fn set_retired(&self, outcome: &'static str, count: u64) {
        set(&self.connections.retired.get_or_create(&RetirementLabels { outcome }), count);
    }

    /// Sets how many distinct tenants open connections have served: `all` of them, added up, or the one
    /// with the `most`.
    pub fn set_tenants_served(&self, connections: &'static str, count: usize) {
        set_gauge(&self.connections.tenants.get_or_create(&TenantsLabels { connections }), count);
    }

    /// Sets how many password hashes are in a state.
    pub fn set_hashes(&self, state: &'static str, count: usize) {
        set_gauge(&self.hashes.get_or_create(&HashLabels { state }), count);
    }

    /// Sets how many password hashes were computed.
    pub fn set_hashes_computed(&self, count: u64) {
        set(&self.hashes_computed, count);
    }

    /// Counts a run of a background job.
    pub fn count_job_run(&self, job: &'static str, outcome: JobOutcome) {
        self.jobs.count_run(job, outcome);
    }

    /// Sets when a background job last succeeded, in seconds since 1970.
    pub fn set_job_success(&self, job: &'static str, unix_seconds: f64) {
        self.jobs.set_success(job, unix_seconds);
    }

    /// Sets how many vacancies are in a state.
    pub fn set_vacancies(&self, state: &'static str, count: usize) {
        set_gauge(&self.vacancies.count.get_or_create(&VacancyLabels { state }), count);
    }

    /// Sets how many vacancies are kept.
    pub fn set_vacancies_wanted(&self, count: usize) {
        set_gauge(&self.vacancies.wanted, count);
    }

    /// Sets the age of the oldest vacancy, in seconds.
    pub fn set_vacancy_age(&self, seconds: i64) {
        self.vacancies.oldest_age.set(seconds);
    }

    /// Sets how many set-ups found a vacancy (`claimed`) or found none (`missed`).
    pub fn set_vacancy_claims(&self, outcome: &'static str, count: u64) {
        set(&self.vacancies.claims.get_or_create(&ClaimLabels { outcome }), count);
    }

    /// Sets whether no new tenant can be made.
    pub fn set_new_tenants_blocked(&self, blocked: bool) {
        self.new_tenants_blocked.set(i64::from(blocked));
    }

    /// Sets how many fleet migrations run here.
    pub fn set_fleet_runs(&self, count: usize) {
        set_gauge(&self.fleet_runs, count);
    }

    /// Sets how many tenants fleet migrations here have brought into a state.
    pub fn set_fleet_tenants(&self, state: &'static str, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        set(&self.fleet_tenants.get_or_create(&FleetLabels { state }), count);
    }

    /// Sets how many tenants have a status.
    pub fn set_tenants(&self, status: &'static str, count: i64) {
        self.tenants.count.get_or_create(&StatusLabels { status }).set(count);
    }

    /// Sets how many tenants lack migrations.
    pub fn set_tenants_behind(&self, count: i64) {
        self.tenants.behind.set(count);
    }

    /// Takes a measurement of what the metrics say now, for [`Metrics::measurements`].
    pub fn take_measurement(&self, now: OffsetDateTime) {
        let claims = |outcome| self.vacancies.claims.get_or_create(&ClaimLabels { outcome }).get();
        let hashes = self.hashes.get_or_create(&HashLabels { state: "waiting" }).get();
        let load = Load {
            claimed: claims("claimed"),
            missed: claims("missed"),
            connections_in_use: self.connections.in_use(),
            connection_waits: self.waits.noticeable(),
            hashes_waiting: hashes,
            tenants_migrated: self
                .fleet_tenants
                .get_or_create(&FleetLabels { state: "done" })
                .get(),
        };
        self.measurements.measure(&self.totals, load, now);
    }

    /// Returns the measurements of about an hour.
    #[must_use]
    pub fn measurements(&self) -> Measurements {
        self.measurements.read(self.connections.max())
    }

    /// Returns all metrics, with what the process uses now.
    #[must_use]
    pub fn render(&self, exposition: Exposition) -> String {
        self.process.read();
        self.catalogue.render(exposition)
    }
}

fn set_gauge(gauge: &Gauge, count: usize) {
    gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
}

/// Sets a counter to a value that was counted elsewhere. It never decreases, even if two threads set it at once.
fn set(counter: &Counter, count: u64) {
    counter.inner().fetch_max(count, Ordering::Relaxed);
}
