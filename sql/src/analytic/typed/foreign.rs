//! What expressions do not know and DataFusion does: arrays, and functions whose results have a known type.

use super::build;
use super::{Context, Meaning, Open, Typer};
use crate::analytic::parameter::array_texts;
use crate::error::{Error, SqlState};
use crate::expr::{common_type, data_type, folded, plain_name};
use scry_engine::DataType;
use sqlparser::ast::{self, ArrayElemTypeDef, Expr as Ast, Function, Spanned};

type Written = (Ast, Option<DataType>);

/// The type that PostgreSQL gives the result of a function that is left to DataFusion.
fn result_type(name: &str) -> Option<DataType> {
    Some(match name {
        "array_length" | "array_upper" | "array_lower" | "array_ndims" | "array_position" | "cardinality"
        | "bit_length" | "regexp_count" | "regexp_instr" => DataType::Int4,
        "acos" | "acosh" | "asin" | "asinh" | "atan" | "atan2" | "atanh" | "cbrt" | "cos" | "cosh"
        | "cot" | "degrees" | "radians" | "sin" | "sinh" | "tan" | "tanh" => DataType::Float8,
        "array_to_string" | "encode" | "overlay" | "quote_ident" | "quote_literal" | "to_char" | "to_hex"
        | "translate" => DataType::Text,
        "regexp_like" => DataType::Bool,
        "lsn_at" => DataType::Int8,
        "time_of" => DataType::TimestampTz,
        _ => return None,
    })
}

impl Typer<'_> {
    /// A call of a function that DataFusion computes, if its result has a known type.
    pub(super) fn foreign_function(
        &mut self,
        ast: &Ast,
        function: &Function,
        context: &Context<'_>,
    ) -> Result<Option<Written>, Error> {
        let name = match function.name.0.as_slice() {
            [name] | [_, name] => name.as_ident().map(folded),
            _ => None,
        };
        let Some(ty) = name.as_deref().and_then(result_type) else {
            return Ok(None);
        };
        if function.over.is_some() || crate::expr::is_function(name.as_deref().unwrap_or_default()) {
            return Ok(None);
        }
        let mut call = ast.clone();
        self.children_of(&mut call, context)?;
        Ok(Some((build::cast(call, &ty), Some(ty))))
    }

    /// `ARRAY[…]`, its items of one type.
    pub(super) fn array(&mut self, array: &ast::Array, context: &Context<'_>) -> Result<Ast, Error> {
        let mut array = array.clone();
        let mut meanings = Vec::with_capacity(array.elem.len());
        let places: Vec<_> = array.elem.iter().map(|item| item.span().start).collect();
        for item in &mut array.elem {
            meanings.push(self.value(item, context)?);
        }
        let mut common: Option<DataType> = None;
        for (meaning, place) in meanings.iter().zip(&places) {
            let next = match meaning {
                Meaning::Typed(bound) => bound.ty(),
                Meaning::Open(_) => continue,
                Meaning::Foreign => return Ok(Ast::Array(array)),
            };
            common = Some(match common {
                None => next,
                Some(so_far) => common_type(so_far, next).ok_or_else(|| {
                    Error::new(
                        SqlState::DATATYPE_MISMATCH,
                        format!(
                            "ARRAY types {} and {} cannot be matched",
                            plain_name(&so_far),
                            plain_name(&next)
                        ),
                    )
                    .at(*place)
                })?,
            });
        }
        if !array.elem.is_empty() {
            let ty = common.unwrap_or(DataType::Text);
            for (item, meaning) in array.elem.iter_mut().zip(&meanings) {
                let written = match meaning {
                    Meaning::Open(open) => self.settle(open, ty)?,
                    Meaning::Typed(bound) => self.converted(item.clone(), bound.ty(), ty)?,
                    Meaning::Foreign => continue,
                };
                *item = build::cast(written, &ty.without_modifier());
            }
        }
        Ok(Ast::Array(array))
    }

    /// `'{1,2}'::int[]`: the array that the text says.
    pub(super) fn array_literal(&mut self, expr: &Ast, sql: &ast::DataType) -> Result<Option<Ast>, Error> {
        let ast::DataType::Array(
            ArrayElemTypeDef::SquareBracket(element, _) | ArrayElemTypeDef::AngleBracket(element),
        ) = sql
        else {
            return Ok(None);
        };
        let (Ast::Value(value), Ok(ty)) = (expr, data_type(element)) else {
            return Ok(None);
        };
        let ast::Value::SingleQuotedString(text) = &value.value else {
            return Ok(None);
        };
        let place = value.span.start;
        let mut items = Vec::new();
        for item in array_texts(text).map_err(|error| error.at(place))? {
            let open = item.map_or(Open::Null, |text| Open::Text(text, place));
            items.push(build::cast(self.settle(&open, ty)?, &ty));
        }
        Ok(Some(Ast::Cast {
            kind: ast::CastKind::Cast,
            expr: Box::new(Ast::Array(ast::Array {
                elem: items,
                named: true,
            })),
            data_type: sql.clone(),
            array: false,
            format: None,
        }))
    }
}
