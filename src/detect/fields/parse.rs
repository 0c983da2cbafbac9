//! Parses the JSON of a body.

use simd_json::BorrowedValue as Json;

use crate::audit::json_scan;

/// Parses a body and passes it to `look`. Returns `None` if there is no body, or if it cannot be parsed.
pub(super) fn read<T>(body: Option<&[u8]>, look: impl FnOnce(&Json<'_>) -> T) -> Option<T> {
    // The parser is recursive. The API server accepts no body that is nested that deeply.
    let mut text = body.filter(|body| json_scan::depth(body) <= 512)?.to_vec();
    simd_json::to_borrowed_value(&mut text).ok().map(|json| look(&json))
}
