//! The secrets that a first start creates. Those in the data directory are readable only by the owner of the files
//! and are shown once; the signing keys are in the database.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::ExposeSecret;

use super::BuildError;
use crate::auth::jwt::SigningKey;
use crate::auth::token::{Kind, OpaqueToken, RootToken};
use crate::config::Settings;
use crate::domain::Clock;
use crate::domain::names::{Email, NewPassword};
use crate::pg::Db;
use crate::pg::control::signing_keys;
use crate::pg::error::During;

/// The e-mail address of the generated admin.
const ADMIN_EMAIL: &str = "admin@rowhouse.localhost";

/// The secrets that a first start created, each to be shown once.
#[derive(Default)]
pub struct FirstStart {
    /// The file with the root token, and the token if it is new.
    pub root_token: Option<(PathBuf, Option<Arc<RootToken>>)>,
    /// The file with the first admin's password, the e-mail address, and the password if it is new.
    pub admin: Option<(PathBuf, String, Option<NewPassword>)>,
    /// The command line that connects `psql` to the embedded server.
    pub psql: Option<String>,
}

/// Returns the root token of the settings, or the one in the data directory, which is created if it is missing.
pub(super) fn root_token(
    settings: &Settings,
    first_start: &mut FirstStart,
) -> Result<Arc<RootToken>, BuildError> {
    match &settings.root_token {
        Some(token) => {
            let token =
                RootToken::parse(token.expose_secret()).map_err(|_rule| BuildError::RootToken)?;
            Ok(Arc::new(token))
        }
        None => stored_root_token(&settings.data_dir, first_start),
    }
}

fn stored_root_token(
    data_dir: &Path,
    first_start: &mut FirstStart,
) -> Result<Arc<RootToken>, BuildError> {
    let path = data_dir.join("root-token");
    let (text, is_new) = read_or_create(&path, || RootToken::generate().expose().to_owned())?;
    let token = Arc::new(RootToken::parse(&text).map_err(|_rule| BuildError::DataDir {
        path: path.clone(),
        source: std::io::Error::new(
            ErrorKind::InvalidData,
            "it does not contain a UUID; remove it, and the next start creates a new one",
        ),
    })?);
    first_start.root_token = Some((path, is_new.then(|| Arc::clone(&token))));
    Ok(token)
}

/// Returns the e-mail address and the password of the generated admin. The password is in the data directory, and is
/// created if it is missing.
pub(super) fn admin(
    data_dir: &Path,
    first_start: &mut FirstStart,
) -> Result<(Email, NewPassword), BuildError> {
    let path = data_dir.join("admin-password");
    let generate = || {
        OpaqueToken::generate(Kind::Api).expose().trim_start_matches(Kind::Api.prefix()).to_owned()
    };
    let (text, is_new) = read_or_create(&path, generate)?;
    let password = NewPassword::parse(&text).map_err(|rule| BuildError::DataDir {
        path: path.clone(),
        source: std::io::Error::new(
            ErrorKind::InvalidData,
            format!("it does not contain a valid password ({})", rule.code()),
        ),
    })?;
    let new = is_new.then(|| password.clone());
    first_start.admin = Some((path, ADMIN_EMAIL.to_owned(), new));
    Ok((Email::stored(ADMIN_EMAIL.to_owned()), password))
}

/// Returns the text of the file, and whether it is new. A missing or empty file is created, readable only by its
/// owner.
fn read_or_create(
    path: &PathBuf,
    generate: impl FnOnce() -> String,
) -> Result<(String, bool), BuildError> {
    let failed = |source| BuildError::DataDir { path: path.clone(), source };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    match std::fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => return Ok((text.trim().to_owned(), false)),
        Ok(_) => std::fs::remove_file(path).map_err(failed)?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let text = generate();
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(failed)?;
    writeln!(file, "{text}").map_err(failed)?;
    file.sync_all().map_err(failed)?;
    Ok((text, true))
}

/// Returns the keys that sign access tokens. The first process on a database creates the first key.
pub(super) async fn signing_keys(db: &Db, clock: &Clock) -> Result<Vec<SigningKey>, BuildError> {
    let tx = db.public().await.during("read signing keys")?;
    signing_keys::lock(&tx).await?;
    let mut stored = signing_keys::list(&tx).await?;
    if stored.is_empty() {
        let key = SigningKey::generate()?.to_stored();
        let key = signing_keys::StoredKey {
            kid: key.kid,
            private_key: key.private.expose_secret().to_vec(),
        };
        signing_keys::insert(&tx, &key, clock.now()).await?;
        stored.push(key);
    }
    tx.commit().await.during("write signing key")?;
    Ok(stored
        .iter()
        .map(|key| SigningKey::from_stored(&key.kid, &key.private_key))
        .collect::<Result<_, _>>()?)
}
