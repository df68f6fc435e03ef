//! The console without a browser: roles, rights, headers, forms, sessions.

mod archives;
mod browser;
mod first;
mod fleet;
mod flows;
mod hostile;
mod people;
mod roles;
mod sessions;
mod size;
mod switches;
