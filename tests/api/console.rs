//! The console without a browser: roles, rights, headers, forms.

mod browser;
mod first;
mod fleet;
