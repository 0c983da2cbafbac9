//! Tables in CSV with a header: exports of Logs Insights, Log Analytics, Splunk and Kibana. A row becomes a JSON object
//! whose members are the columns, so that the formats of objects apply.

use csv_core::{ReadRecordResult, Reader};

/// The columns by which a table is recognized.
const COLUMNS: [&str; 8] = ["@message", "AuditId", "log_s", "_raw", "message", "log", "line", "Line"];
/// Maximum length of a header.
pub(in crate::audit::envelope) const HEADER_MAX: usize = 8 << 10;
/// Maximum number of cells in a row.
const CELLS_MAX: usize = 4096;

/// A table whose header was read.
pub(in crate::audit::envelope) struct Table {
    /// The names, as JSON.
    columns: Vec<String>,
    rows: Rows,
}

/// Parses rows. Its buffers are used again for each.
struct Rows {
    reader: Reader,
    text: Vec<u8>,
    ends: Vec<usize>,
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
        let mut rows = Rows::new();
        let mut columns = Vec::new();
        let mut is_known = false;
        for column in rows.cells(&text[..end])? {
            let column = std::str::from_utf8(column).ok()?;
            is_known |= COLUMNS.contains(&column);
            columns.push(serde_json::to_string(column).ok()?);
        }
        is_known.then_some((Table { columns, rows }, head.len() - text.len() + end + 1))
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
    pub(in crate::audit::envelope) fn object(&mut self, text: &[u8]) -> Option<Vec<u8>> {
        let mut object = Vec::with_capacity(text.len() + text.len() / 4);
        object.push(b'{');
        for (column, value) in self.columns.iter().zip(self.rows.cells(text)?) {
            if object.len() > 1 {
                object.push(b',');
            }
            object.extend_from_slice(column.as_bytes());
            object.push(b':');
            serde_json::to_writer(&mut object, std::str::from_utf8(value).ok()?).ok()?;
        }
        object.push(b'}');
        Some(object)
    }
}

// === impl Rows ===

impl Rows {
    fn new() -> Rows {
        Rows { reader: Reader::new(), text: Vec::new(), ends: vec![0; 64] }
    }

    /// Returns the cells of a row.
    fn cells(&mut self, row: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
        self.reader.reset();
        self.text.resize(row.len(), 0);
        let (mut input, mut text, mut cells) = (0, 0, 0);
        loop {
            let read = self.reader.read_record(&row[input..], &mut self.text[text..], &mut self.ends[cells..]);
            let (result, taken, written, ended) = read;
            (input, text, cells) = (input + taken, text + written, cells + ended);
            match result {
                // Without more input, the row ends.
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputEndsFull if cells < CELLS_MAX => self.ends.resize(2 * cells, 0),
                ReadRecordResult::Record => break,
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull | ReadRecordResult::End => return None,
            }
        }
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        Some(starts.zip(&self.ends).take(cells).map(|(start, end)| &self.text[start..*end]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_objects_with_quotes_and_line_breaks() {
        let csv =
            b"@logStream,@timestamp,@message\nkube,2021-08-11 09:29:13.095,\"{\"\"a\"\":\n\"\"b,c\"\"}\"\nx,y,z\n";
        let (mut table, header) = Table::open(csv).unwrap();
        let rest = &csv[header..];
        let len = Table::row_len(rest).unwrap();
        let object = String::from_utf8(table.object(&rest[..len]).unwrap()).unwrap();
        assert_eq!(
            object,
            r#"{"@logStream":"kube","@timestamp":"2021-08-11 09:29:13.095","@message":"{\"a\":\n\"b,c\"}"}"#
        );
        assert_eq!(&rest[len..], b"x,y,z\n");
        assert_eq!(Table::row_len(b"a,\"b\n"), None);
        assert_eq!(table.object(b"x"), Some(br#"{"@logStream":"x"}"#.to_vec()), "a row that is too short");
        let long = format!("1,2,3{}", ",4".repeat(300));
        assert_eq!(
            table.object(long.as_bytes()),
            Some(br#"{"@logStream":"1","@timestamp":"2","@message":"3"}"#.to_vec())
        );
        assert_eq!(table.object(&[b','; 9000]), None, "too many cells");
        assert_eq!(table.object(b"\xff,x"), None);
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
