//! The words of `audit.k8s.io/v1`: one [`Event`] as kube-apiserver wrote it, borrowed from its bytes.
//!
//! Only what attribution needs is here. Bodies stay raw slices: whether anybody looks into them is decided
//! much later, by the object's recent writers.

use std::borrow::Cow;

/// Microseconds since the Unix epoch, UTC: the resolution kube-apiserver writes.
pub type Micros = i64;

/// How much of a request the audit policy recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// Who, what, when, with what outcome; no bodies.
    Metadata,
    /// As `Metadata`, and the request's body.
    Request,
    /// As `Request`, and the response's body.
    RequestResponse,
}

/// When in a request's life the event was written. A request is counted at its end only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The audit handler saw the request; nothing is decided yet.
    RequestReceived,
    /// Headers of a long-running response (watch, exec) were sent.
    ResponseStarted,
    /// The response was sent: the one event to count.
    ResponseComplete,
    /// The handler panicked: written instead of `ResponseComplete`, with code 500.
    Panic,
}

impl Stage {
    /// Whether this event closes its request: the stages a request is counted at.
    pub fn is_final(self) -> bool {
        matches!(self, Stage::ResponseComplete | Stage::Panic)
    }
}

/// What the request asked for. Verbs that cannot write are one variant each for reads and the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// `create` (POST on a resource).
    Create,
    /// `update` (PUT).
    Update,
    /// `patch` (PATCH, any of its content types).
    Patch,
    /// `delete` of one named object.
    Delete,
    /// `deletecollection`: one event for many objects.
    DeleteCollection,
    /// `get`, `list` or `watch`.
    Read,
    /// `proxy`, HTTP methods of non-resource requests, the empty verb.
    Other,
}

impl Verb {
    /// The verb of an event's `verb` string; total, since unknown verbs are [`Verb::Other`].
    pub fn parse(verb: &str) -> Verb {
        match verb {
            "create" => Verb::Create,
            "update" => Verb::Update,
            "patch" => Verb::Patch,
            "delete" => Verb::Delete,
            "deletecollection" => Verb::DeleteCollection,
            "get" | "list" | "watch" => Verb::Read,
            _ => Verb::Other,
        }
    }

    /// The word used in events, output and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
            Verb::Read => "read",
            Verb::Other => "other",
        }
    }

    /// Whether a committed request with this verb changes stored objects.
    pub fn is_mutating(self) -> bool {
        !matches!(self, Verb::Read | Verb::Other)
    }
}

/// The object a request named. From the URL first; for decoded bodies missing parts are the client's claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectRef<'a> {
    /// API group, empty for the core group.
    pub group: Cow<'a, str>,
    /// Version of the group the request came through (`v1`), never part of an object's identity.
    pub version: Cow<'a, str>,
    /// Plural resource name, not the kind.
    pub resource: Cow<'a, str>,
    /// Subresource (`status`, `scale`, …), empty for the object itself.
    pub subresource: Cow<'a, str>,
    /// Namespace, empty where the resource is cluster-scoped.
    pub namespace: Cow<'a, str>,
    /// Name, empty for `generateName` creates and collections.
    pub name: Cow<'a, str>,
    /// The uid the client claimed, where it did.
    pub uid: Cow<'a, str>,
    /// The *precondition* of the write: the revision it replaced, never the result.
    pub resource_version: Cow<'a, str>,
}

/// The answer's status line and, for errors, its words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseStatus<'a> {
    /// HTTP code; 0 where the event carries none.
    pub code: u16,
    /// Machine-readable reason of a failure (`Conflict`, `AlreadyExists`, …).
    pub reason: Cow<'a, str>,
    /// Human-readable message of a failure; names the webhook or policy that refused.
    pub message: Cow<'a, str>,
}

/// One audit event, borrowed from the bytes it was decoded from.
#[derive(Clone, Debug, PartialEq)]
pub struct Event<'a> {
    /// How much was recorded.
    pub level: Level,
    /// Identity shared by a request's stages; a client may choose it, so it is not unique.
    pub audit_id: Cow<'a, str>,
    /// When in the request's life this was written.
    pub stage: Stage,
    /// Path and query as sent; `dryRun`, `fieldManager` and `force` stand here.
    pub request_uri: Cow<'a, str>,
    /// What was asked for.
    pub verb: Verb,
    /// Who authenticated; empty when authentication failed.
    pub username: Cow<'a, str>,
    /// Who the request acted as, where it impersonated.
    pub impersonated: Option<Cow<'a, str>>,
    /// The pod of a ServiceAccount's token, where the token names it.
    pub pod: Cow<'a, str>,
    /// The address of the peer: the last of `sourceIPs`, the only one not claimed by a client.
    pub source_ip: Cow<'a, str>,
    /// The client's own description of itself; untrusted.
    pub user_agent: Cow<'a, str>,
    /// The object, absent for non-resource requests.
    pub object_ref: Option<ObjectRef<'a>>,
    /// The answer, absent at `RequestReceived`.
    pub status: Option<ResponseStatus<'a>>,
    /// The request's body as raw JSON.
    pub request_object: Option<&'a [u8]>,
    /// The response's body as raw JSON: the stored object, or a Status.
    pub response_object: Option<&'a [u8]>,
    /// When the request arrived.
    pub received: Option<Micros>,
    /// When this stage was reached.
    pub staged: Option<Micros>,
    /// Annotations about admission and truncation; all others are left out.
    pub annotations: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

/// Whether an annotation is kept in [`Event::annotations`]: admission's words, and truncation.
pub fn keeps_annotation(key: &str) -> bool {
    // Nearly all annotations are authorization's.
    !key.starts_with("authorization.k8s.io/") && (key.contains("admission.k8s.io/") || key == "audit.k8s.io/truncated")
}

impl<'a> Event<'a> {
    /// The instant the event is ordered by: when the request arrived, else when the stage was reached.
    pub fn at(&self) -> Option<Micros> {
        self.received.or(self.staged)
    }

    /// The query parameters of [`Event::request_uri`] whose names begin with one of these letters, percent-decoded where
    /// needed.
    pub fn queries(&self, initials: &'static [u8]) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        let mut rest = memchr::memchr(b'?', self.request_uri.as_bytes()).map(|at| &self.request_uri[at + 1..]);
        let is_plain = rest.is_none_or(|query| memchr::memchr2(b'%', b'+', query.as_bytes()).is_none());
        let decoded = move |text| if is_plain { Cow::Borrowed(text) } else { percent_decoded(text) };
        let pairs = std::iter::from_fn(move || {
            let query = rest?;
            let end = memchr::memchr(b'&', query.as_bytes());
            rest = end.map(|at| &query[at + 1..]);
            Some(&query[..end.unwrap_or(query.len())])
        });
        // A letter may be encoded.
        let is_asked = |pair: &&str| pair.bytes().next().is_some_and(|b| b == b'%' || initials.contains(&b));
        pairs.filter(is_asked).map(move |pair| {
            let equals = pair.bytes().position(|b| b == b'=').unwrap_or(pair.len());
            let value = pair.get(equals + 1..).unwrap_or_default();
            (decoded(&pair[..equals]), decoded(value))
        })
    }

    /// The value of one kept annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_ref())
    }
}

/// Query-string decoding: `+` is a space, `%XX` a byte; anything that does not decode stays as it is.
pub fn percent_decoded(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|b| b == b'%' || b == b'+') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = |at: usize| bytes.get(at).and_then(|b| (*b as char).to_digit(16));
        match (bytes[i], hex(i + 1), hex(i + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                i += 3;
                continue;
            }
            (b'+', ..) => out.push(b' '),
            (byte, ..) => out.push(byte),
        }
        i += 1;
    }
    String::from_utf8(out).map_or(Cow::Borrowed(text), Cow::Owned)
}

/// `90s`, `30m`, `2h`, `7d`, in microseconds.
pub fn parse_duration(text: &str) -> Option<Micros> {
    let (number, unit) = text.split_at(text.len().checked_sub(1)?);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<u32>().ok().map(|n| i64::from(n) * seconds * 1_000_000)
}

/// Parses an RFC 3339 timestamp; the form kube-apiserver writes (UTC, six digits) takes a short cut.
pub fn parse_timestamp(text: &str) -> Option<Micros> {
    let b: Option<&[u8; 27]> = text.as_bytes().try_into().ok();
    canonical_timestamp(b).or_else(|| text.parse::<jiff::Timestamp>().ok().map(|t| t.as_microsecond()))
}

/// `2026-11-23T01:56:08.654761Z`
pub(super) fn canonical_timestamp(b: Option<&[u8; 27]>) -> Option<Micros> {
    let b = b?;
    let mut wrong = (b[4] ^ b'-') | (b[7] ^ b'-') | (b[10] ^ b'T') | (b[13] ^ b':') | (b[16] ^ b':');
    wrong |= (b[19] ^ b'.') | (b[26] ^ b'Z');
    let mut is_digits = wrong == 0;
    let mut number = |from: usize, len: usize| {
        b[from..from + len].iter().fold(0i64, |n, d| {
            let digit = d.wrapping_sub(b'0');
            is_digits &= digit <= 9;
            n * 10 + i64::from(digit)
        })
    };
    let (year, month, day) = (number(0, 4), number(5, 2), number(8, 2));
    let (hour, minute, second, micros) = (number(11, 2), number(14, 2), number(17, 2), number(20, 6));
    let is_time = hour <= 23 && minute <= 59 && second <= 59;
    if !is_digits || !is_time || !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return None;
    }
    let seconds = ((days_from_civil(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Some(seconds * 1_000_000 + micros)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a proleptic Gregorian date, counting years from March.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_agree_with_jiff() {
        for text in [
            "2026-11-23T01:56:08.654761Z",
            "1970-01-01T00:00:00.000000Z",
            "2000-02-29T23:59:59.999999Z",
            "2024-02-29T12:00:00.000001Z",
            "1969-12-31T23:59:59.999999Z",
            "0001-01-01T00:00:00.000000Z",
        ] {
            assert_eq!(
                parse_timestamp(text),
                text.parse::<jiff::Timestamp>().ok().map(|t| t.as_microsecond()),
                "{text}"
            );
        }
        assert_eq!(parse_timestamp("2026-11-23T01:56:08Z"), Some(1_795_398_968_000_000));
        assert_eq!(parse_timestamp("2026-11-23T02:56:08+01:00"), Some(1_795_398_968_000_000));
        for text in ["2026-02-30T00:00:00.000000Z", "2026-11-23 01:56", "", "2026-13-01T00:00:00.000000Z"] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
    }

    #[test]
    fn query_parameters_are_decoded() {
        let decoded = |text| percent_decoded(text).into_owned();
        assert_eq!(decoded("kubectl+client%2Dside"), "kubectl client-side");
        assert_eq!(decoded("100%"), "100%");
        assert_eq!(decoded("%zz%4"), "%zz%4");
        assert_eq!(decoded("%ff"), "%ff");
    }
}
