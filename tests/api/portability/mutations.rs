//! Thousands of archives that chance has changed: each is refused by a named code, or is what was written.
//!
//! `make fuzz-archive` gives the same reader more, guided by what it has reached. It begins with the archives in
//! `fuzz/seeds`, which stay as an earlier program wrote them.

use rowhouse::domain::archive::Manifest;
use rowhouse::service::archives::scan_unauthorized;

use super::fixture::{SMALL, app_of, export, ordered};
use super::rounds;
use super::tampering::archive_of;

/// How many thousands are tried.
const THOUSANDS: u32 = 3;

/// A generator whose numbers are the same in each run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits fit") % bound.max(1)
    }

    /// Changes some bytes: another value, fewer, more, or some from elsewhere.
    fn spoil(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            let end = (at + 1 + self.below(40)).min(bytes.len());
            match self.below(6) {
                0 => bytes.truncate(at),
                1 => drop(bytes.drain(at..end)),
                2 => {
                    let copied = bytes[at..end].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, copied);
                }
                3 => bytes[at..end].fill(if self.below(2) == 0 { 0 } else { 0xff }),
                _ if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                _ => {}
            }
        }
    }

    /// Changes the files of an archive, whose headers stay right.
    fn rearrange(&mut self, files: &mut Vec<(String, Vec<u8>)>) {
        let (one, other) = (self.below(files.len()), self.below(files.len()));
        match self.below(6) {
            0 => files.swap(one, other),
            1 => drop(files.remove(one)),
            2 => files.insert(other, files[one].clone()),
            3 => files[one].1 = files[other].1.clone(),
            4 => {
                let mut name = files[one].0.clone().into_bytes();
                self.spoil(&mut name);
                name.truncate(100);
                files[one].0 = String::from_utf8_lossy(&name).chars().take(30).collect();
            }
            _ => self.spoil(&mut files[one].1),
        }
    }
}

/// Returns what the digests of a manifest stand for. The rest of it, such as the names of sequences, only the signature
/// protects, which is not looked at here.
fn content(manifest: &Manifest) -> (&str, Vec<&str>, &str) {
    let tables = manifest.tables.iter().map(|table| table.sha256.as_str());
    (&manifest.sha256, tables.collect(), &manifest.audit.sha256)
}

#[tokio::test]
async fn an_archive_that_chance_has_changed_is_refused_or_is_what_was_written() {
    let (app, _folder) = app_of(&SMALL).await;
    let archive = export(&app, "acme").await;
    let mtime = tar::Header::from_byte_slice(&archive[..512]).mtime().unwrap();
    let (files, written) = (ordered(&archive), scan_unauthorized(&mut &archive[..]).await.unwrap());
    let (mut random, mut refused) = (Random(0x9E37_79B9_7F4A_7C15), 0);
    let tries = rounds(THOUSANDS) * 1000;
    for number in 0..tries {
        let changed = if number % 2 == 0 {
            let mut changed = archive.clone();
            random.spoil(&mut changed);
            changed
        } else {
            let mut files = files.clone();
            random.rearrange(&mut files);
            archive_of(&files, mtime)
        };
        match scan_unauthorized(&mut &changed[..]).await {
            Ok(read) => assert_eq!(content(&read), content(&written), "number {number}"),
            Err(error) => {
                let code = error.detailed_code();
                assert!(code.starts_with("archive_"), "number {number}: {}", error.chain());
                refused += 1;
            }
        }
    }
    println!("of {tries} changed archives, {refused} were refused");
    assert!(refused > tries / 10 * 9, "only {refused} were refused");
}

#[tokio::test]
async fn archives_that_an_earlier_program_wrote_are_still_read() {
    for (name, rows) in [("types", 38), ("empty", 0)] {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/archive");
        let archive = std::fs::read(format!("{folder}/{name}.tar")).expect("it can be read");
        assert_eq!(scan_unauthorized(&mut &archive[..]).await.unwrap().rows, rows, "{name}");
    }
}
