//! Adds the routes of the `mount` functions to a worker, which serves them, or to the OpenAPI document.
//!
//! A worker does not collect the handlers' documentation: it would be the whole document once more, about seven
//! megabytes that the allocator keeps for each worker.

use actix_web::dev::HttpServiceFactory;
use actix_web::web::ServiceConfig;
use utoipa::openapi::{Components, OpenApi};
use utoipa_actix_web::OpenApiFactory;

/// The destination of routes.
pub enum Mount<'a> {
    /// A worker.
    Worker(&'a mut ServiceConfig),
    /// The OpenAPI document.
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

    /// Adds pages for people, which are in no document.
    pub fn pages(&mut self, mount: impl FnOnce(&mut ServiceConfig)) -> &mut Self {
        if let Self::Worker(config) = self {
            mount(config);
        }
        self
    }

    /// Adds the handlers of another `mount` function.
    pub fn configure(&mut self, mount: impl FnOnce(&mut Self)) -> &mut Self {
        mount(self);
        self
    }
}
