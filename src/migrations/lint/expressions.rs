//! Checks the parts of statements: expressions, queries and the relations that they name.

use std::ops::ControlFlow;

use sqlparser::ast::{
    ConflictTarget, Expr, Function, ObjectName, OnConflictAction, OnInsert, Select, SelectItem,
    Spanned, Statement, Visit, Visitor,
};

use crate::migrations::lint::{Linter, Rule};

/// Schemas that exist on every node.
const SHARED_SCHEMAS: [&str; 4] = ["pg_catalog", "information_schema", "extensions", "pg_temp"];

/// Functions whose result may differ from call to call.
const VOLATILE: [&str; 22] = [
    "clock_timestamp",
    "currval",
    "gen_random_bytes",
    "gen_random_uuid",
    "gen_salt",
    "lastval",
    "nextval",
    "pg_notify",
    "pg_sleep",
    "random",
    "random_normal",
    "set_config",
    "setseed",
    "setval",
    "statement_timestamp",
    "timeofday",
    "uuid_generate_v1",
    "uuid_generate_v1mc",
    "uuid_generate_v4",
    "uuidv4",
    "uuidv7",
    "txid_current",
];

/// Functions whose result depends on the session's settings, so that applied to columns it may differ between nodes.
const STABLE: [&str; 19] = [
    "age",
    "array_to_string",
    "concat",
    "concat_ws",
    "current_setting",
    "date_part",
    "date_trunc",
    "format",
    "json_build_array",
    "json_build_object",
    "jsonb_build_array",
    "jsonb_build_object",
    "row_to_json",
    "timezone",
    "to_char",
    "to_date",
    "to_json",
    "to_jsonb",
    "to_timestamp",
];

/// Functions that give the same value for all rows of a statement.
const ROW_INDEPENDENT: [&str; 25] = [
    "now",
    "current_timestamp",
    "current_date",
    "current_time",
    "current_user",
    "localtime",
    "localtimestamp",
    "session_user",
    "transaction_timestamp",
    "statement_timestamp",
    "current_setting",
    "coalesce",
    "date_trunc",
    "decode",
    "encode",
    "json_build_array",
    "json_build_object",
    "jsonb_build_array",
    "jsonb_build_object",
    "lower",
    "make_interval",
    "md5",
    "to_timestamp",
    "upper",
    "length",
];

/// Checks all parts of a statement, including the statements in its `WITH`.
pub(super) fn check(linter: &mut Linter<'_>, statement: &Statement) {
    let _ = statement.visit(&mut ExpressionRules(linter));
}

/// Whether a default may differ from row to row: it calls a function that is not in [`ROW_INDEPENDENT`].
pub(super) fn differs_by_row(default: &Expr) -> bool {
    functions(default).iter().any(|name| !ROW_INDEPENDENT.contains(&name.as_str()))
}

/// Checks the schema that a name is qualified with.
pub(super) fn check_schema(linter: &mut Linter<'_>, name: &ObjectName) {
    let Some(schema) = name.0.len().checked_sub(2).and_then(|at| name.0.get(at)) else { return };
    let schema = schema.as_ident().map(crate::migrations::lint::folded).unwrap_or_default();
    if !SHARED_SCHEMAS.contains(&schema.as_str()) {
        linter.report(Rule::CrossSchema, name.span().start.line);
    }
}

struct ExpressionRules<'a, 'b>(&'a mut Linter<'b>);

impl Visitor for ExpressionRules<'_, '_> {
    type Break = ();

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<()> {
        check_write(self.0, statement);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        check_star(self.0, &select.projection);
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        check_schema(self.0, relation);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr {
            check_schema(self.0, &function.name);
            let line = function.name.span().start.line;
            match name_of(function).as_str() {
                "nextval" | "setval" | "currval" => self.0.report(Rule::Sequence, line),
                name if name.contains("advisory_lock") && !name.contains("_xact") => {
                    self.0.report(Rule::SessionLock, line);
                }
                _ => {}
            }
        }
        ControlFlow::Continue(())
    }
}

/// Checks that a write gives the same result on each node.
fn check_write(linter: &mut Linter<'_>, statement: &Statement) {
    match statement {
        Statement::Update(update) => {
            for assignment in &update.assignments {
                check_determinism(linter, &assignment.value);
            }
            check_determinism(linter, &update.selection);
            check_returning(linter, update.returning.as_deref());
        }
        Statement::Delete(delete) => {
            check_determinism(linter, &delete.selection);
            check_returning(linter, delete.returning.as_deref());
        }
        Statement::Insert(insert) => {
            if let Some(OnInsert::OnConflict(conflict)) = &insert.on {
                if let Some(ConflictTarget::OnConstraint(name)) = &conflict.conflict_target {
                    check_schema(linter, name);
                }
                if let OnConflictAction::DoUpdate(update) = &conflict.action {
                    for assignment in &update.assignments {
                        check_determinism(linter, &assignment.value);
                    }
                    check_determinism(linter, &update.selection);
                }
            }
            check_returning(linter, insert.returning.as_deref());
        }
        Statement::Merge(merge) => check_determinism(linter, merge),
        _ => {}
    }
}

fn check_returning(linter: &mut Linter<'_>, items: Option<&[SelectItem]>) {
    for item in items.unwrap_or_default() {
        check_determinism(linter, item);
    }
    check_star(linter, items.unwrap_or_default());
}

fn check_star(linter: &mut Linter<'_>, items: &[SelectItem]) {
    for item in items {
        if matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)) {
            linter.report(Rule::SelectStar, item.span().start.line);
        }
    }
}

/// Reports functions whose result may differ between nodes: volatile ones anywhere, stable ones applied to columns.
fn check_determinism(linter: &mut Linter<'_>, part: &impl Visit) {
    struct Differing<'a, 'b>(&'a mut Linter<'b>);
    impl Visitor for Differing<'_, '_> {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            if let Expr::Function(function) = expr {
                let name = name_of(function);
                let differs = VOLATILE.contains(&name.as_str())
                    || (STABLE.contains(&name.as_str()) && has_column(&function.args));
                if differs {
                    self.0.report(Rule::VolatileOverColumns, function.name.span().start.line);
                }
            }
            ControlFlow::Continue(())
        }
    }
    let _ = part.visit(&mut Differing(linter));
}

fn has_column(part: &impl Visit) -> bool {
    struct Columns;
    impl Visitor for Columns {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Identifier(_) | Expr::CompoundIdentifier(_) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    part.visit(&mut Columns).is_break()
}

fn functions(expr: &Expr) -> Vec<String> {
    struct Names(Vec<String>);
    impl Visitor for Names {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            if let Expr::Function(function) = expr {
                self.0.push(name_of(function));
            }
            ControlFlow::Continue(())
        }
    }
    let mut names = Names(Vec::new());
    let _ = expr.visit(&mut names);
    names.0
}

/// Returns a function's name without its schema.
fn name_of(function: &Function) -> String {
    crate::migrations::lint::relation(&function.name).to_lowercase()
}
