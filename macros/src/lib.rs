//! The procedural macros of `rowhouse`, which exports them.

mod embed;

use proc_macro::TokenStream;

/// Expands to the files of a folder, as `&[(name, bytes)]`. The path is relative to the `Cargo.toml` of the crate that
/// calls it. `rowhouse::embed_migrations!` makes a set of them.
#[proc_macro]
pub fn embed_folder(input: TokenStream) -> TokenStream {
    embed::folder(input)
}
