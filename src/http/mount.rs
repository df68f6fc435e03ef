//! Takes the routes that the `mount` functions name: into a worker, which serves them, or into the document.
//!
//! A worker does without what a handler says of itself. Collected in each of them, it would be the whole
//! document again, some seven megabytes that the allocator keeps for each worker.

use actix_web::dev::HttpServiceFactory;
use actix_web::web::ServiceConfig;
use utoipa::openapi::{Components, OpenApi};
use utoipa_actix_web::OpenApiFactory;

/// Where routes go.
pub enum Mount<'a> {
    /// Into a worker.
    Worker(&'a mut ServiceConfig),
    /// Into the document.
    Document(&'a mut OpenApi),
}

impl Mount<'_> {
    /// Adds one handler.
    pub fn service<F>(&mut self, handler: F) -> &mut Self
    where
        F: HttpServiceFactory + OpenApiFactory + 'static,
    {
        match self {
            Self::Worker(config) => {
                config.service(handler);
            }
            Self::Document(document) => {
                document.paths.merge(handler.paths());
                let mut schemas = Vec::new();
                handler.schemas(&mut schemas);
                document.components.get_or_insert_with(Components::new).schemas.extend(schemas);
            }
        }
        self
    }

    /// Adds those of another file.
    pub fn configure(&mut self, mount: impl FnOnce(&mut Self)) -> &mut Self {
        mount(self);
        self
    }
}
