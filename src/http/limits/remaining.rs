//! What remains of the limits that a request was counted by, as the headers of its answer tell
//! (draft-ietf-httpapi-ratelimit-headers).

use std::cell::RefCell;
use std::fmt::Write as _;
use std::rc::Rc;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

use super::rate::{Left, Rate};
use super::whole_seconds;

/// The header of what is left.
pub const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// The header of the limits.
pub const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What remains of one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RemainingOf {
    /// The limit, in the words of the headers.
    pub(super) name: &'static str,
    pub(super) rate: Rate,
    pub(super) left: Left,
}

/// What remains of all limits that a request was counted by. The clones share it.
#[derive(Debug, Clone, Default)]
pub struct Remaining(Rc<RefCell<Vec<RemainingOf>>>);

impl Remaining {
    pub(super) fn note(&self, remaining: RemainingOf) {
        let mut all = self.0.borrow_mut();
        all.retain(|other| other.name != remaining.name);
        all.push(remaining);
    }

    /// Writes the headers of an answer, if its request was counted.
    pub fn write(&self, headers: &mut HeaderMap) {
        let (mut policies, mut left) = (String::new(), String::new());
        for RemainingOf { name, rate, left: Left { requests, reset } } in self.0.borrow().iter() {
            let comma = if policies.is_empty() { "" } else { ", " };
            let reset = whole_seconds(*reset).as_secs();
            let _ = write!(policies, "{comma}\"{name}\";q={};w=60", rate.per_minute);
            let _ = write!(left, "{comma}\"{name}\";r={requests};t={reset}");
        }
        if policies.is_empty() {
            return;
        }
        for (name, value) in [(RATE_LIMIT_POLICY, policies), (RATE_LIMIT, left)] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
    }
}
