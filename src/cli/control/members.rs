//! The members of a tenant.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Control, ROWS_AT_ONCE};
use crate::cli::Failure;
use crate::domain::Role;
use crate::domain::error::{Error, Noun};
use crate::domain::names::{Email, UserId};
use crate::domain::page::Window;
use crate::service::members::{Member, NewMember};

/// A member of a tenant.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::cli) struct MemberView {
    pub(in crate::cli) user_id: Uuid,
    pub(in crate::cli) email: String,
    pub(in crate::cli) first_name: String,
    pub(in crate::cli) last_name: String,
    pub(in crate::cli) role: String,
    #[serde(with = "time::serde::rfc3339")]
    pub(in crate::cli) created_at: OffsetDateTime,
}

impl Control {
    pub(in crate::cli) async fn list_members(
        &self,
        tenant: &str,
    ) -> Result<Vec<MemberView>, Failure> {
        match self {
            Self::Database(backend) => {
                let (mut all, mut after) = (Vec::new(), None);
                loop {
                    let window = Window { after, limit: ROWS_AT_ONCE };
                    let (members, ctx) = (&backend.services.members, backend.operator());
                    let page = members.list(&ctx, tenant, &window).await?;
                    all.extend(page.rows.into_iter().map(MemberView::from));
                    after = page.next;
                    if after.is_none() {
                        return Ok(all);
                    }
                }
            }
            Self::Server(client) => {
                Ok(client.list(&["tenants", tenant, "members"], &[], None).await?.0)
            }
        }
    }

    /// Returns the user id of the member with an address.
    pub(in crate::cli) async fn find_member(
        &self,
        tenant: &str,
        email: &Email,
    ) -> Result<Uuid, Failure> {
        match self {
            Self::Database(backend) => {
                let (members, ctx) = (&backend.services.members, backend.operator());
                Ok(members.find(&ctx, tenant, email).await?.user.uuid())
            }
            Self::Server(_) => {
                let members = self.list_members(tenant).await?;
                let found = members.into_iter().find(|member| member.email == email.as_str());
                Ok(found.ok_or(Error::NotFound(Noun::Member))?.user_id)
            }
        }
    }

    pub(in crate::cli) async fn add_member(
        &self,
        tenant: &str,
        new: &NewMember,
    ) -> Result<MemberView, Failure> {
        match self {
            Self::Database(backend) => {
                let (members, ctx) = (&backend.services.members, backend.operator());
                Ok(members.add(&ctx, tenant, new).await?.into())
            }
            Self::Server(client) => {
                let mut body = json!({ "email": new.email.as_str(), "role": new.role });
                if let Some(person) = &new.person {
                    body["password"] = json!(person.password.as_password().expose());
                    body["first_name"] = json!(person.first_name);
                    body["last_name"] = json!(person.last_name);
                }
                client.post(&["tenants", tenant, "members"], &body).await
            }
        }
    }

    pub(in crate::cli) async fn set_role(
        &self,
        tenant: &str,
        user: Uuid,
        role: Role,
    ) -> Result<MemberView, Failure> {
        match self {
            Self::Database(backend) => {
                let (members, ctx) = (&backend.services.members, backend.operator());
                Ok(members.set_role(&ctx, tenant, UserId::new(user), role).await?.into())
            }
            Self::Server(client) => {
                let user = user.to_string();
                let path = ["tenants", tenant, "members", &user];
                let body = json!({ "role": role });
                let request = client.control(Method::PATCH, &path, &[]).json(&body);
                Ok(client.answer(request).await?.body)
            }
        }
    }

    pub(in crate::cli) async fn remove_member(
        &self,
        tenant: &str,
        user: Uuid,
    ) -> Result<(), Failure> {
        match self {
            Self::Database(backend) => {
                let (members, ctx) = (&backend.services.members, backend.operator());
                Ok(members.remove(&ctx, tenant, UserId::new(user)).await?)
            }
            Self::Server(client) => {
                let user = user.to_string();
                let path = ["tenants", tenant, "members", &user];
                client.send(client.control(Method::DELETE, &path, &[])).await
            }
        }
    }
}

impl From<Member> for MemberView {
    fn from(member: Member) -> Self {
        Self {
            user_id: member.user.uuid(),
            email: member.email.to_string(),
            first_name: member.first_name.to_string(),
            last_name: member.last_name.to_string(),
            role: member.role.to_string(),
            created_at: member.since,
        }
    }
}
