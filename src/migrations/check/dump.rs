//! Recognizes a dump that `pg_dump` wrote for psql.

use crate::migrations::splitter::Command;

/// How to make a dump that can be used.
pub(super) const ADVICE: &str = "this is a dump for psql; to use it, dump with `pg_dump --schema-only --no-owner \
                                 --no-privileges`, and delete the lines that begin with a backslash or SET, the line \
                                 with set_config, and `public.` before the names";

const HEADER: &str = "-- PostgreSQL database dump";
const SEARCH_PATH: &str = "set_config('search_path', '', false)";

/// Whether a file is such a dump.
pub(super) fn is_dump(sql: &str, commands: &[Command<'_>]) -> bool {
    let is_of_dump = |command: &Command<'_>| {
        let name = command.text.split_whitespace().next();
        matches!(name, Some("\\restrict" | "\\unrestrict" | "\\connect"))
    };
    let begins = |line: &str| line.starts_with(HEADER) || line.contains(SEARCH_PATH);
    commands.iter().any(is_of_dump) || sql.lines().take(60).any(begins)
}
