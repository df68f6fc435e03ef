//! A function of `service` that other layers can call and that is async (only such a one reaches the
//! database) begins with its rights check. What counts as the check is decided by syntax alone. The
//! first statement of the body, without a leading `let .. =`, is one of
//!
//! - `ctx.require(..)?`, `ctx.require_in(..)?`, `ctx.require_authenticated()?`, `ctx.require_session()?` or
//!   `ctx.reach(..)?`;
//! - `require_..(ctx, ..)?`: a function of the service layer that combines these;
//! - `self.method(ctx, ..).await?`: another method of the same type for which the same holds. Where
//!   it is the whole body, it needs no `?`.
//!
//! A parameter of a type in [`PROOFS`] replaces the check, because the type can only be obtained
//! through one. A name that ends in `_unauthorized` says that the function checks nothing; any other
//! exception is a line in [`UNCHECKED`].
//!
//! `pub(super)` and `pub(in crate::service..)` do not leave the layer and are not checked. Neither
//! are trait implementations: a service has no trait that another layer calls.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::sources;
use super::tokens::{attribute_at, is_punct};

/// Types that prove a rights check.
const PROOFS: &[(&str, &str)] =
    &[("Pass", "System::pass gives it after the rights check, the unlock and the audit event")];

/// Functions without a rights check whose name does not say so, and why.
const UNCHECKED: &[(&str, &str)] = &[
    ("Identity::of_bearer", "finds the principal on which rights are checked"),
    ("Identity::of_api_key", "finds the principal on which rights are checked"),
    ("Identity::of_xtoken", "finds the principal on which rights are checked"),
    ("Sessions::log_in", "the password is the credential"),
    ("ConsoleSessions::sign_in", "the password is the credential"),
    ("ConsoleSessions::sign_in_by_token", "the token is the credential"),
    ("ConsoleSessions::find", "finds the principal on which rights are checked"),
    ("Invitations::accept", "the token of the invitation is the credential"),
    ("Sessions::refresh", "the refresh token is the credential"),
    ("Sessions::log_out_by_refresh", "the refresh token is the credential"),
    ("Sessions::log_out_by_access", "the access token is the credential"),
    ("Engine::stop", "ends the work of this process when it shuts down; no caller asks for it"),
    ("Fleet::stop", "ends the work of this process when it shuts down; no caller asks for it"),
    ("Engine::stop_at_once", "as Engine::stop"),
    ("Examiner::stop", "as Engine::stop"),
    ("Keeper::stop", "as Engine::stop"),
    ("Fleet::stop_at_once", "as Fleet::stop"),
    ("TenantTx::commit", "Tenants::begin gives the transaction after the rights check"),
    ("TenantTx::query_and_commit", "as TenantTx::commit"),
    ("Audit::asked", "waits for a signal inside this process and reads nothing"),
    ("Vacancies::asked", "waits for a signal inside this process and reads nothing"),
];

/// The methods of [`CallContext`](rowhouse::auth::CallContext) that refuse a caller.
const CHECKS: &[&str] =
    &["require", "require_in", "require_authenticated", "require_session", "reach"];

#[test]
fn every_service_method_begins_with_its_rights_check() {
    let sources = sources();
    let functions: Vec<Function> = sources
        .iter()
        .filter(|(file, _)| file.starts_with("service/"))
        .flat_map(|(file, source)| functions_in(file, source))
        .collect();
    assert!(functions.iter().filter(|function| function.is_exported).count() > 50, "found too few");
    assert_eq!(unchecked(&functions), Vec::<String>::new());
    for (name, _) in UNCHECKED {
        assert!(functions.iter().any(|function| function.name() == *name), "{name} is gone");
    }
}

/// A function of the service layer.
#[derive(Debug)]
struct Function {
    /// The type whose method it is; empty for a free function.
    owner: String,
    ident: String,
    file: String,
    line: usize,
    /// Whether it is async and another layer can call it.
    is_exported: bool,
    begins_with: FirstStatement,
}

#[derive(Debug, PartialEq, Eq)]
enum FirstStatement {
    /// A rights check, or a proof of one among the parameters.
    Check,
    /// A call of this method of the same type with the same context.
    Method(String),
    Other,
}

impl Function {
    fn name(&self) -> String {
        if self.owner.is_empty() {
            self.ident.clone()
        } else {
            format!("{}::{}", self.owner, self.ident)
        }
    }

    fn is_excepted(&self) -> bool {
        self.ident.ends_with("_unauthorized")
            || UNCHECKED.iter().any(|(name, _)| *name == self.name())
    }
}

/// The exported functions that do not begin with a rights check, one line each.
fn unchecked(functions: &[Function]) -> Vec<String> {
    functions
        .iter()
        .filter(|function| function.is_exported && !function.is_excepted())
        .filter(|function| !is_checked(function, functions, &mut BTreeSet::new()))
        .map(|function| {
            let Function { file, line, .. } = function;
            format!("src/{file}:{line}: {} does not begin with its rights check", function.name())
        })
        .collect()
}

fn is_checked(function: &Function, all: &[Function], seen: &mut BTreeSet<String>) -> bool {
    match &function.begins_with {
        FirstStatement::Check => true,
        FirstStatement::Other => false,
        // Methods that only call each other check nothing.
        FirstStatement::Method(_) if !seen.insert(function.name()) => false,
        FirstStatement::Method(ident) => all
            .iter()
            .find(|other| other.owner == function.owner && other.ident == *ident)
            .is_some_and(|other| is_checked(other, all, seen)),
    }
}

fn functions_in(file: &str, source: &str) -> Vec<Function> {
    let tokens: TokenStream = source.parse().expect("what compiles is made of tokens");
    let mut functions = Vec::new();
    collect_functions(file, "", &tokens.into_iter().collect::<Vec<_>>(), &mut functions);
    functions
}

/// Adds the functions of a module's or an `impl`'s body; test code is left out.
fn collect_functions(file: &str, owner: &str, tokens: &[TokenTree], functions: &mut Vec<Function>) {
    let (mut at, mut in_tests) = (0, false);
    while let Some(token) = tokens.get(at) {
        if let Some(attribute) = attribute_at(tokens, at) {
            in_tests |= attribute.is_test;
            at += attribute.length;
            continue;
        }
        let TokenTree::Ident(word) = token else {
            in_tests &= !is_end(token);
            at += 1;
            continue;
        };
        let is_block = word == "impl" || word == "mod" || word == "trait" || word == "fn";
        let Some((body, next)) = is_block.then(|| brace_after(tokens, at)).flatten() else {
            at += 1;
            continue;
        };
        let head = tokens.get(at..next - 1).unwrap_or_default();
        let body: Vec<_> = body.into_iter().collect();
        match word.to_string().as_str() {
            _ if in_tests => {}
            "mod" => collect_functions(file, owner, &body, functions),
            "impl" => {
                if let Some(owner) = implemented_type(head) {
                    collect_functions(file, &owner, &body, functions);
                }
            }
            "fn" => functions.extend(function(file, owner, tokens, at, head, &body)),
            _ => {}
        }
        in_tests = false;
        at = next;
    }
}

/// Whether a token ends an item.
fn is_end(token: &TokenTree) -> bool {
    match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        token => is_punct(Some(token), ';'),
    }
}

/// The next group in braces, and the position after it; none where a semicolon comes first.
fn brace_after(tokens: &[TokenTree], at: usize) -> Option<(TokenStream, usize)> {
    for (position, token) in tokens.iter().enumerate().skip(at) {
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                return Some((group.stream(), position + 1));
            }
            TokenTree::Punct(punct) if punct.as_char() == ';' => return None,
            _ => {}
        }
    }
    None
}

/// The type of `impl<..> path::Type<..> where ..`; none of `impl Trait for Type`.
fn implemented_type(head: &[TokenTree]) -> Option<String> {
    let (mut depth, mut last) = (0, None);
    for (at, token) in head.iter().enumerate().skip(1) {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '<' => depth += 1,
            TokenTree::Punct(punct)
                if punct.as_char() == '>' && !is_punct(head.get(at - 1), '-') =>
            {
                depth -= 1;
            }
            TokenTree::Ident(word) if depth == 0 && word == "for" => return None,
            TokenTree::Ident(word) if depth == 0 && word == "where" => break,
            TokenTree::Ident(word) if depth == 0 => last = Some(word.to_string()),
            _ => {}
        }
    }
    last
}

/// The function whose `fn` is at `at`; `head` reaches from there to its body.
fn function(
    file: &str,
    owner: &str,
    tokens: &[TokenTree],
    at: usize,
    head: &[TokenTree],
    body: &[TokenTree],
) -> Option<Function> {
    let ident = head.get(1)?.to_string();
    // Visibility and qualifiers stand before `fn`: `pub(crate) const async unsafe fn`.
    let mut before = tokens.get(..at)?;
    let mut is_async = false;
    while let [rest @ .., TokenTree::Ident(word)] = before {
        if word != "async" && word != "const" && word != "unsafe" {
            break;
        }
        is_async |= word == "async";
        before = rest;
    }
    let is_visible = match before {
        [.., TokenTree::Ident(word)] => word == "pub",
        [.., TokenTree::Ident(word), TokenTree::Group(within)] if word == "pub" => {
            let within: String =
                within.stream().to_string().chars().filter(|c| !c.is_whitespace()).collect();
            within == "crate" || within == "incrate"
        }
        _ => false,
    };
    let is_proven = head.iter().any(|token| match token {
        TokenTree::Group(parameters) => {
            let parameters: Vec<_> = parameters.stream().into_iter().collect();
            parameters.windows(2).any(|pair| match pair {
                [colon, TokenTree::Ident(word)] => {
                    is_punct(Some(colon), ':') && PROOFS.iter().any(|(proof, _)| word == proof)
                }
                _ => false,
            })
        }
        _ => false,
    });
    Some(Function {
        owner: owner.to_owned(),
        ident,
        file: file.to_owned(),
        line: head.first()?.span().start().line,
        is_exported: is_async && is_visible,
        begins_with: if is_proven { FirstStatement::Check } else { first_statement(body) },
    })
}

/// What the first statement of a body is.
fn first_statement(body: &[TokenTree]) -> FirstStatement {
    let end = body.iter().position(|token| is_punct(Some(token), ';'));
    let mut statement = body.get(..end.unwrap_or(body.len())).unwrap_or_default();
    if matches!(statement.first(), Some(TokenTree::Ident(word)) if word == "let") {
        let Some(equals) = statement.iter().position(|token| is_punct(Some(token), '=')) else {
            return FirstStatement::Other;
        };
        statement = statement.get(equals + 1..).unwrap_or_default();
    }
    let is_question = |token: Option<&TokenTree>| is_punct(token, '?');
    // Only the value of the whole body goes to the caller, refusal and all.
    let is_propagated = is_question(statement.last()) || end.is_none();
    if is_question(statement.last()) {
        statement = statement.split_last().map_or(&[][..], |(_, rest)| rest);
    }
    if !is_propagated {
        return FirstStatement::Other;
    }
    match statement {
        [TokenTree::Ident(ctx), dot, TokenTree::Ident(check), TokenTree::Group(_)]
            if ctx == "ctx"
                && is_punct(Some(dot), '.')
                && CHECKS.iter().any(|known| check == known) =>
        {
            FirstStatement::Check
        }
        [TokenTree::Ident(check), TokenTree::Group(arguments)]
            if check.to_string().starts_with("require_") && passes_context(arguments) =>
        {
            FirstStatement::Check
        }
        [
            TokenTree::Ident(this),
            dot,
            TokenTree::Ident(method),
            TokenTree::Group(arguments),
            other_dot,
            TokenTree::Ident(awaited),
        ] if this == "self"
            && is_punct(Some(dot), '.')
            && passes_context(arguments)
            && is_punct(Some(other_dot), '.')
            && awaited == "await" =>
        {
            FirstStatement::Method(method.to_string())
        }
        _ => FirstStatement::Other,
    }
}

/// Whether the first argument is `ctx`.
fn passes_context(arguments: &proc_macro2::Group) -> bool {
    let mut arguments = arguments.stream().into_iter();
    let is_context = matches!(arguments.next(), Some(TokenTree::Ident(word)) if word == "ctx");
    is_context && arguments.next().is_none_or(|token| is_punct(Some(&token), ','))
}

/// The exported functions of a snippet that do not begin with a check.
fn unchecked_in(source: &str) -> Vec<String> {
    unchecked(&functions_in("service/users.rs", source))
}

#[test]
fn a_service_method_without_its_rights_check_is_caught() {
    let bodies = [
        "",
        "self.db.list().await",
        "let tx = self.db.public().await?; ctx.require(Permission::ViewUsers)?; self.read(tx).await",
        "ctx.require(Permission::ViewUsers); self.db.list().await",
        "let _ = ctx.require(Permission::ViewUsers); self.db.list().await",
        "ctx.require(Permission::ViewUsers).ok(); self.db.list().await",
        "ctx.principal.reach(Permission::ViewUsers)?; self.db.list().await",
        "if ctx.require(Permission::ViewUsers).is_ok() { self.db.list().await }",
        "if named { ctx.require(Permission::ViewUsers)?; } self.db.list().await",
        "other.require(Permission::ViewUsers)?; self.db.list().await",
        "require_name(name, ctx)?; self.db.list().await",
        "check(ctx)?; self.db.list().await",
        "self.unchecked(ctx).await",
        "self.checked(other).await",
        "self.users.checked(ctx).await",
        "self.checked(ctx).await; self.db.list().await",
        "self.one(ctx).await",
        "self.elsewhere(ctx).await",
    ];
    for body in bodies {
        let source = format!(
            "impl Users {{
                pub async fn list(&self, ctx: &CallContext) -> Result<()> {{ {body} }}
                async fn unchecked(&self, ctx: &CallContext) {{ self.db.list().await }}
                async fn checked(&self, ctx: &CallContext) -> Result<()> {{ ctx.require(A)?; b() }}
                async fn one(&self, ctx: &CallContext) {{ self.other(ctx).await }}
                async fn other(&self, ctx: &CallContext) {{ self.one(ctx).await }}
            }}
            impl Others {{ async fn elsewhere(&self, ctx: &C) {{ ctx.require(A)?; b() }} }}"
        );
        assert_eq!(unchecked_in(&source).len(), 1, "{body}: {:?}", unchecked_in(&source));
    }
    for (source, name) in [
        ("impl<T: Fn() -> u8> a::Users<T> { pub(crate) async fn list(&self) {} }", "Users::list"),
        ("impl Users { pub(in crate) async fn list(&self) {} }", "Users::list"),
        ("impl Users { pub async fn list<F: Fn(Pass)>(&self) where F: Fn(Pass) {} }", ""),
        ("pub async fn list(ctx: &CallContext) { find(ctx).await }", "list"),
        ("mod inner { impl Users { pub async fn list(&self) {} } }", "Users::list"),
        (
            "#[cfg(test)] mod tests { fn f() {} } impl Users { pub async fn f(&self) {} }",
            "Users::f",
        ),
        ("#[cfg(test)] use a::b; impl Users { pub async fn f(&self) {} }", "Users::f"),
        ("#[cfg(test)] struct A {} impl Users { pub async fn f(&self) {} }", "Users::f"),
    ] {
        let found = unchecked_in(source);
        assert_eq!(found.len(), 1, "{source}: {found:?}");
        assert!(found.iter().all(|what| what.contains(name)), "{source}: {found:?}");
    }
    let found = unchecked_in("impl Users {\n pub async fn list(&self) {}\n}");
    assert_eq!(found, ["src/service/users.rs:2: Users::list does not begin with its rights check"]);
}

#[test]
fn a_service_method_that_begins_with_its_rights_check_passes() {
    let bodies = [
        "ctx.require(Permission::ViewUsers)?; self.db.list().await",
        "ctx.require_in(Permission::ViewUsers, tenant)?; self.db.list().await",
        "ctx.require_authenticated()?; self.db.list().await",
        "let reach = ctx.reach(Permission::ViewUsers)?; self.db.list(reach).await",
        "let reach: Reach = ctx.reach(Permission::ViewUsers)?; self.db.list(reach).await",
        "// why\n ctx.require(Permission::ViewUsers)?; self.db.list().await",
        "let own = require_own_or_any(ctx, tenant)?; self.db.list(own).await",
        "require_operator(ctx)?; self.db.list().await",
        "self.checked(ctx, tenant).await",
        "self.checked(ctx).await?; self.db.list().await",
        "let user = self.twice(ctx, tenant).await?; self.db.list(user).await",
    ];
    for body in bodies {
        let source = format!(
            "impl Users {{
                pub(crate) async fn list(&self, ctx: &CallContext) -> Result<()> {{ {body} }}
            }}
            impl Users {{
                pub async fn twice(&self, ctx: &CallContext) -> Result<()> {{ self.checked(ctx).await }}
                async fn checked(&self, ctx: &CallContext) -> Result<()> {{ ctx.require(A)?; b() }}
            }}"
        );
        assert_eq!(unchecked_in(&source), Vec::<String>::new(), "{body}");
    }
    for source in [
        "impl Users { pub async fn find_unauthorized(&self) {} }",
        "impl Users { pub async fn find(&self, ctx: &CallContext, _: Pass) {} }",
        "impl Identity { pub async fn of_bearer(&self) {} }",
        "impl Users { pub fn measure(&self) {} }",
        "impl Users { async fn find(&self) {} }",
        "impl Users { pub(super) async fn find(&self) {} }",
        "impl Users { pub(in crate::service) async fn find(&self) {} }",
        "pub(in crate::service) async fn find(tx: &PublicTx) {}",
        "impl Drop for Users { fn drop(&mut self) {} }",
        "trait Lists { async fn list(&self); }",
        "#[cfg(test)] mod tests { pub async fn list() {} }",
        "#[cfg(test)] impl Users { pub async fn list(&self) {} }",
    ] {
        assert_eq!(unchecked_in(source), Vec::<String>::new(), "{source}");
    }
}
