//! No annotation changes the identity or the status of an object.
#![no_main]

use editwar::reconcile::overrides::Overrides;
use serde_json::json;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let mut parts = text.splitn(3, '\n');
    let mut part = || parts.next().filter(|part| !part.is_empty());
    let overrides = Overrides { patch: part(), ignore: part(), ignore_fields: part() };
    let golden = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b", "labels": {}}, "data": {"x": "1"}, "list": [{"a": 1}, 2]});
    let live = json!({"metadata": {"name": "evil", "labels": {"l": "1"}}, "data": {"x": "2"}, "list": [3]});
    let mut object = golden.clone();
    let invalid = overrides.apply(&mut object, &live);
    for path in ["/apiVersion", "/kind", "/metadata/name", "/metadata/namespace", "/metadata/managedFields", "/status"]
    {
        assert_eq!(object.pointer(path), golden.pointer(path), "{path}: {invalid:?}");
    }
});
