//! The name that a server gives its connections (`application_name`), by which others see in `pg_stat_activity` how many
//! it may open. Needs no table, and is right at any time: a server that is gone has no connection.

use crate::pg::rules::SERVER_NAME;

/// The longest part of a host name that is shown: a name has at most 63 bytes.
const HOST_MAX: usize = 30;

/// Returns the name of a server that may open `budget` connections. It is different for each start.
#[must_use]
pub fn of_server(budget: usize, host: &str) -> String {
    let host: String =
        host.chars().filter(|c| c.is_ascii_alphanumeric() || "-.".contains(*c)).collect();
    let host = host.get(..HOST_MAX).unwrap_or(&host);
    format!("{SERVER_NAME}/{budget}/{host}:{:08x}", fastrand::u32(..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_budget_and_fits_whatever_the_host_is_called() {
        for host in ["web-1", "", &"long.".repeat(20), "büro/1"] {
            let name = of_server(10_000, host);
            assert!(name.starts_with("rowhouse-server/10000/"), "{name}");
            assert_eq!(name.matches('/').count(), 2, "{name}");
            assert!(name.is_ascii() && name.len() <= 63, "{name}");
        }
        assert_ne!(of_server(40, "web-1"), of_server(40, "web-1"));
    }
}
