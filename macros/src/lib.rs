//! The procedural macros of `rowhouse`, which exports them.

mod embed;
mod test;

use proc_macro::TokenStream;

/// Expands to the files of a folder, as `&[(name, bytes)]`. The path is relative to the `Cargo.toml` of the crate that
/// calls it. `rowhouse::embed_migrations!` makes a set of them.
#[proc_macro]
pub fn embed_folder(input: TokenStream) -> TokenStream {
    embed::folder(input)
}

/// Makes a test of an async function that takes one fixture: a `TestTenant` or a `TestServer` of the application that the
/// argument returns.
#[proc_macro_attribute]
pub fn test(application: TokenStream, function: TokenStream) -> TokenStream {
    test::expand(application, function)
}
