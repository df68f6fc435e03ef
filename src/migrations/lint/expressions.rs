//! Judges what stands inside of statements: expressions, queries, the relations that they name.

use std::ops::ControlFlow;

use sqlparser::ast::{
    ConflictTarget, Expr, Function, ObjectName, OnConflictAction, OnInsert, Select, SelectItem,
    Spanned, Statement, Visit, Visitor,
};

use crate::migrations::lint::{Look, Rule};

/// Schemas that every node has.
const EVERYWHERE: [&str; 4] = ["pg_catalog", "information_schema", "extensions", "pg_temp"];

/// Functions whose result differs from call to call.
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

/// Functions whose result depends on the session's settings, so that over columns it may differ from node
/// to node.
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

/// Functions that a default may call and stay one value for all rows.
const ONE_VALUE: [&str; 25] = [
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

/// Looks at everything inside of a statement, those statements too that stand in its `WITH`.
pub(super) fn check(look: &mut Look<'_>, statement: &Statement) {
    let _ = statement.visit(&mut Inside(look));
}

/// Whether a default may differ from row to row: it calls a function that is not known to be good.
pub(super) fn differs_by_row(default: &Expr) -> bool {
    functions(default).iter().any(|name| !ONE_VALUE.contains(&name.as_str()))
}

/// Judges a relation or function by the schema that it names.
pub(super) fn check_schema(look: &mut Look<'_>, name: &ObjectName) {
    let Some(schema) = name.0.len().checked_sub(2).and_then(|at| name.0.get(at)) else { return };
    let schema = schema.as_ident().map(crate::migrations::lint::folded).unwrap_or_default();
    if !EVERYWHERE.contains(&schema.as_str()) {
        look.find(Rule::CrossSchema, name.span().start.line);
    }
}

struct Inside<'a, 'b>(&'a mut Look<'b>);

impl Visitor for Inside<'_, '_> {
    type Break = ();

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<()> {
        write(self.0, statement);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        star(self.0, &select.projection);
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
                "nextval" | "setval" | "currval" => self.0.find(Rule::Sequence, line),
                name if name.contains("advisory_lock") && !name.contains("_xact") => {
                    self.0.find(Rule::SessionLock, line);
                }
                _ => {}
            }
        }
        ControlFlow::Continue(())
    }
}

/// Judges what a statement writes, by what it would compute on each node.
fn write(look: &mut Look<'_>, statement: &Statement) {
    match statement {
        Statement::Update(update) => {
            for assignment in &update.assignments {
                same_everywhere(look, &assignment.value);
            }
            same_everywhere(look, &update.selection);
            returning(look, update.returning.as_deref());
        }
        Statement::Delete(delete) => {
            same_everywhere(look, &delete.selection);
            returning(look, delete.returning.as_deref());
        }
        Statement::Insert(insert) => {
            if let Some(OnInsert::OnConflict(conflict)) = &insert.on {
                if let Some(ConflictTarget::OnConstraint(name)) = &conflict.conflict_target {
                    check_schema(look, name);
                }
                if let OnConflictAction::DoUpdate(update) = &conflict.action {
                    for assignment in &update.assignments {
                        same_everywhere(look, &assignment.value);
                    }
                    same_everywhere(look, &update.selection);
                }
            }
            returning(look, insert.returning.as_deref());
        }
        Statement::Merge(merge) => same_everywhere(look, merge),
        _ => {}
    }
}

fn returning(look: &mut Look<'_>, items: Option<&[SelectItem]>) {
    for item in items.unwrap_or_default() {
        same_everywhere(look, item);
    }
    star(look, items.unwrap_or_default());
}

fn star(look: &mut Look<'_>, items: &[SelectItem]) {
    for item in items {
        if matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)) {
            look.find(Rule::SelectStar, item.span().start.line);
        }
    }
}

/// Finds functions that may differ: volatile ones anywhere, stable ones over columns.
fn same_everywhere(look: &mut Look<'_>, part: &impl Visit) {
    struct Differing<'a, 'b>(&'a mut Look<'b>);
    impl Visitor for Differing<'_, '_> {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            if let Expr::Function(function) = expr {
                let name = name_of(function);
                let differs = VOLATILE.contains(&name.as_str())
                    || (STABLE.contains(&name.as_str()) && has_column(&function.args));
                if differs {
                    self.0.find(Rule::VolatileOverColumns, function.name.span().start.line);
                }
            }
            ControlFlow::Continue(())
        }
    }
    let _ = part.visit(&mut Differing(look));
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

/// A function's name without its schema.
fn name_of(function: &Function) -> String {
    crate::migrations::lint::relation(&function.name).to_lowercase()
}
