//! OpenTelemetry: log records in JSON. The protobuf form is decoded where it arrives.

use std::borrow::Cow;

use super::{Content, Entry, Format, Inside, Value};
use crate::audit::envelope::object::{Object, time};
use crate::audit::envelope::reader::Reader;

/// A list of logs in any of its layers: below a request, a resource or a scope. All of it is read in one pass.
pub(super) const BATCH: Format = Format { name: "", open: batch };

/// A log record.
pub(super) const RECORD: Format = Format { name: "OTLP", open };

/// The logs of one resource of OpenShift.
pub(super) const OPENSHIFT: Format = Format { name: OPENSHIFT_NAME, open: openshift };

/// The name of the logs that ClusterLogForwarder sends.
pub(crate) const OPENSHIFT_NAME: &str = "OTLP of OpenShift";

/// Maximum depth of a body that is made of key-value lists.
const DEPTH_MAX: usize = 64;
/// Maximum number of records that are read at once. Those of a longer list are read one after the other.
const RECORDS_MAX: usize = 1 << 14;
/// The members with a list of logs.
const LISTS: [&str; 3] = ["resourceLogs", "scopeLogs", "logRecords"];

fn batch<'a>(object: &Object<'a>) -> Option<Content<'a>> {
    let list = LISTS.iter().find_map(|key| object.get(key))?;
    let is_openshift = object.get("resource").is_some_and(is_openshift);
    let mut entries = Vec::new();
    let mut reader = Reader::new(list);
    reader.within(*b"[]", |logs| logs.logs(LISTS.len(), is_openshift, &mut entries))?;
    (!entries.is_empty()).then_some(Content::Entries(entries))
}

fn is_openshift(resource: &[u8]) -> bool {
    memchr::memmem::find(resource, b"\"openshift.").is_some()
}

fn openshift<'a>(object: &Object<'a>) -> Option<Content<'a>> {
    object.get("resource").is_some_and(is_openshift).then_some(())?;
    Some(Content::one(Value::Json(object.get("scopeLogs")?), None, String::new()))
}

fn open<'a>(object: &Object<'a>) -> Option<Content<'a>> {
    let value = Reader::new(object.get("body")?).value()?;
    let at = ["timeUnixNano", "observedTimeUnixNano"].iter().find_map(|key| object.get(key)).and_then(time);
    Some(Content::one(value, at, String::new()))
}

// === impl Reader ===

impl<'a> Reader<'a> {
    /// Reads the logs of a resource or a scope, or a record, which may be in `depth` lists. Appends the records to `entries`.
    fn logs(&mut self, depth: usize, mut is_of_openshift: bool, entries: &mut Vec<Entry<'a>>) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        let start = entries.len();
        let (mut at, mut value, mut has_list) = (None, None, false);
        self.members(|member, key| {
            match key {
                b"resourceLogs" | b"scopeLogs" | b"logRecords" => {
                    has_list = true;
                    member.within(*b"[]", |logs| logs.logs(depth, is_of_openshift, entries))?;
                }
                b"resource" => is_of_openshift |= is_openshift(member.raw()?),
                b"timeUnixNano" => at = time(member.raw()?).or(at),
                b"observedTimeUnixNano" => at = at.or(time(member.raw()?)),
                b"body" => value = Some(member.value()?),
                _ => drop(member.raw()?),
            }
            Some(())
        })?;
        match value {
            Some(_) if entries.len() >= RECORDS_MAX => return None,
            Some(value) => {
                let inside = Inside { values: vec![value], at, stream: String::new() };
                entries.push(Entry { names: &[RECORD.name], inside });
            }
            // Neither logs nor a record.
            None => has_list.then_some(())?,
        }
        if is_of_openshift {
            entries[start..].iter_mut().for_each(|entry| entry.names = &[OPENSHIFT.name, RECORD.name]);
        }
        Some(())
    }

    /// Reads the body of a record.
    fn value(&mut self) -> Option<Value<'a>> {
        let mut value = None;
        self.members(|member, kind| {
            match kind {
                // There is only one.
                _ if value.is_some() => drop(member.raw()?),
                b"stringValue" => value = Some(Value::of(member.raw()?)?),
                b"bytesValue" => value = Some(Value::of_base64(member.raw()?)?),
                kind => {
                    let mut json = Vec::new();
                    member.value_of(kind, DEPTH_MAX, &mut json)?;
                    value = (!json.is_empty()).then_some(Value::Made(Cow::Owned(json)));
                }
            }
            Some(())
        })?;
        value
    }

    /// Appends the JSON that an `AnyValue` stands for.
    fn any_value(&mut self, depth: usize, json: &mut Vec<u8>) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        let start = json.len();
        // Most of them are strings, as exporters write them.
        if let Some(text) = self.string_after(b"{\"stringValue\":") {
            json.extend_from_slice(text);
            return self.other_members();
        }
        self.members(|value, kind| match json.len() > start {
            // There is only one.
            true => value.raw().map(drop),
            false => value.value_of(kind, depth, json),
        })?;
        if json.len() == start {
            json.extend_from_slice(b"null");
        }
        Some(())
    }

    /// Appends the JSON of the member of an `AnyValue`, or nothing if it has another name.
    fn value_of(&mut self, kind: &[u8], depth: usize, json: &mut Vec<u8>) -> Option<()> {
        match kind {
            b"kvlistValue" => return self.values(*b"{}", json, |value, json| value.pair(depth, json)),
            b"arrayValue" => return self.values(*b"[]", json, |value, json| value.any_value(depth, json)),
            _ => {}
        }
        let raw = self.raw()?;
        match kind {
            // 64-bit integers are strings in OTLP's JSON.
            b"intValue" => {
                let number = raw.strip_prefix(b"\"").and_then(|n| n.strip_suffix(b"\"")).unwrap_or(raw);
                let number: i64 = std::str::from_utf8(number).ok()?.parse().ok()?;
                json.extend_from_slice(number.to_string().as_bytes());
            }
            // The Collector's parser makes every number a double, also the codes of responses.
            b"doubleValue" => json.extend_from_slice(raw.strip_suffix(b".0").unwrap_or(raw)),
            b"stringValue" | b"boolValue" => json.extend_from_slice(raw),
            _ => {}
        }
        Some(())
    }

    /// Appends a list in its brackets: what `each` appends for the elements of the member `values`.
    fn values(
        &mut self,
        [open, close]: [u8; 2],
        json: &mut Vec<u8>,
        mut each: impl FnMut(&mut Self, &mut Vec<u8>) -> Option<()>,
    ) -> Option<()> {
        json.push(open);
        let start = json.len();
        self.members(|list, key| {
            if key != b"values" {
                return list.raw().map(drop);
            }
            list.within(*b"[]", |element| {
                if json.len() > start {
                    json.push(b',');
                }
                each(element, json)
            })
        })?;
        json.push(close);
        Some(())
    }

    /// Appends a key with its value.
    fn pair(&mut self, depth: usize, json: &mut Vec<u8>) -> Option<()> {
        if let Some(key) = self.string_before(b"{\"key\":", b",\"value\":{") {
            json.extend_from_slice(key);
            json.push(b':');
            self.any_value(depth, json)?;
            return self.other_members();
        }
        let mut value = None;
        let mut has_key = false;
        let mut is_written = false;
        self.members(|member, name| match name {
            b"key" if !has_key => {
                has_key = true;
                let key = member.raw()?;
                json.extend_from_slice(key);
                json.push(b':');
                (key.first() == Some(&b'"')).then_some(())
            }
            b"value" if has_key && !is_written => {
                is_written = true;
                member.any_value(depth, json)
            }
            b"value" if value.is_none() => {
                value = Some(member.raw()?);
                Some(())
            }
            _ => member.raw().map(drop),
        })?;
        // An empty key is left out in OTLP's JSON.
        if !has_key {
            json.extend_from_slice(b"\"\":");
        }
        match value {
            _ if is_written => Some(()),
            // It came before its key.
            Some(value) => Reader::new(value).any_value(depth, json),
            None => {
                json.extend_from_slice(b"null");
                Some(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parsed_body_is_the_json_that_it_was() {
        let json = |body: &str| {
            let mut json = Vec::new();
            Reader::new(body.as_bytes()).any_value(DEPTH_MAX, &mut json)?;
            Some(String::from_utf8(json).unwrap())
        };
        let body = r#"{"kvlistValue":{"values":[
            {"key":"a","value":{"stringValue":"x\"y"}},
            {"key":"b","value":{"arrayValue":{"values":[{"intValue":"7"},{"boolValue":true},{"doubleValue":1.5},{"doubleValue":200.0}]}}},
            {"value":{"kvlistValue":{"values":[]}}, "key":"c"},
            {"key":"d","value":{}},
            {"value":{"kvlistValue":{}}},
            {"key":"e"},
            {"key":"f","value":null},
            {"key":null,"value":{"stringValue":null,"intValue":"7"}},
            {"key":"g","value":{"kvlistValue":{"values":null}}}]}}"#;
        let expected = r#"{"a":"x\"y","b":[7,true,1.5,200],"c":{},"d":null,"":{},"e":null,"f":null,"":7,"g":{}}"#;
        assert_eq!(json(body).unwrap(), expected);
        for wrong in ["", "7", r#"{"kvlistValue":{"values":[{"key":7}]}}"#, r#"{"arrayValue":{"values":[{} {}]}}"#] {
            assert_eq!(json(wrong), None, "{wrong}");
        }
        let deep = |depth| format!("{}{{}}{}", r#"{"arrayValue":{"values":["#.repeat(depth), "]}}".repeat(depth));
        assert_eq!(json(&deep(DEPTH_MAX)), None);
        assert!(json(&deep(DEPTH_MAX - 1)).is_some());
    }

    #[test]
    fn logs_are_read_from_any_layer_with_the_resource_around_them() {
        let of = |text: &str| {
            let Content::Entries(entries) = batch(&Object::of(text.as_bytes()).unwrap())? else { return None };
            let of = |entry: &Entry<'_>| format!("{} {:?}", entry.names.join(" > "), entry.inside.at);
            Some(entries.iter().map(of).collect::<Vec<_>>().join(", "))
        };
        let record =
            r#"{"observedTimeUnixNano":"2000","timeUnixNano":"1700000000000000000","body":{"stringValue":"x"}}"#;
        let scopes = format!(r#""scopeLogs":[{{"scope":{{}},"logRecords":[{record},{{"body":{{"intValue":"7"}}}}]}}]"#);
        let at = "Some(1700000000000000)";
        assert_eq!(of(&format!(r#"{{"logRecords":[{record}]}}"#)), Some(format!("OTLP {at}")));
        assert_eq!(of(&format!("{{{scopes}}}")), Some(format!("OTLP {at}, OTLP None")));
        let text = r#"{"logRecords":[{"body":{"kvlistValue":null,"x":1,"stringValue":"text","bytesValue":null}}]}"#;
        assert_eq!(of(text).as_deref(), Some("OTLP None"), "members that are null are absent");
        let resource = r#""resource":{"attributes":[{"key":"openshift.cluster"}]}"#;
        assert_eq!(
            of(&format!(r#"{{"resourceLogs":[{{{scopes},{resource}}},{{{scopes}}}]}}"#)),
            Some(format!("OTLP of OpenShift > OTLP {at}, OTLP of OpenShift > OTLP None, OTLP {at}, OTLP None"))
        );
        for other in
            [r#"{"logRecords":7}"#, r#"{"logRecords":[]}"#, r#"{"logRecords":[{"body":"text"}]}"#, r#"{"body":{}}"#]
        {
            assert_eq!(of(other), None, "{other}");
        }
        let deep = format!("{}{record}{}", r#"{"scopeLogs":["#.repeat(5), "]}".repeat(5));
        assert_eq!(of(&deep), None);
    }
}
