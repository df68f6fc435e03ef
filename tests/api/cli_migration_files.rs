//! What `rowhouse migrate` says about a folder of migrations that cannot be used. `--lint` reads the files as a run does,
//! and needs no database.

use crate::support::{Completed, Program};

const NOTES: (&str, &str) =
    ("V1__notes.sql", "CREATE TABLE notes (id int NOT NULL CONSTRAINT notes_pkey PRIMARY KEY);\n");

/// Lints a folder with these files; a name may hold folders.
fn lint(files: &[(&str, impl AsRef<[u8]>)]) -> Completed {
    let program = Program::embedded();
    let folder = program.folder().join("mine");
    std::fs::create_dir(&folder).expect("a folder can be made");
    for (name, text) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder can be made");
        std::fs::write(path, text).expect("a file can be written");
    }
    program.run(&["migrate", "--lint", "--tenant-migrations", "mine"])
}

/// Lints one file that must be refused; returns what is said.
fn refused(sql: &str) -> String {
    let ran = lint(&[("V1__x.sql", sql)]).expect(1);
    assert_eq!(ran.stdout, "");
    ran.stderr
}

#[test]
fn an_extension_is_refused_with_the_statement_to_write_which_is_accepted() {
    for sql in [
        "CREATE EXTENSION IF NOT EXISTS citext;",
        "CREATE EXTENSION citext SCHEMA public;",
        "CREATE EXTENSION citext SCHEMA extensions;",
        "DO $$ BEGIN CREATE EXTENSION IF NOT EXISTS citext; END $$;",
    ] {
        let said = refused(sql);
        assert!(said.contains("V1__x.sql, line 1: CREATE EXTENSION"), "{said}");
        assert!(said.contains("CREATE EXTENSION IF NOT EXISTS <name> SCHEMA extensions"), "{said}");
    }
    // The lint may have its own remarks; the file itself is read.
    let ran = lint(&[("V1__x.sql", "CREATE EXTENSION IF NOT EXISTS citext SCHEMA extensions;\n")]);
    assert!(ran.stderr.starts_with("1 files with 1 statements"), "{ran:?}");
}

#[test]
fn rows_of_copy_that_are_missing_are_the_files_fault_with_its_line() {
    for sql in
        ["COPY t (id) FROM stdin;\n", "\nCOPY t (id) FROM stdin;\n1\n2\n", "COPY t FROM '/tmp/t';"]
    {
        let said = refused(sql);
        let line = 1 + usize::from(sql.starts_with('\n'));
        assert!(said.contains(&format!("V1__x.sql, line {line}: COPY T")), "{said}");
    }
}

#[test]
fn all_that_is_wrong_in_a_folder_is_told_at_once() {
    let dump = "\\restrict abc\n\nSET statement_timeout = 0;\nSET client_encoding = 'UTF8';\n\
                SELECT pg_catalog.set_config('search_path', '', false);\n\
                CREATE TABLE public.notes (id int NOT NULL);\n\
                ALTER TABLE public.notes OWNER TO app;\n\\unrestrict abc\n";
    let more = "CREATE ROLE app;\nDROP TABLE IF EXISTS \"public\".users CASCADE;\nCOPY notes (id) FROM stdin;\n";
    let ran = lint(&[("V1__dump.sql", dump), ("V2__more.sql", more)]).expect(1);
    let lines: Vec<&str> = ran.stderr.lines().collect();
    let mut at = 0;
    for expected in [
        "V1__dump.sql: this is a dump for psql",
        "V1__dump.sql, line 1: \\restrict is a command of psql",
        "V1__dump.sql, line 3: SET STATEMENT_TIMEOUT is not allowed",
        "V1__dump.sql, line 4: SET CLIENT_ENCODING is not allowed",
        "V1__dump.sql, line 5: set_config('search_path', ..) is not allowed",
        "V1__dump.sql, line 6: public. is not allowed",
        "V1__dump.sql, line 7: ALTER TABLE .. OWNER TO is not allowed",
        "V1__dump.sql, line 8: \\unrestrict is a command of psql",
        "V2__more.sql, line 1: CREATE ROLE is not allowed",
        "V2__more.sql, line 2: public. is not allowed",
        "V2__more.sql, line 3: COPY NOTES is not allowed",
    ] {
        assert!(lines.get(at).is_some_and(|line| line.contains(expected)), "{expected}: {ran:?}");
        at += 1;
    }
    assert_eq!(lines.len(), at, "{ran:?}");
}

#[test]
fn the_advice_about_a_dump_makes_it_usable() {
    let dump = "--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\n\nSET statement_timeout = 0;\n\
                SET check_function_bodies = false;\nSELECT pg_catalog.set_config('search_path', '', false);\n\
                SET default_tablespace = '';\n\n--\n-- Name: notes; Type: TABLE; Schema: public; Owner: -\n--\n\n\
                CREATE TABLE public.notes (\n    id integer NOT NULL\n);\n\n\
                ALTER TABLE ONLY public.notes\n    ADD CONSTRAINT notes_pkey PRIMARY KEY (id);\n\n\\unrestrict abc\n";
    let said = refused(dump);
    for word in ["--no-owner", "backslash or SET", "set_config", "`public.`"] {
        assert!(said.contains(word), "{said}");
    }
    let is_left = |line: &&str| {
        !line.starts_with('\\') && !line.starts_with("SET ") && !line.contains("set_config")
    };
    let followed: Vec<&str> = dump.lines().filter(is_left).collect();
    let followed = followed.join("\n").replace("public.", "");
    // The lint has its own remarks; the file itself is read.
    let ran = lint(&[("V1__dump.sql", followed)]);
    assert!(ran.stderr.starts_with("1 files with 2 statements"), "{ran:?}");
}

#[test]
fn many_refusals_are_counted_and_not_all_shown() {
    let said = refused(&"SET a.b = 1;\n".repeat(60));
    assert_eq!(said.lines().count(), 51, "{said}");
    assert!(said.trim_end().ends_with("and 10 more"), "{said}");
    assert!(lint(&[NOTES]).stderr.contains("1 files"));
}

#[test]
fn no_file_is_passed_over_in_silence() {
    let names = [
        "V2__tags.SQL",
        "V3__add-tags.sql",
        "V4__tags.up.sql",
        "V5__tags.down.sql",
        "V6__tags.sql~",
        "V7__tags.sql.bak",
        "V20261128120000__tags.sql",
        "2026/V8__tags.sql",
        "2026/11/old.sql",
        "tags.sql",
        "U9__tags.sql",
        "R10__tags.sql",
    ];
    let mut files: Vec<(&str, &str)> = names.iter().map(|name| (*name, "SELECT 1/0;")).collect();
    files.extend([NOTES, ("README.md", "notes"), ("notes/README.md", "notes"), (".gitkeep", "")]);
    let ran = lint(&files).expect(1);
    assert_eq!(ran.stderr.lines().count(), names.len(), "{ran:?}");
    for name in names {
        assert!(ran.stderr.contains(&format!("{name}: ")), "{name}: {ran:?}");
    }
    assert!(ran.stderr.contains("rename it, to V3__add_tags.sql for example"), "{ran:?}");

    files.retain(|(name, _)| !names.contains(name));
    let ran = lint(&files).expect(0);
    assert_eq!(ran.stderr, "1 files with 1 statements: 0 findings, 0 allowed\n");
}

#[test]
fn an_encoding_that_is_not_utf_8_is_named_with_its_file_and_place() {
    let with_mark = |text: &str| [b"\xef\xbb\xbf", text.as_bytes()].concat();
    let ran = lint(&[(NOTES.0, with_mark(NOTES.1))]).expect(0);
    assert!(ran.stderr.starts_with("1 files with 1 statements"), "{ran:?}");
    let utf_16: Vec<u8> = NOTES.1.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (bytes, said) in [
        ([b"\xff\xfe", utf_16.as_slice()].concat(), "V1__notes.sql: it is UTF-16"),
        (utf_16, "V1__notes.sql, line 1: the file holds a NUL"),
        (b"SELECT 1;\n-- caf\xe9\n".to_vec(), "V1__notes.sql, line 2: it is not UTF-8: byte 17"),
        (b"SELECT 1;\n\nSELECT '\0';".to_vec(), "V1__notes.sql, line 3: the file holds a NUL"),
    ] {
        let ran = lint(&[(NOTES.0, bytes)]).expect(1);
        assert!(ran.stderr.contains(said), "{said}: {ran:?}");
    }
    for sql in ["", "-- only a comment", "/* one */\n", "SELECT 1"] {
        assert!(lint(&[("V1__x.sql", sql)]).stderr.starts_with("1 files"), "{sql}");
    }
}

#[cfg(unix)]
#[test]
fn a_link_to_a_file_is_read_and_a_broken_one_is_named() {
    let program = Program::embedded();
    let folder = program.folder().join("mine");
    std::fs::create_dir(&folder).expect("a folder can be made");
    let real = program.folder().join("real.sql");
    std::fs::write(&real, NOTES.1).expect("a file can be written");
    std::os::unix::fs::symlink(&real, folder.join(NOTES.0)).expect("a link can be made");
    let args = ["migrate", "--lint", "--tenant-migrations", "mine"];
    assert!(program.run(&args).expect(0).stderr.starts_with("1 files with 1 statements"));
    std::fs::remove_file(&real).expect("a file can be removed");
    let ran = program.run(&args).expect(1);
    assert!(ran.stderr.contains("V1__notes.sql: it cannot be read"), "{ran:?}");
}
