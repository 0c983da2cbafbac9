//! Audit events as kube-apiserver writes them, and wars built from them.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::outcome::{Failure, control};
use crate::server::Server;

/// Microseconds per second.
pub(crate) const SECOND: i64 = 1_000_000;

/// A write to an object, at audit level RequestResponse.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    /// Microseconds since 1970.
    pub(crate) at: i64,
    pub(crate) actor: String,
    pub(crate) agent: String,
    /// `configmaps` or `deployments.apps`.
    pub(crate) resource: &'static str,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// The request body, a merge patch.
    pub(crate) patch: Value,
    /// The stored object, without metadata.
    pub(crate) stored: Value,
    pub(crate) revision: u64,
}

/// Two accounts that fight over field `v` of an object.
#[derive(Clone, Debug)]
pub(crate) struct War {
    pub(crate) resource: &'static str,
    pub(crate) name: String,
    pub(crate) actors: [String; 2],
    turns: u64,
}

/// The state of an object according to the server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Standing {
    /// The state of its war, or `None` if none is listed.
    pub(crate) state: Option<String>,
    /// Whether a reconciler may write.
    pub(crate) may_write: bool,
}

/// Returns the current time.
pub(crate) fn now() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

/// Formats a time as in audit events. The year must be within the range of timestamps.
pub(crate) fn time(at: i64) -> String {
    format!("{:.6}", jiff::Timestamp::from_microsecond(at).expect("a time of the first ten thousand years"))
}

/// Returns a unique audit ID.
fn id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{:08x}-0000-4000-8000-{:012x}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Returns a revision later than all previous ones.
pub(crate) fn revision() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

// === impl Write ===

impl Write {
    /// A write to `data.v` of a ConfigMap in namespace `shop`.
    pub(crate) fn new(actor: &str, name: &str, value: &str, at: i64) -> Write {
        let data = json!({"data": {"v": value}});
        Write {
            at,
            actor: actor.to_owned(),
            agent: format!("{actor}/v1"),
            resource: "configmaps",
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            patch: data.clone(),
            stored: data,
            revision: revision(),
        }
    }

    /// Returns the event as JSON.
    pub(crate) fn event(&self) -> Value {
        let (resource, group) = self.resource.split_once('.').unwrap_or((self.resource, ""));
        let (kind, api_version) = match resource {
            "deployments" => ("Deployment", "apps/v1"),
            _ => ("ConfigMap", "v1"),
        };
        let mut stored = self.stored.clone();
        stored["kind"] = kind.into();
        stored["apiVersion"] = api_version.into();
        stored["metadata"]["name"] = self.name.as_str().into();
        stored["metadata"]["namespace"] = self.namespace.as_str().into();
        stored["metadata"]["uid"] = format!("uid-{}", self.name.chars().take(60).collect::<String>()).into();
        stored["metadata"]["resourceVersion"] = self.revision.to_string().into();
        let prefix = if group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{group}/v1") };
        let uri = format!("{prefix}/namespaces/{}/{resource}/{}?fieldManager=m", self.namespace, self.name);
        let mut reference = json!({
            "resource": resource, "namespace": self.namespace, "name": self.name, "apiVersion": "v1"});
        if !group.is_empty() {
            reference["apiGroup"] = group.into();
        }
        json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse", "auditID": id(),
            "stage": "ResponseComplete", "requestURI": uri, "verb": "patch",
            "user": {"username": self.actor, "groups": ["system:authenticated"]},
            "sourceIPs": ["10.0.0.1"], "userAgent": self.agent, "objectRef": reference,
            "responseStatus": {"metadata": {}, "code": 200},
            "requestObject": self.patch, "responseObject": stored,
            "requestReceivedTimestamp": time(self.at), "stageTimestamp": time(self.at),
        })
    }

    /// Returns the event as a log line.
    pub(crate) fn line(&self) -> String {
        self.event().to_string()
    }

    /// Returns the event with both timestamps set to `time`.
    pub(crate) fn line_dated(&self, time: &str) -> String {
        let mut event = self.event();
        event["requestReceivedTimestamp"] = time.into();
        event["stageTimestamp"] = time.into();
        event.to_string()
    }
}

// === impl War ===

impl War {
    /// A war over a ConfigMap in `shop`.
    pub(crate) fn new(name: &str) -> War {
        War { resource: "configmaps", name: name.to_owned(), actors: ["alice".to_owned(), "bob".to_owned()], turns: 0 }
    }

    /// Returns the next write. The actors alternate.
    pub(crate) fn turn(&mut self, at: i64) -> Write {
        let side = (self.turns % 2) as usize;
        self.turns += 1;
        let value = ["theirs", "ours"][side];
        let mut write = Write::new(&self.actors[side], &self.name, value, at);
        write.resource = self.resource;
        write
    }

    /// Returns `turns` writes, the last one at `until`.
    pub(crate) fn lines(&mut self, turns: i64, step: i64, until: i64) -> Vec<String> {
        (0..turns).map(|n| self.turn(until - (turns - 1 - n) * step).line()).collect()
    }

    /// Returns the events of an obvious war in the last minute.
    pub(crate) fn plain(name: &str) -> Vec<String> {
        War::new(name).lines(16, 3 * SECOND, now())
    }
}

/// Formats the body of a batch.
pub(crate) fn list(events: &[String]) -> Vec<u8> {
    format!(r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{{}},"items":[{}]}}"#, events.join(","))
        .into_bytes()
}

/// Returns `/audit` or `/audit/CLUSTER`.
pub(crate) fn intake(cluster: &str) -> String {
    if cluster.is_empty() { "/audit".to_owned() } else { format!("/audit/{cluster}") }
}

/// Returns the listed war over an object in `shop`.
pub(crate) fn war_over(server: &Server, cluster: &str, name: &str) -> Result<Option<Value>, Failure> {
    let of = server.json(&format!("/api/v1/wars?name={name}&cluster={cluster}&all=true"))?;
    let wars = of["wars"].as_array().cloned().unwrap_or_default();
    let is_it = |war: &Value| war["object"]["name"] == name && war["object"]["cluster"] == cluster;
    Ok(wars.into_iter().find(is_it))
}

/// Returns the state of an object in `shop`.
pub(crate) fn standing(server: &Server, cluster: &str, name: &str) -> Result<Standing, Failure> {
    let war = war_over(server, cluster, name)?;
    let state = war.as_ref().and_then(|war| war["state"].as_str().map(str::to_owned));
    let decision = server.json(&format!("/api/v1/objects/configmaps/shop/{name}/decision?cluster={cluster}"))?;
    // Whether a reconciler may write.
    let may_write = decision["allowed"].as_bool();
    let may_write = may_write.ok_or_else(|| Failure::Control(format!("a decision without an answer: {decision}")))?;
    Ok(Standing { state, may_write })
}

/// Posts a war, and checks that it is found and that the reconciler must wait.
pub(crate) fn begin_war(server: &Server, cluster: &str, name: &str) -> Result<Standing, Failure> {
    server.post(&intake(cluster), &War::plain(name))?;
    let found = standing(server, cluster, name)?;
    control(is_fought(&found), format!("a plain war over {name} is not found: {found:?}"))?;
    Ok(found)
}

/// Returns whether there is an ongoing war.
pub(crate) fn is_fought(standing: &Standing) -> bool {
    !standing.may_write && standing.state.as_deref().is_some_and(|state| !["calm", "subsiding"].contains(&state))
}

/// Returns the number of ingested writes, not counting no-ops.
pub(crate) fn writes(server: &Server) -> Result<u64, Failure> {
    let stats = server.json("/api/v1/wars")?["stats"].clone();
    stats["writes"].as_u64().ok_or_else(|| Failure::Control(format!("no count of writes: {stats}")))
}

/// Checks that an honest war that is posted now is found, with its fields and parties.
pub(crate) fn honest_war(server: &Server, name: &str) -> Result<(), String> {
    let wrong = |failure: Failure| match failure {
        Failure::Control(why) | Failure::Skipped(why) => why,
    };
    let found = begin_war(server, "", name).map_err(wrong)?;
    let war = war_over(server, "", name).map_err(wrong)?.unwrap_or_default();
    let fields: Vec<&str> = war["fields"].as_array().into_iter().flatten().filter_map(|f| f["path"].as_str()).collect();
    let mut parties: Vec<&str> =
        war["parties"].as_array().into_iter().flatten().filter_map(|p| p["actor"].as_str()).collect();
    parties.sort_unstable();
    if fields == ["data.v"] && parties == ["alice", "bob"] {
        Ok(())
    } else {
        Err(format!("an honest war is told wrongly: {found:?}, {fields:?}, {parties:?}"))
    }
}

/// Formats a write as a log line, fast enough for load tests. The texts must not need escapes, and `stored` must start
/// with `{`.
pub(crate) fn quick(at: i64, actor: &str, agent: &str, name: &str, patch: &str, stored: &str) -> String {
    let (time, id, revision) = (time(at), id(), revision());
    let inner = &stored[1..];
    let stored = format!(
        r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"{name}","namespace":"shop","resourceVersion":"{revision}"}},{inner}"#
    );
    format!(
        r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"{id}","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/shop/configmaps/{name}","verb":"patch","user":{{"username":"{actor}"}},"sourceIPs":["10.0.0.1"],"userAgent":"{agent}","objectRef":{{"resource":"configmaps","namespace":"shop","name":"{name}","apiVersion":"v1"}},"responseStatus":{{"metadata":{{}},"code":200}},"requestObject":{patch},"responseObject":{stored},"requestReceivedTimestamp":"{time}","stageTimestamp":"{time}"}}"#
    )
}
