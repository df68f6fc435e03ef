//! The faults, each a scenario with a name that says what the rule is.

mod database;
mod network;
mod several;
mod single;
mod waiting;

use std::pin::Pin;

use crate::stage::Length;
use crate::{cluster, server};

type Run = fn(&'static str, Length) -> Pin<Box<dyn Future<Output = ()>>>;

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Whether the machine has what the fault needs.
    pub(crate) is_offered: fn() -> bool,
    pub(crate) run: Run,
}

/// Names an async function of a name and a length as a scenario.
macro_rules! scenario {
    ($module:ident :: $function:ident) => {
        scenario!($module::$function, || true)
    };
    ($module:ident :: $function:ident, $is_offered:expr) => {
        Scenario {
            name: concat!(stringify!($module), "::", stringify!($function)),
            is_offered: $is_offered,
            run: |name, length| Box::pin($module::$function(name, length)),
        }
    };
}

/// Returns all scenarios.
pub(crate) fn all() -> Vec<Scenario> {
    vec![
        scenario!(single::a_server_is_killed),
        scenario!(single::a_server_is_killed_with_its_embedded_database),
        scenario!(single::a_server_is_killed_while_it_fills_vacancies),
        scenario!(single::a_server_is_told_to_stop),
        scenario!(single::a_server_stands_still),
        scenario!(single::clients_hang_up_half_way),
        scenario!(single::the_log_is_full, server::has_a_full_device),
        scenario!(single::the_log_is_not_read),
        scenario!(database::the_database_is_stopped_and_started),
        scenario!(database::the_database_is_stopped_at_once),
        scenario!(database::the_database_is_killed),
        scenario!(database::a_backend_crashes),
        scenario!(database::connections_are_terminated),
        scenario!(database::the_database_stands_still),
        scenario!(database::the_disk_is_full, cluster::can_fill_a_disk),
        scenario!(database::the_database_is_in_recovery),
        scenario!(database::the_embedded_server_is_killed),
        scenario!(network::connections_are_reset),
        scenario!(network::the_network_is_slow),
        scenario!(network::the_network_swallows_everything),
        scenario!(network::the_network_forgets_connections),
        scenario!(waiting::a_table_of_a_tenant_is_locked),
        scenario!(waiting::a_server_is_told_to_stop),
        scenario!(waiting::the_database_has_too_few_connections),
        scenario!(several::one_of_three_servers_is_killed_in_a_migration),
        scenario!(several::one_of_three_servers_is_killed_in_a_purge),
        scenario!(several::one_of_three_servers_is_killed_in_a_refill),
        scenario!(several::one_of_three_servers_stands_still),
        scenario!(several::the_clock_of_one_of_three_servers_is_ahead, several::can_change_a_clock),
    ]
}
