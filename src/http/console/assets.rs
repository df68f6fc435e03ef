//! The style sheet, the script and the icon: three files of ours, built into the program, under names that change with
//! their content, so that a browser fetches each once.
//!
//! A debug build reads them from the source tree, so that a change shows without a build.

use std::borrow::Cow;

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use sha2::{Digest, Sha256};

use super::Answer;
use super::call::Call;
use crate::domain::error::{Error, Noun};

/// How long a file is cached whose name has the digest of its content.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// A file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asset {
    name: &'static str,
    media_type: &'static str,
    built_in: &'static [u8],
}

/// The style sheet.
pub(super) const STYLE: Asset = Asset {
    name: "console.css",
    media_type: "text/css; charset=utf-8",
    built_in: include_bytes!("assets/console.css"),
};

/// The script.
pub(super) const SCRIPT: Asset = Asset {
    name: "console.js",
    media_type: "text/javascript; charset=utf-8",
    built_in: include_bytes!("assets/console.js"),
};

/// The icon.
pub(super) const ICON: Asset = Asset {
    name: "icon.svg",
    media_type: "image/svg+xml",
    built_in: include_bytes!("assets/icon.svg"),
};

impl Asset {
    fn bytes(self) -> Cow<'static, [u8]> {
        #[cfg(debug_assertions)]
        {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/console/assets/");
            if let Ok(bytes) = std::fs::read(format!("{folder}{}", self.name)) {
                return Cow::Owned(bytes);
            }
        }
        Cow::Borrowed(self.built_in)
    }

    /// Returns the path of the file, with the digest of its content.
    pub(super) fn path(self) -> String {
        format!("/console/assets/{}/{}", digest(&self.bytes()), self.name)
    }
}

fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    hex::encode(digest.get(..8).unwrap_or_default())
}

/// Returns a file. Under another digest than its own, as a page of another version of the program names it, it is the
/// present one and is not cached.
pub(super) async fn read(call: &Call) -> Answer {
    let (named, file) = (call.path("digest")?, call.path("file")?);
    let found = [STYLE, SCRIPT, ICON].into_iter().find(|asset| asset.name == file);
    let asset = found.ok_or(Error::NotFound(Noun::Route))?;
    let bytes = asset.bytes();
    let cached = if digest(&bytes) == named { IMMUTABLE } else { "no-store" };
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, asset.media_type))
        .insert_header((CACHE_CONTROL, cached))
        .insert_header((CONTENT_SECURITY_POLICY, "default-src 'none'"))
        .body(bytes.into_owned()))
}
