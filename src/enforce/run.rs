//! The enforcer's task: looks at the verdicts every second, and does what the plan says while it holds the Lease.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kube::Client;
use tokio::sync::watch;

use super::events::Events;
use super::hand::{self, Error, Hand, Live, because};
use super::lease::{self, Lease};
use super::look;
use super::plan::{Action, Again, Lift, Now, Plan, REFUSED_FOR, Rules, STRIPPED_FOR, Verdict};
use crate::audit::event::Micros;
use crate::detect::class::is_match;
use crate::detect::verdict::State;
use crate::pipeline::Pipeline;
use crate::pipeline::key::ObjectKey;
use crate::telemetry::control::{Control, STOPPED};
use crate::telemetry::metrics::Metrics;

/// How often verdicts are looked at.
const EVERY: Duration = Duration::from_secs(1);
/// How often the namespaces of paused objects are asked whether they are switched off.
const NAMESPACES_EVERY: Duration = Duration::from_secs(30);
/// Age of the latest event from which on an event of our own is made: a pause ends in the events' time, and a cluster
/// may be quiet.
const PING_AFTER: Micros = 10_000_000;
/// The longest wait after an API server that does not answer.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Which objects may be paused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// `(resource, group)`.
    pub resources: Vec<(String, String)>,
    /// Patterns of namespaces; any where empty.
    pub namespaces: Vec<String>,
    /// Patterns of namespaces that are left alone.
    pub except: Vec<String>,
    /// Labels that an object must have.
    pub labels: BTreeMap<String, String>,
    /// Annotations that an object must have.
    pub annotations: BTreeMap<String, String>,
}

/// Where this replica stands in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The account that writes.
    pub account: String,
    /// The namespace of the Lease.
    pub namespace: String,
    /// This replica.
    pub identity: String,
}

/// What the reconciler of the Golden State and the enforcer tell each other.
#[derive(Clone, Debug, Default)]
pub struct Link(Arc<Mutex<Linked>>);

#[derive(Debug, Default)]
struct Linked {
    held: BTreeSet<ObjectKey>,
    found: BTreeMap<ObjectKey, Option<Micros>>,
    asked: BTreeSet<ObjectKey>,
}

/// The enforcer.
pub struct Enforcer {
    pipeline: Arc<Pipeline>,
    metrics: Metrics,
    selection: Selection,
    place: Place,
    rules: Rules,
    control: Control,
    plan: Plan<ObjectKey>,
    hand: Hand,
    events: Events,
    lease: Lease,
    link: Link,
    leading: watch::Sender<bool>,
    /// Pauses that were asked for: how often in a row, and when the last ends.
    early: BTreeMap<ObjectKey, (u32, Micros)>,
    /// When an event of our own was last made, by the wall clock.
    pinged: Micros,
}

// === impl Link ===

impl Link {
    /// An object of the Golden State: it may be paused.
    pub fn hold(&self, key: ObjectKey) {
        self.lock().held.insert(key);
    }

    /// An object is paused, by one of us and until then.
    pub fn found(&self, key: ObjectKey, until: Option<Micros>) {
        self.lock().found.insert(key, until);
    }

    /// The next write of this object would take something back once more: it is to be paused instead.
    pub fn ask(&self, key: ObjectKey) {
        self.lock().asked.insert(key);
    }

    fn take_asked(&self) -> BTreeSet<ObjectKey> {
        std::mem::take(&mut self.lock().asked)
    }

    fn take_found(&self) -> BTreeMap<ObjectKey, Option<Micros>> {
        std::mem::take(&mut self.lock().found)
    }

    fn lock(&self) -> MutexGuard<'_, Linked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Selection ===

impl Selection {
    fn may(&self, key: &ObjectKey) -> bool {
        let object = key.object();
        let is_any = |patterns: &[String]| patterns.iter().any(|pattern| is_match(pattern, object.namespace));
        key.cluster().is_empty()
            && self.resources.iter().any(|(r, g)| r == object.resource && g == object.group)
            && (self.namespaces.is_empty() || is_any(&self.namespaces))
            && !is_any(&self.except)
    }
}

// === impl Enforcer ===

impl Enforcer {
    /// An enforcer that writes with this client.
    pub fn new(
        client: Client,
        (pipeline, metrics): (Arc<Pipeline>, Metrics),
        selection: Selection,
        place: Place,
        rules: Rules,
        control: Control,
        link: Link,
    ) -> Enforcer {
        Enforcer {
            plan: Plan::new(rules.clone()),
            hand: Hand::new(client.clone()),
            events: Events::new(client.clone(), &place.identity),
            lease: Lease::new(client, &place.namespace, "editwar", &place.identity),
            pipeline,
            metrics,
            selection,
            place,
            rules,
            control,
            link,
            leading: watch::channel(false).0,
            early: BTreeMap::new(),
            pinged: 0,
        }
    }

    /// Whether this replica acts.
    pub fn leading(&self) -> watch::Receiver<bool> {
        self.leading.subscribe()
    }

    /// Works until `stop` turns true. Pauses stay: another replica, or this one after its restart, finds them.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        self.control.say("starting");
        let (mut is_leading, mut failures) = (false, 0u32);
        let (mut renewed, mut asked): (Option<Instant>, Option<Instant>) = (None, None);
        loop {
            let wait = match failures {
                0 => EVERY,
                n => EVERY.saturating_mul(1 << n.min(5)).min(BACKOFF_MAX),
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
            let now = Instant::now();
            if renewed.is_none_or(|at| now - at >= lease::EVERY) {
                renewed = Some(now);
                match self.lease.renew(now).await {
                    Ok(true) => failures = 0,
                    Ok(false) => {
                        failures = 0;
                        self.control.say("standing by: another replica holds the Lease");
                    }
                    Err(error) => {
                        failures += 1;
                        self.trouble("the Lease", &error);
                    }
                }
            }
            if !self.lease.is_held(Instant::now()) {
                is_leading = false;
                self.leading.send_replace(false);
                continue;
            }
            let turn = async {
                if !is_leading {
                    self.adopt().await?;
                    is_leading = true;
                    self.leading.send_replace(true);
                    tracing::info!(identity = self.place.identity, "enforcing: this replica holds the Lease");
                }
                if asked.is_none_or(|at| now - at >= NAMESPACES_EVERY) {
                    asked = Some(now);
                    self.leave_namespaces().await?;
                }
                self.step().await
            };
            match turn.await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures += 1;
                    self.trouble("enforcing", &error);
                }
            }
        }
        self.leading.send_replace(false);
        self.lease.release(Instant::now()).await;
    }

    /// Takes over the pauses that are there.
    async fn adopt(&mut self) -> Result<(), Error> {
        let now = self.now();
        for (resource, group) in self.selection.resources.clone() {
            match self.hand.paused(&group, &resource).await {
                Ok(found) => {
                    for (key, until) in found.into_iter().filter(|(key, _)| self.selection.may(key)) {
                        self.plan.has_paused(key, until, now);
                    }
                }
                Err(error @ (Error::Unknown(_) | Error::Forbidden { .. })) => {
                    self.trouble("looking for pauses", &error)
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Lifts the pauses in namespaces that are switched off.
    async fn leave_namespaces(&mut self) -> Result<(), Error> {
        let paused: Vec<ObjectKey> = self.plan.paused().cloned().collect();
        let namespaces: BTreeSet<&str> = paused.iter().map(|key| key.object().namespace).collect();
        let mut off = BTreeSet::new();
        for namespace in namespaces {
            if self.hand.is_switched_off(namespace).await? {
                off.insert(namespace.to_owned());
            }
        }
        for key in paused.iter().filter(|key| off.contains(key.object().namespace)) {
            self.act(key, Action::Lift(Lift::Killed)).await?;
        }
        Ok(())
    }

    async fn step(&mut self) -> Result<(), Error> {
        let now = self.now();
        for (key, until) in self.link.take_found() {
            if !self.plan.paused().any(|held| *held == key) {
                self.plan.has_paused(key, until, now);
            }
        }
        let account = &self.place.account;
        let held = self.link.lock().held.clone();
        let may = |key: &ObjectKey| held.contains(key) || self.selection.may(key);
        let verdicts = look::verdicts(&self.pipeline, account, self.rules.confidence, may);
        let mut is_refused = false;
        for (key, action) in self.plan.step(now, &verdicts) {
            match self.act(&key, action).await {
                Ok(()) => {}
                Err(error @ (Error::Forbidden { .. } | Error::Unknown(_))) => {
                    is_refused = true;
                    self.trouble("pausing", &error);
                    self.plan.has_left(key, REFUSED_FOR, now);
                }
                Err(Error::Gone) => self.plan.has_lifted(&key),
                Err(error) => return Err(error),
            }
        }
        for key in self.link.take_asked() {
            self.pause_early(&key).await?;
        }
        self.ping(now).await?;
        self.metrics.paused(&self.pipeline, self.plan.paused());
        if !is_refused {
            let paused = self.plan.paused().count();
            self.control.say(match (self.control.is_stopped(), self.plan.is_fresh(now)) {
                (true, _) => format!("{STOPPED}: all pauses are lifted, and none is set"),
                (false, true) => format!("enforcing: {paused} objects paused"),
                (false, false) => format!(
                    "no audit events for more than {} s: nothing new is decided, {paused} objects stay paused",
                    self.rules.fresh_for / 1_000_000
                ),
            });
        }
        Ok(())
    }

    /// Pauses an object before the write that would have made the verdict say so.
    async fn pause_early(&mut self, key: &ObjectKey) -> Result<(), Error> {
        let now = self.now();
        let (account, confidence) = (&self.place.account, self.rules.confidence);
        let found = look::verdict_on(&self.pipeline, account, confidence, key);
        let (Some(mut verdict), Some(limits)) = (found, self.pipeline.policy().limits(&key.object())) else {
            return Ok(());
        };
        let latest = now.latest.unwrap_or(now.clock);
        if verdict.state == State::Paused {
            // The plan does what the verdict says.
            return Ok(());
        }
        // As the engine does it: twice as long where it comes again soon.
        let most = limits.quiet_max.max(limits.quiet);
        let stretch = |times: u32| limits.quiet.saturating_mul(1 << times.min(16)).min(most);
        let times = match self.early.get(key) {
            Some((times, until)) if latest - until < 2 * stretch(*times) => times + 1,
            _ => 0,
        };
        let until = latest + stretch(times);
        (verdict.state, verdict.until) = (State::Paused, Some(until));
        if !self.plan.may_pause(key, &verdict, now) {
            return Ok(());
        }
        self.early.retain(|_, (times, until)| latest - *until < 2 * stretch(*times));
        self.early.insert(key.clone(), (times, until));
        self.act(key, Action::Pause { verdict, again: Again::No }).await
    }

    /// Lets time pass where nobody else does anything: a pause must end.
    async fn ping(&mut self, now: Now) -> Result<(), Error> {
        let is_quiet = now.latest.is_none_or(|latest| now.clock - latest >= PING_AFTER);
        let Some(key) = self.plan.paused().next().cloned() else { return Ok(()) };
        if !is_quiet || now.clock - self.pinged < PING_AFTER {
            return Ok(());
        }
        self.pinged = now.clock;
        match self.hand.ping(&key).await {
            Err(Error::Gone) => Ok(()),
            result => result,
        }
    }

    #[tracing::instrument(level = "debug", name = "enforce", skip_all, fields(object = ?key, action = action.name()))]
    async fn act(&mut self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let now = self.now();
        let Some(live) = self.hand.live(key).await? else {
            self.plan.has_lifted(key);
            return Ok(());
        };
        match action {
            Action::Pause { verdict, again } => self.pause(key, &live, &verdict, &again, now).await,
            Action::Lift(why) => {
                self.hand.lift(&live).await?;
                self.plan.has_lifted(key);
                self.resolved(&live, why.reason().to_owned()).await;
                Ok(())
            }
            Action::Resumed(removal) => {
                self.pipeline.table().resume(key, removal.at);
                self.hand.lift(&live).await?;
                self.plan.has_lifted(key);
                self.resolved(&live, format!("{} lifted the pause", removal.actor)).await;
                Ok(())
            }
            Action::Stripped(removal) => {
                let note = format!("{} takes the pause away again and again: it is not set any more", removal.actor);
                tracing::warn!(object = live.name(), note, "pause stripped");
                self.events.warn(&live.reference(), "PauseStripped", note).await;
                self.plan.has_left(key.clone(), STRIPPED_FOR, now);
                Ok(())
            }
        }
    }

    async fn pause(
        &mut self,
        key: &ObjectKey,
        live: &Live,
        verdict: &Verdict,
        again: &Again,
        now: Now,
    ) -> Result<(), Error> {
        let is_selected = live.has(&self.selection.labels, &self.selection.annotations) && !live.is_unmanaged();
        if !is_selected || self.hand.is_switched_off(key.object().namespace).await? {
            self.plan.has_left(key.clone(), REFUSED_FOR, now);
            return Ok(());
        }
        self.hand.pause(live, verdict).await?;
        self.plan.has_paused(key.clone(), verdict.until, now);
        match again {
            Again::Longer => return Ok(()),
            Again::Stripped(by) => {
                tracing::warn!(object = live.name(), %by, "the pause was stripped, and is set again")
            }
            // The runbook looks for these words.
            Again::No => tracing::warn!("Token bucket exhausted for {}, skipping reconcile", live.name()),
        }
        let until = verdict.until.map(|at| format!("; until {} at least", hand::clock(at))).unwrap_or_default();
        let note = format!("{}{until}", because(verdict));
        tracing::info!(object = live.name(), namespace = key.object().namespace, note, "paused");
        self.events.warn(&live.reference(), "ThrashingDetected", note).await;
        Ok(())
    }

    async fn resolved(&self, live: &Live, note: String) {
        tracing::info!(object = live.name(), note, "pause lifted");
        self.events.tell(&live.reference(), "ThrashingResolved", note).await;
    }

    fn trouble(&self, what: &str, error: &Error) {
        tracing::warn!(%error, "{what}");
        self.control.say(format!("{what}: {error}"));
    }

    fn now(&self) -> Now {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as Micros);
        Now { clock, latest: self.pipeline.latest(), is_killed: self.control.is_stopped() }
    }
}

/// The account that a client acts as.
///
/// # Errors
/// Where the API server does not say.
pub async fn account(client: &Client) -> Result<String, Error> {
    use k8s_openapi::api::authentication::v1::SelfSubjectReview;
    let api: kube::Api<SelfSubjectReview> = kube::Api::all(client.clone());
    let review = api.create(&kube::api::PostParams::default(), &SelfSubjectReview::default()).await;
    let review = review.map_err(|error| Error::Unavailable(error.to_string()))?;
    review
        .status
        .and_then(|s| s.user_info)
        .and_then(|u| u.username)
        .ok_or_else(|| Error::Unavailable("it does not say who we are".into()))
}
