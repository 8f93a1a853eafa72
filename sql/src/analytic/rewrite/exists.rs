//! EXISTS in a select list, as a count.

use super::call;
use sqlparser::ast::{
    self, BinaryOperator, Expr, Ident, Query, Select, SelectItem, SetExpr, TableFactor, Value, VisitorMut,
};
use std::ops::ControlFlow;

/// Makes EXISTS in a select list a count: DataFusion joins for EXISTS only where it filters.
#[derive(Default)]
pub(super) struct ExistsCounter {
    depth: usize,
}

impl VisitorMut for ExistsCounter {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.depth == 0
            && let Expr::Exists { subquery, negated } = expr
        {
            *expr = counted(subquery, *negated);
        }
        ControlFlow::Continue(())
    }
}

/// `(SELECT count(*) > 0 FROM …)`, by the subquery's own FROM where it is plain, so that it can be correlated.
fn counted(subquery: &Query, negated: bool) -> Expr {
    let count = call(
        "count",
        vec![Expr::Value(Value::Number("1".to_owned(), false).into())],
    );
    let compared = Expr::BinaryOp {
        left: Box::new(count),
        op: if negated {
            BinaryOperator::Eq
        } else {
            BinaryOperator::Gt
        },
        right: Box::new(Expr::value(Value::Number("0".to_owned(), false))),
    };
    let item = SelectItem::ExprWithAlias {
        expr: compared,
        alias: Ident::new("exists"),
    };
    let mut query = subquery.clone();
    query.order_by = None;
    let plain = query.with.is_none() && query.limit_clause.is_none() && query.fetch.is_none();
    if let SetExpr::Select(select) = query.body.as_mut()
        && plain
        && select.distinct.is_none()
        && select.having.is_none()
        && !select.from.is_empty()
        && matches!(&select.group_by, ast::GroupByExpr::Expressions(list, _) if list.is_empty())
    {
        select.projection = vec![item];
        return Expr::Subquery(Box::new(query));
    }
    let inner = TableFactor::Derived {
        lateral: false,
        subquery: Box::new(query),
        alias: Some(ast::TableAlias {
            explicit: true,
            name: Ident::new("found"),
            columns: Vec::new(),
            at: None,
        }),
        sample: None,
    };
    let mut outer = subquery.clone();
    outer.with = None;
    outer.order_by = None;
    outer.limit_clause = None;
    outer.fetch = None;
    outer.body = Box::new(SetExpr::Select(Box::new(plain_select(item, inner))));
    Expr::Subquery(Box::new(outer))
}

/// `SELECT item FROM factor`.
fn plain_select(item: SelectItem, factor: TableFactor) -> Select {
    Select {
        select_token: ast::helpers::attached_token::AttachedToken::empty(),
        optimizer_hints: Vec::new(),
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection: vec![item],
        exclude: None,
        into: None,
        from: vec![ast::TableWithJoins {
            relation: factor,
            joins: Vec::new(),
        }],
        lateral_views: Vec::new(),
        prewhere: None,
        selection: None,
        connect_by: Vec::new(),
        group_by: ast::GroupByExpr::Expressions(Vec::new(), Vec::new()),
        cluster_by: Vec::new(),
        distribute_by: Vec::new(),
        sort_by: Vec::new(),
        having: None,
        named_window: Vec::new(),
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: ast::SelectFlavor::Standard,
    }
}
