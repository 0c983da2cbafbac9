//! Reads JSON in one pass, from its start to its end, where scanning each level for its end would take too long.

use crate::audit::json_scan::{skip_space, skip_string, skip_value};

/// Maximum length of a name that is read byte by byte.
const NAME_BYTES_FEW: usize = 16;

/// A position in JSON. Each method consumes what its name says, or returns `None` if something else follows.
pub(super) struct Reader<'a> {
    json: &'a [u8],
    at: usize,
}

// === impl Reader ===

impl<'a> Reader<'a> {
    /// Starts at the first byte of a value.
    pub(super) fn new(json: &'a [u8]) -> Reader<'a> {
        Reader { json, at: 0 }
    }

    /// Reads an object. `each` gets the name of each member that is not null, and must consume its value.
    pub(super) fn members(&mut self, mut each: impl FnMut(&mut Self, &'a [u8]) -> Option<()>) -> Option<()> {
        self.within(*b"{}", |reader| {
            let name = reader.name()?;
            if reader.json[reader.at..].starts_with(b"null") {
                return reader.raw().map(drop);
            }
            each(reader, name)
        })
    }

    /// Reads the name of a member, and the colon.
    fn name(&mut self) -> Option<&'a [u8]> {
        let rest = self.json.get(self.at..)?.strip_prefix(b"\"")?;
        // Most names are short, and the end of a short one is found faster byte by byte.
        let short = rest.iter().take(NAME_BYTES_FEW).position(|byte| matches!(byte, b'"' | b'\\'));
        let len = match short {
            Some(len) if rest[len] == b'"' => len,
            _ => skip_string(self.json, self.at)? - self.at - 2,
        };
        let name = &rest[..len];
        self.at = skip_space(self.json, self.at + len + 2);
        self.byte(b':')?;
        Some(name)
    }

    /// Reads what is between brackets, separated by commas.
    pub(super) fn within(
        &mut self,
        [open, close]: [u8; 2],
        mut each: impl FnMut(&mut Self) -> Option<()>,
    ) -> Option<()> {
        self.byte(open)?;
        if self.byte(close).is_some() {
            return Some(());
        }
        loop {
            each(self)?;
            self.at = skip_space(self.json, self.at);
            if self.byte(close).is_some() {
                return Some(());
            }
            self.byte(b',')?;
        }
    }

    /// Reads an array, and returns its raw elements.
    pub(super) fn elements(&mut self) -> Option<Vec<&'a [u8]>> {
        let mut elements = Vec::new();
        self.within(*b"[]", |element| {
            elements.push(element.raw()?);
            Some(())
        })?;
        Some(elements)
    }

    /// Reads a string after exactly this text. Consumes nothing if something else follows.
    #[inline]
    pub(super) fn string_after<const LEN: usize>(&mut self, text: &[u8; LEN]) -> Option<&'a [u8]> {
        let start = self.at + LEN;
        (self.json[self.at..].first_chunk() == Some(text) && self.json.get(start) == Some(&b'"')).then_some(())?;
        let end = skip_string(self.json, start)?;
        self.at = end;
        Some(&self.json[start..end])
    }

    /// Reads a string between exactly these texts, the last byte of which begins a value and is not consumed. Consumes nothing if
    /// something else follows.
    #[inline]
    pub(super) fn string_before<const BEFORE: usize, const AFTER: usize>(
        &mut self,
        before: &[u8; BEFORE],
        after: &[u8; AFTER],
    ) -> Option<&'a [u8]> {
        let start = self.at;
        let text = self.string_after(before)?;
        if self.json[self.at..].first_chunk() != Some(after) {
            self.at = start;
            return None;
        }
        self.at += AFTER - 1;
        Some(text)
    }

    /// Reads the members of an object after the first ones, and its end.
    pub(super) fn other_members(&mut self) -> Option<()> {
        loop {
            self.at = skip_space(self.json, self.at);
            if self.byte(b'}').is_some() {
                return Some(());
            }
            self.byte(b',')?;
            self.name()?;
            self.raw()?;
        }
    }

    /// Reads a byte, and the space behind it.
    fn byte(&mut self, byte: u8) -> Option<()> {
        (self.json.get(self.at) == Some(&byte)).then_some(())?;
        self.at = skip_space(self.json, self.at + 1);
        Some(())
    }

    /// Reads a value of any kind.
    pub(super) fn raw(&mut self) -> Option<&'a [u8]> {
        let end = skip_value(self.json, self.at)?;
        let raw = &self.json[self.at..end];
        self.at = end;
        Some(raw)
    }
}
