//! Tests under an environment in which everything is set to something else: they depend on none of it.

use std::process::Command;

use rowhouse::config::KEYS;

/// Tests of each kind: a server in the process of the test, the built program, a page of the book, settings.
const TESTS: [&str; 5] = [
    "control_upsert::an_upsert_applies_the_name_and_the_settings_and_says_so",
    "cli_server::a_server_is_named_alone_and_with_a_token",
    "cli::a_server_writes_only_its_address_to_stdout",
    "cli::term_and_int_stop_the_server_and_its_postgres_and_the_data_stays",
    "readme::its_settings_file_is_taken",
];

/// Variables of other programs that a shell may hold.
const OTHERS: [(&str, &str); 20] = [
    ("DATABASE_URL", "postgres://hostile@127.0.0.1:1/hostile"),
    ("ROWHOUSE_SERVER", "https://hostile.invalid"),
    ("ROWHOUSE_TOKEN", "hostile"),
    ("ROWHOUSE_TENANT_ADMIN_PASSWORD", "hostile"),
    ("PGHOST", "hostile.invalid"),
    ("PGHOSTADDR", "127.0.0.1"),
    ("PGPORT", "1"),
    ("PGUSER", "hostile"),
    ("PGPASSWORD", "hostile"),
    ("PGDATABASE", "hostile"),
    ("PGDATA", "/hostile"),
    ("PGSERVICE", "hostile"),
    ("PGOPTIONS", "-c search_path=hostile"),
    ("PGSSLMODE", "verify-full"),
    ("TZ", "Pacific/Kiritimati"),
    ("LANG", "tr_TR.UTF-8"),
    ("LC_ALL", "xx_XX"),
    ("LC_MESSAGES", "de_DE"),
    ("HOME", "/hostile"),
    ("COLUMNS", "10"),
];

#[test]
fn tests_pass_whatever_the_environment_holds() {
    let mut command = Command::new(std::env::current_exe().expect("this is a program"));
    command.arg("--exact").args(TESTS).envs(OTHERS);
    // Where the programs of PostgreSQL are is asked for the tests' own server, too.
    for (key, ..) in KEYS.iter().filter(|(key, ..)| *key != "database.bin_dir") {
        let variable = format!("ROWHOUSE_{}", key.replace('.', "__").to_uppercase());
        command.env(variable, "hostile");
    }
    let ran = command.output().expect("it starts");
    let told = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{told}{}", String::from_utf8_lossy(&ran.stderr));
    assert!(told.contains("test result: ok. 5 passed"), "{told}");
}
