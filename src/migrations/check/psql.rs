//! What to do about a command of psql, which is not SQL.

/// The sentence about a command.
pub(super) fn message(command: &str) -> String {
    let name = command.split_whitespace().next().unwrap_or_default();
    let advice = match name {
        "\\restrict" | "\\unrestrict" => "pg_dump writes it for psql; delete the line",
        "\\connect" | "\\c" => {
            "a migration runs in the database and the schema of its tenant; delete the line"
        }
        "\\." => {
            "it ends the rows of COPY .. FROM stdin, and no such statement is before it; delete the line and its rows, \
                  or write the statement before them"
        }
        "\\i" | "\\ir" | "\\include" | "\\include_relative" => {
            "a file does not read another one; put its text here, or make it a migration of its own"
        }
        "\\copy" => "write COPY .. FROM stdin with the rows behind it, as pg_dump does",
        _ => "a migration holds SQL and nothing else; delete it",
    };
    format!("{name} is a command of psql: {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_named_with_what_to_do() {
        for (command, words) in [
            ("\\restrict abc", "\\restrict is a command of psql: pg_dump writes it for psql"),
            ("\\connect app", "delete the line"),
            ("\\.", "COPY .. FROM stdin"),
            ("\\i other.sql", "a migration of its own"),
            ("\\gexec", "nothing else"),
            ("\\", "\\ is a command"),
        ] {
            assert!(message(command).contains(words), "{command}: {}", message(command));
        }
    }
}
