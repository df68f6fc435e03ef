//! Owns the secrets that a first start makes: kept in the data dir, readable by nobody else, shown once.

use std::io::{ErrorKind, Write as _};

use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::ExposeSecret;

use super::{BuildError, FirstStart};
use crate::auth::token::{Kind, OpaqueToken, RootToken};
use crate::config::Settings;
use crate::domain::names::{Email, Password};

/// The address of the admin that is made for a fresh embedded database.
const ADMIN_EMAIL: &str = "admin@rowhouse.localhost";

/// The root token of the settings, or the one in the data dir, which is made where there is none.
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
        None => kept_root_token(&settings.data_dir, first_start),
    }
}

fn kept_root_token(
    data_dir: &Path,
    first_start: &mut FirstStart,
) -> Result<Arc<RootToken>, BuildError> {
    let path = data_dir.join("root-token");
    let (text, is_new) = read_or_make(&path, || RootToken::generate().expose().to_owned())?;
    let token = Arc::new(RootToken::parse(&text).map_err(|_rule| BuildError::DataDir {
        path: path.clone(),
        source: std::io::Error::new(
            ErrorKind::InvalidData,
            "it holds no UUID; remove it and a new one is made",
        ),
    })?);
    first_start.root_token = Some((path, is_new.then(|| Arc::clone(&token))));
    Ok(token)
}

pub(super) fn admin(
    data_dir: &Path,
    first_start: &mut FirstStart,
) -> Result<(Email, Password), BuildError> {
    let path = data_dir.join("admin-password");
    let make = || {
        OpaqueToken::generate(Kind::Api).expose().trim_start_matches(Kind::Api.prefix()).to_owned()
    };
    let (text, is_new) = read_or_make(&path, make)?;
    let password = Password::parse(&text).map_err(|rule| BuildError::DataDir {
        path: path.clone(),
        source: std::io::Error::new(
            ErrorKind::InvalidData,
            format!("it holds no password ({})", rule.code()),
        ),
    })?;
    let new = is_new.then(|| password.clone());
    first_start.admin = Some((path, ADMIN_EMAIL.to_owned(), new));
    Ok((Email::stored(ADMIN_EMAIL.to_owned()), password))
}

/// The first line of the file; made, with nobody else allowed to read it, where there is none.
fn read_or_make(
    path: &PathBuf,
    make: impl FnOnce() -> String,
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
    let text = make();
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(failed)?;
    writeln!(file, "{text}").map_err(failed)?;
    file.sync_all().map_err(failed)?;
    Ok((text, true))
}
