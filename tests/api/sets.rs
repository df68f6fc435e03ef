//! Sets of migration files, written in the style of sets that people have: each must make what plain `psql` makes of
//! it, object by object and row by row, in a new tenant and in tenants that lagged. `make test-sets` runs these alone.

mod dump;
mod files;
mod generated;
mod made;
mod psql;

use std::collections::BTreeSet;
use std::path::PathBuf;

use self::files::Set;
use self::made::Made;

/// How many files a release brings, unless `ROWHOUSE_FILES_A_RELEASE` says otherwise; each release runs the program.
const FILES_A_RELEASE: usize = 3;

#[expect(clippy::disallowed_methods, reason = "it is not a setting of the program")]
fn files_a_release() -> usize {
    let wanted = std::env::var("ROWHOUSE_FILES_A_RELEASE").ok();
    let number = |text: String| text.parse().expect("ROWHOUSE_FILES_A_RELEASE is a number");
    wanted.map_or(FILES_A_RELEASE, number)
}

/// The folders with the sets.
fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sets")
}

/// Runs a set in every way, and compares the outcomes; `releases` is how many files each release brings.
async fn assert_made_as_by_psql(set: &Set, files_a_release: usize) {
    let made = Made::from(set, files_a_release).await;
    made.assert_alike().await;
    made.assert_healthy();
    made.assert_nothing_to_do();
    made.assert_purgeable().await;
}

/// Declares a test for each set in the folder.
macro_rules! sets {
    ($($(#[$doc:meta])* $name:ident = $folder:literal;)+) => {
        $(
            $(#[$doc])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                assert_made_as_by_psql(&Set::read(&folder().join($folder)), files_a_release()).await;
            }
        )+

        #[test]
        fn every_set_in_the_folder_is_tested() {
            let there = std::fs::read_dir(folder()).expect("the folder is there");
            let there: BTreeSet<String> = there
                .map(|entry| entry.expect("it can be listed").file_name().to_string_lossy().into_owned())
                .collect();
            let tested: BTreeSet<String> = [$($folder),+].map(str::to_owned).into();
            assert_eq!(there, tested);
        }
    };
}

sets! {
    /// As `pg_dump` writes it: schema, rows, constraints, values of sequences.
    a_dump_with_rows_of_copy = "dump_orders";
    /// With partitions, a materialized view, a rule, a domain, an aggregate and triggers.
    a_dump_with_partitions_and_triggers = "dump_films";
    /// Names that need quotes, and literals of every form.
    a_dump_with_quoted_names = "dump_music";
    views_over_views_that_are_replaced_and_dropped_in_order = "forum";
    enum_values_concurrent_indexes_and_renames = "auth";
    guards_in_do_blocks_and_procedures = "devices";
    types_that_are_swapped_and_extensions = "webhooks";
    files_that_set_the_time_zone = "timezones";
    enum_values_that_are_used_in_the_next_file = "enums";
    partitions_of_every_kind = "partitions";
    types_constraints_and_inheritance = "types";
    temporary_tables_savepoints_and_settings = "sessions";
    routines_in_three_languages_and_triggers = "routines";
    search_policies_rules_and_materialized_views = "search";
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_small_files() {
    assert_made_as_by_psql(&generated::set(300), 100).await;
}
