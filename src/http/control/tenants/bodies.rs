//! The bodies that create and change a tenant: as the OpenAPI document describes them, and how they are read.

use utoipa::ToSchema;

use crate::domain::error::Result;
use crate::domain::json::Value;
use crate::domain::names::{Email, Slug, TenantName};
use crate::domain::rule::Rule;
use crate::domain::{Document, End, EndChange};
use crate::http::body::Fields;
use crate::http::control::call::timestamp;
use crate::http::control::persons::{PersonNameText, describes_person, person};
use crate::service::members::NewPerson;
use crate::service::provisioning::{Admin, NewAdmin, ProvisionTenant};
use crate::service::tenants::lifecycle::OnDependents;
use crate::service::tenants::registry::Changes;

/// The body that creates a tenant.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
#[serde(deny_unknown_fields)]
pub(super) struct NewTenantBody {
    /// The display name, in any script.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$"
    )]
    name: String,
    /// The unique name for URLs.
    #[schema(min_length = 1, max_length = 63, pattern = "^[a-z0-9]+(-[a-z0-9]+)*$")]
    slug: String,
    /// The id of the tenant in your own system.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$"
    )]
    external_id: Option<String>,
    /// Settings of the application, up to 64 KiB.
    #[schema(value_type = Option<Object>)]
    settings: Option<Value>,
    /// When the tenant ends and is purged; without it and `expires_in` it stays.
    #[schema(format = "date-time")]
    expires_at: Option<String>,
    /// How long after the request the tenant ends, such as `24h` or `7d`, instead of `expires_at`.
    expires_in: Option<String>,
    /// The admin of the tenant; without it the tenant has none.
    admin: Option<AdminBody>,
}

/// The body that purges a tenant.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
#[serde(deny_unknown_fields)]
pub(super) struct PurgeBody {
    /// Whether what is outside of the tenant's schema and depends on it, or belongs to its role, is dropped too; without
    /// it, it stops the purge.
    cascade: Option<bool>,
}

impl PurgeBody {
    pub(super) fn read(mut body: Fields) -> Result<OnDependents> {
        let cascade = body.flag("cascade");
        body.finish(Some(if cascade { OnDependents::Cascade } else { OnDependents::Stop }))
    }
}

/// The body that creates a tenant whose external id is in the path, or makes it as it says.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
#[serde(deny_unknown_fields)]
pub(super) struct EnsuredTenantBody {
    /// The display name, in any script.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$"
    )]
    name: String,
    /// The unique name for URLs.
    #[schema(min_length = 1, max_length = 63, pattern = "^[a-z0-9]+(-[a-z0-9]+)*$")]
    slug: String,
    /// Settings of the application, up to 64 KiB. They replace those of a tenant that exists; without them its own stay.
    #[schema(value_type = Option<Object>)]
    settings: Option<Value>,
    /// When the tenant ends and is purged. One that was made without an end gets none.
    #[schema(format = "date-time")]
    expires_at: Option<String>,
    /// How long after the request the tenant ends, such as `24h` or `7d`, instead of `expires_at`. An end that is less than
    /// a twentieth of it away is left.
    expires_in: Option<String>,
    /// The admin of the tenant; without it the admins of a tenant that exists stay, and a new one has none.
    admin: Option<AdminBody>,
}

/// The admin of a new tenant.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
#[serde(untagged)]
pub(super) enum AdminBody {
    /// An existing user.
    Existing(ExistingAdminBody),
    /// A new user. If a user with this e-mail address exists, that user becomes the admin: unchanged if the address is
    /// proven or the password is the user's own; else with this password if the caller is the root or a `SUPER_ADMIN`,
    /// and not at all if it is another one (`admin_unproven`).
    New(NewAdminBody),
}

/// An existing user.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
#[serde(deny_unknown_fields)]
pub(super) struct ExistingAdminBody {
    #[schema(format = "email", max_length = 254)]
    email: String,
}

/// A new user.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
#[serde(deny_unknown_fields)]
pub(super) struct NewAdminBody {
    #[schema(format = "email", max_length = 254)]
    email: String,
    /// At least 8 characters, at most 1,024 bytes, none of the most common.
    #[schema(min_length = 8, max_length = 1024)]
    password: String,
    #[schema(inline)]
    first_name: PersonNameText,
    #[schema(inline)]
    last_name: PersonNameText,
}

/// The body that changes a tenant: a JSON merge patch (RFC 7396).
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
#[serde(deny_unknown_fields)]
pub(super) struct TenantPatchBody {
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 255,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$"
    )]
    name: Option<String>,
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 63,
        pattern = "^[a-z0-9]+(-[a-z0-9]+)*$"
    )]
    slug: Option<String>,
    /// Merged into the settings: a member that is null is removed; null itself removes all settings.
    #[schema(value_type = Option<Object>)]
    settings: Option<Value>,
    /// Another end; null removes it, so that the tenant stays.
    #[schema(format = "date-time")]
    expires_at: Option<String>,
    /// How long after the request the tenant ends, such as `24h` or `7d`, instead of `expires_at`.
    #[schema(nullable = false)]
    expires_in: Option<String>,
    /// Whether a tenant that was made without an end gets one. Its data is destroyed then.
    add_expiry: Option<bool>,
}

/// What a body that creates a tenant says, without the parts that other places of the request hold.
pub(super) struct NewTenantParts {
    pub(super) command: ProvisionTenant,
    pub(super) settings: Option<Document>,
    pub(super) end: Option<End>,
}

/// Reads the set-up that a body requests.
pub(super) fn command(mut body: Fields) -> Result<NewTenantParts> {
    let name = body.required("name", TenantName::parse);
    let slug = body.required("slug", Slug::parse);
    let settings = body.value("settings").map(Document::parse).transpose();
    let settings = settings.map_err(|rule| body.refuse("settings", rule)).ok();
    let end = end(&mut body);
    let admin = admin(&mut body);
    let parts = || {
        let command = ProvisionTenant::new(name?, slug?, admin?);
        Some(NewTenantParts { command, settings: settings?, end })
    };
    let parts = parts();
    body.finish(parts)
}

/// Takes the end of a tenant, in one of its two forms.
fn end(body: &mut Fields) -> Option<End> {
    let at = body.optional("expires_at", timestamp).map(End::At);
    let length = body.optional("expires_in", End::parse_length);
    if at.is_some() && length.is_some() {
        body.refuse("expires_in", Rule::Unknown);
    }
    at.or(length)
}

/// Takes the change of a tenant's end; null removes it.
fn end_change(body: &mut Fields) -> Option<EndChange> {
    if body.is_null("expires_at") {
        body.value("expires_at");
        return Some(EndChange::Remove);
    }
    let end = end(body);
    let gives = body.flag("add_expiry");
    end.map(|end| if gives { EndChange::Give(end) } else { EndChange::Move(end) })
}

/// Takes the admin of the tenant: none, a new user, or the address of an existing one.
fn admin(body: &mut Fields) -> Option<Admin> {
    let Some(mut fields) = body.object("admin") else { return Some(Admin::None) };
    let is_new = describes_person(&fields);
    let email = fields.required("email", Email::parse);
    let chosen = if is_new {
        let person = person(&mut fields);
        email.zip(person).map(|(email, person)| {
            let NewPerson { password, first_name, last_name } = person;
            Admin::NewOrExisting(NewAdmin { email, password, first_name, last_name })
        })
    } else {
        email.map(Admin::Existing)
    };
    body.merge(fields);
    chosen
}

/// Reads the changes that a merge patch requests.
pub(super) fn changes(mut body: Fields) -> Result<Changes> {
    let changes = Changes {
        name: not_null(&mut body, "name", TenantName::parse),
        slug: not_null(&mut body, "slug", Slug::parse),
        settings: body.value_or_null("settings"),
        end: end_change(&mut body),
        ..Changes::default()
    };
    body.finish(Some(changes))
}

/// Takes a text that may be absent but not null: null in a merge patch removes a field, and this one must stay.
fn not_null<T>(
    body: &mut Fields,
    name: &str,
    parse: impl FnOnce(&str) -> Result<T, Rule>,
) -> Option<T> {
    if body.has(name) { body.required(name, parse) } else { None }
}
