//! A reader that converts a stream into lines of audit events. The formats that it can convert are in `audit/envelope`.

use std::io::{self, Read};

use crate::audit::envelope::Converter;

/// Minimum number of bytes that are read from the stream at a time.
const READ_BYTES: usize = 256 << 10;

/// Yields the lines that a [`Converter`] converts a stream into.
pub struct ConvertingReader<R> {
    inner: R,
    converter: Converter,
    /// Bytes that were read and not converted yet.
    input: Vec<u8>,
    lines: Vec<u8>,
    /// Number of bytes of `lines` that were returned already.
    returned: usize,
    is_over: bool,
}

// === impl ConvertingReader ===

impl<R: Read> ConvertingReader<R> {
    /// Converts a stream that starts with `head`, which was read already, and continues with `inner`.
    pub fn new(head: Vec<u8>, inner: R) -> ConvertingReader<R> {
        let converter = Converter::new();
        let mut reader =
            ConvertingReader { inner, converter, input: head, lines: Vec::new(), returned: 0, is_over: false };
        reader.convert(false);
        reader
    }

    fn convert(&mut self, is_end: bool) {
        let used = self.converter.convert(&self.input, is_end, &mut self.lines);
        self.input.drain(..used);
    }

    /// Reads and converts more of the stream.
    fn fill(&mut self) -> io::Result<()> {
        self.lines.clear();
        self.returned = 0;
        let len = self.input.len();
        // A value that has not ended is scanned again: reading as much as there is keeps this linear.
        self.input.resize(len + len.max(READ_BYTES), 0);
        let read = self.inner.read(&mut self.input[len..]);
        self.input.truncate(len + *read.as_ref().unwrap_or(&0));
        match read {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(n) => {
                self.is_over = n == 0;
                self.convert(self.is_over);
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for ConvertingReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.returned == self.lines.len() && !self.is_over {
            self.fill()?;
        }
        let n = (self.lines.len() - self.returned).min(buf.len());
        buf[..n].copy_from_slice(&self.lines[self.returned..self.returned + n]);
        self.returned += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: &str =
        r#"{"level":"Metadata","auditID":"a","stage":"ResponseComplete","requestURI":"/","verb":"get","user":{}}"#;

    /// Returns one byte at a time, and an error at the end.
    struct Torn<'a>(&'a [u8]);

    impl Read for Torn<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else { return Err(io::Error::other("torn")) };
            (buf[0], self.0) = (*first, rest);
            Ok(1)
        }
    }

    #[test]
    fn documents_are_converted_to_lines() {
        let text = format!("[\n{READ},\n{READ}]\n");
        for head_len in [0, 1, 50, text.len()] {
            let (head, rest) = text.as_bytes().split_at(head_len);
            let mut lines = String::new();
            ConvertingReader::new(head.to_vec(), rest).read_to_string(&mut lines).unwrap();
            let events: Vec<&str> = lines.lines().filter(|line| line.starts_with('{')).collect();
            assert_eq!(events, [READ, READ]);
        }
    }

    #[test]
    fn events_before_an_error_are_returned_first() {
        let text = format!("[{READ},{READ},{{");
        let mut lines = Vec::new();
        let mut reader = ConvertingReader::new(Vec::new(), Torn(text.as_bytes()));
        let error = reader.read_to_end(&mut lines).unwrap_err();
        assert_eq!(error.to_string(), "torn");
        let lines = String::from_utf8(lines).unwrap();
        assert_eq!(lines.lines().filter(|line| *line == READ).count(), 2, "{lines}");
    }
}
