//! The settings of the server that answers, without its secrets.

use actix_web::{HttpResponse, get};
use serde::Serialize;
use utoipa::ToSchema;

use super::Answer;
use super::call::Call;
use super::responses::{Forbidden, Unexpected};
use crate::domain::Permission;
use crate::http::Mount;
use crate::http::responses::ViewSettings;
use crate::service::overview::Setting;

pub(super) fn mount(routes: &mut Mount<'_>) {
    routes.service(list);
}

/// The settings of the server.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SettingList {
    data: Vec<SettingAnswer>,
}

/// A setting of the server.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Setting)]
pub(super) struct SettingAnswer {
    /// Its name in `rowhouse.toml`, such as `http.request_timeout`.
    key: &'static str,
    /// The value in force; null if there is none, and if it is hidden.
    value: Option<String>,
    /// Whether there is a value that is a secret.
    hidden: bool,
    /// The default; null if there is none.
    default: Option<&'static str>,
    /// What it means.
    description: &'static str,
}

/// Lists the settings of the server that answers, in the order of the book. A secret is `hidden`; the settings of an
/// application are not listed.
#[utoipa::path(tag = "control", operation_id = "listSettings", security(("bearer" = [])), responses(
    (status = 200, description = "The settings", body = SettingList),
    Unexpected, Forbidden<ViewSettings>,
))]
#[get("/control/v1/settings")]
async fn list(call: Call) -> Answer {
    call.ctx.require(Permission::ViewSettings)?;
    call.nothing_else()?;
    let settings = call.services().overview.settings(&call.ctx)?;
    let data = settings.iter().map(SettingAnswer::from).collect();
    Ok(HttpResponse::Ok().json(SettingList { data }))
}

impl From<&Setting> for SettingAnswer {
    fn from(setting: &Setting) -> Self {
        Self {
            key: setting.key,
            value: setting.value.clone(),
            hidden: setting.is_hidden,
            default: Some(setting.default).filter(|default| !default.is_empty()),
            description: setting.meaning,
        }
    }
}
