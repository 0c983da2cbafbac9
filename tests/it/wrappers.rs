//! Wraps audit events as platforms and shippers do, for tests: batched, repeated, out of order or newest first, where that
//! platform does it.

use std::io::Write as _;

use base64::Engine as _;
use serde_json::{Value, json};

/// A log in the format of a platform.
pub(crate) struct Wrapped {
    /// The format, and what was done to the events.
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    /// What is left of what the events say.
    pub(crate) facts: Facts,
}

/// What a format has of what events say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Facts {
    /// All.
    All,
    /// All, except who was impersonated.
    WithoutImpersonation,
    /// Neither who was impersonated, nor the query with the field manager.
    WithoutQuery,
}

use Facts::{All, WithoutImpersonation, WithoutQuery};

/// A way to wrap events.
pub(crate) type Wrapper = (&'static str, Facts, fn(&[&str]) -> Vec<u8>);

/// All ways to wrap events.
pub(crate) const WRAPPERS: &[Wrapper] = &[
    ("CloudWatch: filter-log-events", All, filter_log_events),
    ("CloudWatch: get-log-events, pretty", All, get_log_events),
    ("CloudWatch: logs tail", All, logs_tail),
    ("CloudWatch: subscription, gzip", All, subscription),
    ("CloudWatch: Lambda", All, lambda),
    ("CloudWatch: export to S3", All, s3_export),
    ("CloudWatch: Insights CSV, newest first", All, insights_csv),
    ("CloudWatch: Insights, results", All, insights_results),
    ("Firehose", All, firehose),
    ("Firehose: S3 objects without newlines", All, firehose_s3),
    ("GKE: lines", WithoutQuery, gke_lines),
    ("GKE: gcloud, newest first", WithoutQuery, gke_array),
    ("GKE: Pub/Sub", WithoutQuery, gke_pubsub),
    ("AKS: records", All, aks_records),
    ("AKS: blob lines, both categories", All, aks_blob),
    ("AKS: AKSAudit as JSON", WithoutImpersonation, aks_table),
    ("AKS: AKSAudit as CSV of the portal", WithoutImpersonation, aks_csv),
    ("AKS: Log Analytics API", WithoutImpersonation, aks_api),
    ("OpenShift: ViaQ", All, viaq),
    ("OpenShift: ViaQ, pretty", All, viaq_pretty),
    ("OpenShift: OTLP", All, openshift_otlp),
    ("OpenShift: node-logs", All, node_logs),
    ("OTLP: batches, repeated", All, otlp),
    ("OTLP: parsed bodies", All, otlp_parsed),
    ("Fluent Bit: lines", All, fluent_lines),
    ("Fluent Bit: parsed, arrays", All, fluent_parsed),
    ("Fluentd: syslog", All, syslog),
    ("Vector", All, vector),
    ("Filebeat", All, filebeat),
    ("Elasticsearch: hits, newest first", All, elasticsearch),
    ("Loki: logcli, newest first", All, loki),
    ("Loki: API", All, loki_api),
    ("Splunk: HEC", All, splunk_hec),
    ("Splunk: export", All, splunk_export),
    ("CRI: split lines", All, cri),
    ("Docker: split lines", All, docker),
    ("pretty EventList", All, pretty_list),
];

impl Wrapped {
    /// Wraps the events in one way.
    pub(crate) fn new((name, facts, wrap): &Wrapper, events: &[&str]) -> Wrapped {
        Wrapped { name, bytes: wrap(events), facts: *facts }
    }
}

fn parsed(event: &str) -> Value {
    serde_json::from_str(event).unwrap()
}

/// Returns the time at which an event was written, in microseconds.
fn micros(event: &str) -> i64 {
    let at = event.rfind(r#""stageTimestamp":""#).unwrap() + r#""stageTimestamp":""#.len();
    event[at..at + 27].parse::<jiff::Timestamp>().unwrap().as_microsecond()
}

fn millis(event: &str) -> i64 {
    micros(event) / 1000
}

fn rfc3339(event: &str) -> String {
    format!("{:.6}", jiff::Timestamp::from_microsecond(micros(event)).unwrap())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn lines(entries: impl IntoIterator<Item = Value>) -> Vec<u8> {
    entries.into_iter().flat_map(|entry| format!("{entry}\n").into_bytes()).collect()
}

fn log_event(event: &str) -> Value {
    json!({"logStreamName": "kube-apiserver-audit-71ab", "timestamp": millis(event), "message": event,
           "ingestionTime": millis(event) + 900, "eventId": "3619"})
}

fn filter_log_events(events: &[&str]) -> Vec<u8> {
    json!({"events": events.iter().map(|e| log_event(e)).collect::<Vec<_>>(), "searchedLogStreams": []})
        .to_string()
        .into()
}

fn get_log_events(events: &[&str]) -> Vec<u8> {
    let entry = |e: &&str| json!({"timestamp": millis(e), "message": e, "ingestionTime": millis(e)});
    let all = json!({"events": events.iter().map(entry).collect::<Vec<_>>(), "nextForwardToken": "f/1"});
    serde_json::to_vec_pretty(&all).unwrap()
}

fn logs_tail(events: &[&str]) -> Vec<u8> {
    let line = |e: &&str| format!("{} kube-apiserver-audit-71ab {e}\n", rfc3339(e).replace('Z', "+00:00"));
    events.iter().map(line).collect::<String>().into()
}

fn subscription_message(events: &[&str]) -> Value {
    let entries: Vec<Value> =
        events.iter().map(|e| json!({"id": "3195", "timestamp": millis(e), "message": e})).collect();
    json!({"messageType": "DATA_MESSAGE", "owner": "1", "logGroup": "/aws/eks/c/cluster",
           "logStream": "kube-apiserver-audit-71ab", "subscriptionFilters": ["x"], "logEvents": entries})
}

fn subscription(events: &[&str]) -> Vec<u8> {
    let control =
        json!({"messageType": "CONTROL_MESSAGE", "logEvents": [{"id": "", "timestamp": 1, "message": "check"}]});
    let mut text = lines([control]);
    text.extend(lines(events.chunks(50).map(subscription_message)));
    gzip(&text)
}

fn lambda(events: &[&str]) -> Vec<u8> {
    let wrap = |batch| json!({"awslogs": {"data": base64(&gzip(subscription_message(batch).to_string().as_bytes()))}});
    lines(events.chunks(50).map(wrap))
}

fn s3_export(events: &[&str]) -> Vec<u8> {
    let line = |e: &&str| format!("{} {e}\n", rfc3339(e));
    gzip(events.iter().map(line).collect::<String>().as_bytes())
}

fn insights_csv(events: &[&str]) -> Vec<u8> {
    let row = |e: &&str| format!("kube-apiserver-audit-71ab,{},\"{}\"\n", rfc3339(e), e.replace('"', "\"\""));
    let rows: String = events.iter().rev().map(row).collect();
    format!("@logStream,@timestamp,@message\n{rows}").into()
}

fn insights_results(events: &[&str]) -> Vec<u8> {
    let row = |e: &&str| json!([{"field": "@timestamp", "value": rfc3339(e)}, {"field": "@message", "value": e}]);
    json!({"results": events.iter().map(row).collect::<Vec<_>>(), "status": "Complete"}).to_string().into()
}

fn firehose(events: &[&str]) -> Vec<u8> {
    let record = |batch| json!({"data": base64(&gzip(subscription_message(batch).to_string().as_bytes()))});
    let records: Vec<Value> = events.chunks(20).map(record).collect();
    let request = |records: &[Value]| json!({"requestId": "r", "timestamp": 1_700_000_000_000_i64, "records": records});
    lines(records.chunks(5).map(request))
}

fn firehose_s3(events: &[&str]) -> Vec<u8> {
    events.chunks(20).map(|batch| subscription_message(batch).to_string()).collect::<String>().into()
}

/// Makes the entry of Cloud Audit Logs that stands for an event. Returns `None` for what GKE does not log.
fn gke_entry(event: &str) -> Option<Value> {
    let mut event = parsed(event);
    let reference = event["objectRef"].as_object()?.clone();
    let of = |key: &str| reference.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (group, version) =
        (if of("apiGroup").is_empty() { "core".to_owned() } else { of("apiGroup") }, of("apiVersion"));
    let verb = event["verb"].as_str()?.to_owned();
    let mut name = format!("{group}/{version}");
    let is_namespace = of("resource") == "namespaces" && group == "core";
    if !of("namespace").is_empty() && !is_namespace {
        name += &format!("/namespaces/{}", of("namespace"));
    }
    for part in [of("resource"), of("name"), of("subresource")] {
        if !part.is_empty() {
            name += &format!("/{part}");
        }
    }
    let subresource = if of("subresource").is_empty() { String::new() } else { format!("{}.", of("subresource")) };
    let method = format!("io.k8s.{group}.{version}.{}.{subresource}{verb}", of("resource"));
    let code = event["responseStatus"]["code"].as_u64().unwrap_or(0);
    let grpc = match (code, event["responseStatus"]["reason"].as_str()) {
        (409, Some("AlreadyExists")) => 6,
        (409, _) => 10,
        (404, _) => 5,
        (403, _) => 7,
        (429, _) => 8,
        (400 | 422, _) => 3,
        (500.., _) => 13,
        _ => 0,
    };
    let mut typed = |key: &str, kind: &str| {
        let mut body = event.get_mut(key).map(Value::take).filter(Value::is_object)?;
        body["@type"] = kind.into();
        Some(body)
    };
    let request = typed("requestObject", if verb == "patch" { "k8s.io/Patch" } else { "core.k8s.io/v1.Any" });
    let is_status = event["responseObject"]["kind"] == "Status";
    let response = typed2(&mut event, if is_status { "core.k8s.io/v1.Status" } else { "core.k8s.io/v1.Any" });
    let mut payload = json!({
        "@type": "type.googleapis.com/google.cloud.audit.AuditLog", "serviceName": "k8s.io", "methodName": method,
        "resourceName": name, "authenticationInfo": {"principalEmail": event["user"]["username"]},
        "requestMetadata": {"callerIp": event["sourceIPs"][0], "callerSuppliedUserAgent": event["userAgent"]},
        "status": {"code": grpc, "message": event["responseStatus"]["message"]},
    });
    if let Some(request) = request {
        payload["request"] = request;
    }
    if let Some(response) = response {
        payload["response"] = response;
    }
    let is_long = event["stage"] == "ResponseStarted";
    let is_dry = event["requestURI"].as_str().is_some_and(|uri| uri.contains("dryRun="));
    let mut labels = event["annotations"].take();
    if is_dry {
        labels["command.gke.io/dryRun"] = "true".into();
    }
    Some(json!({
        "insertId": event["auditID"], "labels": labels,
        "logName": format!("projects/p/logs/cloudaudit.googleapis.com%2F{}", if verb == "get" { "data_access" } else { "activity" }),
        "operation": {"id": event["auditID"], "producer": "k8s.io", "first": true, "last": !is_long},
        "protoPayload": payload, "resource": {"type": "k8s_cluster"}, "timestamp": event["requestReceivedTimestamp"],
        "receiveTimestamp": event["stageTimestamp"],
    }))
}

fn typed2(event: &mut Value, kind: &str) -> Option<Value> {
    let mut body = event.get_mut("responseObject").map(Value::take).filter(Value::is_object)?;
    body["@type"] = kind.into();
    Some(body)
}

fn gke_lines(events: &[&str]) -> Vec<u8> {
    lines(events.iter().filter_map(|e| gke_entry(e)))
}

fn gke_array(events: &[&str]) -> Vec<u8> {
    let entries: Vec<Value> = events.iter().rev().filter_map(|e| gke_entry(e)).collect();
    serde_json::to_vec_pretty(&entries).unwrap()
}

fn gke_pubsub(events: &[&str]) -> Vec<u8> {
    let push = |entry: Value| {
        json!({"message": {"data": base64(entry.to_string().as_bytes()), "messageId": "7",
                           "publishTime": entry["timestamp"], "attributes": {}}, "subscription": "projects/p/subscriptions/s"})
    };
    lines(events.iter().filter_map(|e| gke_entry(e)).map(push))
}

fn aks_record(event: &str, category: &str) -> Value {
    json!({"category": category, "operationName": "Microsoft.ContainerService/managedClusters/diagnosticLogs/Read",
           "ccpNamespace": "5e4b", "resourceId": "/SUBSCRIPTIONS/X/MANAGEDCLUSTERS/C", "time": rfc3339(event),
           "properties": {"log": format!("{event}\n"), "stream": "stdout", "pod": "kube-apiserver-7"}})
}

fn aks_records(events: &[&str]) -> Vec<u8> {
    let other = json!({"category": "kube-controller-manager", "time": "2026-11-23T00:00:00Z",
                       "properties": {"log": "I1123 00:00:00.0 1 a.go:1] text\n", "pod": "kcm-1"}});
    let batch = |events: &[&str]| {
        let mut records: Vec<Value> = events.iter().map(|e| aks_record(e, "kube-audit")).collect();
        records.push(other.clone());
        json!({"records": records})
    };
    lines(events.chunks(40).map(batch))
}

/// Both categories have the writes.
fn aks_blob(events: &[&str]) -> Vec<u8> {
    let both = |e: &&str| [aks_record(e, "kube-audit"), aks_record(e, "kube-audit-admin")];
    lines(events.iter().flat_map(both))
}

const AKS_COLUMNS: [(&str, &str); 14] = [
    ("AuditId", "auditID"),
    ("Level", "level"),
    ("Stage", "stage"),
    ("Verb", "verb"),
    ("RequestUri", "requestURI"),
    ("User", "user"),
    ("SourceIps", "sourceIPs"),
    ("UserAgent", "userAgent"),
    ("ObjectRef", "objectRef"),
    ("ResponseStatus", "responseStatus"),
    ("RequestObject", "requestObject"),
    ("ResponseObject", "responseObject"),
    ("Annotations", "annotations"),
    ("TimeGenerated", "stageTimestamp"),
];

fn aks_row(event: &str) -> Value {
    let event = parsed(event);
    let text = |value: &Value| match value {
        Value::Object(_) | Value::Array(_) => value.to_string().into(),
        Value::Null => "".into(),
        other => other.clone(),
    };
    let mut row: serde_json::Map<String, Value> =
        AKS_COLUMNS.iter().map(|(column, key)| ((*column).to_owned(), text(&event[*key]))).collect();
    row.insert("RequestReceivedTime".to_owned(), event["requestReceivedTimestamp"].clone());
    row.insert("StageReceivedTime".to_owned(), event["stageTimestamp"].clone());
    Value::Object(row)
}

fn aks_table(events: &[&str]) -> Vec<u8> {
    serde_json::to_vec_pretty(&events.iter().map(|e| aks_row(e)).collect::<Vec<_>>()).unwrap()
}

fn aks_csv(events: &[&str]) -> Vec<u8> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    let columns: Vec<String> = aks_row(events[0]).as_object().unwrap().keys().cloned().collect();
    csv.write_record(
        columns
            .iter()
            .map(|c| if c.ends_with("Time") || c == "TimeGenerated" { format!("{c} [UTC]") } else { c.clone() }),
    )
    .unwrap();
    for event in events {
        let row = aks_row(event);
        csv.write_record(columns.iter().map(|c| row[c].as_str().unwrap_or_default())).unwrap();
    }
    csv.into_inner().unwrap()
}

fn aks_api(events: &[&str]) -> Vec<u8> {
    let columns: Vec<String> = aks_row(events[0]).as_object().unwrap().keys().cloned().collect();
    let names: Vec<Value> = columns.iter().map(|c| json!({"name": c, "type": "string"})).collect();
    let row = |e: &&str| Value::Array(columns.iter().map(|c| aks_row(e)[c].clone()).collect());
    let rows: Vec<Value> = events.iter().map(row).collect();
    json!({"tables": [{"name": "PrimaryResult", "columns": names, "rows": rows}]}).to_string().into()
}

fn viaq_entry(event: &str) -> Value {
    let mut entry = parsed(event);
    entry["k8s_audit_level"] = entry["level"].take();
    entry["level"] = "default".into();
    entry["@timestamp"] = rfc3339(event).into();
    entry["log_type"] = "audit".into();
    entry["log_source"] = "kubeAPI".into();
    entry["openshift"] = json!({"cluster_id": "d24a"});
    entry
}

fn viaq(events: &[&str]) -> Vec<u8> {
    lines(events.iter().map(|e| viaq_entry(e)))
}

fn viaq_pretty(events: &[&str]) -> Vec<u8> {
    events.iter().map(|e| format!("{:#}\n", viaq_entry(e))).collect::<String>().into()
}

fn node_logs(events: &[&str]) -> Vec<u8> {
    events.iter().map(|e| format!("ip-10-0-1-2.ec2.internal {e}\n")).collect::<String>().into()
}

fn otlp_batch(records: Vec<Value>, resource: &Value) -> Value {
    json!({"resourceLogs": [{"resource": resource, "scopeLogs": [{"scope": {}, "logRecords": records}]}]})
}

fn nanos(event: &str) -> String {
    (micros(event) * 1000).to_string()
}

fn openshift_otlp(events: &[&str]) -> Vec<u8> {
    let resource = json!({"attributes": [{"key": "openshift.cluster.uid", "value": {"stringValue": "b8af"}}]});
    let record = |e: &&str| json!({"timeUnixNano": nanos(e), "body": {"stringValue": e}});
    lines(events.chunks(30).map(|batch| otlp_batch(batch.iter().map(record).collect(), &resource)))
}

/// A batch whose answer was lost is sent again.
fn otlp(events: &[&str]) -> Vec<u8> {
    let record = |e: &&str| json!({"timeUnixNano": nanos(e), "body": {"stringValue": e}});
    let batches: Vec<Value> =
        events.chunks(30).map(|batch| otlp_batch(batch.iter().map(record).collect(), &json!({}))).collect();
    let sent = batches.iter().enumerate().flat_map(|(n, batch)| std::iter::repeat_n(batch.clone(), 1 + n % 2));
    lines(sent)
}

fn any_value(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let pairs: Vec<Value> =
                members.iter().map(|(key, value)| json!({"key": key, "value": any_value(value)})).collect();
            json!({"kvlistValue": {"values": pairs}})
        }
        Value::Array(elements) => {
            json!({"arrayValue": {"values": elements.iter().map(any_value).collect::<Vec<_>>()}})
        }
        Value::String(text) => json!({"stringValue": text}),
        Value::Bool(is_so) => json!({"boolValue": is_so}),
        Value::Number(number) if number.is_f64() => json!({"doubleValue": number}),
        Value::Number(number) => json!({"intValue": number.to_string()}),
        Value::Null => json!({}),
    }
}

fn otlp_parsed(events: &[&str]) -> Vec<u8> {
    let record = |e: &&str| json!({"timeUnixNano": nanos(e), "body": any_value(&parsed(e))});
    lines(events.chunks(30).map(|batch| otlp_batch(batch.iter().map(record).collect(), &json!({}))))
}

fn fluent_lines(events: &[&str]) -> Vec<u8> {
    lines(events.iter().map(|e| json!({"date": micros(e) as f64 / 1e6, "log": e})))
}

fn fluent_parsed(events: &[&str]) -> Vec<u8> {
    let entry = |e: &&str| {
        let mut entry = parsed(e);
        entry["date"] = json!(micros(e) as f64 / 1e6);
        entry
    };
    lines(events.chunks(25).map(|batch| Value::Array(batch.iter().map(entry).collect())))
}

fn syslog(events: &[&str]) -> Vec<u8> {
    events.iter().map(|e| format!("<13>1 {} node-1 audit - - - {e}\n", rfc3339(e))).collect::<String>().into()
}

fn vector(events: &[&str]) -> Vec<u8> {
    lines(events.iter().map(|e| json!({"file": "/var/log/audit.log", "host": "n1", "message": e, "source_type": "file", "timestamp": rfc3339(e)})))
}

fn filebeat(events: &[&str]) -> Vec<u8> {
    lines(events.iter().map(|e| json!({"@timestamp": rfc3339(e), "message": e, "log": {"offset": 7, "file": {"path": "/a"}}, "host": {"name": "n1"}})))
}

fn elasticsearch(events: &[&str]) -> Vec<u8> {
    let hit = |e: &&str| json!({"_index": "i", "_id": "x", "_source": {"@timestamp": rfc3339(e), "message": e}, "sort": [millis(e)]});
    json!({"took": 3, "hits": {"total": {"value": 1}, "hits": events.iter().rev().map(hit).collect::<Vec<_>>()}})
        .to_string()
        .into()
}

fn loki(events: &[&str]) -> Vec<u8> {
    lines(events.iter().rev().map(|e| json!({"labels": {"job": "audit"}, "line": e, "timestamp": rfc3339(e)})))
}

fn loki_api(events: &[&str]) -> Vec<u8> {
    let pair = |e: &&str| json!([nanos(e), e]);
    let streams = json!([{"stream": {"job": "audit"}, "values": events.iter().map(pair).collect::<Vec<_>>()}]);
    json!({"status": "success", "data": {"resultType": "streams", "result": streams}}).to_string().into()
}

fn splunk_hec(events: &[&str]) -> Vec<u8> {
    events
        .iter()
        .map(|e| json!({"time": micros(e) as f64 / 1e6, "sourcetype": "audit", "event": parsed(e)}).to_string())
        .collect::<String>()
        .into()
}

fn splunk_export(events: &[&str]) -> Vec<u8> {
    lines(events.iter().map(|e| json!({"preview": false, "result": {"_time": rfc3339(e), "_raw": e}})))
}

/// Splits a line where containerd does.
fn parts(event: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = event;
    while rest.len() > 16 << 10 {
        let at = (0..=16 << 10).rev().find(|at| rest.is_char_boundary(*at)).unwrap();
        parts.push(&rest[..at]);
        rest = &rest[at..];
    }
    parts.push(rest);
    parts
}

fn cri(events: &[&str]) -> Vec<u8> {
    let mut text = String::new();
    for event in events {
        let parts = parts(event);
        for (n, part) in parts.iter().enumerate() {
            let tag = if n + 1 < parts.len() { "P" } else { "F" };
            text += &format!("{} stdout {tag} {part}\n", rfc3339(event));
            text += &format!("{} stderr F I1123 00:00:00.0 1 a.go:1] text\n", rfc3339(event));
        }
    }
    text.into()
}

fn docker(events: &[&str]) -> Vec<u8> {
    let mut text = Vec::new();
    for event in events {
        let line = format!("{event}\n");
        text.extend(lines(
            parts(&line).iter().map(|part| json!({"log": part, "stream": "stdout", "time": rfc3339(event)})),
        ));
    }
    text
}

fn pretty_list(events: &[&str]) -> Vec<u8> {
    let items: Vec<Value> = events.iter().map(|e| parsed(e)).collect();
    serde_json::to_vec_pretty(
        &json!({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": items}),
    )
    .unwrap()
}
