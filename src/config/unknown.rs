//! Finds what is written like a setting and is none, in the file and in the environment, and says what may be
//! meant.

use super::KEYS;

/// The keys of the file that are no settings; most are slips of the pen.
pub(super) fn unknown_keys(from_file: &config::Config, file: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    if let Ok(table) = from_file.clone().try_deserialize::<serde_json::Value>() {
        flatten("", &table, &mut found);
    }
    found
        .into_iter()
        .filter(|key| !KEYS.iter().any(|(known, ..)| known == key))
        .map(|key| format!("{key}: there is no such setting ({})", file.display()))
        .collect()
}

/// Variables that begin like ours and are no settings, and whose they are.
const OTHER_VARIABLES: &[&str] = &[
    // One command's; see [`tenant_admin_password`](super::tenant_admin_password).
    "ROWHOUSE_TENANT_ADMIN_PASSWORD",
    // `make crash`.
    "ROWHOUSE_CRASH_SETUPS",
    "ROWHOUSE_FLEET_KILLS",
    // The benchmarks.
    "ROWHOUSE_BENCH_TENANTS",
];

/// The test suite's begin with this.
const TEST_VARIABLES: &str = "ROWHOUSE_TEST_";

/// The variables that begin like ours and are no settings. One that is misspelt must not leave the default
/// in force, which for a database's URL is a database of another kind.
pub(super) fn unknown_variables(names: impl Iterator<Item = String>) -> Vec<String> {
    let known: Vec<_> = KEYS.iter().map(|(key, ..)| variable_of(key)).collect();
    let mut unknown: Vec<_> = names
        .filter(|name| {
            // The case does not count, here or where they are read.
            let name = name.to_ascii_uppercase();
            name.starts_with("ROWHOUSE_")
                && !known.contains(&name)
                && !OTHER_VARIABLES.contains(&name.as_str())
                && !name.starts_with(TEST_VARIABLES)
                && !is_of_an_orchestrator(&name)
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
                Some(known) => format!("{name}: there is no such setting; is it {known}?"),
                None => format!("{name}: there is no such setting (environment)"),
            }
        })
        .collect()
}

/// The variable of a setting.
pub(super) fn variable_of(key: &str) -> String {
    format!("ROWHOUSE_{}", key.replace('.', "__").to_uppercase())
}

/// Whether a container engine says with this variable where a service is: Kubernetes puts such names for each
/// service `rowhouse` or `rowhouse-..` into every container, and `compose.yaml` takes `ROWHOUSE_PORT`.
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
