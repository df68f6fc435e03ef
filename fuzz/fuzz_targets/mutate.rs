//! Changes archives file by file: changed bytes alone are refused for a checksum of tar or of zstd.

use std::io::Read;

use libfuzzer_sys::fuzzer_mutate;
use tar::{Archive, EntryType, Header};

/// The most bytes of CSV that are changed.
const CSV_MAX: usize = 1 << 20;

/// A file of an archive.
#[derive(Clone)]
struct File {
    name: Vec<u8>,
    content: Vec<u8>,
    made_at: u64,
}

/// Changes an archive in place and returns its size. One time in four, and if it is none, its bytes are changed.
pub(crate) fn archive(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    if seed % 4 > 0
        && let Some(changed) = data.get(..size).and_then(|archive| by_file(archive, seed / 4))
        && changed.len() <= max_size
        && let Some(place) = data.get_mut(..changed.len())
    {
        place.copy_from_slice(&changed);
        return changed.len();
    }
    fuzzer_mutate(data, size, max_size)
}

fn by_file(archive: &[u8], seed: u32) -> Option<Vec<u8>> {
    let mut files = files(archive)?;
    let mut random = seed;
    let mut below = |bound: usize| {
        // Of a linear congruential generator, the upper bits are the random ones.
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        usize::try_from(random >> 8).unwrap_or_default() % bound.max(1)
    };
    let (one, other) = (below(files.len()), below(files.len()));
    match below(16) {
        0 => files.swap(one, other),
        1 => drop(files.remove(one)),
        2 => files.insert(other, files.get(one)?.clone()),
        3 => change(&mut files.get_mut(one)?.name),
        4 => files.get_mut(one)?.content = files.get(other)?.content.clone(),
        kind => {
            let File { name, content, .. } = files.get_mut(one)?;
            if kind % 3 > 0 && name.ends_with(b".zst") {
                let mut csv = zstd::bulk::decompress(content, CSV_MAX).ok()?;
                change(&mut csv);
                *content = zstd::bulk::compress(&csv, 1).ok()?;
            } else {
                change(content);
            }
        }
    }
    Some(written(&files))
}

/// Lets libFuzzer change some bytes.
fn change(bytes: &mut Vec<u8>) {
    let size = bytes.len();
    bytes.resize(size + 64, 0);
    let changed = fuzzer_mutate(bytes, size, size + 64);
    bytes.truncate(changed);
}

/// Returns the files of an archive; `None` if there is none.
fn files(archive: &[u8]) -> Option<Vec<File>> {
    let mut archive = Archive::new(archive);
    let mut files = Vec::new();
    for entry in archive.entries().ok()?.raw(true) {
        let Ok(mut entry) = entry else { break };
        let (name, mut content) = (entry.path_bytes().into_owned(), Vec::new());
        let made_at = entry.header().mtime().ok()?;
        if entry.read_to_end(&mut content).is_err() {
            break;
        }
        files.push(File { name, content, made_at });
    }
    (!files.is_empty()).then_some(files)
}

/// Returns an archive as the program writes it, whatever the names are.
fn written(files: &[File]) -> Vec<u8> {
    let mut archive = Vec::new();
    for File { name, content, made_at } in files {
        let mut header = Header::new_ustar();
        for (place, byte) in header.as_old_mut().name.iter_mut().zip(name) {
            *place = *byte;
        }
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(content.len() as u64);
        header.set_mtime(*made_at);
        header.set_cksum();
        archive.extend_from_slice(header.as_bytes());
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}
