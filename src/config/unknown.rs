//! Finds unknown settings in the file and in the environment, and suggests the intended one.

use super::keys::HIDDEN_KEYS;
use super::{KEYS, Own};

/// Returns a problem for each key of the file that is not a setting; most are misspelt.
pub(super) fn unknown_keys(
    from_file: &config::Config,
    file: &std::path::Path,
    own: &Own,
) -> Vec<String> {
    let mut found = Vec::new();
    if let Ok(table) = from_file.clone().try_deserialize::<serde_json::Value>() {
        flatten("", &table, &mut found);
    }
    found
        .into_iter()
        .filter(|key| !KEYS.iter().any(|(known, ..)| known == key) && !own.knows(key))
        .filter(|key| !HIDDEN_KEYS.contains(&key.as_str()))
        .map(|key| format!("{key}: no such setting ({})", file.display()))
        .collect()
}

/// Variables with our prefix that are not settings, with their owners.
const OTHER_VARIABLES: &[&str] = &[
    // One command's; see [`tenant_admin_password`](super::tenant_admin_password).
    "ROWHOUSE_TENANT_ADMIN_PASSWORD",
    "ROWHOUSE_TENANT_ADMIN_PASSWORD_FILE",
    // Those of a command that works on a server; see [`server_variables`](super::server_variables).
    "ROWHOUSE_SERVER",
    "ROWHOUSE_SERVER_FILE",
    "ROWHOUSE_TOKEN",
    "ROWHOUSE_TOKEN_FILE",
    "ROWHOUSE_CA_FILE",
    // `make faults` and `make kills`.
    "ROWHOUSE_FAULTS",
    "ROWHOUSE_FLEET_KILLS",
    // The benchmarks.
    "ROWHOUSE_BENCH_TENANTS",
];

/// The prefix of the test suite's variables.
const TEST_VARIABLES: &str = "ROWHOUSE_TEST_";

/// Returns a problem for each variable with our prefix that is not a setting. A misspelt one must not leave the default
/// in force, which for the database's URL is the embedded server.
pub(super) fn unknown_variables(names: impl Iterator<Item = String>, own: &Own) -> Vec<String> {
    let is_own = |name: &str| {
        let key = name.trim_start_matches("ROWHOUSE_").replacen("__", ".", 1);
        own.knows(&key.to_ascii_lowercase())
    };
    let known: Vec<_> = KEYS.iter().map(|(key, ..)| variable_of(key)).collect();
    let mut unknown: Vec<_> = names
        .filter(|name| {
            // Case-insensitive, as where the settings are read.
            let name = name.to_ascii_uppercase();
            name.starts_with("ROWHOUSE_")
                && !known.contains(&name)
                && !HIDDEN_KEYS.iter().any(|key| variable_of(key) == name)
                && !OTHER_VARIABLES.contains(&name.as_str())
                && !name.starts_with(TEST_VARIABLES)
                && !is_of_an_orchestrator(&name)
                && !is_own(&name)
        })
        .collect();
    unknown.sort();
    unknown
        .into_iter()
        .map(|name| {
            let distance = |known: &&String| {
                strsim::damerau_levenshtein(known.as_str(), &name.to_ascii_uppercase())
            };
            let nearest = known.iter().min_by_key(distance);
            match nearest.filter(|known| distance(known) <= name.len() / 4) {
                Some(known) => format!("{name}: no such setting; did you mean {known}?"),
                None => format!("{name}: no such setting (environment)"),
            }
        })
        .collect()
}

/// Returns the variable of a setting.
pub(crate) fn variable_of(key: &str) -> String {
    format!("ROWHOUSE_{}", key.replace('.', "__").to_uppercase())
}

/// Returns whether a container engine sets this variable for a service's address: Kubernetes sets such variables in every
/// container for each service `rowhouse` or `rowhouse-..`, and `compose.yaml` reads `ROWHOUSE_PORT`.
fn is_of_an_orchestrator(name: &str) -> bool {
    let port_of = |(_, rest): (&str, &str)| rest.starts_with(|c: char| c.is_ascii_digit());
    name.ends_with("_PORT")
        || name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT_")
        || name.split_once("_PORT_").is_some_and(port_of)
}

fn flatten(prefix: &str, value: &serde_json::Value, out: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(table) => {
            for (key, inner) in table {
                let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&path, inner, out);
            }
        }
        _ => out.push(prefix.to_owned()),
    }
}
