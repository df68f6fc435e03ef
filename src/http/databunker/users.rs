//! People inside a tenant. A *user* of this dialect is a [`Profile`]; its *token* is the profile's id.

use actix_web::post;
use serde_json::{Value, json};
use utoipa_actix_web::service_config::ServiceConfig;

use super::call::{Call, identity_of};
use super::{Answer, message, ok};
use crate::domain::error::{Error, FieldProblem, Result, Rule};
use crate::domain::profile::{Document, Identity};
use crate::service::profiles::{Change, Event, NewProfile, Profile};

pub(super) fn mount(config: &mut ServiceConfig<'_>) {
    config
        .service(create)
        .service(create_bulk)
        .service(read)
        .service(update)
        .service(patch)
        .service(delete)
        .service(delete_bulk)
        .service(search)
        .service(versions)
        .service(create_xtoken)
        .service(list_events)
        .service(read_event);
}

/// Stores a person's record.
#[utoipa::path(tag = "databunker", request_body = Value, security(("xtoken" = [])), responses(
    (status = 200, description = "`status`, `token`"),
    (status = 400, description = "A parameter is missing or has an incorrect format"),
    (status = 403, description = "Access denied"),
    (status = 409, description = "Duplicate index: email, login, phone or custom"),
))]
#[post("/v2/UserCreate")]
async fn create(call: Call) -> Answer {
    let wish = NewProfile {
        document: call.params.document("profile")?,
        lifetime: call.params.lifetime(call.ctx.now)?,
    };
    let profile = call.services().profiles.create(&call.ctx, &call.tenant().await?, wish).await?;
    ok(json!({ "token": profile.id }))
}

/// Stores many records; those that cannot be stored are listed with the reason.
#[utoipa::path(tag = "databunker", request_body = Value, security(("xtoken" = [])), responses(
    (status = 200, description = "`status`, `created`, `errors`"), (status = 403, description = "Access denied"),
))]
#[post("/v2/UserCreateBulk")]
async fn create_bulk(call: Call) -> Answer {
    let (tenant, lifetime) = (call.tenant().await?, call.params.lifetime(call.ctx.now)?);
    let (mut created, mut errors) = (Vec::new(), Vec::new());
    for record in call.params.list("records")? {
        let given = record.get("profile").cloned().unwrap_or(Value::Null);
        let stored = match Document::parse(given.clone()) {
            Ok(document) => {
                let wish = NewProfile { document, lifetime: lifetime.clone() };
                call.services().profiles.create(&call.ctx, &tenant, wish).await
            }
            Err(rule) => Err(Error::Invalid(vec![FieldProblem::new("profile", rule)])),
        };
        match stored {
            Ok(profile) => {
                created.push(json!({ "token": profile.id, "profile": profile.document }));
            }
            Err(error @ (Error::Invalid(_) | Error::Conflict(_))) => {
                errors.push(json!({ "profile": given, "reason": message(&error) }));
            }
            // Not one record's fault: the caller may not, or the database is away.
            Err(error) => return Err(error.into()),
        }
    }
    ok(json!({ "created": created, "errors": errors }))
}

/// Reads a person's record, as it is or as it was in a version.
#[utoipa::path(tag = "databunker", request_body = Value, security(("xtoken" = [])), responses(
    (status = 200, description = "`status`, `token`, `profile`, `version`, and when it ends"),
    (status = 400, description = "A parameter is missing or has an incorrect format"),
    (status = 403, description = "Access denied"), (status = 404, description = "The user record was not found"),
))]
#[post("/v2/UserGet")]
async fn read(call: Call) -> Answer {
    let identity = call.params.identity()?;
    let tenant = call.tenant().await?;
    let profiles = &call.services().profiles;
    let profile = match call.params.integer("version")? {
        None | Some(0) => profiles.read(&call.ctx, &tenant, &identity).await?,
        Some(version) => {
            let version = i32::try_from(version).map_err(|_too_large| {
                Error::invalid("version", Rule::Range(1, i64::from(i32::MAX)))
            })?;
            profiles.read_version(&call.ctx, &tenant, &identity, version).await?
        }
    };
    ok(row(&profile))
}

/// Changes a record by merging fields into it; null removes a field.
#[utoipa::path(tag = "databunker", request_body = Value, security(("xtoken" = [])), responses(
    (status = 200, description = "`status`"), (status = 403, description = "Access denied"),
    (status = 404, description = "The user record was not found"), (status = 409, description = "Duplicate index"),
))]
#[post("/v2/UserUpdate")]
async fn update(call: Call) -> Answer {
    let identity = call.params.identity()?;
    let change = Change::Merge(call.params.document("profile")?.into_value());
    call.services().profiles.change(&call.ctx, &call.tenant().await?, &identity, &change).await?;
    ok(json!({}))
}

/// Changes a record by a JSON patch, all of it or nothing.
#[utoipa::path(tag = "databunker", request_body = Value, security(("xtoken" = [])), responses(
    (status = 200, description = "`status`"), (status = 400, description = "The patch could not be applied"),
    (status = 403, description = "Access denied"), (status = 404, description = "The user record was not found"),
    (status = 409, description = "Duplicate index"),
))]
#[post("/v2/UserPatch")]
async fn patch(call: Call) -> Answer {
    let identity = call.params.identity()?;
    let change = Change::Patch(Value::Array(call.params.list("patch")?.clone()));
    call.services().profiles.change(&call.ctx, &call.tenant().await?, &identity, &change).await?;
    ok(json!({}))
}

/// Deletes a record.
#[utoipa::path(tag = "databunker", request_body = Value, security(("xtoken" = [])), responses(
    (status = 200, description = "`status`"), (status = 403, description = "Access denied"),
    (status = 404, description = "The user record was not found"),
))]
#[post("/v2/UserDelete")]
async fn delete(call: Call) -> Answer {
    let identity = call.params.identity()?;
    call.services().profiles.delete(&call.ctx, &call.tenant().await?, &identity).await?;
    ok(json!({}))
}

/// Deletes many records; one that is not there is not an error.
#[utoipa::path(tag = "databunker", request_body = Value, security(("xtoken" = [])), responses(
    (status = 200, description = "`status`"), (status = 403, description = "Access denied"),
))]
#[post("/v2/UserDeleteBulk")]
async fn delete_bulk(call: Call) -> Answer {
    let unlock = call.params.text("unlockuuid")?;
    if let Some(unlock) = unlock {
        call.services().system.check_unlock(&call.ctx, &unlock).await?;
    }
    let identities =
        call.params.list("users")?.iter().map(identity_of).collect::<Result<Vec<Identity>>>()?;
    let tenant = call.tenant().await?;
    for identity in &identities {
        match call.services().profiles.delete(&call.ctx, &tenant, identity).await {
            Ok(_) | Err(Error::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    ok(json!({}))
}

/// Finds records that a text is part of: of the e-mail address where it has an `@`, of any other key
/// otherwise.
#[utoipa::path(tag = "databunker", request_body = Value, security(("xtoken" = [])), responses(
    (status = 200, description = "`status`, `rows`"), (status = 403, description = "Access denied or bad unlock"),
))]
#[post("/v2/UserSearch")]
async fn search(call: Call) -> Answer {
    let identity = searchable(&call)?;
    call.services().system.check_unlock(&call.ctx, &call.params.unlock()?).await?;
    let found =
        call.services().profiles.search(&call.ctx, &call.tenant().await?, &identity).await?;
    ok(json!({ "rows": found.iter().map(row).collect::<Vec<_>>() }))
}

/// Lists the versions of a record, oldest first.
#[utoipa::path(tag = "databunker", request_body = Value, security(("xtoken" = [])), responses(
    (status = 200, description = "`status`, `versions`"), (status = 403, description = "Access denied"),
    (status = 404, description = "The user record was not found"),
))]
#[post("/v2/UserListVersions")]
async fn versions(call: Call) -> Answer {
    let identity = call.params.identity()?;
    let versions =
        call.services().profiles.versions(&call.ctx, &call.tenant().await?, &identity).await?;
    let rows: Vec<Value> = versions
        .iter()
        .map(|v| json!({ "version": v.version, "optime": v.created_at.unix_timestamp(), "md5": v.md5 }))
        .collect();
    ok(json!({ "versions": rows }))
}

/// Makes a credential for the person behind a record, good for reading it, for ten minutes by default.
#[utoipa::path(tag = "databunker", request_body = Value, security(("xtoken" = [])), responses(
    (status = 200, description = "`status`, `xtoken`, `token`"), (status = 403, description = "Access denied"),
    (status = 404, description = "The user record was not found"),
))]
#[post("/v2/XTokenCreateForUser")]
async fn create_xtoken(call: Call) -> Answer {
    let (identity, lifetime) = (call.params.identity()?, call.params.credential_lifetime()?);
    let tenant = call.tenant().await?;
    let (id, secret) =
        call.services().profiles.create_own_token(&call.ctx, &tenant, &identity, lifetime).await?;
    ok(json!({ "xtoken": secret.expose(), "token": id }))
}

/// Lists what happened to a record, newest first.
#[utoipa::path(tag = "databunker", request_body = Value, security(("xtoken" = [])), responses(
    (status = 200, description = "`status`, `total`, `rows`"), (status = 403, description = "Access denied"),
    (status = 404, description = "The user record was not found"),
))]
#[post("/v2/AuditListUserEvents")]
async fn list_events(call: Call) -> Answer {
    let (identity, (offset, limit)) = (call.params.identity()?, call.params.page()?);
    let tenant = call.tenant().await?;
    let (total, events) =
        call.services().profiles.events(&call.ctx, &tenant, &identity, offset, limit).await?;
    let row = |event: &Event| json!({ "auditeventuuid": event.id, "eventtype": event.action, "timestamp": event.at.unix_timestamp() });
    ok(json!({ "total": total, "rows": events.iter().map(row).collect::<Vec<_>>() }))
}

/// Reads one thing that happened.
#[utoipa::path(tag = "databunker", request_body = Value, security(("xtoken" = [])), responses(
    (status = 200, description = "`status`, `eventtype`, `timestamp`, `details`"),
    (status = 403, description = "Access denied"), (status = 404, description = "The audit event was not found"),
))]
#[post("/v2/AuditGetEvent")]
async fn read_event(call: Call) -> Answer {
    let id = call.params.uuid("auditeventuuid")?;
    let event = call.services().profiles.event(&call.ctx, &call.tenant().await?, id).await?;
    ok(json!({
        "auditeventuuid": event.id,
        "eventtype": event.action,
        "timestamp": event.at.unix_timestamp(),
        "details": { "token": event.profile, "actor": event.actor, "requestid": event.request_id },
    }))
}

/// A record as it is answered.
pub(super) fn row(profile: &Profile) -> Value {
    let mut row =
        json!({ "token": profile.id, "profile": profile.document, "version": profile.version });
    let lifetime = &profile.lifetime;
    if let Some(final_time) = &lifetime.final_time {
        row["finaltime"] = json!(final_time);
    }
    if let Some(sliding_time) = &lifetime.sliding_time {
        row["slidingtime"] = json!(sliding_time);
    }
    if let Some(expires_at) = profile.expires_at {
        row["expirationtime"] = json!(expires_at.unix_timestamp());
    }
    row
}

/// The text of a fuzzy search.
pub(super) fn searchable(call: &Call) -> Result<String> {
    let text = call.params.required("identity")?;
    if text.chars().count() > crate::domain::profile::KEY_MAX {
        return Err(Error::invalid("identity", Rule::TooLong(crate::domain::profile::KEY_MAX)));
    }
    if text.contains('\0') {
        return Err(Error::invalid("identity", Rule::ControlCharacter));
    }
    match text.trim() {
        "" => Err(Error::invalid("identity", Rule::Required)),
        trimmed => Ok(trimmed.to_owned()),
    }
}
