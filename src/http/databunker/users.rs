//! The persons of a tenant. A *user* of this dialect is a [`Profile`]; its *token* is the profile's id.

use crate::domain::json::Value;
use actix_web::post;

use super::answers::users::{
    BulkMade, Deleted, EventPage, EventRead, Made, NotMade, Token, UserPage, UserRead, Versions,
    XtokenMade,
};
use super::answers::{Done, Status};
use super::call::Call;
use super::params::{Params, identity_of};
use super::requests::persons::Person;
use super::requests::unlocked::SearchAsked;
use super::requests::users::{
    EventAsked, EventsAsked, PersonsGone, RecordAsked, RecordChange, RecordPatch, RecordRequest,
    RecordsRequest, XtokenRequest,
};
use super::responses::{DuplicateIndex, Locked, NoSuchRecord};
use super::{Answer, ErrorBody, done, message, ok, ok_large};
use crate::domain::Permission;
use crate::domain::error::{Error, Result};
use crate::domain::profile::{Document, Identity};
use crate::domain::rule::Rule;
use crate::http::Mount;
use crate::service::profiles::{Change, NewProfile};

pub(super) fn mount(routes: &mut Mount<'_>) {
    routes
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
#[utoipa::path(tag = "databunker", operation_id = "userCreate", request_body = RecordRequest, security(("xtoken" = [])), responses(
    (status = 200, description = "The record's token", body = Token), DuplicateIndex,
))]
#[post("/v2/UserCreate")]
async fn create(call: Call) -> Answer {
    let tenant = call.tenant_for(Permission::WriteProfiles).await?;
    let params = call.params()?;
    let document = params.document("profile").await?;
    let lifetime = params.lifetime(call.ctx.now)?;
    let command = NewProfile { document, lifetime };
    let profile = call.services().profiles.create(&call.ctx, &tenant, command).await?;
    ok(Token { status: Status::Ok, token: profile.id.uuid() })
}

/// Stores many records and lists those that cannot be stored, with the reason.
#[utoipa::path(tag = "databunker", operation_id = "userCreateBulk", request_body = RecordsRequest, security(("xtoken" = [])), responses(
    (status = 200, description = "The stored records, and those that were not stored", body = BulkMade),
))]
#[post("/v2/UserCreateBulk")]
async fn create_bulk(call: Call) -> Answer {
    let tenant = call.tenant_for(Permission::WriteProfiles).await?;
    let lifetime = call.params()?.lifetime(call.ctx.now)?;
    // Malformed documents are refused here, taken keys by the service; the answer lists both in request order.
    let (given, parsed) = call.params()?.map(records).await??;
    let good = parsed.iter().filter_map(|parsed| parsed.as_ref().ok().cloned()).collect();
    let stored = call.services().profiles.create_many(&call.ctx, &tenant, good, &lifetime).await?;
    let mut stored = stored.into_iter();
    let (mut created, mut errors) = (Vec::new(), Vec::new());
    for (given, parsed) in given.into_iter().zip(parsed) {
        let outcome = match parsed {
            Ok(_) => stored.next(),
            Err(error) => Some(Err(error)),
        };
        match outcome {
            Some(Ok(profile)) => created.push(Made { token: profile.id.uuid(), profile: given }),
            Some(Err(error)) => errors.push(NotMade { profile: given, reason: message(&error) }),
            None => {}
        }
    }
    ok(BulkMade { status: Status::Ok, created, errors })
}

/// Returns the documents as given and as parsed.
fn records(params: &Params) -> Result<(Vec<Value>, Vec<Result<Document>>)> {
    let profile = |record: &Value| record.get("profile").cloned().unwrap_or(Value::Null);
    let given: Vec<Value> = params.list("records")?.iter().map(profile).collect();
    let parsed = given.iter().map(document).collect();
    Ok((given, parsed))
}

fn document(given: &Value) -> Result<Document> {
    let missing = |rule| if given.is_null() { Rule::Required } else { rule };
    Document::parse(given.clone()).map_err(|rule| Error::invalid("profile", missing(rule)))
}

/// Reads a person's record, in its current or an earlier version.
#[utoipa::path(tag = "databunker", operation_id = "userGet", request_body = RecordAsked, security(("xtoken" = [])), responses(
    (status = 200, description = "The record", body = UserRead), NoSuchRecord,
))]
#[post("/v2/UserGet")]
async fn read(call: Call) -> Answer {
    let (tenant, params) = (call.tenant().await?, call.params()?);
    let identity = params.identity()?;
    let profiles = &call.services().profiles;
    let profile = match params.integer("version")? {
        None | Some(0) => profiles.read(&call.ctx, &tenant, &identity).await?,
        Some(version) => {
            let version = i32::try_from(version).map_err(|_too_large| {
                Error::invalid("version", Rule::Range(1, i64::from(i32::MAX)))
            })?;
            profiles.read_version(&call.ctx, &tenant, &identity, version).await?
        }
    };
    ok(UserRead::from(profile))
}

/// Changes a record by merging fields into it; null removes a field.
#[utoipa::path(tag = "databunker", operation_id = "userUpdate", request_body = RecordChange, security(("xtoken" = [])), responses(
    (status = 200, description = "Done", body = Done), NoSuchRecord, DuplicateIndex,
))]
#[post("/v2/UserUpdate")]
async fn update(call: Call) -> Answer {
    let tenant = call.tenant_for(Permission::WriteProfiles).await?;
    let identity = call.params()?.identity()?;
    let change = Change::Merge(call.params()?.document("profile").await?.into_value());
    call.services().profiles.change(&call.ctx, &tenant, &identity, change).await?;
    done()
}

/// Changes a record with a JSON patch; if one operation fails, nothing changes.
#[utoipa::path(tag = "databunker", operation_id = "userPatch", request_body = RecordPatch, security(("xtoken" = [])), responses(
    (status = 200, description = "Done", body = Done),
    (status = 400, description = "A parameter is missing or has an incorrect format, or the patch could not be applied", body = ErrorBody),
    NoSuchRecord, DuplicateIndex,
))]
#[post("/v2/UserPatch")]
async fn patch(call: Call) -> Answer {
    let tenant = call.tenant_for(Permission::WriteProfiles).await?;
    let identity = call.params()?.identity()?;
    let change = Change::Patch(Value::Array(call.params()?.list("patch")?.clone()));
    call.services().profiles.change(&call.ctx, &tenant, &identity, change).await?;
    done()
}

/// Deletes a record.
#[utoipa::path(tag = "databunker", operation_id = "userDelete", request_body = Person, security(("xtoken" = [])), responses(
    (status = 200, description = "Done", body = Done), NoSuchRecord,
))]
#[post("/v2/UserDelete")]
async fn delete(call: Call) -> Answer {
    let tenant = call.tenant_for(Permission::WriteProfiles).await?;
    let identity = call.params()?.identity()?;
    call.services().profiles.delete(&call.ctx, &tenant, &identity).await?;
    done()
}

/// Deletes many records; a missing record is not an error.
#[utoipa::path(tag = "databunker", operation_id = "userDeleteBulk", request_body = PersonsGone, security(("xtoken" = [])), responses(
    (status = 200, description = "The number of deleted records", body = Deleted),
))]
#[post("/v2/UserDeleteBulk")]
async fn delete_bulk(call: Call) -> Answer {
    let tenant = call.tenant_for(Permission::WriteProfiles).await?;
    // No client sends an unlock here; one that is sent must be valid.
    if call.params()?.value("unlockuuid").is_some() {
        call.unlocked().await?;
    }
    let users = call.params()?.list("users")?;
    let identities = users.iter().map(identity_of).collect::<Result<Vec<Identity>>>()?;
    let count = call.services().profiles.delete_many(&call.ctx, &tenant, &identities).await?;
    ok(Deleted { status: Status::Ok, deleted_count: count })
}

/// Finds records by a part of a key: of the e-mail address if the text contains an `@`, otherwise of any other key.
#[utoipa::path(tag = "databunker", operation_id = "userSearch", request_body = SearchAsked, security(("xtoken" = [])), responses(
    (status = 200, description = "The records, at most 100", body = UserPage), Locked,
))]
#[post("/v2/UserSearch")]
async fn search(call: Call) -> Answer {
    let tenant = call.tenant_for(Permission::BulkProfiles).await?;
    call.unlocked().await?;
    let text = call.params()?.searchable()?;
    let (total, found) = call.services().profiles.search(&call.ctx, &tenant, &text).await?;
    ok_large(move || UserPage::new(total, found)).await
}

/// Lists the versions of a record, oldest first.
#[utoipa::path(tag = "databunker", operation_id = "userListVersions", request_body = Person, security(("xtoken" = [])), responses(
    (status = 200, description = "The versions", body = Versions), NoSuchRecord,
))]
#[post("/v2/UserListVersions")]
async fn versions(call: Call) -> Answer {
    let (tenant, identity) = (call.tenant().await?, call.params()?.identity()?);
    let versions = call.services().profiles.versions(&call.ctx, &tenant, &identity).await?;
    let versions = versions.iter().map(Into::into).collect();
    ok(Versions { status: Status::Ok, versions })
}

/// Creates a credential with which a person can read the own record; it is valid for ten minutes by default.
#[utoipa::path(tag = "databunker", operation_id = "xtokenCreateForUser", request_body = XtokenRequest, security(("xtoken" = [])), responses(
    (status = 200, description = "The credential", body = XtokenMade), NoSuchRecord,
))]
#[post("/v2/XTokenCreateForUser")]
async fn create_xtoken(call: Call) -> Answer {
    let (tenant, params) = (call.tenant_for(Permission::WriteProfiles).await?, call.params()?);
    let (identity, lifetime) = (params.identity()?, params.credential_lifetime()?);
    let (id, secret) =
        call.services().profiles.create_own_token(&call.ctx, &tenant, &identity, lifetime).await?;
    let xtoken = secret.expose().to_owned();
    ok(XtokenMade { status: Status::Ok, xtoken, token: id.uuid() })
}

/// Lists the audit events of a record, newest first.
#[utoipa::path(tag = "databunker", operation_id = "auditListUserEvents", request_body = EventsAsked, security(("xtoken" = [])), responses(
    (status = 200, description = "A page of events", body = EventPage), NoSuchRecord,
))]
#[post("/v2/AuditListUserEvents")]
async fn list_events(call: Call) -> Answer {
    let (tenant, params) = (call.tenant_for(Permission::ViewAudit).await?, call.params()?);
    let (identity, (offset, limit)) = (params.identity()?, params.page()?);
    let (total, events) =
        call.services().profiles.events(&call.ctx, &tenant, &identity, offset, limit).await?;
    let rows = events.iter().map(Into::into).collect();
    ok(EventPage { status: Status::Ok, total, rows })
}

/// Reads an audit event.
#[utoipa::path(tag = "databunker", operation_id = "auditGetEvent", request_body = EventAsked, security(("xtoken" = [])), responses(
    (status = 200, description = "The event", body = EventRead),
    (status = 404, description = "The audit event was not found", body = ErrorBody),
))]
#[post("/v2/AuditGetEvent")]
async fn read_event(call: Call) -> Answer {
    let tenant = call.tenant_for(Permission::ViewAudit).await?;
    let id = call.params()?.uuid("auditeventuuid")?;
    let event = call.services().profiles.event(&call.ctx, &tenant, id).await?;
    ok(EventRead::from(event))
}
