//! The table of all settings: their names, their defaults, what they mean.

/// Every setting there is, as it is called in the file, with what it means. The table in docs/settings.md and the
/// check for unknown keys both come from here.
pub const KEYS: &[(&str, &str, &str)] = &[
    ("listen", "127.0.0.1:8080", "address and port; port 0 picks a free one"),
    ("data_dir", ".rowhouse", "where the embedded server and the generated secrets live"),
    (
        "root_token",
        "",
        "a UUID that may do everything; where it is not set, one is made and kept in the data dir",
    ),
    (
        "root_token_command",
        "",
        "how a shell prints the root token, for the curl line that serve prints; for containers, whose data \
         dir the shell outside does not see",
    ),
    ("admin_email", "", "a SUPER_ADMIN who can log in; the settings are the truth at every start"),
    ("admin_password", "", "that user's password"),
    ("tenant_migrations", "", "a folder that replaces the built-in tenant migrations"),
    ("base_domain", "", "tenants are resolved from <slug>.<base domain>"),
    ("default_owner", "", "who owns a WebFluss tenant that names no owner; else the admin above"),
    (
        "database.url",
        "",
        "the owner's login; also DATABASE_URL. Without one, PostgreSQL is embedded",
    ),
    ("database.runtime_url", "", "the runtime login, where it is not derived from the owner's URL"),
    ("database.bin_dir", "", "folder of the PostgreSQL server binaries for the embedded server"),
    ("database.isolation", "role", "a role for each tenant, or one shared role and the path alone"),
    (
        "database.statements",
        "auto",
        "how statements travel: unnamed, cached, or auto: the control plane's cached where no pooler stands before \
         the server, all others unnamed",
    ),
    (
        "database.max_connections",
        "40",
        "connections of this process, all pools together; at least 10",
    ),
    (
        "database.tenants_per_connection",
        "500",
        "distinct tenants that a connection serves before a new one takes its place, since PostgreSQL keeps \
         memory for each; 0 for no end",
    ),
    ("database.connect_timeout", "5s", "longest wait for a connection"),
    ("database.statement_timeout", "30s", "longest single statement"),
    ("database.lock_timeout", "5s", "longest wait for a lock"),
    ("database.idle_in_transaction_timeout", "30s", "longest pause inside a transaction"),
    ("auth.issuer", "rowhouse", "the iss of access tokens"),
    ("auth.audience", "rowhouse", "the aud of access tokens"),
    ("auth.access_lifetime", "15m", "how long an access token is good"),
    ("auth.refresh_lifetime", "7d", "how long a refresh cookie is good"),
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
    ("http.request_timeout", "30s", "longest time for one request; beyond it the answer is 503"),
    ("http.shutdown_timeout", "8s", "how long requests may finish after a stop signal"),
    (
        "http.trusted_proxies",
        "",
        "networks, with commas between, whose word about a client's address is taken; nobody's by default",
    ),
    (
        "http.forwarded_header",
        "x-forwarded-for",
        "the header that they write: x-forwarded-for or forwarded",
    ),
    (
        "http.cors_origins",
        "",
        "origins, with commas between, whose pages may call from a browser; none by default",
    ),
    ("http.cors_max_age", "1h", "how long a browser may remember that it was let in"),
    (
        "limits.login_pair",
        "3/10",
        "wrong passwords for one account from one address: so many a minute / at once; 0 is no limit",
    ),
    (
        "limits.login_account",
        "6/30",
        "wrong passwords for one account from addresses where nobody has logged in to it",
    ),
    ("limits.login_address", "60/120", "wrong passwords from one address"),
    (
        "limits.token_address",
        "60/120",
        "wrong tokens, API keys and refresh cookies from one address",
    ),
    ("limits.requests_token", "30000/3000", "requests of one token or user"),
    ("limits.requests_tenant", "60000/6000", "requests of one tenant's tokens and users together"),
    ("profiles.erase_interval", "10m", "how often profiles that have run out are erased"),
    (
        "tenants.grace_period",
        "7d",
        "how long a deleted tenant can be restored; after it, it is purged",
    ),
    ("tenants.purge_interval", "1m", "how often it is looked for tenants to purge"),
    (
        "tenants.vacancies",
        "8",
        "schemas that are built ahead of time, so that a set-up need not wait for one; 0 for none",
    ),
    (
        "fleet.workers",
        "4",
        "tenants that a fleet migration works on at the same time; a server gives it at most a tenth of \
         database.max_connections",
    ),
    (
        "fleet.lease",
        "15s",
        "how long after its last sign of life whoever runs a fleet migration is taken for gone",
    ),
    (
        "fleet.take_up_interval",
        "30s",
        "how often a server looks for a fleet migration whose process is gone, and goes on with it; 0 for never",
    ),
    (
        "fleet.ledger_retention",
        "90d",
        "how long after a fleet migration has ended it is kept what became of each tenant; the counts stay; 0 for \
         ever",
    ),
    ("log.format", "text", "text or json"),
    (
        "log.filter",
        "info,refinery_core=warn,actix_http=off,actix_server=warn,tokio_postgres=warn",
        "such as info,rowhouse=debug",
    ),
];
