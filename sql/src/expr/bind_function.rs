//! Function calls → bound ones: names, numbers of arguments, and the types that each takes.

use super::bind::folded;
use super::coerce::{Operand, plain_name};
use super::{BindError, Binder, Expr, Function};
use crate::error::{Error, SqlState};
use scry_engine::types::{DataType, Value};
use sqlparser::ast::{
    CeilFloorKind, Expr as Ast, Function as AstFunction, FunctionArg, FunctionArgExpr, FunctionArguments,
    Spanned, TrimWhereField,
};
use std::cmp::Ordering;

const FLOAT: DataType = DataType::Float8;
const INT: DataType = DataType::Int4;
const TEXT: DataType = DataType::Text;

impl Binder<'_> {
    /// Calls, and the functions that have a syntax of their own.
    pub(super) fn function_like(&mut self, ast: &Ast) -> Result<Operand, BindError> {
        match ast {
            Ast::Function(call) => self.call(call),
            Ast::Ceil {
                expr,
                field: CeilFloorKind::DateTimeField(field),
            } if is_no_field(field) => self.call_asts("ceil", &[expr]),
            Ast::Floor {
                expr,
                field: CeilFloorKind::DateTimeField(field),
            } if is_no_field(field) => self.call_asts("floor", &[expr]),
            Ast::Position { expr, r#in } => self.call_asts("strpos", &[r#in, expr]),
            Ast::Substring {
                expr,
                substring_from,
                substring_for,
                ..
            } => {
                let mut arguments = vec![self.operand(expr)?];
                match substring_from {
                    Some(from) => arguments.push(self.operand(from)?),
                    None => arguments.push(Operand::Typed(int_constant(1))),
                }
                if let Some(length) = substring_for {
                    arguments.push(self.operand(length)?);
                }
                self.call_bound("substring", arguments)
            }
            Ast::Trim {
                expr,
                trim_where,
                trim_what,
                trim_characters,
            } => {
                let name = match trim_where {
                    None | Some(TrimWhereField::Both) => "btrim",
                    Some(TrimWhereField::Leading) => "ltrim",
                    Some(TrimWhereField::Trailing) => "rtrim",
                };
                let mut arguments = vec![self.operand(expr)?];
                if let Some(what) = trim_what {
                    arguments.push(self.operand(what)?);
                }
                for characters in trim_characters.iter().flatten() {
                    arguments.push(self.operand(characters)?);
                }
                self.call_bound(name, arguments)
            }
            Ast::Extract { field, expr, .. } => {
                let field = field.to_string().to_lowercase();
                let field = Operand::Text(field.trim_matches('\'').to_owned(), expr.span().start);
                let operand = self.operand(expr)?;
                self.call_bound("extract", vec![field, operand])
            }
            Ast::AtTimeZone { timestamp, time_zone } => {
                let (zone, timestamp) = (self.operand(time_zone)?, self.operand(timestamp)?);
                self.call_bound("timezone", vec![zone, timestamp])
            }
            Ast::Collate { .. } => Err(BindError::unsupported("COLLATE")),
            Ast::Subquery(_) | Ast::Exists { .. } | Ast::InSubquery { .. } => {
                Err(BindError::unsupported("a subquery"))
            }
            other => Err(BindError::unsupported(format!("expression {other}"))),
        }
    }

    fn call_asts(&mut self, name: &str, arguments: &[&Ast]) -> Result<Operand, BindError> {
        let arguments = arguments
            .iter()
            .map(|ast| self.operand(ast))
            .collect::<Result<Vec<_>, _>>()?;
        self.call_bound(name, arguments)
    }

    fn call(&mut self, call: &AstFunction) -> Result<Operand, BindError> {
        let unsupported = || BindError::unsupported(format!("function {}", call.name));
        let plain = call.filter.is_none()
            && call.over.is_none()
            && call.null_treatment.is_none()
            && call.within_group.is_empty()
            && matches!(call.parameters, FunctionArguments::None)
            && !call.uses_odbc_syntax;
        let name = match call.name.0.as_slice() {
            [only] => only.as_ident(),
            [schema, name]
                if schema
                    .as_ident()
                    .is_some_and(|schema| folded(schema) == "pg_catalog") =>
            {
                name.as_ident()
            }
            _ => None,
        };
        let (Some(name), true) = (name, plain) else {
            return Err(unsupported());
        };
        let name = folded(name);
        let list = match &call.args {
            FunctionArguments::None => {
                return self.niladic(&name).map(Operand::Typed).ok_or_else(unsupported);
            }
            FunctionArguments::List(list)
                if list.duplicate_treatment.is_none() && list.clauses.is_empty() =>
            {
                list
            }
            _ => return Err(unsupported()),
        };
        if !is_known(&name) {
            return Err(unsupported());
        }
        let mut arguments = Vec::with_capacity(list.args.len());
        for argument in &list.args {
            match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(ast)) => {
                    let names_sequence = arguments.is_empty() && takes_sequence(&name);
                    let ast = if names_sequence {
                        without_regclass(ast)
                    } else {
                        ast
                    };
                    arguments.push(self.operand(ast)?);
                }
                _ => return Err(unsupported()),
            }
        }
        self.call_bound(&name, arguments)
    }

    /// Functions that are called without parentheses.
    pub(super) fn niladic(&mut self, name: &str) -> Option<Expr> {
        let (function, ty) = match name {
            "current_timestamp" => (Function::Now, DataType::TimestampTz),
            "current_date" => (Function::CurrentDate, DataType::Date),
            "localtimestamp" => (Function::LocalTimestamp, DataType::Timestamp),
            "localtime" => (Function::LocalTime, DataType::Time),
            "current_user" | "session_user" | "user" | "current_role" => (Function::CurrentUser, TEXT),
            "current_catalog" => (Function::CurrentDatabase, TEXT),
            "current_schema" => (Function::CurrentSchema, TEXT),
            _ => return None,
        };
        Some(Expr::Function {
            function,
            arguments: Vec::new(),
            ty,
        })
    }

    /// A call whose arguments are bound.
    pub(super) fn call_bound(&mut self, name: &str, arguments: Vec<Operand>) -> Result<Operand, BindError> {
        let undefined = undefined_function(name, &arguments);
        let count = arguments.len();
        let first = arguments.first().and_then(Operand::ty);
        let second = arguments.get(1).and_then(Operand::ty);
        let is_bytes = first == Some(DataType::Bytea);
        let (function, types, ty): (Function, &[DataType], DataType) = match (name, count) {
            ("coalesce", 1..) => return self.coalesce(arguments),
            ("nullif", 2) => return self.null_if(arguments),
            ("greatest", 1..) => return self.extreme(arguments, "GREATEST", Ordering::Greater),
            ("least", 1..) => return self.extreme(arguments, "LEAST", Ordering::Less),
            ("concat", 1..) => return self.concat_all(Function::Concat, arguments),
            ("concat_ws", 2..) => return self.concat_all(Function::ConcatWs, arguments),

            ("now" | "transaction_timestamp", 0) => (Function::Now, &[], DataType::TimestampTz),
            ("statement_timestamp", 0) => (Function::StatementTimestamp, &[], DataType::TimestampTz),
            ("clock_timestamp", 0) => (Function::ClockTimestamp, &[], DataType::TimestampTz),
            ("random", 0) => (Function::Random, &[], FLOAT),
            ("gen_random_uuid", 0) => (Function::UuidRandom, &[], DataType::Uuid),
            ("pi", 0) => (Function::Pi, &[], FLOAT),
            ("version", 0) => (Function::Version, &[], TEXT),
            ("current_database", 0) => (Function::CurrentDatabase, &[], TEXT),
            ("current_schema", 0) => (Function::CurrentSchema, &[], TEXT),
            ("current_user", 0) => (Function::CurrentUser, &[], TEXT),
            ("pg_backend_pid", 0) => (Function::BackendPid, &[], INT),
            ("pg_notify", 2) => (Function::Notify, &[TEXT, TEXT], TEXT),
            ("nextval", 1) => return self.of_sequence(Function::NextValue, arguments, &undefined),
            ("currval", 1) => return self.of_sequence(Function::CurrentValue, arguments, &undefined),
            ("setval", 2 | 3) => return self.of_sequence(Function::SetValue, arguments, &undefined),
            ("lastval", 0) => (Function::LastValue, &[], DataType::Int8),
            ("pg_get_serial_sequence", 2) => (Function::SerialSequence, &[TEXT, TEXT], TEXT),
            ("txid_current_if_assigned", 0) => (Function::TransactionId, &[], DataType::Int8),

            ("lower", 1) => (Function::Lower, &[TEXT], TEXT),
            ("upper", 1) => (Function::Upper, &[TEXT], TEXT),
            ("initcap", 1) => (Function::Initcap, &[TEXT], TEXT),
            ("length", 1) if is_bytes => (Function::OctetLength, &[DataType::Bytea], INT),
            ("length" | "char_length" | "character_length", 1) => (Function::CharLength, &[TEXT], INT),
            ("octet_length", 1) if is_bytes => (Function::OctetLength, &[DataType::Bytea], INT),
            ("octet_length", 1) if matches!(first, Some(DataType::Char(_))) => {
                let padded = arguments.into_iter().map(|argument| self.padded_text(argument));
                let padded = padded
                    .map(|text| text.map(Operand::Typed))
                    .collect::<Result<_, _>>()?;
                return self.call_bound(name, padded);
            }
            ("octet_length", 1) => (Function::OctetLength, &[TEXT], INT),
            ("substring" | "substr", 2 | 3) if is_bytes || second.is_some_and(|ty| ty.is_text()) => {
                return Err(BindError::unsupported("substring of bytes or by pattern"));
            }
            ("substring" | "substr", 2) => (Function::Substring, &[TEXT, INT], TEXT),
            ("substring" | "substr", 3) => (Function::Substring, &[TEXT, INT, INT], TEXT),
            ("strpos", 2) => (Function::Position, &[TEXT, TEXT], INT),
            ("starts_with", 2) => (Function::StartsWith, &[TEXT, TEXT], DataType::Bool),
            ("btrim", 1) => (Function::TrimBoth, &[TEXT], TEXT),
            ("btrim", 2) if !is_bytes => (Function::TrimBoth, &[TEXT, TEXT], TEXT),
            ("ltrim", 1) => (Function::TrimLeft, &[TEXT], TEXT),
            ("ltrim", 2) if !is_bytes => (Function::TrimLeft, &[TEXT, TEXT], TEXT),
            ("rtrim", 1) => (Function::TrimRight, &[TEXT], TEXT),
            ("rtrim", 2) if !is_bytes => (Function::TrimRight, &[TEXT, TEXT], TEXT),
            ("replace", 3) => (Function::Replace, &[TEXT, TEXT, TEXT], TEXT),
            ("left", 2) => (Function::Left, &[TEXT, INT], TEXT),
            ("right", 2) => (Function::Right, &[TEXT, INT], TEXT),
            ("reverse", 1) => (Function::Reverse, &[TEXT], TEXT),
            ("repeat", 2) => (Function::Repeat, &[TEXT, INT], TEXT),
            ("lpad", 2) => (Function::Lpad, &[TEXT, INT], TEXT),
            ("lpad", 3) => (Function::Lpad, &[TEXT, INT, TEXT], TEXT),
            ("rpad", 2) => (Function::Rpad, &[TEXT, INT], TEXT),
            ("rpad", 3) => (Function::Rpad, &[TEXT, INT, TEXT], TEXT),
            ("split_part", 3) => (Function::SplitPart, &[TEXT, TEXT, INT], TEXT),
            ("ascii", 1) => (Function::Ascii, &[TEXT], INT),
            ("chr", 1) => (Function::Chr, &[INT], TEXT),
            ("md5", 1) if is_bytes => (Function::Md5, &[DataType::Bytea], TEXT),
            ("md5", 1) => (Function::Md5, &[TEXT], TEXT),
            ("make_date", 3) => (Function::MakeDate, &[INT, INT, INT], DataType::Date),

            ("abs", 1) => return self.one_number(Function::Abs, arguments, true),
            ("ceil" | "ceiling", 1) => return self.one_number(Function::Ceil, arguments, false),
            ("floor", 1) => return self.one_number(Function::Floor, arguments, false),
            ("round", 1) => return self.one_number(Function::Round, arguments, false),
            ("trunc", 1) => return self.one_number(Function::Truncate, arguments, false),
            ("sign", 1) => return self.one_number(Function::Sign, arguments, false),
            ("round" | "trunc", 2) if first.is_some_and(|ty| ty.is_float()) => return Err(undefined),
            ("round", 2) => (
                Function::RoundTo,
                &[DataType::Numeric(None), INT],
                DataType::Numeric(None),
            ),
            ("trunc", 2) => (
                Function::TruncateTo,
                &[DataType::Numeric(None), INT],
                DataType::Numeric(None),
            ),
            ("mod", 2) => return self.modulo(arguments, undefined),
            ("sqrt" | "exp" | "ln" | "log" | "log10", 1) | ("power" | "pow", 2)
                if matches!(first, Some(DataType::Numeric(_)))
                    || matches!(second, Some(DataType::Numeric(_)))
                        && !first.is_some_and(|ty| ty.is_float()) =>
            {
                return Err(BindError::unsupported(format!("{name} of numeric")));
            }
            ("sqrt", 1) => (Function::Sqrt, &[FLOAT], FLOAT),
            ("exp", 1) => (Function::Exp, &[FLOAT], FLOAT),
            ("ln", 1) => (Function::Ln, &[FLOAT], FLOAT),
            ("log" | "log10", 1) => (Function::Log10, &[FLOAT], FLOAT),
            ("power" | "pow", 2) => (Function::Power, &[FLOAT, FLOAT], FLOAT),

            ("extract", 2) => return self.field_of(Function::Extract, arguments, undefined),
            ("date_part", 2) => return self.field_of(Function::DatePart, arguments, undefined),
            ("date_trunc", 2) => return self.field_of(Function::DateTrunc, arguments, undefined),
            ("timezone", 2) => return self.at_time_zone(arguments, undefined),
            _ if is_known(name) => return Err(undefined),
            _ => return Err(BindError::unsupported(format!("function {name}"))),
        };
        let mut bound = Vec::with_capacity(count);
        for (argument, ty) in arguments.into_iter().zip(types) {
            bound.push(self.argument(argument, *ty, &undefined)?);
        }
        Ok(Operand::Typed(self.fold(Expr::Function {
            function,
            arguments: bound,
            ty,
        })))
    }

    /// A call whose first argument names a sequence: a text, or an oid.
    fn of_sequence(
        &mut self,
        function: Function,
        arguments: Vec<Operand>,
        undefined: &BindError,
    ) -> Result<Operand, BindError> {
        let mut bound = Vec::with_capacity(arguments.len());
        for (index, argument) in arguments.into_iter().enumerate() {
            let is_integer = argument.ty().is_some_and(|ty| ty.is_integer());
            bound.push(match index {
                0 | 1 if is_integer => self.coerce(argument, DataType::Int8)?,
                0 => self.argument(argument, TEXT, undefined)?,
                1 => self.argument(argument, DataType::Int8, undefined)?,
                _ => self.argument(argument, DataType::Bool, undefined)?,
            });
        }
        Ok(Operand::Typed(Expr::Function {
            function,
            arguments: bound,
            ty: DataType::Int8,
        }))
    }

    /// An argument in the type that the function takes, by the implicit casts that PostgreSQL has.
    fn argument(&mut self, operand: Operand, ty: DataType, undefined: &BindError) -> Result<Expr, BindError> {
        let implicit = match operand.ty() {
            None => true,
            Some(from) if ty.is_text() => from.is_text(),
            // bigint does not become integer by itself.
            Some(from) if ty == INT => matches!(from, DataType::Int2 | DataType::Int4),
            Some(from) if ty == DataType::Numeric(None) => {
                from.is_integer() || matches!(from, DataType::Numeric(_))
            }
            Some(from) if ty == FLOAT => from.is_number(),
            Some(from) => from == ty,
        };
        if !implicit {
            return Err(copy(undefined));
        }
        self.coerce(operand, ty)
    }

    fn one_number(
        &mut self,
        function: Function,
        mut arguments: Vec<Operand>,
        keeps_integers: bool,
    ) -> Result<Operand, BindError> {
        let undefined = undefined_function(&format!("{function:?}").to_lowercase(), &arguments);
        let Some(operand) = arguments.pop() else {
            return Err(undefined);
        };
        let ty = match operand.ty() {
            Some(ty) if ty.is_integer() && keeps_integers => ty,
            Some(DataType::Float4) if keeps_integers => DataType::Float4,
            Some(DataType::Numeric(_)) => DataType::Numeric(None),
            // Other numbers, and what has no type, become the preferred type of numbers.
            Some(ty) if ty.is_number() => FLOAT,
            None => FLOAT,
            Some(_) => return Err(undefined),
        };
        let argument = self.coerce(operand, ty)?;
        Ok(Operand::Typed(self.fold(Expr::Function {
            function,
            arguments: vec![argument],
            ty,
        })))
    }

    fn modulo(&mut self, mut arguments: Vec<Operand>, undefined: BindError) -> Result<Operand, BindError> {
        let (Some(right), Some(left)) = (arguments.pop(), arguments.pop()) else {
            return Err(undefined);
        };
        self.arithmetic(super::ArithmeticOp::Modulo, left, right)
            .map(Operand::Typed)
            .map_err(|error| match error {
                BindError::Error(error) if error.code == SqlState::UNDEFINED_FUNCTION => undefined,
                other => other,
            })
    }

    fn coalesce(&mut self, arguments: Vec<Operand>) -> Result<Operand, BindError> {
        let (arguments, ty) = self.unify(arguments, "COALESCE")?;
        Ok(Operand::Typed(Expr::Coalesce { arguments, ty }))
    }

    /// The first operand as `=` takes it, which may be promoted.
    fn null_if(&mut self, mut arguments: Vec<Operand>) -> Result<Operand, BindError> {
        let (Some(right), Some(left)) = (arguments.pop(), arguments.pop()) else {
            return Err(undefined_function("nullif", &arguments));
        };
        let (left, right) = self.comparable(left, right, "=")?;
        Ok(Operand::Typed(Expr::NullIf {
            left: Box::new(left),
            right: Box::new(right),
        }))
    }

    fn extreme(&mut self, arguments: Vec<Operand>, name: &str, keep: Ordering) -> Result<Operand, BindError> {
        let (arguments, ty) = self.unify(arguments, name)?;
        if ty == DataType::Jsonb {
            return Err(BindError::unsupported("an order of jsonb values"));
        }
        Ok(Operand::Typed(Expr::Extreme { arguments, keep, ty }))
    }

    fn concat_all(&mut self, function: Function, arguments: Vec<Operand>) -> Result<Operand, BindError> {
        let arguments = arguments
            .into_iter()
            .enumerate()
            .map(|(index, argument)| match argument.ty() {
                // A separator is cast to text, which takes its blanks; the others are written as they are shown.
                Some(DataType::Char(_)) if function == Function::Concat || index > 0 => {
                    self.padded_text(argument)
                }
                _ => self.settle(argument),
            })
            .collect::<Result<Vec<_>, _>>()?;
        if function == Function::ConcatWs && !arguments[0].ty().is_text() {
            return Err(BindError::unsupported(
                "concat_ws with a separator that is no text",
            ));
        }
        Ok(Operand::Typed(self.fold(Expr::Function {
            function,
            arguments,
            ty: TEXT,
        })))
    }

    fn field_of(
        &mut self,
        function: Function,
        mut arguments: Vec<Operand>,
        undefined: BindError,
    ) -> Result<Operand, BindError> {
        let (Some(operand), Some(field)) = (arguments.pop(), arguments.pop()) else {
            return Err(undefined);
        };
        if let Operand::Interval(_) = operand {
            return Err(BindError::unsupported("a field of an interval"));
        }
        let field = self.argument(field, TEXT, &undefined)?;
        let (operand_ty, ty) = match (function, operand.ty()) {
            (Function::DateTrunc, Some(DataType::Timestamp)) => (DataType::Timestamp, DataType::Timestamp),
            (Function::DateTrunc, Some(DataType::Date | DataType::TimestampTz)) => {
                (DataType::TimestampTz, DataType::TimestampTz)
            }
            (Function::DateTrunc, Some(_)) => return Err(undefined),
            (_, None) => return Err(BindError::unsupported("a date field of a value of unknown type")),
            (
                _,
                Some(ty @ (DataType::Date | DataType::Time | DataType::Timestamp | DataType::TimestampTz)),
            ) => {
                let numeric = DataType::Numeric(None);
                (
                    ty,
                    if function == Function::Extract {
                        numeric
                    } else {
                        FLOAT
                    },
                )
            }
            (_, Some(_)) => return Err(undefined),
        };
        let operand = self.coerce(operand, operand_ty)?;
        Ok(Operand::Typed(Expr::Function {
            function,
            arguments: vec![field, operand],
            ty,
        }))
    }

    fn at_time_zone(
        &mut self,
        mut arguments: Vec<Operand>,
        undefined: BindError,
    ) -> Result<Operand, BindError> {
        let (Some(operand), Some(zone)) = (arguments.pop(), arguments.pop()) else {
            return Err(undefined);
        };
        if let Operand::Interval(_) = zone {
            return Err(BindError::unsupported("AT TIME ZONE of an interval"));
        }
        let zone = self.argument(zone, TEXT, &undefined)?;
        let (operand_ty, ty) = match operand.ty() {
            Some(DataType::Timestamp) => (DataType::Timestamp, DataType::TimestampTz),
            // A date, like a literal, is a timestamptz first.
            Some(DataType::TimestampTz | DataType::Date) | None => {
                (DataType::TimestampTz, DataType::Timestamp)
            }
            Some(_) => return Err(undefined),
        };
        let operand = self.coerce(operand, operand_ty)?;
        let arguments = vec![zone, operand];
        Ok(Operand::Typed(Expr::Function {
            function: Function::AtTimeZone,
            arguments,
            ty,
        }))
    }
}

/// Whether the first argument of a function is a `regclass` that names a sequence.
pub fn takes_sequence(name: &str) -> bool {
    matches!(name, "nextval" | "currval" | "setval")
}

/// What is cast to `regclass`: functions of sequences take the name itself.
pub fn without_regclass(ast: &Ast) -> &Ast {
    match ast {
        Ast::Nested(inner) => without_regclass(inner),
        Ast::Cast { expr, data_type, .. }
            if data_type
                .to_string()
                .to_ascii_lowercase()
                .trim_start_matches("pg_catalog.")
                == "regclass" =>
        {
            without_regclass(expr)
        }
        other => other,
    }
}

fn int_constant(value: i32) -> Expr {
    Expr::Constant {
        value: Value::Int4(value),
        ty: DataType::Int4,
    }
}

fn is_no_field(field: &sqlparser::ast::DateTimeField) -> bool {
    matches!(field, sqlparser::ast::DateTimeField::NoDateTime)
}

/// The names that are answered here; all others are left to the caller.
pub fn is_known(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "abs",
        "ascii",
        "btrim",
        "ceil",
        "ceiling",
        "char_length",
        "character_length",
        "chr",
        "clock_timestamp",
        "coalesce",
        "concat",
        "concat_ws",
        "current_database",
        "current_schema",
        "current_user",
        "currval",
        "date_part",
        "date_trunc",
        "exp",
        "extract",
        "floor",
        "gen_random_uuid",
        "greatest",
        "initcap",
        "lastval",
        "least",
        "left",
        "length",
        "ln",
        "log",
        "log10",
        "lower",
        "lpad",
        "ltrim",
        "make_date",
        "md5",
        "mod",
        "nextval",
        "now",
        "nullif",
        "octet_length",
        "pg_backend_pid",
        "pg_get_serial_sequence",
        "pg_notify",
        "pi",
        "pow",
        "power",
        "random",
        "repeat",
        "replace",
        "reverse",
        "right",
        "round",
        "rpad",
        "rtrim",
        "setval",
        "sign",
        "split_part",
        "sqrt",
        "starts_with",
        "statement_timestamp",
        "strpos",
        "substr",
        "substring",
        "timezone",
        "transaction_timestamp",
        "trunc",
        "txid_current_if_assigned",
        "upper",
        "version",
    ];
    NAMES.contains(&name)
}

fn undefined_function(name: &str, arguments: &[Operand]) -> BindError {
    let types = arguments
        .iter()
        .map(|argument| {
            argument
                .ty()
                .map_or_else(|| argument.type_name(), |ty| plain_name(&ty))
        })
        .collect::<Vec<_>>()
        .join(", ");
    BindError::Error(
        Error::new(SqlState::UNDEFINED_FUNCTION, format!("function {name}({types}) does not exist")).with_hint(
            "No function matches the given name and argument types. You might need to add explicit type casts.",
        ),
    )
}

fn copy(error: &BindError) -> BindError {
    match error {
        BindError::Error(error) => BindError::Error(error.clone()),
        BindError::Unsupported(what) => BindError::Unsupported(what.clone()),
    }
}
