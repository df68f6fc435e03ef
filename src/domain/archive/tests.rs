//! The form of an archive.

use super::sequence::MemberKind;
use super::*;

fn block(name: &str, size: u64) -> Block {
    Block { name: name.to_owned(), size, made_at: 1_795_000_000 }
}

#[test]
fn a_block_is_read_as_it_was_written() {
    for (name, size) in [("rowhouse.json", 0), ("data/0001-profiles/000000.csv.zst", 8 << 20)] {
        let written = block(name, size).to_bytes().unwrap();
        assert_eq!(Block::read(&written), Ok(block(name, size)));
    }
}

#[test]
fn names_outside_of_an_archive_cannot_be_written() {
    for name in
        ["", "/etc/passwd", "../x", "data/../x", "a//b", "a\0b", "./a", "a b", &"x".repeat(120)]
    {
        assert_eq!(block(name, 1).to_bytes(), None, "{name:?}");
    }
    assert_eq!(block("x", 8 << 30).to_bytes(), None, "a size of 8 GiB");
}

#[test]
fn a_block_with_one_bit_changed_is_refused() {
    let written = block("manifest.json", 4711).to_bytes().unwrap();
    for at in 0..BLOCK {
        for bit in 0..8 {
            let mut changed = written;
            changed[at] ^= 1 << bit;
            assert!(Block::read(&changed).is_err(), "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn links_devices_and_extensions_are_refused() {
    for kind in [b'1', b'2', b'3', b'4', b'5', b'6', b'7', b'x', b'g', b'L', b'K', b'S'] {
        let mut header = tar::Header::new_ustar();
        header.set_path("rowhouse.json").unwrap();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(1);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_cksum();
        assert!(Block::read(header.as_bytes()).is_err(), "type {kind}");
    }
    let mut large = tar::Header::new_gnu();
    large.set_path("rowhouse.json").unwrap();
    large.set_size(8 << 30);
    large.set_cksum();
    assert!(Block::read(large.as_bytes()).is_err());
}

#[test]
fn files_follow_each_other_in_one_order() {
    let table = |name: &str| Table { name: name.to_owned(), columns: Vec::new(), estimate: 0 };
    let tables = [table("a"), table("B c/../d")];
    let mut sequence = Sequence::default();
    let mut accept = |name: &str| sequence.accept(name, &tables);
    assert_eq!(accept("members.json"), None);
    assert_eq!(accept("rowhouse.json"), Some(MemberKind::Header));
    assert_eq!(accept("rowhouse.json"), None);
    assert_eq!(accept("members.json"), Some(MemberKind::Members));
    assert_eq!(accept("data/0002-wrong/000000.csv.zst"), None);
    assert_eq!(accept("data/0001-a/000000.csv.zst"), Some(MemberKind::Rows { table: 0, part: 0 }));
    assert_eq!(accept("data/0001-a/000000.csv.zst"), None);
    assert_eq!(accept("data/0001-a/000002.csv.zst"), None);
    assert_eq!(accept("data/0001-a/000001.csv.zst"), Some(MemberKind::Rows { table: 0, part: 1 }));
    let second = Some(MemberKind::Rows { table: 1, part: 0 });
    assert_eq!(accept("data/0002-B_c____d/000000.csv.zst"), second);
    assert_eq!(accept("manifest.json"), None);
    assert_eq!(accept("audit/000000.csv.zst"), Some(MemberKind::Audit { part: 0 }));
    assert_eq!(accept("manifest.json"), Some(MemberKind::Manifest));
    assert_eq!(accept("manifest.jws"), Some(MemberKind::Signature));
    assert_eq!(accept("manifest.jws"), None);
    assert!(sequence.is_complete());
}
