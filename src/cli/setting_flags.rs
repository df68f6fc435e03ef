//! The flags of settings.

use clap::Args;

use crate::config::{Overrides, Own};

/// The settings that have a flag; every verb takes them.
#[derive(Debug, Args)]
#[command(next_help_heading = "Settings")]
#[expect(clippy::doc_markdown, reason = "clap prints these comments, including their backticks")]
pub(super) struct SettingFlags {
    /// Read this file instead of rowhouse.toml
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// Address and port to listen on; port 0 selects a free one [env: ROWHOUSE_LISTEN]
    #[arg(long, global = true, value_name = "ADDR")]
    listen: Option<String>,
    /// The database, with the owner's login; safer in the environment, because every user of the machine can read
    /// command lines
    /// [env: DATABASE_URL]
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
    /// Start although these privileges are open in the database, which the owner cannot close; separated by commas:
    /// set_config, do_blocks, advisory_locks, table_locks, large_objects, signals, setseed, temporary_tables,
    /// schema_public, schema_extensions, runtime_roles, remote_commands [env: ROWHOUSE_DATABASE__ACCEPT_EXPOSURES]
    #[arg(long, global = true, value_name = "NAMES")]
    accept_exposures: Option<String>,
    /// The folder of the embedded server and the generated secrets [env: ROWHOUSE_DATA_DIR]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<String>,
    /// A folder that replaces the built-in tenant migrations [env: ROWHOUSE_TENANT_MIGRATIONS]
    #[arg(long, global = true, value_name = "DIR")]
    tenant_migrations: Option<String>,
    /// The domain whose subdomains name tenants, and no other host [env: ROWHOUSE_BASE_DOMAIN]
    #[arg(long, global = true, value_name = "DOMAIN")]
    base_domain: Option<String>,
    /// The log format, text or json [env: ROWHOUSE_LOG__FORMAT]
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
    /// The log filter, such as info,rowhouse=debug [env: ROWHOUSE_LOG__FILTER]
    #[arg(long, global = true, value_name = "FILTER")]
    pub(super) log_filter: Option<String>,
}

impl SettingFlags {
    /// Returns the flag that names a database, if one is given.
    pub(super) fn database(&self) -> Option<&'static str> {
        self.database_url.as_ref().map(|_| "--database-url")
    }

    /// Returns the settings of the log, for a command that reads no others.
    pub(super) fn of_the_log(&self) -> Vec<(&'static str, String)> {
        let flags = [("log.format", &self.log_format), ("log.filter", &self.log_filter)];
        flags.into_iter().filter_map(|(key, flag)| Some((key, flag.clone()?))).collect()
    }

    pub(super) fn overrides(&self, own: Own) -> Overrides {
        let flags = [
            ("listen", &self.listen),
            ("database.url", &self.database_url),
            ("database.accept_exposures", &self.accept_exposures),
            ("data_dir", &self.data_dir),
            ("tenant_migrations", &self.tenant_migrations),
            ("base_domain", &self.base_domain),
            ("log.format", &self.log_format),
            ("log.filter", &self.log_filter),
        ];
        let given = flags.into_iter().filter_map(|(key, flag)| Some((key, flag.clone()?)));
        Overrides { file: self.config.clone(), values: given.collect(), own }
    }
}
