//! Distinguishes a request whose body arrives too slowly from one that the server answers too slowly.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::HttpMessage;
use actix_web::dev::{Payload, ServiceRequest};
use actix_web::error::PayloadError;
use actix_web::web::Bytes;
use futures_util::Stream;

/// Whether the reader of a request's body is waiting for more of it.
#[derive(Clone, Default)]
pub(super) struct Waiting(Rc<Cell<bool>>);

impl Waiting {
    /// Watches the body of a request, if it has one.
    pub(super) fn watch(request: &mut ServiceRequest) -> Self {
        let waiting = Self::default();
        match request.take_payload() {
            Payload::None => {}
            payload => {
                let watched = Watched { payload, waiting: waiting.clone() };
                request.set_payload(Payload::Stream { payload: Box::pin(watched) });
            }
        }
        waiting
    }

    /// Returns whether the request is waiting for the rest of its body now.
    pub(super) fn is_on(&self) -> bool {
        self.0.get()
    }
}

struct Watched {
    payload: Payload,
    waiting: Waiting,
}

impl Stream for Watched {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = Pin::new(&mut self.payload).poll_next(context);
        self.waiting.0.set(polled.is_pending());
        polled
    }
}
