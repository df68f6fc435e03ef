//! Checks statements that the parser supports: tables, changes of tables, and other objects of a schema.

use sqlparser::ast::{
    AlterColumnOperation, AlterTable, AlterTableOperation, ColumnDef, ColumnOption,
    ConstraintCharacteristics, CreateFunction, CreateIndex, CreateTable, DataType,
    DeferrableInitial, Expr, FunctionBehavior, Ident, ObjectName, ObjectType, RenameTableNameKind,
    Spanned, Statement, TableConstraint,
};
use sqlparser::tokenizer::TokenWithSpan;

use crate::migrations::lint::words::Effects;
use crate::migrations::lint::{Linter, Rule, expressions, folded, relation, words};

pub(super) fn check(linter: &mut Linter<'_>, statement: &Statement, tokens: &[TokenWithSpan]) {
    expressions::check(linter, statement);
    let line = linter.line;
    match statement {
        Statement::CreateTable(create) => create_table(linter, create),
        Statement::AlterTable(alter) => alter_table(linter, alter),
        Statement::CreateIndex(create) => create_index(linter, create),
        Statement::CreateView(create) => {
            linter.state.created_here.insert(relation(&create.name));
        }
        Statement::CreateFunction(function) => create_function(linter, function, tokens),
        Statement::CreateProcedure { name, .. } => {
            create_routine(linter, name);
            words::function(linter, tokens, Effects::Writes);
        }
        Statement::DropFunction(drop) => {
            for routine in &drop.func_desc {
                drop_routine(linter, &routine.name);
            }
        }
        Statement::DropProcedure { proc_desc, .. } => {
            for routine in proc_desc {
                drop_routine(linter, &routine.name);
            }
        }
        Statement::CreateSequence { .. } => linter.report(Rule::Sequence, line),
        Statement::CreateType { .. } | Statement::AlterType(_) | Statement::CreateDomain(_) => {
            linter.report(Rule::OwnType, line);
        }
        Statement::CreateTrigger(_) => linter.report(Rule::Trigger, line),
        Statement::CreateExtension(_) => linter.report(Rule::Extension, line),
        Statement::CreateSchema { .. } => linter.report(Rule::CrossSchema, line),
        Statement::Vacuum(vacuum) if vacuum.full => linter.report(Rule::VacuumFull, line),
        Statement::Lock(_) | Statement::LockTables { .. } => linter.report(Rule::LockTable, line),
        Statement::Truncate(truncate) => {
            for table in &truncate.table_names {
                if !linter.is_new(&relation(&table.name)) {
                    linter.report(Rule::Truncate, line);
                }
            }
        }
        Statement::Drop { object_type, names, .. } => drop(linter, *object_type, names),
        _ => {}
    }
}

fn create_table(linter: &mut Linter<'_>, create: &CreateTable) {
    let table = relation(&create.name);
    let exists = create.if_not_exists && linter.state.created_before.contains(&table);
    let mut has_key = create.temporary || create.partition_of.is_some();
    for column in &create.columns {
        has_key |= column_def(linter, column);
        note_column_constraints(linter, &table, column);
    }
    for rule in &create.constraints {
        has_key |= matches!(rule, TableConstraint::PrimaryKey(_));
        constraint(linter, rule);
        note_constraint(linter, &table, rule);
    }
    if !has_key {
        linter.state.keyless.insert(table.clone(), linter.line);
    }
    if !exists {
        linter.state.created_here.insert(table);
    }
}

/// Notes the constraints of a column that are no keys, by their names or those that the server gives them.
fn note_column_constraints(linter: &mut Linter<'_>, table: &str, column: &ColumnDef) {
    for option in &column.options {
        let (inner, suffix) = match &option.option {
            ColumnOption::Check(check) => (check.name.as_ref(), "check"),
            ColumnOption::ForeignKey(key) => (key.name.as_ref(), "fkey"),
            _ => continue,
        };
        let name = match option.name.as_ref().or(inner) {
            Some(name) => folded(name),
            None => format!("{table}_{}_{suffix}", folded(&column.name)),
        };
        linter.state.no_keys.insert((table.to_owned(), name));
    }
}

/// Checks a column definition; returns whether the column is the primary key.
fn column_def(linter: &mut Linter<'_>, column: &ColumnDef) -> bool {
    let line = column.name.span.start.line;
    if let DataType::Custom(name, _) = &column.data_type {
        let serials = ["serial", "serial2", "serial4", "serial8", "bigserial", "smallserial"];
        if serials.contains(&relation(name).as_str()) {
            linter.report(Rule::Sequence, line);
        }
        expressions::check_schema(linter, name);
    }
    let mut is_key = false;
    for option in &column.options {
        let (inner, characteristics): (Option<&Ident>, _) = match &option.option {
            ColumnOption::PrimaryKey(key) => {
                is_key = true;
                (key.name.as_ref(), key.characteristics)
            }
            ColumnOption::Unique(key) => (key.name.as_ref(), key.characteristics),
            ColumnOption::ForeignKey(key) => {
                expressions::check_schema(linter, &key.foreign_table);
                (key.name.as_ref(), key.characteristics)
            }
            ColumnOption::Check(check) => (check.name.as_ref(), None),
            ColumnOption::Generated { generation_expr: None, .. } | ColumnOption::Identity(_) => {
                linter.report(Rule::Sequence, line);
                continue;
            }
            _ => continue,
        };
        if option.name.as_ref().or(inner).is_none() {
            linter.report(Rule::UnnamedConstraint, line);
        }
        check_deferrable(linter, characteristics, line);
    }
    is_key
}

/// Checks a table constraint; returns its line.
fn constraint(linter: &mut Linter<'_>, constraint: &TableConstraint) -> u64 {
    let line = constraint.span().start.line;
    let (name, characteristics) = match constraint {
        TableConstraint::Unique(key) => (&key.name, key.characteristics),
        TableConstraint::PrimaryKey(key) => (&key.name, key.characteristics),
        TableConstraint::ForeignKey(key) => {
            expressions::check_schema(linter, &key.foreign_table);
            (&key.name, key.characteristics)
        }
        TableConstraint::Check(check) => (&check.name, None),
        TableConstraint::Exclude(exclude) => (&exclude.name, exclude.characteristics),
        TableConstraint::PrimaryKeyUsingIndex(key) | TableConstraint::UniqueUsingIndex(key) => {
            (&key.name, key.characteristics)
        }
        TableConstraint::Index(_) | TableConstraint::FulltextOrSpatial(_) => return line,
    };
    if name.is_none() {
        linter.report(Rule::UnnamedConstraint, line);
    }
    check_deferrable(linter, characteristics, line);
    line
}

fn check_deferrable(linter: &mut Linter<'_>, how: Option<ConstraintCharacteristics>, line: u64) {
    if how.is_some_and(|how| {
        how.deferrable == Some(true) || how.initially == Some(DeferrableInitial::Deferred)
    }) {
        linter.report(Rule::Deferrable, line);
    }
}

fn alter_table(linter: &mut Linter<'_>, alter: &AlterTable) {
    let table = relation(&alter.name);
    for operation in &alter.operations {
        alter_operation(linter, &table, operation);
    }
    let adds = |operation: &_| matches!(operation, AlterTableOperation::AddConstraint { .. });
    if alter.operations.len() > 1 && alter.operations.iter().any(adds) {
        linter.report(Rule::ConstraintAmongOthers, linter.line);
    }
}

fn alter_operation(linter: &mut Linter<'_>, table: &str, operation: &AlterTableOperation) {
    let (is_new, line) = (linter.is_new(table), linter.line);
    match operation {
        AlterTableOperation::AddColumn { column_def, .. } => add_column(linter, table, column_def),
        AlterTableOperation::AddConstraint { constraint, not_valid } => {
            add_constraint(linter, table, constraint, *not_valid);
        }
        AlterTableOperation::ValidateConstraint { name } => {
            let key = (table.to_owned(), folded(name));
            if !is_new && linter.state.added_here.contains(&key) {
                // The lock of ADD CONSTRAINT is held until the transaction ends, and so while this scans the table.
                linter.report(Rule::AddConstraint, name.span.start.line);
            }
            if let Some((_, is_valid)) = linter.state.not_null.get_mut(&key) {
                *is_valid = true;
            }
        }
        AlterTableOperation::DropConstraint { name, .. } => {
            let key = (table.to_owned(), folded(name));
            linter.state.not_null.remove(&key);
            if !is_new && !linter.state.no_keys.remove(&key) {
                linter.state.dropped_constraints.insert(key, name.span.start.line);
            }
        }
        AlterTableOperation::RenameTable {
            table_name: RenameTableNameKind::As(name) | RenameTableNameKind::To(name),
        } if is_new => {
            if let Some(line) = linter.state.keyless.remove(table) {
                linter.state.keyless.insert(relation(name), line);
            }
            linter.state.created_here.insert(relation(name));
        }
        _ if is_new => {} // the table is empty and unused
        AlterTableOperation::DropColumn { column_names, .. } => {
            let at = column_names.first().map_or(line, |name| name.span.start.line);
            linter.report(Rule::DropColumn, at);
        }
        AlterTableOperation::RenameColumn { old_column_name, .. } => {
            linter.report(Rule::Rename, old_column_name.span.start.line);
        }
        AlterTableOperation::RenameTable { .. } => linter.report(Rule::Rename, line),
        AlterTableOperation::AlterColumn { column_name, op } => {
            alter_column(linter, table, column_name, op);
        }
        AlterTableOperation::SetLogged | AlterTableOperation::SetUnlogged => {
            linter.report(Rule::TableRewrite, line);
        }
        _ => {}
    }
}

/// Checks the change of a column in a table that the file has not created.
fn alter_column(
    linter: &mut Linter<'_>,
    table: &str,
    name: &Ident,
    operation: &AlterColumnOperation,
) {
    let line = name.span.start.line;
    match operation {
        AlterColumnOperation::SetDataType { .. } => linter.report(Rule::AlterColumnType, line),
        AlterColumnOperation::SetNotNull => {
            let column = folded(name);
            let is_known = linter.state.not_null.iter().any(|((of, _), (checked, is_valid))| {
                of == table && *checked == column && *is_valid
            });
            if !is_known {
                linter.report(Rule::SetNotNull, line);
            }
        }
        AlterColumnOperation::AddGenerated { .. } => linter.report(Rule::Sequence, line),
        AlterColumnOperation::DropNotNull
        | AlterColumnOperation::SetDefault { .. }
        | AlterColumnOperation::DropDefault => {}
    }
}

fn add_column(linter: &mut Linter<'_>, table: &str, column: &ColumnDef) {
    let (is_new, line) = (linter.is_new(table), column.name.span.start.line);
    column_def(linter, column);
    note_column_constraints(linter, table, column);
    let (mut is_required, mut has_value) = (false, false);
    for option in &column.options {
        match &option.option {
            ColumnOption::PrimaryKey(_)
            | ColumnOption::Unique(_)
            | ColumnOption::ForeignKey(_)
            | ColumnOption::Check(_) => linter.report(Rule::ConstraintInAddColumn, line),
            ColumnOption::NotNull => is_required = true,
            ColumnOption::Default(value) => {
                has_value = true;
                if !is_new && expressions::differs_by_row(value) {
                    linter.report(Rule::VolatileDefault, line);
                }
            }
            ColumnOption::Generated { .. } | ColumnOption::Identity(_) => {
                has_value = true;
                if !is_new {
                    linter.report(Rule::TableRewrite, line);
                }
            }
            _ => {}
        }
    }
    if is_required && !has_value && !is_new {
        linter.report(Rule::AddColumnNotNull, line);
    }
}

fn add_constraint(linter: &mut Linter<'_>, table: &str, added: &TableConstraint, not_valid: bool) {
    let line = constraint(linter, added);
    let is_new = linter.is_new(table);
    note_constraint(linter, table, added);
    let blocks = match added {
        TableConstraint::Check(check) => {
            if let Some(name) = &check.name {
                let key = (table.to_owned(), folded(name));
                if let Some(column) = column_that_is_not_null(&check.expr) {
                    linter.state.not_null.insert(key.clone(), (column, !not_valid));
                }
                linter.state.added_here.insert(key);
            }
            !not_valid
        }
        TableConstraint::ForeignKey(key) => {
            if let Some(name) = &key.name {
                linter.state.added_here.insert((table.to_owned(), folded(name)));
            }
            !not_valid
        }
        TableConstraint::PrimaryKey(_) => {
            linter.state.keyless.remove(table);
            true
        }
        TableConstraint::Unique(_) | TableConstraint::Exclude(_) => true,
        TableConstraint::PrimaryKeyUsingIndex(_) => {
            linter.state.keyless.remove(table);
            false
        }
        TableConstraint::UniqueUsingIndex(_)
        | TableConstraint::Index(_)
        | TableConstraint::FulltextOrSpatial(_) => false,
    };
    if blocks && !is_new {
        linter.report(Rule::AddConstraint, line);
    }
}

/// Notes whether a named constraint is a key, and that it is there.
fn note_constraint(linter: &mut Linter<'_>, table: &str, added: &TableConstraint) {
    let (name, is_key) = match added {
        TableConstraint::Check(check) => (&check.name, false),
        TableConstraint::ForeignKey(key) => (&key.name, false),
        TableConstraint::Unique(key) => (&key.name, true),
        TableConstraint::PrimaryKey(key) => (&key.name, true),
        TableConstraint::Exclude(exclude) => (&exclude.name, true),
        _ => return,
    };
    let Some(name) = name else { return };
    let key = (table.to_owned(), folded(name));
    linter.state.dropped_constraints.remove(&key);
    if is_key {
        linter.state.no_keys.remove(&key);
    } else {
        linter.state.no_keys.insert(key);
    }
}

fn column_that_is_not_null(check: &Expr) -> Option<String> {
    match check {
        Expr::Nested(inner) => column_that_is_not_null(inner),
        Expr::IsNotNull(column) => match column.as_ref() {
            Expr::Identifier(column) => Some(folded(column)),
            _ => None,
        },
        _ => None,
    }
}

fn create_index(linter: &mut Linter<'_>, create: &CreateIndex) {
    if !create.concurrently && !linter.is_new(&relation(&create.table_name)) {
        linter.report(Rule::CreateIndex, linter.line);
    }
}

fn create_function(linter: &mut Linter<'_>, function: &CreateFunction, tokens: &[TokenWithSpan]) {
    let effects = match function.behavior {
        Some(FunctionBehavior::Immutable | FunctionBehavior::Stable) => Effects::ReadsOnly,
        _ => Effects::Writes,
    };
    expressions::check_schema(linter, &function.name);
    create_routine(linter, &function.name);
    words::function(linter, tokens, effects);
}

fn create_routine(linter: &mut Linter<'_>, name: &ObjectName) {
    linter.state.dropped_routines.remove(&relation(name));
    linter.state.created_routines.insert(relation(name));
}

fn drop_routine(linter: &mut Linter<'_>, name: &ObjectName) {
    expressions::check_schema(linter, name);
    if !linter.state.created_routines.remove(&relation(name)) {
        linter.state.dropped_routines.insert(relation(name), name.span().start.line);
    }
}

fn drop(linter: &mut Linter<'_>, what: ObjectType, names: &[ObjectName]) {
    for name in names {
        expressions::check_schema(linter, name);
        let is_new = linter.state.created_here.remove(&relation(name));
        linter.state.keyless.remove(&relation(name));
        let line = name.span().start.line;
        match what {
            ObjectType::Table | ObjectType::View | ObjectType::MaterializedView if !is_new => {
                linter.report(Rule::DropTable, line);
            }
            ObjectType::Schema => linter.report(Rule::CrossSchema, line),
            _ => {}
        }
    }
}
