//! The types of the `audit.k8s.io/v1` API: [`Event`] as kube-apiserver wrote it, borrowed from its bytes.
//!
//! Only fields that attribution needs are included. Bodies stay raw slices: whether they are parsed depends on the
//! object's recent writers, which are only known later.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Microseconds since the Unix epoch, UTC. This is the resolution that kube-apiserver writes.
pub type Micros = i64;

/// How much of a request the audit policy recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// Metadata of the request and its outcome, without bodies.
    Metadata,
    /// Like `Metadata`, plus the request body.
    Request,
    /// Like `Request`, plus the response body.
    RequestResponse,
}

/// The stage of a request at which the event was written. A request is counted only at its final stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The audit handler received the request, which was not processed yet.
    RequestReceived,
    /// The headers of a long-running response (watch, exec) were sent.
    ResponseStarted,
    /// The response was sent. This is the event that counts.
    ResponseComplete,
    /// The handler panicked. Written instead of `ResponseComplete`, with code 500.
    Panic,
}

impl Stage {
    /// Returns whether this is the last event of a request, the one that counts.
    pub fn is_final(self) -> bool {
        matches!(self, Stage::ResponseComplete | Stage::Panic)
    }
}

/// The verb of a request. Verbs that cannot write are merged into two variants, for reads and for the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// `create` (POST on a resource).
    Create,
    /// `update` (PUT).
    Update,
    /// `patch` (PATCH with any content type).
    Patch,
    /// `delete` of one named object.
    Delete,
    /// `deletecollection`: one event for many objects.
    DeleteCollection,
    /// `get`, `list` or `watch`.
    Read,
    /// `proxy`, HTTP methods of non-resource requests, or an empty verb.
    Other,
}

impl Verb {
    /// Parses the `verb` of an event. Unknown verbs are [`Verb::Other`].
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

    /// Returns the name used in events, output and JSON.
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

    /// Returns whether a successful request with this verb can change stored objects.
    pub fn is_mutating(self) -> bool {
        !matches!(self, Verb::Read | Verb::Other)
    }
}

/// The object that a request refers to. The API server takes it from the URL; parts that are not in the URL come from
/// the request body and are claims of the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectRef<'a> {
    /// API group; empty for the core group.
    pub group: Cow<'a, str>,
    /// API version of the request (`v1`). It is not part of an object's identity.
    pub version: Cow<'a, str>,
    /// Plural resource name, not the kind.
    pub resource: Cow<'a, str>,
    /// Subresource (`status`, `scale`, …); empty for the object itself.
    pub subresource: Cow<'a, str>,
    /// Namespace; empty for cluster-scoped resources.
    pub namespace: Cow<'a, str>,
    /// Name; empty for creates with `generateName` and for collections.
    pub name: Cow<'a, str>,
    /// The uid that the client claimed, if any.
    pub uid: Cow<'a, str>,
    /// The *precondition* of the write: the revision that it replaced, never the resulting one.
    pub resource_version: Cow<'a, str>,
}

/// The status of the response, with reason and message for errors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseStatus<'a> {
    /// HTTP status code; 0 if the event has none.
    pub code: u16,
    /// Machine-readable reason of a failure (`Conflict`, `AlreadyExists`, …).
    pub reason: Cow<'a, str>,
    /// Human-readable message of a failure. It names the webhook or policy that rejected the request.
    pub message: Cow<'a, str>,
}

/// One audit event, borrowed from the bytes it was decoded from.
#[derive(Clone, Debug, PartialEq)]
pub struct Event<'a> {
    /// How much was recorded.
    pub level: Level,
    /// ID shared by all stages of a request. Clients can choose it, so it is not unique.
    pub audit_id: Cow<'a, str>,
    /// The stage at which the event was written.
    pub stage: Stage,
    /// Path and query as sent. Contains `dryRun`, `fieldManager` and `force`.
    pub request_uri: Cow<'a, str>,
    /// The verb.
    pub verb: Verb,
    /// The authenticated user; empty if authentication failed.
    pub username: Cow<'a, str>,
    /// The impersonated user, if the request used impersonation.
    pub impersonated: Option<Cow<'a, str>>,
    /// The pod that a ServiceAccount token is bound to, if the token contains it.
    pub pod: Cow<'a, str>,
    /// The address of the peer: the last of `sourceIPs`, the only one that a client cannot forge.
    pub source_ip: Cow<'a, str>,
    /// The client's description of itself; not trustworthy.
    pub user_agent: Cow<'a, str>,
    /// The object; absent for non-resource requests.
    pub object_ref: Option<ObjectRef<'a>>,
    /// The status of the response; absent at `RequestReceived`.
    pub status: Option<ResponseStatus<'a>>,
    /// The request body as raw JSON.
    pub request_object: Option<&'a [u8]>,
    /// The response body as raw JSON: the stored object, or a Status.
    pub response_object: Option<&'a [u8]>,
    /// When the request arrived.
    pub received: Option<Micros>,
    /// When this stage was reached.
    pub staged: Option<Micros>,
    /// Annotations about admission and truncation. Others are dropped.
    pub annotations: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

/// The annotation that marks an event which was made from a revision that a watch delivered. Its value is the operation
/// of the field manager: `Apply` or `Update`.
pub const WATCHED: &str = "watch.editwar.dev/operation";
/// The annotation of an event with values whose revision follows one that was shown with values: the difference between
/// both is what this write changed.
pub const CONTINUES: &str = "watch.editwar.dev/continues";
/// The annotation of an event whose time is only that at which its revision was seen, because the manager's entry has none.
pub const UNDATED: &str = "watch.editwar.dev/undated";
/// The annotation of an event that joins a revision of a watch with the audit event of the same write. Its value is the field
/// manager; the actor is the account of the audit event.
pub const JOINED: &str = "watch.editwar.dev/joined";
/// The annotation of an event that changed only fields which its field manager owned before, and took none from another.
pub const OWN: &str = "watch.editwar.dev/own";
/// The prefix of these annotations.
const OF_WATCH: &str = "watch.editwar.dev/";
/// The annotation of an event that was cut off inside of a body on its way. Its fields are unknown.
pub const CUT: &str = "intake.editwar.dev/cut";
/// The annotation of an event whose format does not have the query of the request, so that its field manager is unknown.
pub const UNKNOWN_QUERY: &str = "intake.editwar.dev/unknown-query";
/// The annotation of an event that was made from the review of an admission webhook, so that its outcome is not known.
pub const REVIEWED: &str = "intake.editwar.dev/reviewed";
/// The audit ID of an event that was made from a review begins with this, followed by the ID of the review.
pub(crate) const REVIEW_PREFIX: &str = "review/";
/// The audit ID of an event that shows the object before a reviewed write ends with this.
pub(crate) const BEFORE_SUFFIX: &str = "/before";
/// The name of the admission webhook, with which the keys of its audit annotations begin.
pub(crate) const ADMISSION_WEBHOOK: &str = "observe.editwar.dev";
/// The annotations that an answer to a review adds to the audit event of the request, without the ID of the review.
pub(crate) const REVIEW_KEY: &str = "review.";
/// The annotation of an event whose body the platform replaced by a text.
pub const OMITTED: &str = "intake.editwar.dev/omitted";
/// The prefix of these annotations.
const OF_INTAKE: &str = "intake.editwar.dev/";

/// Returns whether an annotation is kept in [`Event::annotations`]: those about admission and truncation, those of
/// watches and those of the intake.
pub fn keeps_annotation(key: &str) -> bool {
    // Checked first, since most annotations are about authorization.
    !key.starts_with("authorization.k8s.io/")
        && (key.contains("admission.k8s.io/")
            || key == "audit.k8s.io/truncated"
            || key.starts_with(OF_WATCH)
            || key.starts_with(OF_INTAKE)
            || key.starts_with(ADMISSION_WEBHOOK))
}

/// Whether an annotation tells which review and which audit event belong together, and who made the request. None has a value
/// of the object.
pub(crate) fn is_of_review(key: &str) -> bool {
    matches!(key, REVIEWED | WATCHED | JOINED) || key.starts_with(ADMISSION_WEBHOOK)
}

/// Returns the ID of a review as a number, if it is one that kube-apiserver makes: a UUID.
pub(crate) fn review_id(text: &str) -> Option<u128> {
    let is_uuid =
        text.len() == 36 && text.bytes().enumerate().all(|(at, b)| matches!(at, 8 | 13 | 18 | 23) == (b == b'-'));
    u128::from_str_radix(&text.replace('-', ""), 16).ok().filter(|_| is_uuid)
}

pub(crate) fn is_admission_patch(key: &str) -> bool {
    key.starts_with("patch.webhook.admission.k8s.io/")
}

impl<'a> Event<'a> {
    /// Returns the time that events are ordered by: when the request arrived, or else when the stage was reached.
    pub fn at(&self) -> Option<Micros> {
        self.received.or(self.staged)
    }

    /// Returns the query parameters of [`Event::request_uri`] whose names start with one of the letters in `initials`,
    /// percent-decoded if needed.
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
        // The first letter may be percent-encoded.
        let is_asked = |pair: &&str| pair.bytes().next().is_some_and(|b| b == b'%' || initials.contains(&b));
        pairs.filter(is_asked).map(move |pair| {
            let equals = pair.bytes().position(|b| b == b'=').unwrap_or(pair.len());
            let value = pair.get(equals + 1..).unwrap_or_default();
            (decoded(&pair[..equals]), decoded(value))
        })
    }

    /// Whether it was made from a revision that a watch delivered. Its request body is then the set of fields that the write
    /// took over.
    pub fn is_watched(&self) -> bool {
        !self.annotations.is_empty() && self.annotation(WATCHED).is_some()
    }

    /// Whether its actor is a field manager, because only a watch showed the write.
    pub fn is_by_manager(&self) -> bool {
        self.is_watched() && self.annotation(JOINED).is_none()
    }

    /// Returns the event without its bodies, and independent of the bytes that it was decoded from.
    pub(crate) fn detached(&self) -> Event<'static> {
        let owned = |text: &Cow<'_, str>| Cow::Owned(text.clone().into_owned());
        let object_ref = self.object_ref.as_ref().map(|reference| ObjectRef {
            group: owned(&reference.group),
            version: owned(&reference.version),
            resource: owned(&reference.resource),
            subresource: owned(&reference.subresource),
            namespace: owned(&reference.namespace),
            name: owned(&reference.name),
            uid: owned(&reference.uid),
            resource_version: owned(&reference.resource_version),
        });
        let status = self.status.as_ref().map(|status| ResponseStatus {
            code: status.code,
            reason: owned(&status.reason),
            message: owned(&status.message),
        });
        Event {
            level: self.level,
            audit_id: owned(&self.audit_id),
            stage: self.stage,
            request_uri: owned(&self.request_uri),
            verb: self.verb,
            username: owned(&self.username),
            impersonated: self.impersonated.as_ref().map(owned),
            pod: owned(&self.pod),
            source_ip: owned(&self.source_ip),
            user_agent: owned(&self.user_agent),
            object_ref,
            status,
            request_object: None,
            response_object: None,
            received: self.received,
            staged: self.staged,
            annotations: self.annotations.iter().map(|(key, value)| (owned(key), owned(value))).collect(),
        }
    }

    /// Whether any mutating webhook changed the request.
    pub(crate) fn is_mutated(&self) -> bool {
        self.annotations.iter().any(|(key, _)| is_admission_patch(key))
    }

    /// Whether it was made from a review of an admission webhook.
    pub(crate) fn is_reviewed(&self) -> bool {
        !self.annotations.is_empty() && self.annotation(REVIEWED).is_some()
    }

    /// Returns the IDs of the reviews of the request, if an admission webhook of editwar answered them.
    pub(crate) fn reviews(&self) -> impl Iterator<Item = u128> {
        let of_webhook = self.annotations.iter().filter_map(|(key, _)| key.strip_prefix(ADMISSION_WEBHOOK));
        of_webhook.filter_map(|key| review_id(key.strip_prefix('/')?.strip_prefix(REVIEW_KEY)?))
    }

    /// Returns the value of an annotation, if it was kept.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_ref())
    }
}

/// Decodes a word of a query string: `+` is a space, `%XX` a byte. Invalid escapes are kept unchanged.
pub fn percent_decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('+') {
        return percent_decode_str(text).decode_utf8().unwrap_or(Cow::Borrowed(text));
    }
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().map_or(Cow::Borrowed(text), |decoded| Cow::Owned(decoded.into_owned()))
}

/// Parses an RFC 3339 timestamp, with a fast path for the format of kube-apiserver (UTC, six fractional digits).
pub fn parse_timestamp(text: &str) -> Option<Micros> {
    let b: Option<&[u8; 27]> = text.as_bytes().try_into().ok();
    canonical_timestamp(b).or_else(|| text.parse::<jiff::Timestamp>().ok().map(|t| t.as_microsecond()))
}

/// Parses a timestamp of the form `2026-11-23T01:56:08.654761Z`.
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

/// Returns the days since 1970-01-01 of a date in the proleptic Gregorian calendar. Years are counted from March, so
/// that the leap day is the last day of a year.
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
