//! Reads parts of a syntax tree.

use sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident,
    ObjectName, Value,
};

use crate::migrations::lint::folded;

/// The expression under casts and parentheses.
pub(super) fn bare(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(inner)
        | Expr::Cast { expr: inner, .. }
        | Expr::Collate { expr: inner, .. } => bare(inner),
        other => other,
    }
}

/// A column's name and what it is qualified with.
pub(super) fn name(expr: &Expr) -> Option<(Option<String>, String)> {
    let parts: &[Ident] = match expr {
        Expr::Identifier(ident) => std::slice::from_ref(ident),
        Expr::CompoundIdentifier(parts) => parts,
        _ => return None,
    };
    let (column, before) = parts.split_last()?;
    Some((before.last().map(folded), folded(column)))
}

/// The last part of a name.
pub(super) fn last(name: &ObjectName) -> Option<String> {
    name.0.last().and_then(|part| part.as_ident()).map(folded)
}

/// Whether an operator is `=`.
pub(super) fn is_equality(op: &BinaryOperator) -> bool {
    match op {
        BinaryOperator::Eq => true,
        BinaryOperator::PGCustomBinaryOperator(parts) => parts.last().is_some_and(|op| op == "="),
        _ => false,
    }
}

/// Whether a function has one of these names.
pub(super) fn is_one_of(function: &Function, names: &[&str]) -> bool {
    last(&function.name).is_some_and(|name| names.contains(&name.as_str()))
}

/// The arguments of a function that are expressions.
pub(super) fn arguments(function: &Function) -> impl Iterator<Item = &Expr> {
    let list = match &function.args {
        FunctionArguments::List(list) => list.args.as_slice(),
        FunctionArguments::None | FunctionArguments::Subquery(_) => &[],
    };
    list.iter().filter_map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    })
}

/// The text of a literal.
pub(super) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::SingleQuotedString(text)
        | Value::EscapedStringLiteral(text)
        | Value::UnicodeStringLiteral(text)
        | Value::NationalStringLiteral(text) => Some(text),
        Value::DollarQuotedString(text) => Some(&text.value),
        _ => None,
    }
}
