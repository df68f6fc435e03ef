//! Judges statements that the parser knows: tables, what is done to them, and what else a schema can hold.

use sqlparser::ast::{
    AlterColumnOperation, AlterTable, AlterTableOperation, ColumnDef, ColumnOption,
    ConstraintCharacteristics, CreateFunction, CreateIndex, CreateTable, DataType,
    DeferrableInitial, Expr, FunctionBehavior, Ident, ObjectName, ObjectType, RenameTableNameKind,
    Spanned, Statement, TableConstraint,
};
use sqlparser::tokenizer::TokenWithSpan;

use crate::migrations::lint::{Look, Rule, expressions, folded, relation, words};

pub(super) fn check(look: &mut Look<'_>, statement: &Statement, tokens: &[TokenWithSpan]) {
    expressions::check(look, statement);
    let line = look.line;
    match statement {
        Statement::CreateTable(create) => create_table(look, create),
        Statement::AlterTable(alter) => alter_table(look, alter),
        Statement::CreateIndex(create) => create_index(look, create),
        Statement::CreateView(create) => {
            look.memory.made_here.insert(relation(&create.name));
        }
        Statement::CreateFunction(function) => create_function(look, function, tokens),
        Statement::CreateProcedure { .. } => words::function(look, tokens, false),
        Statement::CreateSequence { .. } => look.find(Rule::Sequence, line),
        Statement::CreateType { .. } | Statement::AlterType(_) | Statement::CreateDomain(_) => {
            look.find(Rule::OwnType, line);
        }
        Statement::CreateTrigger(_) => look.find(Rule::Trigger, line),
        Statement::CreateExtension(_) => look.find(Rule::Extension, line),
        Statement::CreateSchema { .. } => look.find(Rule::CrossSchema, line),
        Statement::Vacuum(vacuum) if vacuum.full => look.find(Rule::VacuumFull, line),
        Statement::Lock(_) | Statement::LockTables { .. } => look.find(Rule::LockTable, line),
        Statement::Truncate(truncate) => {
            for table in &truncate.table_names {
                if !look.is_new(&relation(&table.name)) {
                    look.find(Rule::Truncate, line);
                }
            }
        }
        Statement::Drop { object_type, names, .. } => drop(look, *object_type, names),
        _ => {}
    }
}

fn create_table(look: &mut Look<'_>, create: &CreateTable) {
    let table = relation(&create.name);
    let is_there = create.if_not_exists && look.memory.made_before.contains(&table);
    let mut has_key = create.temporary || create.partition_of.is_some();
    for column in &create.columns {
        has_key |= column_def(look, column);
    }
    for rule in &create.constraints {
        has_key |= matches!(rule, TableConstraint::PrimaryKey(_));
        constraint(look, rule);
    }
    if !has_key {
        look.memory.keyless.insert(table.clone(), look.line);
    }
    if !is_there {
        look.memory.made_here.insert(table);
    }
}

/// Judges a column of a new table or a new column; tells whether it is the primary key.
fn column_def(look: &mut Look<'_>, column: &ColumnDef) -> bool {
    let line = column.name.span.start.line;
    if let DataType::Custom(name, _) = &column.data_type {
        let serials = ["serial", "serial2", "serial4", "serial8", "bigserial", "smallserial"];
        if serials.contains(&relation(name).as_str()) {
            look.find(Rule::Sequence, line);
        }
        expressions::check_schema(look, name);
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
                expressions::check_schema(look, &key.foreign_table);
                (key.name.as_ref(), key.characteristics)
            }
            ColumnOption::Check(check) => (check.name.as_ref(), None),
            ColumnOption::Generated { generation_expr: None, .. } | ColumnOption::Identity(_) => {
                look.find(Rule::Sequence, line);
                continue;
            }
            _ => continue,
        };
        if option.name.as_ref().or(inner).is_none() {
            look.find(Rule::UnnamedConstraint, line);
        }
        deferrable(look, characteristics, line);
    }
    is_key
}

/// Judges a constraint of a table; tells its line.
fn constraint(look: &mut Look<'_>, constraint: &TableConstraint) -> u64 {
    let line = constraint.span().start.line;
    let (name, characteristics) = match constraint {
        TableConstraint::Unique(key) => (&key.name, key.characteristics),
        TableConstraint::PrimaryKey(key) => (&key.name, key.characteristics),
        TableConstraint::ForeignKey(key) => {
            expressions::check_schema(look, &key.foreign_table);
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
        look.find(Rule::UnnamedConstraint, line);
    }
    deferrable(look, characteristics, line);
    line
}

fn deferrable(look: &mut Look<'_>, how: Option<ConstraintCharacteristics>, line: u64) {
    if how.is_some_and(|how| {
        how.deferrable == Some(true) || how.initially == Some(DeferrableInitial::Deferred)
    }) {
        look.find(Rule::Deferrable, line);
    }
}

fn alter_table(look: &mut Look<'_>, alter: &AlterTable) {
    let table = relation(&alter.name);
    for operation in &alter.operations {
        alter_operation(look, &table, operation);
    }
}

fn alter_operation(look: &mut Look<'_>, table: &str, operation: &AlterTableOperation) {
    let (is_new, line) = (look.is_new(table), look.line);
    match operation {
        AlterTableOperation::AddColumn { column_def, .. } => add_column(look, column_def, is_new),
        AlterTableOperation::AddConstraint { constraint, not_valid } => {
            add_constraint(look, table, constraint, *not_valid);
        }
        AlterTableOperation::ValidateConstraint { name } => {
            let key = (table.to_owned(), folded(name));
            if !is_new && look.memory.added_here.contains(&key) {
                // The lock of the first lasts until the transaction ends, so while this reads the table.
                look.find(Rule::AddConstraint, name.span.start.line);
            }
            if let Some((_, is_valid)) = look.memory.not_null.get_mut(&key) {
                *is_valid = true;
            }
        }
        AlterTableOperation::DropConstraint { name, .. } => {
            look.memory.not_null.remove(&(table.to_owned(), folded(name)));
        }
        AlterTableOperation::RenameTable {
            table_name: RenameTableNameKind::As(name) | RenameTableNameKind::To(name),
        } if is_new => {
            if let Some(line) = look.memory.keyless.remove(table) {
                look.memory.keyless.insert(relation(name), line);
            }
            look.memory.made_here.insert(relation(name));
        }
        _ if is_new => {} // nobody knows the table yet, and it is empty
        AlterTableOperation::DropColumn { column_names, .. } => {
            let at = column_names.first().map_or(line, |name| name.span.start.line);
            look.find(Rule::DropColumn, at);
        }
        AlterTableOperation::RenameColumn { old_column_name, .. } => {
            look.find(Rule::Rename, old_column_name.span.start.line);
        }
        AlterTableOperation::RenameTable { .. } => look.find(Rule::Rename, line),
        AlterTableOperation::AlterColumn { column_name, op } => {
            let at = column_name.span.start.line;
            match op {
                AlterColumnOperation::SetDataType { .. } => look.find(Rule::AlterColumnType, at),
                AlterColumnOperation::SetNotNull => {
                    let column = folded(column_name);
                    let is_known =
                        look.memory.not_null.iter().any(|((of, _), (checked, is_valid))| {
                            of == table && *checked == column && *is_valid
                        });
                    if !is_known {
                        look.find(Rule::SetNotNull, at);
                    }
                }
                AlterColumnOperation::AddGenerated { .. } => look.find(Rule::Sequence, at),
                AlterColumnOperation::DropNotNull
                | AlterColumnOperation::SetDefault { .. }
                | AlterColumnOperation::DropDefault => {}
            }
        }
        AlterTableOperation::SetLogged | AlterTableOperation::SetUnlogged => {
            look.find(Rule::TableRewrite, line);
        }
        _ => {}
    }
}

fn add_column(look: &mut Look<'_>, column: &ColumnDef, is_new: bool) {
    let line = column.name.span.start.line;
    column_def(look, column);
    let (mut is_required, mut has_value) = (false, false);
    for option in &column.options {
        match &option.option {
            ColumnOption::PrimaryKey(_)
            | ColumnOption::Unique(_)
            | ColumnOption::ForeignKey(_)
            | ColumnOption::Check(_) => look.find(Rule::ConstraintInAddColumn, line),
            ColumnOption::NotNull => is_required = true,
            ColumnOption::Default(value) => {
                has_value = true;
                if !is_new && expressions::differs_by_row(value) {
                    look.find(Rule::VolatileDefault, line);
                }
            }
            ColumnOption::Generated { .. } | ColumnOption::Identity(_) => {
                has_value = true;
                if !is_new {
                    look.find(Rule::TableRewrite, line);
                }
            }
            _ => {}
        }
    }
    if is_required && !has_value && !is_new {
        look.find(Rule::AddColumnNotNull, line);
    }
}

fn add_constraint(look: &mut Look<'_>, table: &str, added: &TableConstraint, not_valid: bool) {
    let line = constraint(look, added);
    let is_new = look.is_new(table);
    let blocks = match added {
        TableConstraint::Check(check) => {
            if let Some(name) = &check.name {
                let key = (table.to_owned(), folded(name));
                if let Some(column) = column_that_is_not_null(&check.expr) {
                    look.memory.not_null.insert(key.clone(), (column, !not_valid));
                }
                look.memory.added_here.insert(key);
            }
            !not_valid
        }
        TableConstraint::ForeignKey(key) => {
            if let Some(name) = &key.name {
                look.memory.added_here.insert((table.to_owned(), folded(name)));
            }
            !not_valid
        }
        TableConstraint::PrimaryKey(_) => {
            look.memory.keyless.remove(table);
            true
        }
        TableConstraint::Unique(_) | TableConstraint::Exclude(_) => true,
        TableConstraint::PrimaryKeyUsingIndex(_) => {
            look.memory.keyless.remove(table);
            false
        }
        TableConstraint::UniqueUsingIndex(_)
        | TableConstraint::Index(_)
        | TableConstraint::FulltextOrSpatial(_) => false,
    };
    if blocks && !is_new {
        look.find(Rule::AddConstraint, line);
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

fn create_index(look: &mut Look<'_>, create: &CreateIndex) {
    if !create.concurrently && !look.is_new(&relation(&create.table_name)) {
        look.find(Rule::CreateIndex, look.line);
    }
}

fn create_function(look: &mut Look<'_>, function: &CreateFunction, tokens: &[TokenWithSpan]) {
    let reads_only =
        matches!(function.behavior, Some(FunctionBehavior::Immutable | FunctionBehavior::Stable));
    expressions::check_schema(look, &function.name);
    words::function(look, tokens, reads_only);
}

fn drop(look: &mut Look<'_>, what: ObjectType, names: &[ObjectName]) {
    for name in names {
        expressions::check_schema(look, name);
        let is_new = look.memory.made_here.remove(&relation(name));
        look.memory.keyless.remove(&relation(name));
        let line = name.span().start.line;
        match what {
            ObjectType::Table | ObjectType::View | ObjectType::MaterializedView if !is_new => {
                look.find(Rule::DropTable, line);
            }
            ObjectType::Schema => look.find(Rule::CrossSchema, line),
            _ => {}
        }
    }
}
