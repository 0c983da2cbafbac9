//! Elasticsearch and OpenSearch: the hits of a search. What Filebeat or Logstash stored is below `_source`.

use super::{Content, Format, Value};
use crate::audit::envelope::object::Object;

/// One hit, or the object around the hits.
pub(super) const FORMAT: Format = Format { name: "Elasticsearch", open };

fn open<'a>(object: &Object<'a>) -> Option<Content<'a>> {
    let source = object.get("_source").filter(|source| source.first() == Some(&b'{'))?;
    Some(Content::one(Value::Json(source), None, String::new()))
}
