//! Makes a function with `#[test]` around an async function.

use proc_macro::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};

const USAGE: &str = "expected `#[rowhouse::test(application)]` on an `async fn` with one argument, where `application` is a \
                     function that returns a `rowhouse::Application`";

/// The parts of an async function.
struct Function {
    /// Attributes and comments.
    attributes: TokenStream,
    /// The function without them.
    item: TokenStream,
    name: Ident,
    /// `-> T`, or nothing.
    output: TokenStream,
}

pub(crate) fn expand(application: TokenStream, function: TokenStream) -> TokenStream {
    let parsed = if application.is_empty() { None } else { Function::parse(function.clone()) };
    let Some(Function { attributes, item, name, output }) = parsed else {
        // The function stays, so that this is the only error.
        let mut tokens = compile_error(USAGE);
        tokens.extend(function);
        return tokens;
    };
    let mut body = item;
    let mut call = TokenStream::new();
    call.extend(application);
    call.extend(parse(","));
    call.extend([TokenTree::Ident(name.clone())]);
    body.extend(parse("::rowhouse::testing::run"));
    body.extend([group(Delimiter::Parenthesis, call)]);

    let mut tokens = attributes;
    tokens.extend(parse("#[::core::prelude::v1::test] fn"));
    tokens.extend([TokenTree::Ident(name), group(Delimiter::Parenthesis, TokenStream::new())]);
    tokens.extend(output);
    tokens.extend([group(Delimiter::Brace, body)]);
    tokens
}

impl Function {
    /// Reads `#[..] pub async fn name(..) -> T { .. }`.
    fn parse(tokens: TokenStream) -> Option<Self> {
        let mut tokens = tokens.into_iter().peekable();
        let mut attributes = TokenStream::new();
        while tokens.peek().is_some_and(|token| token.to_string() == "#") {
            attributes.extend(tokens.by_ref().take(2));
        }
        let rest: Vec<TokenTree> = tokens.collect();
        let is_word = |at: usize, word: &str| {
            matches!(rest.get(at), Some(TokenTree::Ident(ident)) if ident.to_string() == word)
        };
        let at = (0..rest.len()).find(|at| is_word(*at, "fn"))?;
        if !(0..at).any(|before| is_word(before, "async")) {
            return None;
        }
        let Some(TokenTree::Ident(name)) = rest.get(at + 1).cloned() else { return None };
        let arguments = rest.get(at + 2)?;
        let Some(TokenTree::Group(body)) = rest.last() else { return None };
        let has_arguments = matches!(
            arguments,
            TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis && !group.stream().is_empty()
        );
        if !has_arguments || body.delimiter() != Delimiter::Brace {
            return None;
        }
        let output = rest.get(at + 3..rest.len() - 1)?.iter().cloned().collect();
        // The visibility before `async` is that of the test.
        let first = (0..at).find(|before| is_word(*before, "async"))?;
        let item = rest.into_iter().skip(first).collect();
        Some(Self { attributes, item, name, output })
    }
}

fn group(delimiter: Delimiter, tokens: TokenStream) -> TokenTree {
    TokenTree::Group(Group::new(delimiter, tokens))
}

/// Returns tokens that resolve where the macro is called.
fn parse(text: &str) -> TokenStream {
    text.parse().unwrap_or_default()
}

fn compile_error(message: &str) -> TokenStream {
    let tokens = parse(&format!("::core::compile_error!({message:?});"));
    tokens
        .into_iter()
        .map(|mut token| {
            token.set_span(Span::call_site());
            token
        })
        .collect()
}
