//! The programs of PostgreSQL that the sets are compared with: `psql` runs them, `pg_dump` tells what they made.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::files::Set;

/// Runs a set in a schema, each file in a transaction and on a connection of its own.
pub(super) fn run(set: &Set, folder: &Path, url: &str, schema: &str) {
    let mut script = String::new();
    for file in &set.files {
        let include = format!("\\i '{}'", file.path(folder).display());
        let _ = if file.runs_in_transaction() {
            writeln!(script, "\\connect\nBEGIN;\n{include}\nCOMMIT;")
        } else {
            writeln!(script, "\\connect\n{include}")
        };
    }
    let path = folder.join("all.psql");
    std::fs::write(&path, script).expect("a script can be written");
    let mut psql = command("psql");
    psql.env("PGOPTIONS", format!("-c search_path={schema},extensions"))
        .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--output=/dev/null", "--file"])
        .args([&path.display().to_string(), url]);
    output(psql).unwrap_or_else(|error| panic!("psql: {error}"));
    std::fs::remove_file(path).expect("the script can be removed");
}

/// Returns what `pg_dump` writes of a schema; `None` if it is older than the server.
pub(super) fn dump(url: &str, schema: &str) -> Option<String> {
    let mut dump = command("pg_dump");
    dump.args(["--no-owner", "--no-privileges", "--schema", schema]).args([
        "--exclude-table",
        &format!("{schema}.refinery_schema_history"),
        url,
    ]);
    match output(dump) {
        Ok(dump) => Some(dump),
        Err(error) if error.contains("server version mismatch") => None,
        Err(error) => panic!("pg_dump: {error}"),
    }
}

fn command(name: &str) -> Command {
    let mut command = Command::new(program(name));
    command
        .env_clear()
        .env("PATH", path())
        .env("LC_ALL", "C")
        .env("PGCLIENTENCODING", "UTF8")
        .stdin(Stdio::null());
    command
}

/// Finds a program: on the PATH, or in one of the folders in which distributions install several versions.
fn program(name: &str) -> PathBuf {
    if std::env::split_paths(&path()).any(|folder| folder.join(name).is_file()) {
        return PathBuf::from(name);
    }
    let parents = ["/usr/lib/postgresql", "/usr", "/opt/homebrew/opt", "/usr/local/opt"];
    let folders = parents.iter().flat_map(std::fs::read_dir).flatten().flatten();
    let is_version = |folder: &PathBuf| {
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
        name.is_some_and(|name| {
            name.parse::<u32>().is_ok()
                || name.starts_with("pgsql-")
                || name.starts_with("postgresql@")
        })
    };
    let versions = folders.map(|folder| folder.path()).filter(is_version);
    let mut programs = versions.map(|folder| folder.join("bin").join(name));
    let found = programs.find(|program| program.is_file());
    found.unwrap_or_else(|| panic!("{name} is not installed; it comes with PostgreSQL's client"))
}

#[expect(clippy::disallowed_methods, reason = "a test needs the PATH of its environment")]
fn path() -> String {
    std::env::var("PATH").unwrap_or_default()
}

/// Runs a program to its end; returns its output, or what it said if it failed.
fn output(mut command: Command) -> Result<String, String> {
    let ran = command.output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it is UTF-8");
    if ran.status.success() { Ok(text(ran.stdout)) } else { Err(text(ran.stderr)) }
}
