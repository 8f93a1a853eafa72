//! A query's filter as the scan applies it, where it leaves rows out anyway.
//!
//! A unit of which all rows are shown is handed on as it is. Where some are not, the others must be copied, and of a copy that the
//! filter above the scan throws away most was wasted. So there the scan asks the filter first, of all rows, and copies those that
//! are shown and wanted. The filter above stays where it is and sees them again: they are few, or the scan stops asking.
//!
//! Rows that are not shown are asked about, too; so only what cannot fail for any value is taken of a filter.

use datafusion::arrow::array::{Array, BooleanArray, RecordBatch};
use datafusion::arrow::compute::{and, prep_null_mask_filter};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::common::cast::as_boolean_array;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{
    BinaryExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr,
};
use datafusion::physical_expr::utils::reassign_expr_columns;
use datafusion::physical_expr::{PhysicalExpr, conjunction, split_conjunction};
use std::sync::Arc;

/// A filter pays when it leaves at most one row of so many.
const WANTED_ONE_IN: usize = 2;

/// What a filter says of rows whether they are shown or not.
#[derive(Debug, Clone)]
pub struct Prefilter {
    predicate: Arc<dyn PhysicalExpr>,
    asked: usize,
    wanted: usize,
}

impl Prefilter {
    /// As much of a predicate over the columns of `schema` as may be asked of any row; `None`: nothing.
    pub fn new(predicate: &Arc<dyn PhysicalExpr>, schema: &SchemaRef) -> Option<Prefilter> {
        let parts = split_conjunction(predicate);
        let mut harmless = parts
            .into_iter()
            .filter(|part| cannot_fail(part))
            .cloned()
            .peekable();
        harmless.peek()?;
        let predicate = reassign_expr_columns(conjunction(harmless), schema).ok()?;
        Some(Prefilter {
            predicate,
            asked: 0,
            wanted: 0,
        })
    }

    /// Whether enough of the rows asked about so far were not wanted.
    pub fn pays(&self) -> bool {
        self.wanted * WANTED_ONE_IN <= self.asked
    }

    /// Those of the `shown` rows that are wanted.
    pub fn wanted(&mut self, rows: &RecordBatch, shown: &BooleanArray) -> Result<BooleanArray> {
        let answers = self.predicate.evaluate(rows)?.into_array(rows.num_rows())?;
        let answers = as_boolean_array(&answers)?;
        let wanted = match answers.null_count() {
            0 => and(answers, shown)?,
            _ => and(&prep_null_mask_filter(answers), shown)?,
        };
        self.asked += rows.num_rows();
        self.wanted += wanted.true_count();
        Ok(wanted)
    }
}

/// Whether an expression has a value for every row.
fn cannot_fail(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let simple = expr.is::<Column>()
        || expr.is::<Literal>()
        || expr.is::<NotExpr>()
        || expr.is::<IsNullExpr>()
        || expr.is::<IsNotNullExpr>()
        || expr.is::<InListExpr>()
        || expr.is::<LikeExpr>()
        || expr
            .downcast_ref::<BinaryExpr>()
            .is_some_and(|binary| compares(*binary.op()));
    simple && expr.children().into_iter().all(cannot_fail)
}

fn compares(operator: Operator) -> bool {
    matches!(
        operator,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
            | Operator::And
            | Operator::Or
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::Int64Array;
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use datafusion::physical_expr::expressions::{binary, cast, col, lit, not};

    fn schema() -> SchemaRef {
        let column = |name| Field::new(name, DataType::Int64, true);
        Arc::new(Schema::new(vec![column("a"), column("b")]))
    }

    fn compare(
        left: Arc<dyn PhysicalExpr>,
        op: Operator,
        right: Arc<dyn PhysicalExpr>,
    ) -> Arc<dyn PhysicalExpr> {
        binary(left, op, right, &schema()).unwrap()
    }

    fn batch(values: Vec<Option<i64>>) -> RecordBatch {
        let schema = Arc::new(schema().project(&[1]).unwrap());
        RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(values))]).unwrap()
    }

    #[test]
    fn only_what_has_a_value_for_every_row_is_asked() {
        let a = || col("a", &schema()).unwrap();
        let quotient = compare(lit(1i64), Operator::Divide, a());
        let fails = compare(quotient, Operator::Gt, lit(0i64));
        let narrowed = cast(a(), &schema(), DataType::Int8).unwrap();
        let fails_too = compare(narrowed, Operator::Eq, lit(1i8));
        let harmless = not(compare(a(), Operator::Lt, lit(5i64))).unwrap();
        assert!(Prefilter::new(&fails, &schema()).is_none());
        assert!(Prefilter::new(&fails_too, &schema()).is_none());
        assert!(Prefilter::new(&compare(fails.clone(), Operator::Or, harmless.clone()), &schema()).is_none());
        let both = compare(fails, Operator::And, harmless.clone());
        let prefilter = Prefilter::new(&both, &schema()).unwrap();
        assert_eq!(prefilter.predicate.to_string(), harmless.to_string());
    }

    #[test]
    fn rows_that_are_shown_and_wanted_are_left_and_it_stops_paying_when_they_are_most() {
        let b = col("b", &schema()).unwrap();
        let predicate = compare(b, Operator::Gt, lit(10i64));
        let projected = batch(Vec::new()).schema();
        let mut prefilter = Prefilter::new(&predicate, &projected).unwrap();
        let shown = BooleanArray::from(vec![true, true, false, true]);
        let wanted = prefilter
            .wanted(&batch(vec![Some(11), None, Some(12), Some(1)]), &shown)
            .unwrap();
        assert_eq!(wanted, BooleanArray::from(vec![true, false, false, false]));
        assert!(prefilter.pays());
        let all = BooleanArray::from(vec![true; 4]);
        prefilter.wanted(&batch(vec![Some(50); 4]), &all).unwrap();
        assert!(!prefilter.pays());
    }
}
