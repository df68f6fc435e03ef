use super::*;
use crate::migrations::NO_TRANSACTION;

fn set(files: &[(&str, &str)]) -> MigrationSet {
    MigrationSet::of(files)
}

#[test]
fn a_contradiction_is_named_and_new_files_are_pending() {
    let one = ("V1__one", "SELECT 1");
    let two = ("V2__two", "SELECT 2");
    let three = ("V3__three", "SELECT 3");
    let here = set(&[one, two, three]);
    let pending = |before: &[(&str, &str)]| {
        here.pending(&set(before).history()).map(|files| here.names(&files))
    };
    assert_eq!(pending(&[]).unwrap(), ["V1__one.sql", "V2__two.sql", "V3__three.sql"]);
    assert_eq!(pending(&[one]).unwrap(), ["V2__two.sql", "V3__three.sql"]);
    assert_eq!(pending(&[one, two, three]).unwrap(), Vec::<String>::new());
    for (before, words) in [
        (&[one, two, three, ("V4__four", "")][..], "version 4, this program knows up to 3"),
        (&[("V1__one", "SELECT 1 ")], "V1__one.sql was applied with another text"),
        (&[("V1__uno", "SELECT 1")], "V1__uno.sql was applied with another text than V1__one.sql"),
        (&[one, three], "V2__two.sql is new and has a lower number"),
    ] {
        let error = pending(before).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let here = set(&[one, three]);
    let error = here.pending(&set(&[one, two]).history()).unwrap_err().to_string();
    assert!(error.contains("V2__two.sql was applied and is not among the files"), "{error}");
}

#[test]
fn a_non_transactional_file_is_its_own_segment_and_the_last_segment_is_transactional() {
    let marked = format!("{NO_TRANSACTION}\nCREATE INDEX CONCURRENTLY i ON t (a)");
    let here = set(&[("V1__a", ""), ("V2__b", &marked), ("V3__c", ""), ("V4__d", &marked)]);
    let all = here.pending(&[]).unwrap();
    assert_eq!(
        here.segments(&all),
        [
            Segment::Transactional(Pending(vec![0])),
            Segment::NonTransactional(NonTransactionalFile(1)),
            Segment::Transactional(Pending(vec![2])),
            Segment::NonTransactional(NonTransactionalFile(3)),
            Segment::Transactional(Pending(Vec::new())),
        ]
    );
    assert_eq!(here.segments(&Pending::default()), [Segment::Transactional(Pending::default())]);
}

#[test]
fn a_repeatable_file_is_pending_when_it_is_new_or_has_changed_and_may_vanish() {
    let one = ("V1__one", "SELECT 1");
    let two = ("V2__two", "SELECT 2");
    let (views, functions) = (("R__views", "SELECT 1"), ("R__functions", "SELECT 1"));
    let here = set(&[views, two, functions, one]);
    assert_eq!(here.files(), ["V1__one.sql", "V2__two.sql", "R__functions.sql", "R__views.sql"]);
    assert_eq!(here.version(), 2);
    let pending =
        |before: &[(&str, &str)]| here.names(&here.pending(&set(before).history()).unwrap());
    assert_eq!(pending(&[]), here.files());
    assert_eq!(pending(&[one, two]), ["R__functions.sql", "R__views.sql"]);
    assert_eq!(pending(&[one, views, functions]), ["V2__two.sql"]);
    let changed = ("R__views", "SELECT 2");
    assert_eq!(pending(&[one, two, functions, changed]), ["R__views.sql"]);
    let gone = ("R__gone", "SELECT 1");
    assert_eq!(pending(&[one, two, functions, views, gone]), Vec::<String>::new());

    let fingerprint = |files: &[(&str, &str)]| set(files).fingerprint().to_owned();
    let all = fingerprint(&[one, two, functions, views]);
    assert_eq!(here.fingerprint(), all);
    assert_ne!(all, fingerprint(&[one, two, functions, changed]));
    let mut rows = here.history();
    rows.reverse();
    assert_eq!(MigrationSet::fingerprint_of(&rows), all);

    let prefixes = here.applied_prefixes();
    let behind = fingerprint(&[one, functions, views]);
    let prefix = &prefixes[&behind];
    assert_eq!(here.names(&prefix.files), ["V2__two.sql"]);
    let rows = set(&[one, functions, views]).history();
    assert_eq!(prefix.checksums, checksum_sum(&rows));
    assert_eq!(here.names_after(&behind), ["V2__two.sql"]);
    assert!(!prefixes.contains_key(&fingerprint(&[one, functions, changed])));
    assert!(here.up_to(1).unwrap().fingerprint() == behind);
}

#[test]
fn a_history_with_other_line_ends_is_equal() {
    let lf = "SELECT 1;\nSELECT 2;\n";
    let here = set(&[("V1__one", lf)]);
    let recorded = refinery_core::Migration::unapplied("V1__one", &lf.replace('\n', "\r\n"));
    let checksum = recorded.unwrap().checksum().to_string();
    let row = Applied { version: 1, name: "one".to_owned(), checksum };
    assert_eq!(here.pending(std::slice::from_ref(&row)).unwrap(), Pending::default());
    assert_ne!(row.line(), here.history_text());
    assert_eq!(here.comparable_history(&row.line()), here.history_text());
}

#[test]
fn ten_thousand_files_are_compared_in_a_moment() {
    let names: Vec<String> = (1..=10_000).map(|n| format!("V{n}__x")).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), "SELECT 1")).collect();
    let started = std::time::Instant::now();
    let here = set(&files);
    assert_eq!(here.applied_prefixes().len(), PREFIXES);
    assert_eq!(here.pending(&here.history()).unwrap(), Pending::default());
    assert_eq!(here.names_after("none"), Vec::<String>::new());
    assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
}
