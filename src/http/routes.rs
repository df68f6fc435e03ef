//! Answers requests that no handler answers: `OPTIONS`, a wrong method on a known path, an unknown path.
//!
//! A 405 always lists the methods in `Allow` (RFC 9110, 15.5.6), in the form of the dialect.

use std::sync::OnceLock;

use actix_web::body::{BodySize, BoxBody, EitherBody, MessageBody};
use actix_web::dev::{ResourceDef, ServiceResponse};
use actix_web::http::header::{ACCEPT, ALLOW, HeaderValue, LOCATION};
use actix_web::http::{Method, StatusCode};
use actix_web::introspection::{IntrospectionNode, IntrospectionTree};
use actix_web::{HttpRequest, HttpResponse, web};

use super::{Served, Site, host, refuse};
use crate::domain::error::{Error, Malformed, Noun};

/// The order in which `Allow` lists methods, after those that only an application uses.
const LISTED: [Method; 5] = [Method::GET, Method::PUT, Method::POST, Method::DELETE, Method::PATCH];

/// The address of the console.
const CONSOLE: &str = "/console";

/// The paths that are served and their methods, to distinguish a wrong method from an unknown path. They are read at the
/// first use from actix-web, which knows them once the server runs.
#[derive(Default)]
pub struct Routes(OnceLock<Vec<Route>>);

struct Route {
    path: ResourceDef,
    methods: Vec<Method>,
}

impl Routes {
    /// Returns the methods of a path; none if the path is unknown.
    fn methods(&self, request: &HttpRequest) -> Vec<Method> {
        let known = request.app_data::<web::Data<IntrospectionTree>>();
        let Some(tree) = known else { return Vec::new() };
        let routes = self.0.get_or_init(|| routes_below(&tree.root));
        let matching = routes.iter().filter(|route| route.path.is_match(request.path()));
        let mut methods: Vec<Method> =
            matching.flat_map(|route| route.methods.iter().cloned()).collect();
        methods.sort_by_key(|method| LISTED.iter().position(|listed| listed == method));
        methods
    }
}

/// Returns the routes of a node and its descendants that are limited to some methods.
fn routes_below(node: &IntrospectionNode) -> Vec<Route> {
    let mut routes: Vec<Route> = node.children.iter().flat_map(routes_below).collect();
    if !node.methods.is_empty() {
        let path = ResourceDef::new(node.full_path.as_str());
        routes.push(Route { path, methods: node.methods.clone() });
    }
    routes
}

/// Returns what is served at the host of a request.
fn served(request: &HttpRequest) -> Served {
    let Some(site) = request.app_data::<web::Data<Site>>() else { return Served::all() };
    let served = site.settings.served;
    let has_console = served.has_console() && host::has_console(request.head(), &site.settings);
    served.with_console(has_console)
}

/// Returns whether a request is a browser's for the address that the server prints.
fn asks_for_a_page(request: &HttpRequest) -> bool {
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
    request.path() == "/"
        && *request.method() == Method::GET
        && accept.is_some_and(|accept| accept.contains("text/html"))
}

/// Answers requests that no route matches. A known path that refuses a request for another reason than its method (a
/// guard of the application) is answered as unknown.
pub async fn fallback(request: HttpRequest, routes: web::Data<Routes>) -> HttpResponse {
    if asks_for_a_page(&request) && served(&request).has_console() {
        return HttpResponse::SeeOther().insert_header((LOCATION, CONSOLE)).finish();
    }
    let methods = routes.methods(&request);
    if methods.is_empty() || methods.contains(request.method()) {
        return refuse(served(&request), request.path(), Error::NotFound(Noun::Route));
    }
    wrong_method(&request, &methods)
}

/// Replaces the empty 405 answer of an application's resource by one in our form.
pub(super) fn method_not_allowed_in_form<B: MessageBody + 'static>(
    answer: ServiceResponse<B>,
) -> ServiceResponse<EitherBody<B>> {
    let is_bare = answer.status() == StatusCode::METHOD_NOT_ALLOWED
        && matches!(answer.response().body().size(), BodySize::None | BodySize::Sized(0));
    let allow = answer.headers().get(ALLOW).and_then(|value| value.to_str().ok());
    let Some(allow) = allow.filter(|_| is_bare) else { return answer.map_into_left_body() };
    let methods: Vec<Method> =
        allow.split(',').filter_map(|method| method.trim().parse().ok()).collect();
    let shaped: HttpResponse<BoxBody> = wrong_method(answer.request(), &methods);
    answer.into_response(shaped).map_into_right_body()
}

/// Answers with the methods of the path: 204 to `OPTIONS`, 405 otherwise.
fn wrong_method(request: &HttpRequest, methods: &[Method]) -> HttpResponse {
    let mut answer = match *request.method() {
        Method::OPTIONS => HttpResponse::NoContent().finish(),
        _ => refuse(served(request), request.path(), Error::Malformed(Malformed::Method)),
    };
    let mut all: Vec<&str> = Vec::new();
    // `HEAD` is routed as `GET`, and `OPTIONS` is answered here.
    let implied = [Method::HEAD, Method::OPTIONS];
    for method in methods.iter().filter(|method| !implied.contains(method)) {
        if !all.contains(&method.as_str()) {
            all.push(method.as_str());
            all.extend((*method == Method::GET).then_some("HEAD"));
        }
    }
    all.push("OPTIONS");
    let allow = all.join(", ");
    if let Ok(allow) = HeaderValue::from_str(&allow) {
        answer.headers_mut().insert(ALLOW, allow);
    }
    answer
}
