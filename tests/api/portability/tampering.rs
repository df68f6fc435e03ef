//! A changed archive is refused with a code of its own, and nothing is changed.

use super::fixture::{
    SMALL, app_of, command, export, import, ordered, refusal, run, schema_of, state, value,
};

/// Changes the files of an archive.
type Change<'a> = &'a dyn Fn(&mut Vec<(String, Vec<u8>)>);

/// Writes files as an archive of this program.
pub(super) fn archive_of(files: &[(String, Vec<u8>)], mtime: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content) in files {
        bytes.extend_from_slice(entry(name, content, b'0', mtime).as_slice());
    }
    bytes.extend_from_slice(&[0; 1024]);
    bytes
}

fn entry(name: &str, content: &[u8], kind: u8, mtime: u64) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(content.len() as u64);
    header.set_mtime(mtime);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn replaced(files: &[(String, Vec<u8>)], at: usize, content: Vec<u8>) -> Vec<(String, Vec<u8>)> {
    let mut files = files.to_vec();
    files[at].1 = content;
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_archive_is_refused_by_a_named_code_and_nothing_is_changed() {
    let (app, _folder) = app_of(&SMALL).await;
    let sql = app.sql().await;
    let schema = schema_of(&sql, "acme").await;
    run(
        &sql,
        &format!("INSERT INTO {schema}.notes (body) VALUES ('=1+1'), ('''; DROP SCHEMA public CASCADE; --'), ('a,\"b')"),
    )
    .await;
    let archive = export(&app, "acme").await;
    let mtime = tar::Header::from_byte_slice(&archive[..512]).mtime().unwrap();
    let files = ordered(&archive);
    assert_eq!(archive_of(&files, mtime), archive, "the tests write archives as the program does");
    let at = |name: &str| {
        files
            .iter()
            .position(|(found, _)| found.starts_with(name))
            .unwrap_or_else(|| panic!("{name}"))
    };
    let (header, rows, audit) = (at("rowhouse.json"), at("data/"), at("audit/"));
    let (manifest, jws) = (at("manifest.json"), at("manifest.jws"));
    let json = |at: usize| String::from_utf8(files[at].1.clone()).unwrap();
    let edit = |at: usize, from: &str, to: &str| {
        let text = json(at);
        assert!(text.contains(from), "{from} in {text}");
        archive_of(&replaced(&files, at, text.replacen(from, to, 1).into_bytes()), mtime)
    };
    let with = |change: Change<'_>| {
        let mut files = files.clone();
        change(&mut files);
        archive_of(&files, mtime)
    };
    let raw = |bytes: Vec<u8>, at: usize| {
        let mut all = archive_of(&files[..at], mtime);
        all.truncate(all.len() - 1024);
        all.extend_from_slice(&bytes);
        all.extend_from_slice(&archive_of(&files[at..], mtime));
        all
    };
    let packed = |text: &str| zstd::stream::encode_all(text.as_bytes(), 1).unwrap();
    let bomb =
        zstd::stream::encode_all(std::io::Read::take(std::io::repeat(0), 1 << 30), 3).unwrap();
    assert!(bomb.len() < 1 << 20);

    let mut cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("part removed", with(&|f| drop(f.remove(rows))), "archive_invalid"),
        ("part twice", with(&|f| f.insert(rows, f[rows].clone())), "archive_invalid"),
        ("files swapped", with(&|f| f.swap(rows, audit)), "archive_invalid"),
        ("header twice", with(&|f| f.insert(1, f[0].clone())), "archive_invalid"),
        ("manifest removed", with(&|f| drop(f.remove(manifest))), "archive_invalid"),
        ("signature removed", with(&|f| drop(f.remove(jws))), "archive_invalid"),
        (
            "an SQL file",
            with(&|f| f.insert(rows, ("data/x.sql".to_owned(), b"SELECT 1".to_vec()))),
            "archive_invalid",
        ),
        ("a file at the end", with(&|f| f.push(("x".to_owned(), vec![]))), "archive_invalid"),
        ("another row", with(&|f| f[rows].1 = packed("id,body\n1,other\n")), "archive_digest"),
        ("a row fewer", with(&|f| f[rows].1 = packed("id,body\n")), "archive_digest"),
        ("another audit event", with(&|f| f[audit].1 = packed("position\n1\n")), "archive_digest"),
        (
            "a row of another form",
            with(&|f| f[rows].1 = packed("id,body\nx,y\n")),
            "archive_rows_refused",
        ),
        ("other columns", with(&|f| f[rows].1 = packed("id,text\n1,y\n")), "archive_rows_refused"),
        (
            "a key twice",
            with(&|f| f[rows].1 = packed("id,body\n1,a\n1,b\n")),
            "archive_rows_refused",
        ),
        ("not zstd", with(&|f| f[rows].1 = b"id,body\n1,y\n".to_vec()), "archive_invalid"),
        ("two frames", with(&|f| f[rows].1.extend(packed("id,body\n"))), "archive_invalid"),
        ("a bomb", with(&|f| f[rows].1.clone_from(&bomb)), "archive_invalid"),
        ("format 2", edit(header, "\"format\": 1", "\"format\": 2"), "archive_newer_format"),
        ("another product", edit(header, "\"rowhouse\"", "\"warehouse\""), "archive_invalid"),
        (
            "a table twice",
            edit(header, "\"tables\": [", &format!("\"tables\": [{},", table(&json(header)))),
            "archive_invalid",
        ),
        ("a row count", edit(manifest, "\"rows\": 4", "\"rows\": 5"), "archive_signature"),
        ("another signature", with(&|f| f[jws].1 = b"e30..AAAA".to_vec()), "archive_signature"),
        (
            "another name of the tenant",
            edit(header, "Tenant acme", "Tenant ACME"),
            "archive_digest",
        ),
        ("a name without letters", edit(header, "Tenant acme", "\\u0000"), "archive_invalid"),
        (
            "a member of another role",
            with(&|f| {
                f[1].1 = String::from_utf8(f[1].1.clone())
                    .unwrap()
                    .replace("\"ADMIN\"", "\"SUPER_ADMIN\"")
                    .into_bytes();
            }),
            "archive_invalid",
        ),
        (
            "encrypted",
            [b"age-encryption.org/v1\n".to_vec(), archive.clone()].concat(),
            "archive_encrypted",
        ),
        ("bytes at the end", [archive.clone(), vec![0; 512]].concat(), "archive_invalid"),
        ("nothing", Vec::new(), "archive_invalid"),
        ("a name above", raw(entry("../x", b"x", b'0', mtime), rows), "archive_invalid"),
        ("an absolute name", raw(entry("/etc/x", b"x", b'0', mtime), rows), "archive_invalid"),
    ];
    for kind in [b'1', b'2', b'3', b'5', b'6', b'x', b'g', b'L'] {
        cases.push((
            "another kind of file",
            raw(entry("members.json", b"", kind, mtime), 1),
            "archive_invalid",
        ));
    }
    let before = state(&sql).await;
    let copy = command("copy");
    for (what, changed, code) in cases {
        assert_eq!(refusal(&app, &copy, &changed).await, code, "{what}");
    }
    // One bit in each file, and a cut in each.
    let mut offset = 0;
    for (name, content) in &files {
        let mut changed = archive.clone();
        changed[offset + 512 + content.len() / 2] ^= 4;
        let code = refusal(&app, &copy, &changed).await;
        let known = [
            "archive_invalid",
            "archive_digest",
            "archive_signature",
            "archive_diverged",
            "tenant_drifted",
        ];
        assert!(known.contains(&code.as_str()), "{name}: {code}");
        assert_eq!(
            refusal(&app, &copy, &archive[..offset + 512 + content.len() / 2]).await,
            "archive_invalid"
        );
        offset += 512 + content.len().next_multiple_of(512);
    }
    assert_eq!(state(&sql).await, before);

    import(&app, &copy, &archive).await.unwrap_or_else(|error| panic!("{}", error.chain()));
    let imported = schema_of(&sql, "copy").await;
    let bodies = format!("SELECT string_agg(body, ' ' ORDER BY id) FROM {imported}.notes");
    assert_eq!(value(&sql, &bodies).await, "a seed =1+1 '; DROP SCHEMA public CASCADE; -- a,\"b");
    assert_eq!(refusal(&app, &copy, &archive).await, "slug_taken");
    let mut same = command("same");
    same.id = rowhouse::service::archives::NewId::Same;
    assert_eq!(refusal(&app, &same, &archive).await, "id_taken");
}

/// Returns the first table of a header.
fn table(header: &str) -> String {
    let header: serde_json::Value = serde_json::from_str(header).expect("it is JSON");
    header["tables"][0].to_string()
}
