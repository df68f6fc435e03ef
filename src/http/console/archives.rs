//! The archives that the server keeps: the list, an export of a tenant, download, check, cancel, deletion.

use askama::Template;

use super::Answer;
use super::call::{Call, ROWS, window};
use super::frame::Area;
use super::list::{Chip, List, Pages, link};
use super::one_tenant::named;
use super::page::fragment;
use super::text::{Count, When};
use crate::domain::Permission;
use crate::domain::error::{Noun, Result};
use crate::http::archive_content;
use crate::service::stored_archives::{Export, KINDS, Record, STATES};

const HERE: &str = "/console/archives";

/// The part of the page that changes by itself while an archive is written or checked.
const LIST: &str = "archives";

#[derive(Template)]
#[template(path = "archives.html", blocks = ["list"])]
struct ArchivesPage {
    rows: Vec<Record>,
    states: Vec<Chip>,
    kinds: Vec<Chip>,
    /// The filters of the request that the form keeps.
    kept: [(&'static str, String); 2],
    tenant: String,
    is_filtered: bool,
    pages: Pages,
    may_manage: bool,
    is_changing: bool,
}

#[derive(Template)]
#[template(path = "delete_archive.html")]
struct DeletePage {
    record: Record,
}

/// Lists the archives that the caller may see, newest first. The list changes by itself while one of them does.
pub(super) async fn list(call: &Call) -> Answer {
    call.ctx.reach(Permission::ExportTenant)?;
    let mut query = call.query()?;
    let window = window(&mut query);
    let filter = archive_content::filter(&mut query);
    let window = query.finish(Some(window))?;
    let page = call.services().stored_archives.list(&call.ctx, &filter, &window).await?;
    let list = List::of(call, HERE, &["tenant", "kind", "state"]);
    let given = |name| call.parameter(name);
    let content = ArchivesPage {
        is_changing: page.rows.iter().any(is_changing),
        states: list.chips("state", STATES),
        kinds: list.chips("kind", KINDS),
        kept: ["kind", "state"].map(|name| (name, given(name))),
        tenant: given("tenant"),
        is_filtered: list.is_filtered(),
        pages: list.pages(&window, page.next),
        rows: page.rows,
        may_manage: call.may_everywhere(Permission::ManageArchives),
    };
    if call.fragment().as_deref() == Some(LIST) {
        return fragment(call, &content.as_list());
    }
    let limit = ("limit", Some(ROWS.to_string()));
    let given = ["tenant", "kind", "state", "cursor"].map(|name| (name, Some(given(name))));
    let alternate = link("/control/v1/archives", [limit].into_iter().chain(given));
    let page = call.page(Area::Archives, "Archives").api(alternate);
    let page = if content.is_changing { page.changing() } else { page };
    page.show(&content)
}

/// Whether an archive is written or checked now.
fn is_changing(record: &Record) -> bool {
    let is_checked = |check: &crate::service::stored_archives::Check| check.state == "running";
    record.state == "running" || record.check.as_ref().is_some_and(is_checked)
}

/// Starts an export of a tenant, which goes on in the background.
pub(super) async fn export(call: &Call) -> Answer {
    let reach = call.ctx.reach(Permission::ExportTenant)?;
    let what = Export { tenant: named(call)?, members: true };
    let limits = &call.site().limits;
    let admit = |tenant| limits.export(&reach, tenant);
    let begun = call.services().stored_archives.start_export(&call.ctx, &what, None, &admit);
    let record = Box::pin(begun).await?.record;
    let tenant = record.tenant.map(|tenant| tenant.to_string());
    call.done(&link(HERE, [("tenant", tenant)]), "The export has begun.")
}

/// Sends the content of an archive, or a range of it.
pub(super) async fn fetch(call: &Call) -> Answer {
    let (stored, record) = (&call.services().stored_archives, read(call).await?);
    archive_content::respond(call.request(), &call.ctx, stored, &record).await
}

/// Starts a check of the stored content.
pub(super) async fn verify(call: &Call) -> Answer {
    call.ctx.require(Permission::ManageArchives)?;
    let stored = &call.services().stored_archives;
    stored.start_check(&call.ctx, call.id(Noun::Archive)?).await?;
    call.done(HERE, "The check has begun.")
}

/// Ends an archive that is being written.
pub(super) async fn cancel(call: &Call) -> Answer {
    call.ctx.require(Permission::ManageArchives)?;
    let stored = &call.services().stored_archives;
    stored.cancel(&call.ctx, call.id(Noun::Archive)?).await?;
    call.done(HERE, "The archive is cancelled.")
}

/// Asks before an archive is deleted.
pub(super) async fn ask_to_delete(call: &Call) -> Answer {
    call.ctx.require(Permission::ManageArchives)?;
    let record = read(call).await?;
    let page = call.page(Area::Archives, "Delete an archive");
    page.api(format!("/control/v1/archives/{}", record.id)).show(&DeletePage { record })
}

async fn read(call: &Call) -> Result<Record> {
    call.services().stored_archives.read(&call.ctx, call.id(Noun::Archive)?).await
}

/// Deletes an archive.
pub(super) async fn delete(call: &Call) -> Answer {
    call.ctx.require(Permission::ManageArchives)?;
    let stored = &call.services().stored_archives;
    stored.delete(&call.ctx, call.id(Noun::Archive)?).await?;
    call.done(HERE, "The archive is deleted.")
}
