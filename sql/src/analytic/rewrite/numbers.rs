//! Number literals with an exponent, which DataFusion would take for decimals of negative scale and then cannot work with.

use scry_engine::Numeric;
use sqlparser::ast::{self, CastKind, Expr, Value};

/// The literal without its exponent: a decimal, or a double when it has more digits than a decimal holds.
pub fn without_exponent(expr: &Expr) -> Option<Expr> {
    let Expr::Value(ast::ValueWithSpan {
        value: Value::Number(text, _),
        span,
    }) = expr
    else {
        return None;
    };
    if !text.contains(['e', 'E']) {
        return None;
    }
    let literal = |value: Value| Expr::Value(ast::ValueWithSpan { value, span: *span });
    Some(match Numeric::parse(text) {
        Ok(number) => {
            let mut buffer = [0; Numeric::TEXT_BYTES];
            let mut plain = number.text(&mut buffer).to_owned();
            // With a point it is no integer.
            if !plain.contains('.') {
                plain.push('.');
            }
            literal(Value::Number(plain, false))
        }
        Err(_) => Expr::Cast {
            kind: CastKind::Cast,
            expr: Box::new(literal(Value::SingleQuotedString(text.clone()))),
            data_type: ast::DataType::DoublePrecision,
            array: false,
            format: None,
        },
    })
}
