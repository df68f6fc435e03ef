//! Reads the header and the members of an archive into values that can be stored.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::reader::Reader;
use crate::domain::archive::{ArchiveProblem, FORMAT, Header, MemberEntry, MemberKind, PRODUCT};
use crate::domain::error::Result;
use crate::domain::json::Value;
use crate::domain::names::{Email, ExternalId, PersonName, TenantName};
use crate::domain::{Document, Role};

/// The tenant of an archive, with values that can be stored.
#[derive(Debug)]
pub(super) struct TenantValues {
    pub(super) name: TenantName,
    pub(super) org: Option<String>,
    pub(super) contact: Option<Email>,
    pub(super) external_id: Option<ExternalId>,
    pub(super) settings: Document,
}

/// The longest name of an organisation.
const ORG_MAX: usize = 1_000;

/// The format alone, which a header of a later form has too.
#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

/// Reads the header.
pub(super) async fn header(reader: &mut Reader<'_>) -> Result<Header> {
    let text = reader.file(MemberKind::Header).await?;
    let wrong = |reader: &Reader<'_>, error: serde_json::Error| {
        reader.invalid(format!("rowhouse.json cannot be read: {error}"))
    };
    let FormatOnly { format } =
        serde_json::from_slice(&text).map_err(|error| wrong(reader, error))?;
    if format > FORMAT {
        return Err(ArchiveProblem::NewerFormat { found: format, known: FORMAT }.into());
    }
    let header: Header = serde_json::from_slice(&text).map_err(|error| wrong(reader, error))?;
    if header.product != PRODUCT || header.format != FORMAT {
        return Err(reader.invalid("rowhouse.json is of another product or format"));
    }
    if header.tables.len() > crate::domain::archive::sequence::TABLES_MAX {
        return Err(reader.invalid("rowhouse.json has too many tables"));
    }
    let mut names = BTreeSet::new();
    if let Some(twice) = header.tables.iter().find(|table| !names.insert(&table.name)) {
        let why = format!("rowhouse.json has table {} twice", twice.name);
        return Err(reader.invalid(why));
    }
    reader.tables.clone_from(&header.tables);
    Ok(header)
}

/// Reads the values of the tenant.
pub(super) fn tenant(reader: &Reader<'_>, header: &Header) -> Result<TenantValues> {
    let found = &header.tenant;
    let refuse =
        |field: &str| reader.invalid(format!("rowhouse.json has a {field} that cannot be stored"));
    let org = found.org.clone();
    if org.as_ref().is_some_and(|org| org.chars().count() > ORG_MAX || org.contains('\0')) {
        return Err(refuse("org"));
    }
    let contact = found.contact.as_deref().map(Email::parse).transpose();
    let external_id = found.external_id.as_deref().map(ExternalId::parse).transpose();
    let settings =
        Value::parse(found.settings.get().as_bytes()).map_err(|_rule| refuse("settings"))?;
    Ok(TenantValues {
        name: TenantName::parse(&found.name).map_err(|_rule| refuse("name"))?,
        org,
        contact: contact.map_err(|_rule| refuse("contact"))?,
        external_id: external_id.map_err(|_rule| refuse("external_id"))?,
        settings: Document::parse(settings).map_err(|_rule| refuse("settings"))?,
    })
}

/// Reads the members, with their addresses.
pub(super) async fn members(reader: &mut Reader<'_>) -> Result<Vec<(Email, MemberEntry)>> {
    let text = reader.file(MemberKind::Members).await?;
    let members: Vec<MemberEntry> = serde_json::from_slice(&text)
        .map_err(|error| reader.invalid(format!("members.json cannot be read: {error}")))?;
    let mut read = Vec::with_capacity(members.len());
    for member in members {
        let is_named = [&member.first_name, &member.last_name]
            .iter()
            .all(|name| PersonName::parse(name).is_ok());
        let email = Email::parse(&member.email);
        match email {
            Ok(email) if is_named && member.role != Role::SuperAdmin => read.push((email, member)),
            _ => return Err(reader.invalid("members.json has a member that cannot be stored")),
        }
    }
    Ok(read)
}
