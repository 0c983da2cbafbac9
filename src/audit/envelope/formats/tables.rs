//! Tables in CSV with a header: exports of Logs Insights, Log Analytics, Splunk and Kibana. Either one column has the line
//! of the log and the others are what a log shipper knows of it, or the columns are the members of an event.

use super::azure::{self, Cell, Columns};
use crate::audit::envelope::object::push_unescaped;
use crate::audit::json_scan::{end_of_row, quotes};

/// The columns that may have the line of a log. The first of them that a table has is not copied into the object of a row.
const LINES: [&str; 7] = ["@message", "log_s", "_raw", "log", "message", "line", "Line"];
/// Maximum length of a header.
pub(in crate::audit::envelope) const HEADER_MAX: usize = 8 << 10;
/// Maximum number of cells in a row.
const CELLS_MAX: usize = 4096;
/// What stands for the line in the object of the other columns.
pub(in crate::audit::envelope) const LINE: &str = "\u{1}";

/// A table whose header was read.
pub(in crate::audit::envelope) struct Table {
    content: TableContent,
    cells: Cells,
}

enum TableContent {
    /// The members of events.
    Events(Columns),
    /// The names of the columns as JSON, and the position of the one with the line.
    Lines(Vec<String>, usize),
}

/// The cells of a row.
#[derive(Default)]
struct Cells {
    text: Vec<u8>,
    /// The end of each cell in the text.
    ends: Vec<usize>,
}

/// What a row has.
#[derive(Debug, PartialEq)]
pub(in crate::audit::envelope) enum Row<'a> {
    /// An event, and the format that it was in.
    Event(Vec<u8>, &'static str),
    /// A line of a log, and a JSON object of all columns in which [`LINE`] stands for it.
    Line(Vec<u8>, &'a [u8]),
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
        let mut cells = Cells::default();
        cells.read(text[..end].trim_ascii_end())?;
        let names: Vec<&str> = cells.iter().map(std::str::from_utf8).collect::<Result<_, _>>().ok()?;
        let content = match Columns::of(names.iter().copied()) {
            Some(columns) => TableContent::Events(columns),
            None => {
                let line = LINES.iter().find_map(|line| names.iter().position(|name| name == line))?;
                let names = names.iter().map(serde_json::to_string).collect::<Result<_, _>>().ok()?;
                TableContent::Lines(names, line)
            }
        };
        Some((Table { content, cells }, head.len() - text.len() + end + 1))
    }

    /// Returns the length of the row that `input` starts with, or `None` if it does not end there.
    pub(in crate::audit::envelope) fn row_len(input: &[u8]) -> Option<usize> {
        end_of_row(input)
    }

    /// Returns what a row has, or `None` if it is not valid.
    pub(in crate::audit::envelope) fn row(&mut self, text: &[u8]) -> Option<Row<'_>> {
        self.cells.read(text)?;
        let (names, line) = match &self.content {
            TableContent::Events(columns) => {
                let get = |at: usize| self.cells.get(at).map(Cell::Text);
                let mut event = Vec::with_capacity(text.len());
                azure::push_event(&mut event, |column| columns.cell(column, get))?;
                return Some(Row::Event(event, azure::TABLE.name));
            }
            TableContent::Lines(names, line) => (names, *line),
        };
        let mut object = b"{".to_vec();
        for (index, (name, cell)) in names.iter().zip(self.cells.iter()).enumerate() {
            if index > 0 {
                object.push(b',');
            }
            object.extend_from_slice(name.as_bytes());
            object.push(b':');
            let cell = if index == line { LINE } else { std::str::from_utf8(cell).ok()? };
            serde_json::to_writer(&mut object, cell).ok()?;
        }
        object.push(b'}');
        Some(Row::Line(object, self.cells.get(line).unwrap_or_default()))
    }
}

// === impl Cells ===

impl Cells {
    /// Splits a row. `None` if it has too many cells.
    fn read(&mut self, row: &[u8]) -> Option<()> {
        self.text.clear();
        self.ends.clear();
        let mut rest = row;
        while self.ends.len() < CELLS_MAX {
            if let Some(quoted) = rest.strip_prefix(b"\"") {
                rest = self.quoted(quoted);
            }
            // Behind quotes, there should be nothing.
            let end = memchr::memchr(b',', rest);
            self.text.extend_from_slice(&rest[..end.unwrap_or(rest.len())]);
            self.ends.push(self.text.len());
            let Some(end) = end else { return Some(()) };
            rest = &rest[end + 1..];
        }
        None
    }

    /// Reads a cell behind its opening quote, and returns what follows the closing one. The last one of a table that was cut
    /// off has none.
    fn quoted<'a>(&mut self, mut rest: &'a [u8]) -> &'a [u8] {
        loop {
            rest = push_unescaped(rest, &mut self.text, quotes, |pair| (pair == *b"\"\"").then_some(b'"'));
            let end = memchr::memchr(b'"', rest).unwrap_or(rest.len());
            self.text.extend_from_slice(&rest[..end]);
            rest = rest.get(end + 1..).unwrap_or_default();
            match rest.strip_prefix(b"\"") {
                Some(more) => rest = more,
                None => return rest,
            }
            self.text.push(b'"');
        }
    }

    fn get(&self, index: usize) -> Option<&[u8]> {
        let start = if index == 0 { 0 } else { *self.ends.get(index - 1)? };
        Some(&self.text[start..*self.ends.get(index)?])
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.ends.len()).map_while(|index| self.get(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<'a>(object: &str, line: &'a str) -> Option<Row<'a>> {
        Some(Row::Line(object.replace('|', r"\u0001").into(), line.as_bytes()))
    }

    #[test]
    fn rows_are_lines_with_what_is_known_of_them() {
        let csv =
            b"@logStream,@timestamp,@message\nkube,2021-08-11 09:29:13.095,\"{\"\"a\"\":\n\"\"b,c\"\"}\"\nx,y,z\n";
        let (mut table, header) = Table::open(csv).unwrap();
        let rest = &csv[header..];
        let len = Table::row_len(rest).unwrap();
        assert_eq!(
            table.row(rest[..len].trim_ascii()),
            line(r#"{"@logStream":"kube","@timestamp":"2021-08-11 09:29:13.095","@message":"|"}"#, "{\"a\":\n\"b,c\"}")
        );
        assert_eq!(&rest[len..], b"x,y,z\n");
        assert_eq!(Table::row_len(b"a,\"b\n"), None);
        assert_eq!(table.row(b"x"), line(r#"{"@logStream":"x"}"#, ""), "a row that is too short");
        let long = format!("1,2,\"3\"{}", ",4".repeat(300));
        assert_eq!(table.row(long.as_bytes()), line(r#"{"@logStream":"1","@timestamp":"2","@message":"|"}"#, "3"));
        assert_eq!(table.row(&[b','; 9000]), None, "too many cells");
        assert_eq!(table.row(b"\xff,x"), None);
        let cut = table.row(b"1,2,\"3\"\"");
        assert_eq!(
            cut,
            line(r#"{"@logStream":"1","@timestamp":"2","@message":"|"}"#, "3\""),
            "a table that was cut off"
        );
    }

    proptest::proptest! {
        #[test]
        fn cells_are_split_as_they_were_written(cells in proptest::collection::vec("[a\",\n]{0,9}|(\"|ab){60,90}|[^\"]{0,150}", 1..6)) {
            let quoted = |cell: &String| format!("\"{}\"", cell.replace('"', "\"\""));
            let row = cells.iter().map(quoted).collect::<Vec<_>>().join(",");
            let mut read = Cells::default();
            read.read(row.as_bytes()).unwrap();
            let read: Vec<_> = read.iter().map(|cell| String::from_utf8_lossy(cell).into_owned()).collect();
            proptest::prop_assert_eq!(read, cells);
            proptest::prop_assert_eq!(Table::row_len(format!("{row}\n").as_bytes()), Some(row.len() + 1));
        }
    }

    #[test]
    fn only_a_header_with_a_known_column_opens_a_table() {
        for text in ["", "a,b\n", "AuditId,b\n", "{\"message\":1}\n", "message", "I1129 message of x\n"] {
            assert!(Table::open(text.as_bytes()).is_none(), "{text}");
        }
        for text in ["\"@timestamp\",\"@message\"\r\n", "\u{feff}TimeGenerated [UTC],AuditId,Verb\n", "_raw\n"] {
            assert!(Table::open(text.as_bytes()).is_some(), "{text}");
        }
    }
}
