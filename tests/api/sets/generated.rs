//! A set of hundreds of small files, as a service gathers them over the years: each adds, changes or drops a little.

use super::files::{File, Set};

/// How many files belong together: each group makes a table and drops a part of what the group before has made.
const GROUP: usize = 10;

const FIRST: &str = "CREATE TABLE crates (
    id serial PRIMARY KEY,
    name varchar NOT NULL UNIQUE,
    downloads integer NOT NULL DEFAULT 0
);
INSERT INTO crates (name) VALUES ('libc'), ('rand'), ('serde');
";

/// Generates a set of so many files.
pub(super) fn set(count: usize) -> Set {
    let first = File { name: "V1__create_crates.sql".to_owned(), sql: FIRST.to_owned() };
    let rest = (2..=count).map(|number| {
        let (what, sql) = file(number / GROUP, number % GROUP);
        File { name: format!("V{number}__{what}.sql"), sql }
    });
    Set { files: std::iter::once(first).chain(rest).collect() }
}

/// Returns the name and the text of a file by its group and its place in it.
#[expect(clippy::too_many_lines, reason = "a flat list of files, best read whole")]
fn file(group: usize, place: usize) -> (&'static str, String) {
    // The first group begins with its third file.
    let before = group.saturating_sub(1);
    match place {
        0 => (
            "create_versions",
            format!(
                "CREATE TABLE versions_{group} (
    id bigserial PRIMARY KEY,
    crate_id integer NOT NULL REFERENCES crates (id) ON DELETE CASCADE,
    num varchar NOT NULL,
    UNIQUE (crate_id, num)
);
INSERT INTO versions_{group} (crate_id, num) SELECT id, '{group}.' || id || '.0' FROM crates;
"
            ),
        ),
        1 => (
            "add_yanked",
            format!(
                "ALTER TABLE versions_{group} ADD COLUMN yanked boolean NOT NULL DEFAULT false;\n"
            ),
        ),
        2 => (
            "add_license",
            format!("ALTER TABLE crates ADD COLUMN license_{group} text DEFAULT 'MIT';\n"),
        ),
        3 => (
            "index_license",
            format!(
                "CREATE INDEX index_license_{group} ON crates (lower(license_{group})) WHERE downloads >= 0;\n\
                 DROP INDEX IF EXISTS index_license_{before};\n"
            ),
        ),
        4 => (
            "count_downloads",
            format!(
                "CREATE OR REPLACE FUNCTION count_download() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE crates SET downloads = downloads + {group} WHERE id = NEW.crate_id;
    RETURN NEW;
END $$;
"
            ),
        ),
        5 if group > 0 => (
            "trigger_on_versions",
            format!(
                "CREATE TRIGGER count_download AFTER INSERT ON versions_{group}
    FOR EACH ROW EXECUTE FUNCTION count_download();
INSERT INTO versions_{group} (crate_id, num) VALUES (1, '{group}.0.0-alpha');
"
            ),
        ),
        6 => (
            "show_crates",
            format!(
                "DROP VIEW IF EXISTS shown_crates;
CREATE VIEW shown_crates AS SELECT id, name, license_{group} AS license, downloads FROM crates;
"
            ),
        ),
        7 => (
            "backfill",
            format!(
                "UPDATE crates SET license_{group} = 'Apache-2.0' WHERE id % 3 = {group} % 3;\n"
            ),
        ),
        8 => (
            "rename_license",
            format!("ALTER TABLE crates RENAME COLUMN license_{group} TO spdx_{group};\n"),
        ),
        9 if group > 1 => (
            "drop_old_versions",
            format!(
                "DROP TABLE versions_{before};\nALTER TABLE crates DROP COLUMN spdx_{before};\n"
            ),
        ),
        _ => {
            ("add_crate", format!("INSERT INTO crates (name) VALUES ('crate-{group}-{place}');\n"))
        }
    }
}
