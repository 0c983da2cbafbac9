//! Tables in CSV with a header: exports of Logs Insights, Log Analytics, Splunk and Kibana. A row becomes a JSON object
//! whose members are the columns, so that the formats of objects apply.

use std::io::Read as _;

/// The columns by which a table is recognized.
const COLUMNS: [&str; 8] = ["@message", "AuditId", "log_s", "_raw", "message", "log", "line", "Line"];
/// Maximum length of a header.
pub(in crate::audit::envelope) const HEADER_MAX: usize = 8 << 10;

/// A table whose header was read.
#[derive(Debug)]
pub(in crate::audit::envelope) struct Table {
    columns: Vec<String>,
}

// === impl Table ===

impl Table {
    /// Returns the table that a stream starts with, and the length of its header.
    pub(in crate::audit::envelope) fn open(head: &[u8]) -> Option<(Table, usize)> {
        let text = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head);
        let end = memchr::memchr(b'\n', text).filter(|end| *end < HEADER_MAX)?;
        if !text.starts_with(b"\"")
            && !text.first()?.is_ascii_alphabetic()
            && !text.starts_with(b"@")
            && !text.starts_with(b"_")
        {
            return None;
        }
        // A line with JSON behind the name of a node is none.
        if text[..end].contains(&b'{') {
            return None;
        }
        let columns = row(&text[..end])?;
        let is_known = columns.iter().any(|column| COLUMNS.contains(&column.as_str()));
        is_known.then_some((Table { columns }, head.len() - text.len() + end + 1))
    }

    /// Returns the length of the row that `input` starts with, or `None` if it does not end there.
    pub(in crate::audit::envelope) fn row_len(input: &[u8]) -> Option<usize> {
        let mut in_quotes = false;
        let end = memchr::memchr2_iter(b'"', b'\n', input).find(|at| {
            in_quotes ^= input[*at] == b'"';
            input[*at] == b'\n' && !in_quotes
        })?;
        Some(end + 1)
    }

    /// Returns a row as an object. `None` if it is empty, or not valid.
    pub(in crate::audit::envelope) fn object(&self, text: &[u8]) -> Option<Vec<u8>> {
        let mut object = b"{".to_vec();
        for (column, value) in self.columns.iter().zip(row(text)?) {
            if object.len() > 1 {
                object.push(b',');
            }
            serde_json::to_writer(&mut object, column).ok()?;
            object.push(b':');
            serde_json::to_writer(&mut object, &value).ok()?;
        }
        object.push(b'}');
        Some(object)
    }
}

fn row(text: &[u8]) -> Option<Vec<String>> {
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.take(text.len() as u64));
    let record = reader.records().next()?.ok()?;
    Some(record.iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_objects_with_quotes_and_line_breaks() {
        let csv =
            b"@logStream,@timestamp,@message\nkube,2021-08-11 09:29:13.095,\"{\"\"a\"\":\n\"\"b,c\"\"}\"\nx,y,z\n";
        let (table, header) = Table::open(csv).unwrap();
        let rest = &csv[header..];
        let len = Table::row_len(rest).unwrap();
        let object = String::from_utf8(table.object(&rest[..len]).unwrap()).unwrap();
        assert_eq!(
            object,
            r#"{"@logStream":"kube","@timestamp":"2021-08-11 09:29:13.095","@message":"{\"a\":\n\"b,c\"}"}"#
        );
        assert_eq!(&rest[len..], b"x,y,z\n");
        assert_eq!(Table::row_len(b"a,\"b\n"), None);
    }

    #[test]
    fn only_a_header_with_a_known_column_opens_a_table() {
        for text in ["", "a,b\n", "{\"message\":1}\n", "message", "I1129 message of x\n"] {
            assert!(Table::open(text.as_bytes()).is_none(), "{text}");
        }
        for text in ["\"@timestamp\",\"@message\"\r\n", "\u{feff}TimeGenerated [UTC],AuditId\n", "_raw\n"] {
            assert!(Table::open(text.as_bytes()).is_some(), "{text}");
        }
    }
}
