//! Comparison of a query's rows with the reference answer.
//!
//! The rule is stricter than section 2.1.3.5 of the specification, which lets sums differ by 100 and averages and ratios by
//! one percent: rows stand in the answer's order; texts, dates and integers are equal; numbers with a decimal point
//! differ by at most 0.00005 plus a millionth of the answer, which covers nothing but how many digits of a quotient are
//! printed. Blanks that pad `char(n)` do not count.

use crate::client::TextRow;

/// Slack for the last printed digits of a quotient.
const ABSOLUTE: f64 = 5e-5;
const RELATIVE: f64 = 1e-6;

/// Parses RFC 4180 text whose first line names the columns; returns the rows after it. An empty field is NULL: no column
/// of an answer holds an empty text.
pub fn parse(text: &str) -> Vec<TextRow> {
    let mut rows: Vec<TextRow> = Vec::new();
    let mut row: TextRow = Vec::new();
    let mut field = String::new();
    let mut inside = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if inside && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' => inside = !inside,
            ',' if !inside => row.push(finish(&mut field)),
            '\r' if !inside => {}
            '\n' if !inside => {
                row.push(finish(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            c => field.push(c),
        }
    }
    if !row.is_empty() || !field.is_empty() {
        row.push(finish(&mut field));
        rows.push(row);
    }
    if !rows.is_empty() {
        rows.remove(0);
    }
    rows
}

fn finish(field: &mut String) -> Option<String> {
    Some(std::mem::take(field)).filter(|text| !text.is_empty())
}

/// The first difference between an answer and the rows that a server returned, in words.
pub fn difference(expected: &[TextRow], found: &[TextRow]) -> Option<String> {
    if expected.len() != found.len() {
        return Some(format!("{} rows, expected {}", found.len(), expected.len()));
    }
    for (number, (want, have)) in expected.iter().zip(found).enumerate() {
        if want.len() != have.len() {
            return Some(format!("{} columns, expected {}", have.len(), want.len()));
        }
        for (column, (want, have)) in want.iter().zip(have).enumerate() {
            if !same(want.as_deref(), have.as_deref()) {
                return Some(format!(
                    "row {}, column {}: {have:?}, expected {want:?}",
                    number + 1,
                    column + 1
                ));
            }
        }
    }
    None
}

fn same(want: Option<&str>, have: Option<&str>) -> bool {
    let (Some(want), Some(have)) = (want, have) else {
        return want.is_none() && have.is_none();
    };
    let (want, have) = (want.trim_end_matches(' '), have.trim_end_matches(' '));
    if want == have {
        return true;
    }
    if !want.contains('.') && !have.contains('.') {
        return false;
    }
    match (want.parse::<f64>(), have.parse::<f64>()) {
        (Ok(want), Ok(have)) => (want - have).abs() <= ABSOLUTE + RELATIVE * want.abs(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{difference, parse};
    use crate::client::TextRow;

    fn row(fields: &[&str]) -> TextRow {
        fields.iter().map(|field| Some((*field).to_owned())).collect()
    }

    #[test]
    fn quoted_fields_keep_commas_and_quotes() {
        let rows = parse("a,b,c\n1,\"x, \"\"y\"\"\",\n2,,\"\"\n\"\"\n");
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[0], vec![Some("1".into()), Some("x, \"y\"".into()), None]);
        assert_eq!(rows[1], vec![Some("2".into()), None, None]);
        assert_eq!(rows[2], vec![None]);
    }

    #[test]
    fn quotients_may_differ_in_their_last_digits_only() {
        let want = [row(&["25.522005853257337"])];
        assert_eq!(difference(&want, &[row(&["25.522006"])]), None);
        assert!(difference(&want, &[row(&["25.5225"])]).is_some());
    }

    #[test]
    fn counts_texts_and_order_are_exact() {
        assert!(difference(&[row(&["1478493"])], &[row(&["1478494"])]).is_some());
        assert!(difference(&[row(&["GERMANY"])], &[row(&["FRANCE"])]).is_some());
        assert_eq!(difference(&[row(&["A"])], &[row(&["A   "])]), None);
        let (one, two) = (row(&["1"]), row(&["2"]));
        assert!(difference(&[one.clone(), two.clone()], &[two, one]).is_some());
    }

    #[test]
    fn null_equals_only_null() {
        assert!(difference(&[vec![None]], &[row(&["0"])]).is_some());
        assert_eq!(difference(&[vec![None]], &[vec![None]]), None);
    }
}
