//! The table of all settings: their names, their defaults, what they mean.

/// Every setting: its key in the file, its default, its description. The table in docs/settings.md and the check for
/// unknown keys both come from here.
pub const KEYS: &[(&str, &str, &str)] = &[
    ("listen", "127.0.0.1:8080", "address and port; port 0 picks a free one"),
    ("data_dir", ".rowhouse", "folder of the embedded server's data and of the generated secrets"),
    (
        "root_token",
        "",
        "a UUID with every permission; if it is not set, one is generated and stored in the data dir",
    ),
    ("root_token_file", "", "a file that holds it"),
    (
        "root_token_previous",
        "",
        "a root token that is accepted beside the present one while clients are given the new one",
    ),
    ("root_token_previous_file", "", "a file that holds it"),
    (
        "root_token_command",
        "",
        "a shell command that prints the root token, for the curl line that serve prints; for containers, whose \
         data dir a shell outside cannot read",
    ),
    ("admin_email", "", "a SUPER_ADMIN who can log in; set to this at every start"),
    ("admin_password", "", "that user's password"),
    ("admin_password_file", "", "a file that holds it"),
    (
        "secret_key",
        "",
        "a random text of at least 32 characters that encrypts the signing keys in the database, the same for all \
         servers on it; if it is not set, one is generated and stored in the data dir",
    ),
    ("secret_key_file", "", "a file that holds it"),
    ("tenant_migrations", "", "a folder that replaces the built-in tenant migrations"),
    (
        "base_domain",
        "localhost",
        "a host names a tenant as <slug>.<base domain>, and no other host does",
    ),
    (
        "server_hosts",
        "",
        "the server's own host names, separated by commas, such as api.example.com; they name no tenant, and their \
         first labels are reserved as slugs",
    ),
    (
        "default_owner",
        "",
        "the owner of a WebFluss tenant that names none; by default the admin above",
    ),
    (
        "database.url",
        "",
        "the owner's login; also DATABASE_URL. If neither is set, an embedded PostgreSQL is started",
    ),
    ("database.url_file", "", "a file that holds it; also DATABASE_URL_FILE"),
    ("database.runtime_url", "", "the runtime login; derived from the owner's URL by default"),
    ("database.runtime_url_file", "", "a file that holds it"),
    ("database.bin_dir", "", "folder of the PostgreSQL server binaries for the embedded server"),
    (
        "database.isolation",
        "",
        "a role for each tenant, or one shared role and the search path alone; \
         empty: role, and on Citus the search path alone",
    ),
    (
        "database.accept_exposures",
        "",
        "privileges that PostgreSQL leaves open and that do not keep serve from starting, separated by commas, for an \
         owner who cannot close them (docs/managed-postgresql.md): set_config, do_blocks, advisory_locks, \
         table_locks, large_objects, signals, setseed, temporary_tables, schema_public, schema_extensions, runtime_roles, \
         remote_commands",
    ),
    (
        "database.statements",
        "auto",
        "how statements are sent: unnamed, cached (prepared once per connection), or auto: those of the control plane \
         cached if no pooler is in front of the server, all others unnamed",
    ),
    (
        "database.max_connections",
        "40",
        "connections of this process, all pools together; at least 10",
    ),
    (
        "database.tenants_per_connection",
        "500",
        "distinct tenants that a connection serves before it is replaced, since PostgreSQL keeps memory for each; \
         0 for no limit",
    ),
    ("database.connect_timeout", "5s", "longest wait for a connection"),
    (
        "database.wait",
        "30s",
        "how long serve waits at its start for a database that is not up yet; 0 for not at all. A wrong password or a \
         missing database is not waited for",
    ),
    (
        "database.idle_timeout",
        "5m",
        "how long a connection is unused before it is closed, so that another server can have it; each pool keeps one; 0 \
         for never",
    ),
    ("database.statement_timeout", "30s", "longest single statement"),
    ("database.lock_timeout", "5s", "longest wait for a lock"),
    ("database.idle_in_transaction_timeout", "30s", "longest pause inside a transaction"),
    ("auth.issuer", "rowhouse", "the iss of access tokens"),
    ("auth.audience", "rowhouse", "the aud of access tokens"),
    ("auth.access_lifetime", "15m", "lifetime of an access token"),
    ("auth.refresh_lifetime", "7d", "lifetime of a refresh cookie"),
    (
        "auth.session_lifetime",
        "30d",
        "longest time from a log-in to the end of its session, however often it is refreshed",
    ),
    (
        "auth.cookie_secure",
        "auto",
        "true, false, or auto: true unless listening on a loopback address",
    ),
    ("auth.hash_memory_kib", "19456", "argon2id memory (OWASP)"),
    ("auth.hash_iterations", "2", "argon2id passes (OWASP)"),
    ("auth.hash_queue", "256", "password hashes that may wait; beyond it the answer is 503"),
    ("http.workers", "", "threads that serve requests; the number of cores by default"),
    ("http.max_body_bytes", "1048576", "largest request body"),
    ("http.request_timeout", "30s", "longest time for one request; after that the answer is 503"),
    (
        "http.keep_alive",
        "75s",
        "how long a connection of a client stays open without a request; longer than the proxy in front keeps it, so that \
         the proxy closes first (nginx: 60s); 0 closes it after each answer",
    ),
    (
        "http.drain_delay",
        "0",
        "how long after a stop signal the server still accepts connections while /readyz already says 503, so that a load \
         balancer notices first; 0 for not at all",
    ),
    (
        "http.shutdown_timeout",
        "8s",
        "how long requests may finish after a stop signal, counted from the end of http.drain_delay",
    ),
    (
        "http.trusted_proxies",
        "",
        "networks of trusted proxies, separated by commas, whose client addresses and hosts are believed; none by default",
    ),
    (
        "http.forwarded_header",
        "x-forwarded-for",
        "the header that those proxies set: x-forwarded-for (and x-forwarded-host) or forwarded; the other is ignored",
    ),
    (
        "http.management_listen",
        "",
        "address and port of a second listener for /metrics, /docs and /openapi.json; off serves them nowhere; by \
         default they are served at listen",
    ),
    (
        "http.cors_origins",
        "",
        "origins, separated by commas, whose pages may call from a browser; none by default",
    ),
    ("http.cors_max_age", "1h", "how long a browser may cache the permission"),
    (
        "console.enabled",
        "true",
        "whether the console is served, the pages for people below /console",
    ),
    (
        "console.host",
        "",
        "the only host name at which the console is served, without a port; by default every one that is no tenant's. An \
         application whose own pages are at the same host name sets it: its scripts could act in the console",
    ),
    (
        "limits.login_pair",
        "3/10",
        "wrong passwords for one account from one address: per minute / burst; 0 for no limit",
    ),
    (
        "limits.login_account",
        "6/30",
        "wrong passwords for one account from addresses without a successful log-in to it",
    ),
    ("limits.login_address", "60/120", "wrong passwords from one address"),
    (
        "limits.token_address",
        "60/120",
        "wrong tokens, API keys and refresh cookies from one address",
    ),
    ("limits.requests_token", "30000/3000", "requests of one token or user"),
    ("limits.requests_tenant", "60000/6000", "requests of one tenant's tokens and users together"),
    (
        "limits.exports_tenant",
        "1/6",
        "exports of one tenant to the store that its own tokens and users start; those of the platform are not counted",
    ),
    (
        "events.seal_interval",
        "1s",
        "interval between two searches for audit events that other servers and commands left unsealed; those that a server \
         writes itself are sealed, and are in the feed, about 100 ms after the commit",
    ),
    (
        "fairness.reserve",
        "20",
        "percentage of a worker's connections that a tenant which holds one for long leaves to the others, while at least \
         two tenants are active; half of it is left by every tenant that holds one; rounded down, and at least one where there are several; 0 for none",
    ),
    (
        "fairness.slow_after",
        "100ms",
        "how long a tenant holds a connection, now or on average, before it counts as one that holds it for long",
    ),
    ("profiles.erase_interval", "10m", "interval between two erasures of expired profiles"),
    ("tenants.grace_period", "7d", "how long a deleted tenant can be restored before it is purged"),
    ("tenants.purge_interval", "1m", "interval between two searches for tenants to purge"),
    (
        "tenants.vacancies",
        "8",
        "schemas that are built ahead of time, so that a set-up does not wait for one; 0 for none",
    ),
    (
        "tokens.max_lifetime",
        "0",
        "longest lifetime of an API token, an API key or an xtoken; one that is made without an end gets this one; 0 for \
         no limit",
    ),
    (
        "tokens.default_lifetime",
        "0",
        "lifetime of an API token or an API key that is made without an end; 0 for none",
    ),
    (
        "tokens.rotation_overlap",
        "1h",
        "how long the secret of a token stays good after a rotation that names no overlap, at most 30d; 0 ends it at once",
    ),
    (
        "slugs.reserved",
        "",
        "words, separated by commas, that no tenant can take as its slug, beside the built-in ones",
    ),
    (
        "slugs.quarantine",
        "",
        "how long no other tenant can take a slug that a rename or a purge freed; the grace period by default; 0 for \
         not at all",
    ),
    (
        "fleet.workers",
        "4",
        "tenants that a fleet migration migrates at the same time; in a server at most a tenth of \
         database.max_connections",
    ),
    (
        "fleet.lease",
        "15s",
        "how long after its last heartbeat the process that runs a fleet migration counts as dead",
    ),
    (
        "fleet.take_up_interval",
        "30s",
        "interval between two searches for a fleet migration whose process is dead, which this server then continues; 0 \
         for never",
    ),
    (
        "fleet.ledger_retention",
        "90d",
        "how long the result of each tenant is kept after a fleet migration has ended; the counts stay; 0 for ever",
    ),
    (
        "archives.store",
        "",
        "the folder of the archives that the server keeps, the same for all servers on the database; archives in the data dir by default",
    ),
    ("archives.max_bytes", "53687091200", "largest archive that is kept, in bytes"),
    (
        "archives.total_bytes",
        "0",
        "most bytes of all archives together; 0 for as many as fit on the disk, of which 64 MiB stay free in any case",
    ),
    (
        "archives.keep_exports",
        "7d",
        "how long an export is kept that the server made; 0 for until it is deleted",
    ),
    (
        "archives.workers",
        "2",
        "exports, imports and checks of archives that the server runs at the same time; each holds a connection",
    ),
    (
        "archives.level",
        "1",
        "how much archives are compressed, from 1 to 19; higher levels take far longer and save little of CSV",
    ),
    ("log.format", "text", "text or json"),
    (
        "log.access",
        "off",
        "on logs one line for each answered request, with its caller, its tenant, its route, its status and how long it took",
    ),
    (
        "log.filter",
        "info,refinery_core=warn,actix_http=off,actix_server=warn,tokio_postgres=warn",
        "log levels by target, for example info,rowhouse=debug",
    ),
    (
        "log.otlp_endpoint",
        "",
        "a collector of OpenTelemetry that the spans of requests are exported to by OTLP over HTTP, such as \
         http://127.0.0.1:4318; only in a program that was built with the feature otlp",
    ),
];

/// Settings for the test suite alone, as [`KEYS`]. They are in no table and need no description.
pub(super) const HIDDEN_KEYS: &[&str] = &["database.engine"];
