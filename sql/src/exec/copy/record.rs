//! Records of COPY data → fields. Nothing here knows types: a field is a run of bytes, in the record itself or, where
//! escapes had to be resolved, in a scratch buffer that lives as long as the record.

use crate::error::{Error, SqlState};

/// One field of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    Null,
    /// Bytes of the record.
    Plain(u32, u32),
    /// Bytes of the scratch buffer.
    Scratch(u32, u32),
}

/// The fields of the last record.
#[derive(Debug, Default)]
pub struct Fields {
    pub list: Vec<Field>,
    scratch: Vec<u8>,
}

impl Fields {
    pub fn bytes<'a>(&'a self, record: &'a [u8], field: Field) -> Option<&'a [u8]> {
        match field {
            Field::Null => None,
            Field::Plain(start, end) => Some(&record[start as usize..end as usize]),
            Field::Scratch(start, end) => Some(&self.scratch[start as usize..end as usize]),
        }
    }

    fn clear(&mut self) {
        self.list.clear();
        self.scratch.clear();
    }
}

/// The longest record. A row could not be stored anyway long before; the bound keeps a missing quote from collecting
/// the whole input.
pub const MAX_RECORD_BYTES: usize = 64 << 20;

fn malformed(message: &str) -> Error {
    Error::new(SqlState::BAD_COPY_FILE_FORMAT, message)
}

/// The dialect of the text format.
#[derive(Debug, Clone)]
pub struct TextDialect {
    pub delimiter: u8,
    pub null: Vec<u8>,
}

impl TextDialect {
    /// The end of the record that begins at `data[0]`: the offset of its line feed. `from` is where the last search stopped.
    pub fn record_end(&self, data: &[u8], from: usize) -> Option<usize> {
        let mut at = from;
        loop {
            let found = at + memchr::memchr(b'\n', &data[at..])?;
            // A line feed behind an odd number of backslashes is data.
            let backslashes = data[..found]
                .iter()
                .rev()
                .take_while(|byte| **byte == b'\\')
                .count();
            if backslashes % 2 == 0 {
                return Some(found);
            }
            at = found + 1;
        }
    }

    /// Splits a record, without its line end, into fields.
    pub fn split(&self, record: &[u8], fields: &mut Fields) -> Result<(), Error> {
        fields.clear();
        let mut start = 0;
        loop {
            let rest = &record[start..];
            match memchr::memchr2(self.delimiter, b'\\', rest) {
                None => {
                    self.plain(record, start, record.len(), fields);
                    return Ok(());
                }
                Some(found) if rest[found] == self.delimiter => {
                    self.plain(record, start, start + found, fields);
                    start += found + 1;
                }
                Some(found) => match self.escaped(record, start, start + found, fields) {
                    Some(next) => start = next,
                    None => return Ok(()),
                },
            }
        }
    }

    fn plain(&self, record: &[u8], start: usize, end: usize, fields: &mut Fields) {
        let null = record[start..end] == self.null[..];
        fields.list.push(if null {
            Field::Null
        } else {
            Field::Plain(start as u32, end as u32)
        });
    }

    /// A field with a backslash at `first`. Returns where the next field begins, or `None` at the record's end.
    fn escaped(&self, record: &[u8], start: usize, first: usize, fields: &mut Fields) -> Option<usize> {
        let base = fields.scratch.len();
        fields.scratch.extend_from_slice(&record[start..first]);
        let mut at = first;
        let mut end = record.len();
        while at < record.len() {
            let byte = record[at];
            if byte == self.delimiter {
                end = at;
                break;
            }
            at += 1;
            if byte != b'\\' || at == record.len() {
                fields.scratch.push(byte);
                continue;
            }
            let escaped = record[at];
            at += 1;
            let value = match escaped {
                b'b' => 8,
                b'f' => 12,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'v' => 11,
                b'0'..=b'7' => {
                    let mut value = u32::from(escaped - b'0');
                    for _ in 0..2 {
                        match record.get(at) {
                            Some(digit @ b'0'..=b'7') => {
                                value = value << 3 | u32::from(digit - b'0');
                                at += 1;
                            }
                            _ => break,
                        }
                    }
                    (value & 0xff) as u8
                }
                b'x' if record.get(at).is_some_and(u8::is_ascii_hexdigit) => {
                    let mut value = 0;
                    for _ in 0..2 {
                        match record.get(at).and_then(|digit| char::from(*digit).to_digit(16)) {
                            Some(digit) => {
                                value = value << 4 | digit;
                                at += 1;
                            }
                            None => break,
                        }
                    }
                    (value & 0xff) as u8
                }
                other => other,
            };
            fields.scratch.push(value);
        }
        // The null marker is compared before escapes are resolved.
        if record[start..end] == self.null[..] {
            fields.scratch.truncate(base);
            fields.list.push(Field::Null);
        } else {
            fields
                .list
                .push(Field::Scratch(base as u32, fields.scratch.len() as u32));
        }
        (end < record.len()).then_some(end + 1)
    }
}

/// The dialect of the CSV format.
#[derive(Debug, Clone)]
pub struct CsvDialect {
    pub delimiter: u8,
    pub null: Vec<u8>,
    pub quote: u8,
    pub escape: u8,
    /// By field number: an unquoted null marker is a string all the same.
    pub force_not_null: Vec<bool>,
    /// By field number: a quoted null marker is NULL all the same.
    pub force_null: Vec<bool>,
}

/// How far a search for a record's end has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CsvScan {
    at: usize,
    quoted: bool,
}

impl CsvDialect {
    /// The end of the record that begins at `data[0]`: the offset of the line feed outside of quotes.
    pub fn record_end(&self, data: &[u8], scan: &mut CsvScan) -> Option<usize> {
        while scan.at < data.len() {
            let rest = &data[scan.at..];
            if scan.quoted {
                let Some(found) = memchr::memchr2(self.quote, self.escape, rest) else {
                    scan.at = data.len();
                    return None;
                };
                if rest[found] == self.escape && self.escape != self.quote {
                    // Whether it escapes depends on the next byte, which may not be here yet.
                    match rest.get(found + 1) {
                        None => {
                            scan.at += found;
                            return None;
                        }
                        Some(next) if *next == self.quote || *next == self.escape => scan.at += found + 2,
                        Some(_) => scan.at += found + 1,
                    }
                } else {
                    scan.quoted = false;
                    scan.at += found + 1;
                }
            } else {
                match memchr::memchr2(b'\n', self.quote, rest) {
                    None => {
                        scan.at = data.len();
                        return None;
                    }
                    Some(found) if rest[found] == b'\n' => return Some(scan.at + found),
                    Some(found) => {
                        scan.quoted = true;
                        scan.at += found + 1;
                    }
                }
            }
        }
        None
    }

    /// Splits a record, without its line end, into fields.
    pub fn split(&self, record: &[u8], fields: &mut Fields) -> Result<(), Error> {
        fields.clear();
        let mut start = 0;
        loop {
            let rest = &record[start..];
            let number = fields.list.len();
            match memchr::memchr2(self.delimiter, self.quote, rest) {
                None => {
                    self.plain(record, start, record.len(), number, fields);
                    return Ok(());
                }
                Some(found) if rest[found] == self.delimiter => {
                    self.plain(record, start, start + found, number, fields);
                    start += found + 1;
                }
                Some(found) => match self.quoted(record, start, start + found, number, fields)? {
                    Some(next) => start = next,
                    None => return Ok(()),
                },
            }
        }
    }

    fn plain(&self, record: &[u8], start: usize, end: usize, number: usize, fields: &mut Fields) {
        let null = record[start..end] == self.null[..] && self.force_not_null.get(number) != Some(&true);
        fields.list.push(if null {
            Field::Null
        } else {
            Field::Plain(start as u32, end as u32)
        });
    }

    /// A field with a quote at `first`.
    fn quoted(
        &self,
        record: &[u8],
        start: usize,
        first: usize,
        number: usize,
        fields: &mut Fields,
    ) -> Result<Option<usize>, Error> {
        let base = fields.scratch.len();
        fields.scratch.extend_from_slice(&record[start..first]);
        let mut at = first;
        let mut inside = false;
        let mut end = record.len();
        while at < record.len() {
            let byte = record[at];
            let next = record.get(at + 1).copied();
            at += 1;
            if !inside {
                if byte == self.delimiter {
                    end = at - 1;
                    break;
                }
                if byte == self.quote {
                    inside = true;
                } else {
                    fields.scratch.push(byte);
                }
            } else if byte == self.escape
                && next.is_some_and(|next| next == self.quote || next == self.escape)
            {
                fields.scratch.extend(next);
                at += 1;
            } else if byte == self.quote {
                inside = false;
            } else {
                fields.scratch.push(byte);
            }
        }
        if inside {
            return Err(malformed("unterminated CSV quoted field"));
        }
        if self.force_null.get(number) == Some(&true) && fields.scratch[base..] == self.null[..] {
            fields.list.push(Field::Null);
        } else {
            fields
                .list
                .push(Field::Scratch(base as u32, fields.scratch.len() as u32));
        }
        Ok((end < record.len()).then_some(end + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(record: &[u8], fields: &Fields) -> Vec<Option<String>> {
        let text = |field: &Field| Some(String::from_utf8_lossy(fields.bytes(record, *field)?).into_owned());
        fields.list.iter().map(text).collect()
    }

    fn strings(list: &[Option<&str>]) -> Vec<Option<String>> {
        list.iter().map(|item| item.map(str::to_owned)).collect()
    }

    #[test]
    fn text_escapes_resolve_and_the_null_marker_is_compared_before() {
        let dialect = TextDialect {
            delimiter: b'\t',
            null: b"\\N".to_vec(),
        };
        let mut fields = Fields::default();
        let record = b"1\t\\N\ta\\tb\\\\N\t\\x41\\101\t";
        dialect.split(record, &mut fields).expect("valid");
        assert_eq!(
            show(record, &fields),
            strings(&[Some("1"), None, Some("a\tb\\N"), Some("AA"), Some("")])
        );
    }

    #[test]
    fn a_text_record_ends_at_a_line_feed_that_is_not_escaped() {
        let dialect = TextDialect {
            delimiter: b'\t',
            null: b"\\N".to_vec(),
        };
        assert_eq!(dialect.record_end(b"a\\\nb\nc", 0), Some(4));
        assert_eq!(dialect.record_end(b"a\\\\\nb", 0), Some(3));
        assert_eq!(dialect.record_end(b"abc", 0), None);
    }

    fn csv(quote: u8, escape: u8) -> CsvDialect {
        CsvDialect {
            delimiter: b',',
            null: Vec::new(),
            quote,
            escape,
            force_not_null: vec![false, false, true],
            force_null: vec![false, true],
        }
    }

    #[test]
    fn csv_quotes_cover_delimiters_and_line_ends() {
        let dialect = csv(b'"', b'"');
        let data = b"1,\"\",,\"a,\"\"b\"\"\n\"\nrest";
        let end = dialect.record_end(data, &mut CsvScan::default()).expect("ends");
        let mut fields = Fields::default();
        dialect.split(&data[..end], &mut fields).expect("valid");
        assert_eq!(
            show(&data[..end], &fields),
            strings(&[Some("1"), None, Some(""), Some("a,\"b\"\n")])
        );
    }

    #[test]
    fn a_csv_search_goes_on_where_the_data_stopped_even_inside_an_escape() {
        let dialect = csv(b'\'', b'\\');
        let data = b"'a\\'\n',2\n";
        let whole = dialect.record_end(data, &mut CsvScan::default());
        assert_eq!(whole, Some(data.len() - 1));
        for cut in 0..data.len() {
            let mut scan = CsvScan::default();
            let early = dialect.record_end(&data[..cut], &mut scan);
            assert_eq!(early, None, "cut at {cut}");
            assert_eq!(dialect.record_end(data, &mut scan), whole, "cut at {cut}");
        }
    }

    #[test]
    fn an_unterminated_quote_is_malformed() {
        let error = csv(b'"', b'"')
            .split(b"\"abc", &mut Fields::default())
            .expect_err("open quote");
        assert_eq!(error.code, SqlState::BAD_COPY_FILE_FORMAT);
    }
}
