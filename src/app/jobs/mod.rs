//! Work that the server does in the background.

pub(super) mod fleet;
pub(super) mod vacancies;
