//! Keeps the objects of one resource watched: across timeouts, errors, restarts of the API server, and resourceVersions
//! that have expired.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::connection::{Answer, Connection, Content, Failure};
use super::promotion::PromotedState;
use super::shared::Shared;
use super::target::Target;
use crate::audit::revision::tracker::{Seen, Tracker};
use crate::audit::revision::{Kind, Metadata, WatchEvent};
use crate::util::backoff::{Backoff, random};
use crate::util::lock::lock;

/// Maximum bytes of the objects of one resource that are kept, to compare their next revisions.
const BYTES_MAX: usize = 16 << 20;
/// Events are passed on when this many bytes of them were made, or when no more are waiting.
const DELIVERED_BYTES: usize = 256 << 10;
/// Delay before a request is repeated after an error, and its maximum.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// Duration after which a watch that has ended is begun again at once.
const STABLE: Duration = Duration::from_secs(30);
/// Minimum delay before a resource that is not found is looked for again, with a discovery.
const NOT_FOUND_RETRY_MIN: Duration = Duration::from_secs(5);
/// Delay before it is tried again to read what is forbidden, and its maximum: permissions change, and an API server that has
/// just started refuses everything for some seconds.
const FORBIDDEN_RETRY: Duration = Duration::from_secs(2);
const FORBIDDEN_RETRY_MAX: Duration = Duration::from_secs(600);
/// Duration of one watch request, in seconds: between half an hour and an hour, so that not all end at the same time.
const WATCH_SECONDS: std::ops::Range<u64> = 1800..3600;

/// The watch of one resource.
pub(super) struct ResourceWatch {
    client: kube::Client,
    target: Target,
    shared: Shared,
    tracker: Arc<Mutex<Tracker>>,
    /// The position in the history of the resource; `None` if the watch starts now.
    position: Option<String>,
}

/// The watch of the values of one object.
struct ObjectWatch {
    client: kube::Client,
    target: Target,
    shared: Shared,
    tracker: Arc<Mutex<Tracker>>,
    state: PromotedState,
    uid: Box<str>,
    position: String,
}

// === impl ResourceWatch ===

impl ResourceWatch {
    pub(super) fn new(client: kube::Client, target: Target, shared: Shared) -> ResourceWatch {
        let tracker = Arc::new(Mutex::new(Tracker::new(target.resource.clone(), BYTES_MAX)));
        ResourceWatch { client, target, shared, tracker, position: None }
    }

    /// Watches until the task is cancelled.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::between(RETRY_AFTER, RETRY_AFTER_MAX);
        let mut forbidden = Backoff::between(FORBIDDEN_RETRY, FORBIDDEN_RETRY_MAX);
        loop {
            let begun = Instant::now();
            let ended = self.watch().await;
            if begun.elapsed() >= STABLE {
                backoff.reset();
                forbidden.reset();
                self.shared.status.was_stable(&self.target);
            }
            let delay = match ended {
                // The usual end.
                Ok(()) if begun.elapsed() >= STABLE => {
                    self.shared.status.continues();
                    continue;
                }
                // The API server stops, or something between closes connections.
                Ok(()) => {
                    self.shared.status.disconnected(&self.target, "closed", "the connection was closed at once");
                    backoff.next()
                }
                Err(Failure::Forbidden(message)) => {
                    tracing::info!(resource = %self.target, message, "not watched: the API server refuses it");
                    self.shared.status.forbidden(&self.target, message);
                    forbidden.next()
                }
                Err(failure) => {
                    self.shared.status.disconnected(&self.target, failure.reason(), &failure.to_string());
                    self.handle_failure(failure, backoff.next())
                }
            };
            tokio::time::sleep(delay).await;
        }
    }

    /// Handles a failure. Returns the delay before the watch is begun again, which is `delay` if nothing else is known.
    fn handle_failure(&mut self, failure: Failure, delay: Duration) -> Duration {
        match failure {
            Failure::Expired => {
                tracing::warn!(
                    resource = %self.target,
                    "the watch starts again: its resourceVersion has expired, and revisions in between are not known"
                );
                self.position = None;
                // What comes next cannot be compared with what was before.
                *lock(&self.tracker) = Tracker::new(self.target.resource.clone(), BYTES_MAX);
                self.shared.status.gap();
                self.shared.delivery.record_missed(self.shared.status.now());
                delay
            }
            // The next discovery ends this watch, if the resource is gone.
            Failure::NotFound => {
                self.shared.definitions.notify_one();
                delay.max(NOT_FOUND_RETRY_MIN)
            }
            Failure::Busy(after) => after.unwrap_or(delay).clamp(RETRY_AFTER, RETRY_AFTER_MAX),
            Failure::Forbidden(_) => delay,
            Failure::Other(message) => {
                tracing::debug!(resource = %self.target, message, "the watch failed; it starts again");
                delay
            }
        }
    }

    /// Watches until the API server ends the watch.
    async fn watch(&mut self) -> Result<(), Failure> {
        let mut connection = self.connect().await?;
        self.shared.status.connected(&self.target);
        let backlog = self.shared.status.backlog();
        let mut lines = Vec::new();
        loop {
            if !connection.is_ready() {
                backlog.rest();
            }
            let next = connection.next().await?;
            backlog.work(self.shared.status.now());
            let handled = match next {
                None => break,
                Some(line) => self.handle(line, &mut lines),
            };
            if handled.is_err() || lines.len() >= DELIVERED_BYTES || !connection.has_line() {
                self.shared.delivery.deliver(&lines).await;
                lines.clear();
            }
            handled?;
        }
        Ok(())
    }

    async fn connect(&mut self) -> Result<Connection, Failure> {
        let _permit = self.shared.starts.acquire().await;
        let selector = self.target.name.as_ref().map(|name| format!("&fieldSelector=metadata.name%3D{name}"));
        let selector = selector.unwrap_or_default();
        let position = match &self.position {
            Some(position) => position.clone(),
            None => {
                let path = format!("{}?limit=1{selector}", self.target.path());
                let answer = Answer::get(&self.client, &path, Content::Metadata.accept(true)).await?;
                answer.date.inspect(|date| self.shared.status.compare_clocks(*date));
                let list = answer.list().await?;
                if self.target.name.is_some() {
                    self.shared.status.set_missing(&self.target, list.is_empty());
                }
                self.position.insert(list.resource_version()).clone()
            }
        };
        watch(&self.client, &self.target, &selector, &position, Content::Metadata).await
    }

    fn handle(&mut self, line: &[u8], lines: &mut Vec<u8>) -> Result<(), Failure> {
        let Some(event) = parse(line)? else { return Ok(()) };
        let Some(metadata) = Metadata::of(event.object) else { return Ok(()) };
        self.position = Some(metadata.resource_version.to_string());
        if event.kind == Kind::Bookmark {
            return Ok(());
        }
        if self.target.name.is_some() {
            self.shared.status.set_missing(&self.target, false);
        }
        if self.target.defines_resources() {
            self.shared.definitions.notify_one();
        }
        let seen = Seen { kind: event.kind, metadata: &metadata, object: None, at: self.shared.status.now() };
        let is_promoted = self.shared.promotions.has(&metadata.uid);
        let observation = lock(&self.tracker).observe(&seen, is_promoted, lines);
        self.shared.status.revision(observation.is_unknown);
        if event.kind == Kind::Modified && metadata.managed_fields.is_empty() {
            self.shared.status.unmanaged(&metadata.uid);
        }
        let is_wanted = observation.is_takeover || self.shared.is_contested(&self.target, &metadata);
        if is_wanted && !self.target.is_secret() && !self.shared.redacts {
            self.promote(&metadata);
        }
        Ok(())
    }

    /// Watches the values of an object, from this revision on.
    fn promote(&self, metadata: &Metadata) {
        // The watch delivers what follows a resourceVersion.
        let Some(before) = metadata.revision().checked_sub(1) else { return };
        let namespace = Some(metadata.namespace.to_string()).filter(|namespace| !namespace.is_empty());
        let target = Target { namespace, name: Some(metadata.name.to_string()), ..self.target.clone() };
        let start = |state| {
            let watch = ObjectWatch {
                client: self.client.clone(),
                target,
                shared: self.shared.clone(),
                tracker: self.tracker.clone(),
                state,
                uid: metadata.uid.clone(),
                position: before.to_string(),
            };
            tokio::spawn(watch.run())
        };
        if let Some(count) = self.shared.promotions.promote(&metadata.uid, &self.tracker, start) {
            self.shared.status.promoted(count);
        }
    }
}

// === impl ObjectWatch ===

impl ObjectWatch {
    /// Watches until the object is calm or deleted, or its values cannot be read.
    async fn run(mut self) {
        if let Err(failure) = self.read_base().await {
            tracing::debug!(resource = %self.target, ?failure, "the values before a takeover cannot be read");
        }
        let mut backoff = Backoff::between(RETRY_AFTER, RETRY_AFTER_MAX);
        loop {
            let begun = Instant::now();
            let watched = self.watch().await;
            let is_stable = begun.elapsed() >= STABLE;
            if is_stable {
                backoff.reset();
            }
            let delay = match watched {
                Ok(true) => break,
                Ok(false) if is_stable => continue,
                // Promoted again at the next takeover, but not at once.
                Err(Failure::Expired | Failure::Forbidden(_) | Failure::NotFound) => {
                    self.state.fail();
                    self.tell_without_values().await;
                    tokio::time::sleep(RETRY_AFTER_MAX).await;
                    break;
                }
                Err(Failure::Busy(Some(after))) => after.clamp(RETRY_AFTER, RETRY_AFTER_MAX),
                Ok(false) | Err(Failure::Busy(None) | Failure::Other(_)) => backoff.next(),
            };
            self.tell_without_values().await;
            tokio::time::sleep(delay).await;
        }
        let left = self.shared.promotions.demote(&self.uid);
        self.shared.status.promoted(left);
        self.tell_without_values().await;
    }

    /// Reads the object as it was before the first revision that the watch will show.
    async fn read_base(&self) -> Result<(), Failure> {
        let Target { name, .. } = &self.target;
        let path = format!(
            "{}?fieldSelector=metadata.name%3D{}&resourceVersion={}&resourceVersionMatch=Exact&limit=1",
            self.target.path(),
            name.as_deref().unwrap_or_default(),
            self.position
        );
        let answer = Answer::get(&self.client, &path, Content::Objects.accept(true)).await?;
        let Some(object) = answer.list().await?.first_item()? else { return Ok(()) };
        let mut lines = Vec::new();
        lock(&self.tracker).base(&object, &mut lines);
        self.shared.delivery.deliver(&lines).await;
        Ok(())
    }

    /// Delivers what the watch of the resource has shown in the meantime, without values.
    async fn tell_without_values(&self) {
        let mut lines = Vec::new();
        lock(&self.tracker).without_values(&self.uid, &mut lines);
        self.shared.delivery.deliver(&lines).await;
    }

    /// Returns whether the watch is not needed any more.
    async fn watch(&mut self) -> Result<bool, Failure> {
        let name = self.target.name.clone().unwrap_or_default();
        let selector = format!("&fieldSelector=metadata.name%3D{name}");
        let mut connection = watch(&self.client, &self.target, &selector, &self.position, Content::Objects).await?;
        loop {
            let Some(line) = connection.next().await? else { return Ok(false) };
            let Some(event) = parse(line)? else { continue };
            let Some(metadata) = Metadata::of(event.object) else { continue };
            self.position = metadata.resource_version.to_string();
            let object = Some(event.object).filter(|_| event.kind != Kind::Bookmark);
            let seen = Seen { kind: event.kind, metadata: &metadata, object, at: self.shared.status.now() };
            let mut lines = Vec::new();
            let observation = lock(&self.tracker).observe(&seen, true, &mut lines);
            if observation.is_takeover || self.shared.is_contested(&self.target, &metadata) {
                self.state.touch();
            }
            self.shared.delivery.deliver(&lines).await;
            if event.kind == Kind::Deleted || self.state.is_calm() {
                return Ok(true);
            }
        }
    }
}

/// Begins a watch after a resourceVersion.
async fn watch(
    client: &kube::Client,
    target: &Target,
    selector: &str,
    position: &str,
    content: Content,
) -> Result<Connection, Failure> {
    let seconds = WATCH_SECONDS.start + random() % (WATCH_SECONDS.end - WATCH_SECONDS.start);
    let path = format!(
        "{}?watch=true&allowWatchBookmarks=true&resourceVersion={position}&timeoutSeconds={seconds}{selector}",
        target.path()
    );
    Ok(Answer::get(client, &path, content.accept(false)).await?.lines())
}

/// Parses a line of a watch. Returns `None` for an empty line.
fn parse(line: &[u8]) -> Result<Option<WatchEvent<'_>>, Failure> {
    #[derive(Deserialize)]
    struct Status {
        #[serde(default)]
        code: u16,
        #[serde(default)]
        message: String,
    }
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    let event: WatchEvent<'_> =
        serde_json::from_slice(line).map_err(|error| Failure::Other(format!("not an event of a watch: {error}")))?;
    if event.kind != Kind::Error {
        return Ok(Some(event));
    }
    let status = serde_json::from_str(event.object.get());
    let Status { code, message } = status.unwrap_or(Status { code: 0, message: String::new() });
    Err(if code == 410 { Failure::Expired } else { Failure::Other(message) })
}
