//! A folder with complete files, drafts and files of others.

use tokio::io::AsyncWriteExt;

use super::*;

async fn read(store: &Store, key: Uuid, range: Range<u64>) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    store.open(key, range).await?.read_to_end(&mut content).await?;
    Ok(content)
}

#[tokio::test]
async fn a_file_has_its_key_only_once_it_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path().join("archives"));
    assert!(store.list().await.unwrap().is_empty());
    let key = Uuid::from_u128(1);
    let mut draft = store.create(key, 100).await.unwrap();
    draft.write_all(b"some bytes").await.unwrap();
    assert_eq!(read(&store, key, 0..1).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(store.list().await.unwrap(), [key]);
    let complete = draft.finish().await.unwrap();
    assert_eq!(complete.bytes, 10);
    assert_eq!(complete.sha256, hex::encode(<sha2::Sha256 as sha2::Digest>::digest("some bytes")));
    assert_eq!(read(&store, key, 0..10).await.unwrap(), b"some bytes");
    assert_eq!(read(&store, key, 5..7).await.unwrap(), b"by");
    assert_eq!(read(&store, key, 5..11).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    store.delete(key).await.unwrap();
    store.delete(key).await.unwrap();
    assert!(store.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_draft_that_is_dropped_or_too_large_leaves_nothing_and_other_files_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path().to_owned());
    let mut draft = store.create(Uuid::from_u128(1), 4).await.unwrap();
    draft.write_all(b"1234").await.unwrap();
    assert!(!draft.is_full());
    let refused = draft.write_all(b"5").await.unwrap_err();
    assert_eq!((refused.kind(), draft.is_full()), (ErrorKind::QuotaExceeded, true));
    drop(draft);
    for name in ["notes.txt", "x.rowhouse.tar", ".rowhouse.tar.part"] {
        std::fs::write(folder.path().join(name), "of others").unwrap();
    }
    assert!(store.list().await.unwrap().is_empty());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
}
