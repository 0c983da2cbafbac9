//! Finds the ends of JSON values and strings, and of rows in CSV, 64 bytes at a time: with a bit mask per kind of byte
//! instead of a branch per byte. In a mask, the first byte of the block is the lowest bit.
//!
//! The masks are computed as in simdjson (Langdale and Lemire, "Parsing gigabytes of JSON per second"), with one
//! difference: a backslash outside of strings does not escape anything. Such text is not JSON, and is processed byte by
//! byte.

use wide::u8x16;

pub(in crate::audit) const BLOCK: usize = 64;

/// Number of bytes that are compared at once.
pub(in crate::audit) const LANE: usize = 16;

/// Returns the position after the bracket that closes the outermost of `depth` open brackets, or `None` if it is not in
/// `bytes`. `at` must be outside of strings.
pub(super) fn close(bytes: &[u8], at: usize, depth: usize) -> Option<usize> {
    let mut walk = Walk { depth, in_string: 0, is_escaped: 0 };
    let (blocks, rest) = bytes.get(at..)?.as_chunks::<BLOCK>();
    let mut block_at = at;
    for block in blocks {
        match walk.step(block) {
            Step::On => block_at += BLOCK,
            Step::Closed(len) => return Some(block_at + len),
            Step::Stray => return close_by_byte(bytes, at, depth),
        }
    }
    let mut last = [b' '; BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    match walk.step(&last) {
        Step::On => None,
        Step::Closed(len) => Some(block_at + len),
        Step::Stray => close_by_byte(bytes, at, depth),
    }
}

/// Returns the position after the quote that ends a string, or `None` if it is not in `bytes`. `at` must be in the string, and
/// not escaped.
pub(super) fn end_of_string(bytes: &[u8], at: usize) -> Option<usize> {
    let mut walk = Walk { depth: 0, in_string: 0, is_escaped: 0 };
    let (blocks, rest) = bytes.get(at..)?.as_chunks::<BLOCK>();
    let mut last = [b' '; BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    for (index, block) in blocks.iter().chain([&last]).enumerate() {
        let (quotes, backslashes) = quotes_and_backslashes(block);
        let quotes = quotes & !walk.escaped(backslashes);
        if quotes != 0 {
            return Some(at + index * BLOCK + quotes.trailing_zeros() as usize + 1);
        }
    }
    None
}

/// The reference implementation of [`close`], byte by byte.
fn close_by_byte(bytes: &[u8], mut at: usize, mut depth: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            b'"' => {
                at = super::skip_string(bytes, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
}

/// State that is carried from one block to the next.
struct Walk {
    depth: usize,
    /// All ones if a string continues into the next block, else zero.
    in_string: u64,
    /// One if the next byte is escaped, else zero.
    is_escaped: u64,
}

enum Step {
    On,
    /// The bracket was found; the value includes this many bytes of the block.
    Closed(usize),
    /// There is a backslash outside of strings.
    Stray,
}

// === impl Walk ===

impl Walk {
    #[inline(always)]
    fn step(&mut self, block: &[u8; BLOCK]) -> Step {
        let (quotes, backslashes) = quotes_and_backslashes(block);
        let quotes = quotes & !self.escaped(backslashes);
        // Covers each string from its opening quote to the byte before its closing quote.
        let strings = prefix_xor(quotes) ^ self.in_string;
        self.in_string = ((strings as i64) >> 63) as u64;
        // Text in text: most blocks are within a string.
        if strings == u64::MAX {
            return Step::On;
        }
        if backslashes & !strings != 0 {
            return Step::Stray;
        }
        let (opening, closing) = brackets(block);
        let closing = closing & !strings;
        let mut brackets = (opening & !strings) | closing;
        while brackets != 0 {
            let bit = brackets.trailing_zeros();
            // Computed without a branch on the kind of bracket, which the CPU could not predict.
            self.depth = self.depth + 1 - 2 * (closing >> bit & 1) as usize;
            if self.depth == 0 {
                return Step::Closed(bit as usize + 1);
            }
            brackets &= brackets - 1;
        }
        Step::On
    }

    /// Returns a mask of the escaped bytes. In a run of backslashes, every second one is escaped itself.
    #[inline(always)]
    fn escaped(&mut self, backslashes: u64) -> u64 {
        const ODD: u64 = 0xAAAA_AAAA_AAAA_AAAA;
        let carried = self.is_escaped;
        if backslashes == 0 {
            self.is_escaped = 0;
            return carried;
        }
        // The carry of the subtraction out of a run shows whether the run ends at an odd or even position.
        let runs = backslashes & !carried;
        let codes = ((runs << 1) | ODD).wrapping_sub(runs) ^ ODD;
        self.is_escaped = (codes & backslashes) >> 63;
        codes ^ (backslashes | carried)
    }
}

/// Returns the XOR of each bit with all lower bits.
#[inline(always)]
fn prefix_xor(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}

/// Returns the masks of the opening and of the closing brackets in a block.
#[inline(always)]
fn brackets(block: &[u8; BLOCK]) -> (u64, u64) {
    let (lanes, _) = block.as_chunks::<LANE>();
    let (mut opening, mut closing) = (0, 0);
    for (index, lane) in lanes.iter().enumerate() {
        // With this bit set, brackets and braces become the same bytes, and no other byte becomes one of them.
        let braced = u8x16::new(*lane) | u8x16::splat(0x20);
        let mask = |byte| u64::from(braced.simd_eq(u8x16::splat(byte)).to_bitmask()) << (LANE * index);
        opening |= mask(b'{');
        closing |= mask(b'}');
    }
    (opening, closing)
}

/// Returns the masks of the quotes and of the backslashes in a block.
#[inline(always)]
fn quotes_and_backslashes(block: &[u8; BLOCK]) -> (u64, u64) {
    (quotes(block), mask_of(block, b'\\'))
}

/// Returns the mask of the bytes that a JSON string cannot contain as they are: quotes, backslashes and control characters.
#[inline(always)]
pub(in crate::audit) fn special_bytes(block: &[u8; BLOCK]) -> u64 {
    let (lanes, _) = block.as_chunks::<LANE>();
    lanes.iter().enumerate().fold(0, |found, (index, lane)| {
        let bytes = u8x16::new(*lane);
        // Only control characters have none of these bits.
        let control = (bytes & u8x16::splat(0xE0)).simd_eq(u8x16::splat(0));
        let here = bytes.simd_eq(u8x16::splat(b'"')) | bytes.simd_eq(u8x16::splat(b'\\')) | control;
        found | u64::from(here.to_bitmask()) << (LANE * index)
    })
}

/// Returns the mask of the quotes in a block.
#[inline(always)]
pub(in crate::audit) fn quotes(block: &[u8; BLOCK]) -> u64 {
    mask_of(block, b'"')
}

/// Returns the mask of the line breaks in the first block of a window.
#[inline(always)]
pub(in crate::audit) fn line_breaks(window: &[u8; BLOCK + LANE]) -> u64 {
    mask_of(window.first_chunk().expect("a window is longer than a block"), b'\n')
}

/// Returns the position after the first line break that is not between quotes, or `None` if there is none. `bytes` must
/// start outside of quotes. A backslash has no meaning.
pub(in crate::audit) fn end_of_row(bytes: &[u8]) -> Option<usize> {
    let mut in_quotes = 0;
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    let mut last = [b' '; BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    for (index, block) in blocks.iter().chain([&last]).enumerate() {
        let quoted = prefix_xor(quotes(block)) ^ in_quotes;
        in_quotes = ((quoted as i64) >> 63) as u64;
        let ends = mask_of(block, b'\n') & !quoted;
        if ends != 0 {
            return Some(index * BLOCK + ends.trailing_zeros() as usize + 1);
        }
    }
    None
}

#[inline(always)]
fn mask_of(block: &[u8; BLOCK], byte: u8) -> u64 {
    let (lanes, _) = block.as_chunks::<LANE>();
    lanes.iter().enumerate().fold(0, |mask, (index, lane)| {
        mask | u64::from(u8x16::new(*lane).simd_eq(u8x16::splat(byte)).to_bitmask()) << (LANE * index)
    })
}

/// Returns the position of the first quote or backslash in a block.
#[inline(always)]
pub(super) fn quote_or_backslash(block: &[u8; BLOCK]) -> Option<usize> {
    let (lanes, _) = block.as_chunks::<LANE>();
    let found = lanes.iter().enumerate().fold(0, |found, (index, lane)| {
        let bytes = u8x16::new(*lane);
        let here = bytes.simd_eq(u8x16::splat(b'"')) | bytes.simd_eq(u8x16::splat(b'\\'));
        found | u64::from(here.to_bitmask()) << (LANE * index)
    });
    (found != 0).then_some(found.trailing_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Generates text of the bytes that matter, with long and short runs of each, so that any of them can cross the
    /// border of a block.
    fn adversarial() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => prop::sample::select(b"\"\\{}[],: a\n\x7f\xff\x02".to_vec()).prop_map(|b| vec![b]),
            2 => (0usize..140, prop::sample::select(b"\\\\\\\"[{}] x".to_vec())).prop_map(|(len, b)| vec![b; len]),
            2 => r#"[a-c{}\[\],:]{0,70}"#.prop_map(|text| format!("\"{text}\"").into_bytes()),
            1 => ".{0,30}".prop_map(|text| serde_json::Value::from(text).to_string().into_bytes()),
            1 => Just(br#""\\\"}""#.to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..20),
        ];
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

        #[test]
        fn close_agrees_with_the_byte_by_byte_twin(text in adversarial(), depth in 1usize..70, shift in 0usize..70) {
            let text = [vec![b' '; shift], text].concat();
            for at in [0, shift / 2, shift, text.len()] {
                for depth in [1, 2, depth] {
                    prop_assert_eq!(close(&text, at, depth), close_by_byte(&text, at, depth));
                }
            }
            prop_assert_eq!(close(&text, text.len() + 1, 1), None);
        }

        #[test]
        fn end_of_string_agrees_with_a_walk_by_byte(text in adversarial(), at in 0usize..70) {
            let by_byte = |text: &[u8], mut at: usize| loop {
                match text.get(at)? {
                    b'"' => return Some(at + 1),
                    b'\\' => at += 2,
                    _ => at += 1,
                }
            };
            prop_assert_eq!(end_of_string(&text, at), by_byte(&text, at));
        }

        #[test]
        fn end_of_row_agrees_with_a_walk_by_byte(text in adversarial(), shift in 0usize..70) {
            let text = [vec![b' '; shift], text].concat();
            let mut in_quotes = false;
            let end = text.iter().position(|byte| {
                in_quotes ^= *byte == b'"';
                *byte == b'\n' && !in_quotes
            });
            prop_assert_eq!(end_of_row(&text), end.map(|end| end + 1));
        }

        #[test]
        fn close_agrees_with_the_byte_by_byte_twin_on_truncated_text(text in adversarial(), len in any::<prop::sample::Index>()) {
            let whole = [&b"["[..], &text, b"]}]}"].concat();
            let cut = &whole[..len.index(whole.len() + 1)];
            prop_assert_eq!(close(cut, 0, 1), close_by_byte(cut, 0, 1));
            prop_assert_eq!(close(cut, 0, 2), close_by_byte(cut, 0, 2));
        }
    }

    #[test]
    fn masks_classify_every_byte_at_every_position() {
        for (byte, bit) in (0..=u8::MAX).flat_map(|byte| (0..BLOCK).map(move |bit| (byte, bit))) {
            let mut block = [b' '; BLOCK];
            block[bit] = byte;
            let mask = |is: bool| u64::from(is) << bit;
            assert_eq!(quotes_and_backslashes(&block), (mask(byte == b'"'), mask(byte == b'\\')), "{byte} {bit}");
            let expected = (mask(matches!(byte, b'{' | b'[')), mask(matches!(byte, b'}' | b']')));
            assert_eq!(brackets(&block), expected, "{byte} {bit}");
        }
    }

    #[test]
    fn runs_of_backslashes_are_counted_across_blocks() {
        for backslashes in 0..140 {
            for shift in 0..70 {
                // After an even number of backslashes, the quote ends the string. After an odd number, it is escaped,
                // and `}` is part of the string.
                let text = format!("{}\"{}\"}}\"}}", " ".repeat(shift), "\\".repeat(backslashes));
                let end = text.len() - if backslashes % 2 == 0 { 2 } else { 0 };
                assert_eq!(close(text.as_bytes(), 0, 1), Some(end), "{shift} {backslashes}");
                assert_eq!(close_by_byte(text.as_bytes(), 0, 1), Some(end), "{shift} {backslashes}");
            }
        }
    }

    #[test]
    fn a_backslash_outside_of_strings_escapes_nothing() {
        for shift in 0..130 {
            let text = format!("{}\\\"}}\"}}", " ".repeat(shift));
            assert_eq!(close(text.as_bytes(), 0, 1), Some(text.len()));
        }
    }
}
