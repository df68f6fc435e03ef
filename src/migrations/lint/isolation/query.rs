//! Checks a parsed query: each catalog in it must be tied to one schema, by a condition or by a join with a catalog
//! that is.

use std::ops::{ControlFlow, Range};

use sqlparser::ast::{
    BinaryOperator, Expr, JoinConstraint, JoinOperator, Query, Select, SetExpr, Spanned,
    TableFactor, TableWithJoins, Value, Visit, Visitor,
};

use crate::migrations::lint::folded;
use crate::migrations::lint::isolation::ast::{
    arguments, bare, is_equality, is_one_of, last, name, text,
};
use crate::migrations::lint::isolation::catalogs::{
    Catalog, Holds, IS_VISIBLE, LOOK_UPS, is_shared, names_fixed_schema,
};

/// Returns the lines in which a query names a catalog without a schema.
pub(super) fn lines_without_schema(query: &Query) -> Vec<u64> {
    struct Selects(Vec<u64>);
    impl Visitor for Selects {
        type Break = ();
        fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
            self.0.extend(untied(select).iter().map(|source| source.line));
            ControlFlow::Continue(())
        }
    }
    let mut selects = Selects(Vec::new());
    let _ = query.visit(&mut selects);
    selects.0
}

/// A catalog in the FROM of a query.
struct Source {
    /// Its alias, or its name.
    alias: String,
    catalog: Catalog,
    line: u64,
}

/// A condition that ties a source to one schema, if those that it needs are tied.
struct Tie {
    source: usize,
    needs: Vec<usize>,
    /// The sources that the condition filters: all, or those on the nullable side of an outer join.
    filters: Option<Range<usize>>,
}

#[derive(Default)]
struct Scope {
    sources: Vec<Source>,
    ties: Vec<Tie>,
}

/// The sources of a SELECT that are not tied to a schema and have to be.
fn untied(select: &Select) -> Vec<Source> {
    let mut scope = Scope::default();
    scope.add_from(&select.from);
    let own = scope.sources.len();
    scope.add_condition(select.selection.as_ref(), None);
    let tied = scope.tied();
    let of_query = scope.sources.into_iter().zip(tied).take(own);
    of_query.filter(|(s, tied)| !tied && s.catalog.needs_schema()).map(|(s, _)| s).collect()
}

/// Whether all catalogs in the FROM of a subquery are tied, also those that need not be.
fn is_tied(query: &Query) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else { return true };
    let mut scope = Scope::default();
    scope.add_from(&select.from);
    let own = scope.sources.len();
    scope.add_condition(select.selection.as_ref(), None);
    scope.tied().iter().take(own).all(|tied| *tied)
}

impl Scope {
    /// Which sources are tied, in their order.
    fn tied(&self) -> Vec<bool> {
        let mut tied = vec![false; self.sources.len()];
        // Tied by what filters the whole result: an outer join with it is as good as an inner one.
        let mut firm = tied.clone();
        loop {
            let before = (tied.clone(), firm.clone());
            for Tie { source, needs, filters } in &self.ties {
                let all = |of: &[bool]| needs.iter().all(|need| of[*need]);
                match filters {
                    None => {
                        tied[*source] |= all(&tied);
                        firm[*source] |= all(&firm);
                    }
                    Some(range) if range.contains(source) => tied[*source] |= all(&tied),
                    Some(_) => {
                        let is_firm = !needs.is_empty() && all(&firm);
                        tied[*source] |= is_firm;
                        firm[*source] |= is_firm;
                    }
                }
            }
            if (&tied, &firm) == (&before.0, &before.1) {
                return tied;
            }
        }
    }

    fn add_from(&mut self, from: &[TableWithJoins]) {
        for tables in from {
            self.add_tables(tables);
        }
    }

    fn add_tables(&mut self, tables: &TableWithJoins) {
        let first = self.sources.len();
        self.add_factor(&tables.relation);
        for join in &tables.joins {
            let right = self.sources.len();
            self.add_factor(&join.relation);
            let sides = (first..right, right..self.sources.len());
            match &join.join_operator {
                JoinOperator::Join(on) | JoinOperator::Inner(on) | JoinOperator::CrossJoin(on) => {
                    self.add_join(on, &sides, None);
                }
                JoinOperator::Left(on) | JoinOperator::LeftOuter(on) => {
                    self.add_join(on, &sides, Some(&sides.1));
                }
                JoinOperator::Right(on) | JoinOperator::RightOuter(on) => {
                    self.add_join(on, &sides, Some(&sides.0));
                }
                // A full join filters nothing.
                JoinOperator::FullOuter(on) => self.add_join(on, &sides, Some(&(0..0))),
                _ => {}
            }
        }
    }

    fn add_factor(&mut self, factor: &TableFactor) {
        match factor {
            TableFactor::Table { name, alias, args: None, .. } => {
                let parts: Vec<String> =
                    name.0.iter().filter_map(|part| part.as_ident()).map(folded).collect();
                let (schema, table) = match parts.as_slice() {
                    [table] => (None, table),
                    [schema, table] => (Some(schema.as_str()), table),
                    _ => return,
                };
                let Some(catalog) = Catalog::find(schema, table) else { return };
                let alias = alias.as_ref().map_or(table.clone(), |alias| folded(&alias.name));
                self.sources.push(Source { alias, catalog, line: name.span().start.line });
            }
            TableFactor::NestedJoin { table_with_joins, .. } => self.add_tables(table_with_joins),
            _ => {}
        }
    }

    fn add_join(
        &mut self,
        on: &JoinConstraint,
        (left, right): &(Range<usize>, Range<usize>),
        filters: Option<&Range<usize>>,
    ) {
        match on {
            JoinConstraint::On(condition) => self.add_condition(Some(condition), filters),
            JoinConstraint::Using(columns) => {
                for column in columns.iter().filter_map(last) {
                    let of = |side: &Range<usize>| {
                        side.clone().rfind(|at| self.sources[*at].catalog.holds(&column).is_some())
                    };
                    let (left, right) = (of(left), of(right));
                    for (source, other) in [(left, right), (right, left)] {
                        let tie = source.map(|source| Tie {
                            source,
                            needs: other.into_iter().collect(),
                            filters: filters.cloned(),
                        });
                        self.ties.extend(tie);
                    }
                }
            }
            JoinConstraint::Natural | JoinConstraint::None => {}
        }
    }

    fn add_condition(&mut self, condition: Option<&Expr>, filters: Option<&Range<usize>>) {
        let Some(condition) = condition else { return };
        for (source, needs) in self.ties_of(condition) {
            self.ties.push(Tie { source, needs, filters: filters.cloned() });
        }
    }

    /// The sources that a condition ties where it is true, each with those that must be tied for that.
    fn ties_of(&mut self, condition: &Expr) -> Vec<(usize, Vec<usize>)> {
        match condition {
            Expr::Nested(inner) | Expr::IsTrue(inner) => self.ties_of(inner),
            Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
                let mut ties = self.ties_of(left);
                ties.extend(self.ties_of(right));
                ties
            }
            Expr::BinaryOp { left, op: BinaryOperator::Or, right } => {
                let (left, right) = (self.ties_of(left), self.ties_of(right));
                in_both(&left, &right)
            }
            Expr::BinaryOp { left, op, right } if is_equality(op) => self.equal(left, right),
            Expr::IsNotDistinctFrom(left, right) => self.equal(left, right),
            Expr::AnyOp { left, compare_op, right, .. } if is_equality(compare_op) => {
                self.tie(left, right)
            }
            Expr::InList { expr, list, negated: false } => {
                let mut items = list.iter().map(|item| self.equal(expr, item));
                let first = items.next().unwrap_or_default();
                items.fold(first, |ties, item| in_both(&ties, &item))
            }
            Expr::InSubquery { expr, subquery, negated: false } if is_tied(subquery) => {
                match expr.as_ref() {
                    Expr::Tuple(columns) => {
                        columns.iter().filter_map(|it| self.column(it)).map(alone).collect()
                    }
                    column => self.column(column).map(alone).into_iter().collect(),
                }
            }
            // What EXISTS finds is joined.
            Expr::Exists { subquery, negated: false } => match subquery.body.as_ref() {
                SetExpr::Select(select) => {
                    self.add_from(&select.from);
                    select.selection.as_ref().map(|it| self.ties_of(it)).unwrap_or_default()
                }
                _ => Vec::new(),
            },
            Expr::Function(function) if is_one_of(function, &IS_VISIBLE) => {
                let column = arguments(function).next().and_then(|it| self.column(it));
                column.map(alone).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    fn equal(&self, left: &Expr, right: &Expr) -> Vec<(usize, Vec<usize>)> {
        match (bare(left), bare(right)) {
            (Expr::Tuple(left), Expr::Tuple(right)) => {
                left.iter().zip(right).flat_map(|(l, r)| self.equal(l, r)).collect()
            }
            _ => [self.tie(left, right), self.tie(right, left)].concat(),
        }
    }

    /// The source that `column = value` ties.
    fn tie(&self, column: &Expr, value: &Expr) -> Vec<(usize, Vec<usize>)> {
        let Some((source, holds)) = self.column(column) else { return Vec::new() };
        self.needs(value, holds).map(|needs| (source, needs)).into_iter().collect()
    }

    /// The source whose column this is, if the column ties it.
    fn column(&self, expr: &Expr) -> Option<(usize, Holds)> {
        let (alias, column) = name(bare(expr))?;
        let holds = |source: &Source| source.catalog.holds(&column);
        let mut found = self
            .sources
            .iter()
            .enumerate()
            .filter(|(_, source)| alias.as_ref().is_none_or(|alias| *alias == source.alias))
            .filter_map(|(at, source)| Some((at, holds(source)?)));
        // The innermost of several with one alias; of several without an alias, none.
        if alias.is_some() {
            found.next_back()
        } else {
            found.next().filter(|_| found.next().is_none())
        }
    }

    /// The sources that must be tied for a value to be of one schema. `None` if it is fixed and so of another one, or
    /// of any.
    fn needs(&self, value: &Expr, holds: Holds) -> Option<Vec<usize>> {
        match bare(value) {
            Expr::Value(value) => match &value.value {
                Value::Placeholder(_) => Some(Vec::new()),
                other => text(other).filter(|it| is_of_one(it, holds)).map(|_| Vec::new()),
            },
            Expr::TypedString(typed) => {
                text(&typed.value.value).filter(|it| is_of_one(it, holds)).map(|_| Vec::new())
            }
            Expr::Array(array) => {
                let all: Option<Vec<Vec<usize>>> =
                    array.elem.iter().map(|item| self.needs(item, holds)).collect();
                all.map(|needs| needs.concat())
            }
            Expr::Subquery(query) => is_tied(query).then(Vec::new),
            Expr::Function(function) if is_one_of(function, &LOOK_UPS) => {
                let argument = arguments(function).next()?;
                match bare(argument) {
                    Expr::Value(value) => {
                        text(&value.value).filter(|it| !names_fixed_schema(it)).map(|_| Vec::new())
                    }
                    _ => Some(self.mentioned(argument)),
                }
            }
            other => Some(self.mentioned(other)),
        }
    }

    /// The sources with a column in an expression.
    fn mentioned(&self, expr: &Expr) -> Vec<usize> {
        struct Columns<'a>(&'a Scope, Vec<usize>);
        impl Visitor for Columns<'_> {
            type Break = ();
            fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
                let source = match name(expr) {
                    Some((Some(alias), _)) => self.0.sources.iter().rposition(|s| s.alias == alias),
                    Some((None, _)) => self.0.column(expr).map(|(source, _)| source),
                    None => None,
                };
                self.1.extend(source);
                ControlFlow::Continue(())
            }
        }
        let mut columns = Columns(self, Vec::new());
        let _ = expr.visit(&mut columns);
        columns.1
    }
}

fn alone((source, _): (usize, Holds)) -> (usize, Vec<usize>) {
    (source, Vec::new())
}

/// The ties of two alternatives: what both tie, with the needs of both.
fn in_both(
    left: &[(usize, Vec<usize>)],
    right: &[(usize, Vec<usize>)],
) -> Vec<(usize, Vec<usize>)> {
    let mut ties = Vec::new();
    for (source, needs) in left {
        for (_, more) in right.iter().filter(|(other, _)| other == source) {
            ties.push((*source, [needs.as_slice(), more].concat()));
        }
    }
    ties
}

/// Whether a literal is a schema that is the same for every tenant, or a name that the search path finds.
fn is_of_one(literal: &str, holds: Holds) -> bool {
    match holds {
        Holds::Schema => is_shared(literal.trim_matches('"')),
        Holds::Object => !names_fixed_schema(literal),
    }
}
