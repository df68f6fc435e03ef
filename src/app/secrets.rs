//! The secrets that a first start creates in the data directory, readable only by the owner of the files. The root
//! token and the admin's password are shown once; the secret key, which encrypts the signing keys in the database, never.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use super::BuildError;
use crate::auth::secret_key::SecretKey;
use crate::auth::token::{Kind, OpaqueToken, RootToken, RootTokens};
use crate::config::Settings;
use crate::domain::names::{Email, NewPassword};

/// The e-mail address of the generated admin.
const ADMIN_EMAIL: &str = "admin@rowhouse.localhost";

/// The secrets that a first start created, each to be shown once.
#[derive(Default)]
pub struct FirstStart {
    /// The file with the root token, and the token if it is new.
    pub root_token: Option<(PathBuf, Option<Arc<RootToken>>)>,
    /// The file with the first admin's password, the e-mail address, and the password if it is new.
    pub admin: Option<(PathBuf, String, Option<NewPassword>)>,
    /// The file with the secret key, if this start created it.
    pub secret_key: Option<PathBuf>,
    /// The command line that connects `psql` to the embedded server.
    pub psql: Option<String>,
}

/// Returns the root token of the settings, or the one in the data directory, which is created if it is missing; and the
/// previous one of the settings.
pub(super) fn root_tokens(
    settings: &Settings,
    first_start: &mut FirstStart,
) -> Result<Arc<RootTokens>, BuildError> {
    let parse = |token: &SecretString, variable| {
        RootToken::parse(token.expose_secret()).map_err(|_rule| BuildError::RootToken { variable })
    };
    let present = match &settings.root_token {
        Some(token) => Arc::new(parse(token, "ROWHOUSE_ROOT_TOKEN")?),
        None => stored_root_token(&settings.data_dir, first_start)?,
    };
    let previous = settings.root_token_previous.as_ref();
    let previous =
        previous.map(|token| parse(token, "ROWHOUSE_ROOT_TOKEN_PREVIOUS")).transpose()?;
    if previous.is_some() {
        tracing::info!("root_token_previous is accepted too; remove it when no client uses it");
    }
    Ok(Arc::new(RootTokens::new(present, previous)))
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

/// Returns the file of the secret key that a first start creates.
pub(super) fn secret_key_path(settings: &Settings) -> PathBuf {
    settings.data_dir.join("secret-key")
}

/// Returns the secret key of the settings, or the one in the data directory; `None` if there is none.
pub(super) fn secret_key(settings: &Settings) -> Result<Option<SecretKey>, BuildError> {
    if let Some(secret) = &settings.secret_key {
        let secret = SecretKey::parse(secret.expose_secret()).map_err(BuildError::SecretKey)?;
        return Ok(Some(secret));
    }
    let path = secret_key_path(settings);
    let failed = |source| BuildError::DataDir { path: path.clone(), source };
    let text = read(&path).map_err(failed)?;
    text.map(|text| parse_secret_key(&text).map_err(failed)).transpose()
}

/// Creates the secret key in the data directory.
pub(super) fn create_secret_key(
    settings: &Settings,
    first_start: &mut FirstStart,
) -> std::io::Result<SecretKey> {
    let path = secret_key_path(settings);
    let text = create(&path, SecretKey::generate().expose_secret())?;
    first_start.secret_key = Some(path);
    parse_secret_key(&text)
}

fn parse_secret_key(text: &str) -> std::io::Result<SecretKey> {
    SecretKey::parse(text).map_err(|rule| {
        let problem = format!("it does not contain a secret key ({})", rule.code());
        std::io::Error::new(ErrorKind::InvalidData, problem)
    })
}

/// Returns the text of the file, and whether it is new. A missing or empty file is created, readable only by its
/// owner.
fn read_or_create(
    path: &Path,
    generate: impl FnOnce() -> String,
) -> Result<(String, bool), BuildError> {
    let failed = |source| BuildError::DataDir { path: path.to_owned(), source };
    if let Some(text) = read(path).map_err(failed)? {
        return Ok((text, false));
    }
    let new = generate();
    let text = create(path, &new).map_err(failed)?;
    let is_new = text == new;
    Ok((text, is_new))
}

/// Returns the text of a file; `None` if the file is missing or empty.
fn read(path: &Path) -> std::io::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Creates a missing or empty file with this text, readable only by its owner, and its folder. The file appears whole:
/// if another process has created it meanwhile, its text is returned and stays.
fn create(path: &Path, text: &str) -> std::io::Result<String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    std::fs::create_dir_all(folder)?;
    let draft = folder.join(format!(".{}.new", uuid::Uuid::new_v4().simple()));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&draft)?;
    let written = writeln!(file, "{text}").and_then(|()| file.sync_all()).and_then(|()| {
        if std::fs::metadata(path).is_ok_and(|found| found.len() == 0) {
            std::fs::remove_file(path)?;
        }
        publish(&draft, path)
    });
    let _ = std::fs::remove_file(&draft);
    match written {
        Ok(()) => {
            // So that a crash does not lose the file after what is encrypted with it was committed.
            std::fs::File::open(folder)?.sync_all()?;
            Ok(text.to_owned())
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => read(path)?.ok_or(error),
        Err(error) => Err(error),
    }
}

/// Gives a whole file its name, unless there is a file with this name.
fn publish(draft: &Path, path: &Path) -> std::io::Result<()> {
    // Unlike a rename, a link does not replace a file that is there.
    match std::fs::hard_link(draft, path) {
        // The file system has no links.
        Err(error)
            if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported)
                && !path.try_exists()? =>
        {
            std::fs::rename(draft, path)
        }
        linked => linked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_file_is_created_whole_once_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below").join("secret-key");
        assert_eq!(read(&path).unwrap(), None);
        assert_eq!(create(&path, "first").unwrap(), "first");
        assert_eq!(create(&path, "second").unwrap(), "first", "another process was earlier");
        assert_eq!(read(&path).unwrap().as_deref(), Some("first"));
        #[cfg(unix)]
        {
            let mode = std::fs::metadata(&path).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::mode(&mode.permissions());
            assert_eq!(mode & 0o777, 0o600);
        }
        std::fs::write(&path, "").unwrap();
        assert_eq!(create(&path, "third").unwrap(), "third", "an empty file is a missing one");
        let left = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(left, 1, "no draft is left");
    }

    #[test]
    fn processes_that_create_a_secret_file_at_once_read_the_same_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret-key");
        let created: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16)
                .map(|n| {
                    scope.spawn({
                        let path = &path;
                        move || create(path, &n.to_string()).unwrap()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(created.iter().all(|text| *text == created[0]), "{created:?}");
    }
}
