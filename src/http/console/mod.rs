//! The console: the pages below `/console` on which people do what the control dialect does for programs.
//!
//! Server-rendered HTML that works without JavaScript: a link is a GET, a change is a POST that redirects to a page. A
//! handler reads the request, calls a service method and renders a template, which is beside it. Every page names the
//! same data under `/control/v1`, so that it shows nothing that no API call answers.
//!
//! To add a page: a handler that takes a [`Call`], a template, a line in [`routes!`](self), a line in the table of
//! `tests/api/console/roles.rs`.

mod account;
mod archives;
mod assets;
mod audit;
mod call;
mod chart;
mod examination;
mod form;
mod frame;
mod health;
mod invitation;
mod list;
mod members;
mod migration;
mod migrations;
mod moves;
mod new_tenant;
mod one_tenant;
mod overview;
mod page;
mod problem;
mod schema;
mod server;
mod session;
mod tenant;
mod tenants;
mod text;
mod tokens;
mod vacancies;

use actix_web::web::ServiceConfig;
use actix_web::{HttpRequest, HttpResponse, guard, web};

use self::call::{Call, Unread};
use super::body::Body;
use super::host;
use crate::domain::error::Result;

pub use problem::Problem;

/// What a handler answers.
type Answer = Result<HttpResponse>;

/// Declares the routes: of `page` handlers, which need a session, and of `open` ones, which need none.
macro_rules! routes {
    ($($method:ident $path:literal => $access:ident $handler:path;)+) => {
        /// The method and the path of every page.
        pub const ROUTES: &[(&str, &str)] = &[$((stringify!($method), $path)),+];

        /// Mounts the pages on a worker.
        pub(super) fn mount(config: &mut ServiceConfig) {
            $(config.route($path, web::$method().guard(guard::fn_guard(is_here)).to(
                |request: HttpRequest, body: Body| $access(request, body, $handler)
            ));)+
        }
    };
}

routes! {
    get "/console/assets/{digest}/{file}" => open assets::read;
    get "/console/login" => open session::log_in_page;
    post "/console/login" => open session::log_in;
    get "/console/invitation" => open invitation::ask;
    post "/console/invitation" => open invitation::accept;
    post "/console/logout" => page session::log_out;
    get "/console" => page overview::read;
    get "/console/tenants" => page tenants::list;
    get "/console/tenants/new" => page new_tenant::ask;
    post "/console/tenants/new" => page new_tenant::create;
    get "/console/tenants/{tenant}" => page tenant::read;
    post "/console/tenants/{tenant}" => page tenant::update;
    get "/console/tenants/{tenant}/settings" => page tenant::settings;
    post "/console/tenants/{tenant}/settings" => page tenant::change_settings;
    get "/console/tenants/{tenant}/suspend" => page moves::ask;
    post "/console/tenants/{tenant}/suspend" => page moves::make;
    get "/console/tenants/{tenant}/resume" => page moves::ask;
    post "/console/tenants/{tenant}/resume" => page moves::make;
    get "/console/tenants/{tenant}/delete" => page moves::ask;
    post "/console/tenants/{tenant}/delete" => page moves::make;
    get "/console/tenants/{tenant}/restore" => page moves::ask;
    post "/console/tenants/{tenant}/restore" => page moves::make;
    get "/console/tenants/{tenant}/purge" => page moves::ask;
    post "/console/tenants/{tenant}/purge" => page moves::make;
    get "/console/tenants/{tenant}/members" => page members::list;
    post "/console/tenants/{tenant}/members" => page members::add;
    post "/console/tenants/{tenant}/members/{id}/role" => page members::set_role;
    get "/console/tenants/{tenant}/members/{id}/remove" => page members::ask_to_remove;
    post "/console/tenants/{tenant}/members/{id}/remove" => page members::remove;
    get "/console/tenants/{tenant}/members/{id}/password" => page members::ask_for_password;
    post "/console/tenants/{tenant}/members/{id}/password" => page members::reset_password;
    post "/console/tenants/{tenant}/invitations" => page members::invite;
    post "/console/tenants/{tenant}/invitations/{id}/revoke" => page members::revoke_invitation;
    get "/console/tenants/{tenant}/schema" => page schema::read;
    post "/console/tenants/{tenant}/rehearse" => page schema::rehearse;
    post "/console/tenants/{tenant}/check" => page schema::check;
    post "/console/tenants/{tenant}/archives" => page archives::export;
    get "/console/archives" => page archives::list;
    get "/console/archives/{id}/content" => page archives::fetch;
    post "/console/archives/{id}/verify" => page archives::verify;
    post "/console/archives/{id}/cancel" => page archives::cancel;
    get "/console/archives/{id}/delete" => page archives::ask_to_delete;
    post "/console/archives/{id}/delete" => page archives::delete;
    get "/console/audit" => page audit::list;
    get "/console/audit/export" => page audit::export;
    post "/console/audit/verify" => page audit::verify;
    get "/console/audit/{id}" => page audit::event;
    get "/console/tokens" => page tokens::list;
    get "/console/tokens/new" => page tokens::ask;
    post "/console/tokens/new" => page tokens::create;
    get "/console/tokens/{id}/revoke" => page tokens::ask_to_revoke;
    post "/console/tokens/{id}/revoke" => page tokens::revoke;
    get "/console/account" => page account::read;
    post "/console/account/password" => page account::change_password;
    post "/console/account/sessions/end" => page account::end_other_sessions;
    post "/console/account/sessions/{id}/end" => page account::end_session;
    post "/console/account/settings" => page account::keep_settings;
    get "/console/migrations" => page migrations::list;
    post "/console/migrations" => page migrations::start;
    post "/console/migrations/rehearse" => page migrations::rehearse;
    get "/console/migrations/{id}" => page migration::read;
    post "/console/migrations/{id}/pause" => page migration::stop;
    post "/console/migrations/{id}/resume" => page migration::go_on;
    post "/console/migrations/{id}/cancel" => page migration::end;
    post "/console/migrations/{id}/retry" => page migration::try_again;
    get "/console/vacancies" => page vacancies::read;
    post "/console/vacancies/fill" => page vacancies::fill;
    post "/console/vacancies/drop" => page vacancies::drop_all;
    get "/console/health" => page health::read;
    post "/console/health" => page health::start;
    get "/console/health/{id}" => page examination::read;
    get "/console/server" => page server::read;
}

/// Whether a path belongs to the console.
#[must_use]
pub fn owns(path: &str) -> bool {
    path == "/console" || path.starts_with("/console/")
}

/// Whether the console is served at the host of a request.
fn is_here(request: &guard::GuardContext<'_>) -> bool {
    let site = request.app_data::<web::Data<super::Site>>();
    site.is_some_and(|site| host::has_console(request.head(), &site.settings))
}

/// Answers a request of a caller who is signed in; sends every other one to the sign-in.
async fn page(
    request: HttpRequest,
    body: Body,
    handler: impl AsyncFn(&Call) -> Answer,
) -> HttpResponse {
    match Box::pin(Call::signed_in(request.clone(), body)).await {
        Ok(call) => answer(call, handler).await,
        Err(Unread::NotSignedIn(answer)) => answer,
        Err(Unread::Refused(error, form)) => {
            HttpResponse::from_error(problem::of_form(error, &request, &form))
        }
    }
}

/// Answers a request that needs no session.
async fn open(
    request: HttpRequest,
    body: Body,
    handler: impl AsyncFn(&Call) -> Answer,
) -> HttpResponse {
    match Box::pin(Call::anonymous(request, body)).await {
        Ok(call) => answer(call, handler).await,
        Err(error) => HttpResponse::from_error(Problem::from(error)),
    }
}

async fn answer(call: Call, handler: impl AsyncFn(&Call) -> Answer) -> HttpResponse {
    match Box::pin(handler(&call)).await {
        Ok(answer) => answer,
        Err(error) => HttpResponse::from_error(problem::in_frame(error, &call)),
    }
}
