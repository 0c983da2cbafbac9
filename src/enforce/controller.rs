//! The enforcer's task: every second, evaluates the verdicts on objects whose war may need a pause, and executes the
//! plan's actions while the Lease is held.
//!
//! The task itself never waits for a call. Each action is a separate task, so that slow calls for one object do not
//! delay others. All of them are dropped when the Lease is lost, the kill switch is turned on, or the process ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kube::api::DynamicObject;
use kube::core::PartialObjectMeta;
use kube::{Client, ResourceExt};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet, block_in_place};
use tokio::time::{Instant, MissedTickBehavior};

use super::action::{ActionExecutor, Outcome};
use super::applications::Applications;
use super::calls::{ACCOUNT, CALL, within};
use super::control::Control;
use super::events::Events;
use super::inbox::Inbox;
use super::leader_election::Leadership;
use super::means::Means;
use super::pause_client::{Error, ExistingPause, Kind, PauseClient};
use super::pauses::Pauses;
use super::plan::{Action, Now, PauseKind, Plan, REMOVAL_BACKOFF, ResumeReason, Rules};
use super::selection::{CLUSTER, Census, Selection, title};
use super::unpaused::{Reason, Unpaused};
use super::verdicts::{self, Judging};
use crate::audit::event::Micros;
use crate::detect::instance;
use crate::detect::verdict::{Confidence, State};
use crate::notify::LiftedPauses;
use crate::pipeline::Pipeline;
use crate::pipeline::key::ObjectKey;
use crate::telemetry::metrics::Metrics;
use crate::util::clock;

/// Interval of evaluations.
const EVERY: Duration = Duration::from_secs(1);
/// Interval of checks whether pauses are switched off for the namespaces of paused objects.
const NAMESPACES_EVERY: Duration = Duration::from_secs(30);
/// Delay after which a resource that could not be listed is listed again.
const LIST_AGAIN: Duration = Duration::from_secs(10);
/// If the latest event is older than this, the enforcer triggers an event itself: pauses end by event time, and the
/// cluster may be quiet.
const PING_AFTER: Micros = 10_000_000;
/// Interval at which wars are reported that call for a pause that is not set.
const UNPAUSED_EVERY: Duration = Duration::from_secs(10);
/// Maximum number of actions in flight.
const IN_FLIGHT_MAX: usize = 32;
/// How long the status shows the last error.
const ERROR_SHOWN_FOR: Duration = Duration::from_secs(30);

/// The identity of this replica in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReplicaIdentity {
    /// The account of its client.
    pub account: String,
    /// The namespace of the Lease.
    pub namespace: String,
    /// The name of the replica.
    pub identity: String,
}

/// What an enforcer is made of.
pub(crate) struct Parts {
    /// Writes the pauses.
    pub client: Client,
    /// The objects and their wars.
    pub pipeline: Arc<Pipeline>,
    /// Learns which pauses were lifted by people.
    pub lifted_pauses: Arc<dyn LiftedPauses>,
    /// Shows what is paused.
    pub metrics: Metrics,
    /// The objects that may be paused.
    pub selection: Selection,
    /// The account of the client, whose own writes do not count as removals of a pause.
    pub account: String,
    /// The limits of pauses.
    pub rules: Rules,
    /// The kill switch and the status.
    pub control: Control,
    /// The objects whose wars changed, and the requests of the reconciler.
    pub inbox: Inbox,
    /// The pauses that are in force.
    pub pauses: Pauses,
    /// Says whether the Lease is held. Nothing is written without it.
    pub leadership: Leadership,
    /// Reports pauses as events of Kubernetes.
    pub events: Events,
}

/// The enforcer.
pub(crate) struct Enforcer {
    pipeline: Arc<Pipeline>,
    metrics: Metrics,
    /// The account whose own writes do not count as removals of a pause.
    account: String,
    rules: Rules,
    control: Control,
    inbox: Inbox,
    leadership: Leadership,
    executor: Arc<ActionExecutor>,
    plan: Plan<ObjectKey>,
    tasks: JoinSet<TaskResult>,
    is_acting: bool,
    /// The objects that are evaluated: those whose war may need a pause, and those that the plan knows.
    active: BTreeSet<ObjectKey>,
    applications: Applications,
    /// Resources whose existing pauses were taken over, as `(resource, group)`, and when the others are listed next.
    listed: BTreeSet<(String, String)>,
    list_at: BTreeMap<(String, String), Instant>,
    namespaces_at: Option<Instant>,
    is_pinging: bool,
    /// Wall clock of the last event that we triggered.
    last_ping: Micros,
    /// Pauses that the reconciler requested: the number of consecutive ones, and when the last one ends.
    early_pauses: BTreeMap<ObjectKey, (u32, Micros)>,
    last_error: Option<(String, Instant)>,
    unpaused: Unpaused,
    unpaused_at: Option<Instant>,
}

/// The result of a task.
enum TaskResult {
    Action {
        key: ObjectKey,
        started: Now,
        result: Result<Outcome, Error>,
    },
    List {
        resource: (String, String),
        census: Census,
        result: Result<Vec<ExistingPause>, Error>,
    },
    /// Namespaces that pauses are switched off for, and an error if others could not be read.
    SwitchedOffNamespaces(BTreeSet<String>, Option<Error>),
    Ping(Result<(), Error>),
}

// === impl Enforcer ===

impl Enforcer {
    /// Creates an enforcer that pauses nothing yet.
    pub(crate) fn new(parts: Parts) -> Enforcer {
        let Parts { client, pipeline, metrics, selection, account, rules, control, .. } = parts;
        let Parts { inbox, pauses, leadership, events, lifted_pauses, .. } = parts;
        let pause_client = PauseClient::new(client, CALL);
        let tools = selection.tools.clone();
        let executor =
            ActionExecutor { pause_client, events, selection, pauses, lifted_pauses, leadership: leadership.clone() };
        Enforcer {
            executor: Arc::new(executor),
            plan: Plan::new(rules.clone()),
            pipeline,
            metrics,
            account,
            rules,
            control,
            inbox,
            leadership,
            tasks: JoinSet::new(),
            is_acting: false,
            active: BTreeSet::new(),
            applications: Applications::default(),
            listed: BTreeSet::new(),
            list_at: BTreeMap::new(),
            namespaces_at: None,
            is_pinging: false,
            last_ping: 0,
            early_pauses: BTreeMap::new(),
            last_error: None,
            unpaused: Unpaused::new(tools),
            unpaused_at: None,
        }
    }

    /// Runs until `stop` turns true. Pauses are kept: another replica, or this one after a restart, finds them.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        self.control.set_status("starting");
        let mut every = tokio::time::interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let control = self.control.clone();
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                () = control.wait_for(true), if self.is_acting => self.halt(),
                () = self.leadership.wait_until_lost(), if self.is_acting => {
                    tracing::warn!(why = self.leadership.problem(), "lost the Lease; not writing until this replica holds it again");
                    self.halt();
                }
                Some(result) = self.tasks.join_next() => self.handle(result),
                _ = every.tick() => self.tick(),
            }
        }
    }

    /// Drops the actions in flight, and everything that is known about pauses.
    fn halt(&mut self) {
        self.is_acting = false;
        // Dropping the set aborts its tasks.
        self.tasks = JoinSet::new();
        self.plan.forget_pauses();
        self.listed.clear();
        self.list_at.clear();
        self.is_pinging = false;
    }

    fn tick(&mut self) {
        // Taken in any case, because the list would grow on a standby.
        self.active.extend(self.inbox.take_changed());
        if !self.leadership.is_held() {
            let problem = self.leadership.problem();
            self.control.set_status(if problem.is_empty() {
                "the Lease was not renewed in time".to_owned()
            } else {
                problem
            });
        }
        if self.control.is_stopped() {
            self.metrics.set_paused(&self.pipeline, self.executor.pauses.keys().iter());
        }
        if self.control.is_stopped() || !self.leadership.is_held() {
            self.active.clear();
            return;
        }
        if !self.is_acting {
            self.is_acting = true;
            self.active = block_in_place(|| verdicts::contested(&self.pipeline));
            tracing::info!("enforcing: this replica holds the Lease");
        }
        let now = self.now();
        self.find_existing_pauses(now);
        self.check_namespaces();
        self.step(now);
        self.ping(now);
        self.metrics.set_paused(&self.pipeline, self.plan.paused());
        self.report(now);
    }

    /// Looks for pauses of earlier holders of the Lease. The objects of a resource are left alone until the resource
    /// has been listed.
    fn find_existing_pauses(&mut self, now: Now) {
        for (key, (target, until)) in self.inbox.take_existing_pauses() {
            if !self.plan.is_known(&key) {
                let uid = target.uid.clone();
                self.executor.pauses.insert(key.clone(), target);
                self.plan.record_pause(key.clone(), until, now);
                self.plan.record_check(&key, uid.as_deref(), now);
            }
        }
        for resource in self.executor.selection.paused_resources() {
            let is_due = self.list_at.get(&resource).is_none_or(|at| *at <= Instant::now());
            if !self.listed.contains(&resource) && is_due {
                // Prevents a second list while one is in flight.
                self.list_at.insert(resource.clone(), Instant::now() + Duration::from_secs(3600));
                let executor = self.executor.clone();
                self.tasks.spawn(async move {
                    let kind = Kind::Resource(resource.0.clone(), resource.1.clone());
                    let mut census = Census::default();
                    let visit = |key: &ObjectKey, meta: &PartialObjectMeta<DynamicObject>| {
                        let selection = &executor.selection;
                        let by_metadata = || selection.excluded_by_metadata(meta.labels(), meta.annotations());
                        census.add(selection.excluded_by_name(key).or_else(by_metadata));
                    };
                    let result = executor.pause_client.list(&kind, visit).await;
                    TaskResult::List { resource, census, result }
                });
            }
        }
    }

    /// Checks whether pauses are switched off for the namespaces of paused objects.
    fn check_namespaces(&mut self) {
        if self.namespaces_at.is_some_and(|at| at.elapsed() < NAMESPACES_EVERY) {
            return;
        }
        self.namespaces_at = Some(Instant::now());
        let namespaces: BTreeSet<String> =
            self.plan.paused().flat_map(|key| self.applications.namespaces(key)).collect();
        let executor = self.executor.clone();
        self.tasks.spawn(async move {
            let (mut off, mut failure) = (BTreeSet::new(), None);
            for namespace in namespaces {
                match executor.pause_client.is_switched_off(&namespace).await {
                    Ok(true) => drop(off.insert(namespace)),
                    Ok(false) => {}
                    Err(error) => failure = Some(error),
                }
            }
            TaskResult::SwitchedOffNamespaces(off, failure)
        });
    }

    fn step(&mut self, now: Now) {
        let managed = self.inbox.managed();
        let is_listed = |key: &ObjectKey| {
            let object = key.object();
            self.listed.iter().any(|(resource, group)| resource == object.resource && group == object.group)
        };
        let selection = &self.executor.selection;
        let may = |key: &&ObjectKey| managed.contains(*key) || selection.may_carry(key) && is_listed(key);
        if self.rules.confidence < Confidence::Probable {
            // Transitions are those at `Probable`, so nothing tells which objects have changed.
            self.active = block_in_place(|| verdicts::contested(&self.pipeline));
        }
        self.active.extend(self.plan.paused().cloned());
        // This takes a while if there are many objects; other tasks, such as the renewal of the Lease, move to another
        // thread.
        let confidence = self.rules.confidence;
        let wanted = self.active.iter().filter(may);
        let mut verdicts = block_in_place(|| self.judging().verdicts(wanted));
        // The Golden State's reconciler honours pauses, also before it is a party.
        verdicts
            .iter_mut()
            .filter(|(key, _)| managed.contains(*key))
            .for_each(|(_, verdict)| verdict.means = Some(Means::Annotations));
        // Drops Applications of Argo CD whose resource is not listed yet.
        verdicts.retain(|key, _| may(&key));
        self.applications.update(&verdicts, |key| self.plan.is_known(key));
        for key in self.applications.without_objects(|object| self.judging().is_deleted(object)) {
            self.plan.record_end(&key, ResumeReason::Deleted);
        }
        self.report_unpaused(&managed);
        for (key, action) in self.plan.step(now, &verdicts) {
            self.start(key, action, now);
        }
        let plan = &self.plan;
        self.active.retain(|key| plan.is_known(key) || verdicts::may_need_pause(&self.pipeline, confidence, key));
        for key in self.inbox.take_pause_requests() {
            self.pause_early(key, now);
        }
        // Pauses that the kill switch has removed. It may be off again by now.
        let is_lifted =
            |key: &&ObjectKey| self.plan.can_start(key, now) && self.executor.pauses.registered_at(key).is_none();
        for key in self.plan.paused().filter(is_lifted).cloned().collect::<Vec<_>>() {
            self.plan.record_lift(&key);
        }
        // Pauses whose write timed out, or that were known before the Lease was lost.
        for key in self.executor.pauses.keys() {
            if !self.plan.is_known(&key) && self.plan.can_start(&key, now) {
                self.start(key, Action::Check(None), now);
            }
        }
    }

    /// Reports wars that call for a pause that is not set.
    fn report_unpaused(&mut self, managed: &BTreeSet<ObjectKey>) {
        if self.unpaused_at.is_some_and(|at| at.elapsed() < UNPAUSED_EVERY) {
            return;
        }
        self.unpaused_at = Some(Instant::now());
        let (pipeline, confidence) = (&self.pipeline, self.rules.confidence);
        let sustained = block_in_place(|| verdicts::sustained(pipeline, confidence, self.active.iter()));
        self.unpaused.keep(|key| sustained.contains_key(key));
        let classes = &self.pipeline.policy().classes;
        for (key, parties) in sustained.iter().filter(|(key, _)| !managed.contains(*key)) {
            if let Some(exclusion) = self.executor.selection.excluded_by_name(key) {
                self.unpaused.report(key, Reason::Excluded(exclusion));
            } else if !parties.iter().any(|(party, _)| classes.is_honouring(instance::account(party)))
                && self.judging().verdicts(std::iter::once(key)).values().all(|verdict| verdict.means.is_none())
            {
                self.unpaused.report(key, Reason::NotHonoured(parties.clone()));
            }
        }
    }

    fn judging(&self) -> Judging<'_> {
        Judging {
            pipeline: &self.pipeline,
            own: &self.account,
            confidence: self.rules.confidence,
            selection: &self.executor.selection,
        }
    }

    fn start(&mut self, key: ObjectKey, action: Action, started: Now) {
        if self.tasks.len() >= IN_FLIGHT_MAX {
            // The plan proposes it again.
            return;
        }
        self.plan.record_start(&key, &action);
        if let Action::Resume(removal) = &action {
            // The wars are those of the objects of a paused Application.
            self.applications
                .contested(&key)
                .iter()
                .for_each(|object| self.executor.lifted_pauses.lift(object, removal.at));
        }
        let executor = self.executor.clone();
        self.tasks.spawn(async move {
            let result = executor.act(&key, action).await;
            TaskResult::Action { key, started, result }
        });
    }

    /// Pauses an object before the write that would have led to this verdict.
    fn pause_early(&mut self, key: ObjectKey, now: Now) {
        let found = self.judging().verdict_on(&key);
        let (Some(mut verdict), Some(limits)) = (found, self.pipeline.policy().limits(&key.object())) else { return };
        let latest = now.latest.unwrap_or(now.clock);
        if verdict.state == State::Sustained {
            // The plan handles this verdict.
            return;
        }
        // As in the engine: the pause is twice as long if it follows soon after the last one.
        let most = limits.quiet_period_max.max(limits.quiet_period);
        let stretch = |times: u32| limits.quiet_period.saturating_mul(1 << times.min(16)).min(most);
        let times = match self.early_pauses.get(&key) {
            Some((times, until)) if latest - until < 2 * stretch(*times) => times + 1,
            _ => 0,
        };
        let until = latest + stretch(times);
        (verdict.state, verdict.until) = (State::Sustained, Some(until));
        verdict.means = Some(Means::Annotations);
        if !self.plan.may_pause(&key, &verdict, now) {
            return;
        }
        self.early_pauses.retain(|_, (times, until)| latest - *until < 2 * stretch(*times));
        self.early_pauses.insert(key.clone(), (times, until));
        self.start(key, Action::Pause { verdict, kind: PauseKind::New }, now);
    }

    /// Triggers an event if there are none, so that event time advances and pauses can end.
    fn ping(&mut self, now: Now) {
        let is_quiet = now.latest.is_none_or(|latest| now.clock - latest >= PING_AFTER);
        let Some(key) = self.plan.paused().next().cloned() else { return };
        if !is_quiet || self.is_pinging || now.clock - self.last_ping < PING_AFTER {
            return;
        }
        (self.last_ping, self.is_pinging) = (now.clock, true);
        let executor = self.executor.clone();
        self.tasks.spawn(async move { TaskResult::Ping(executor.pause_client.ping(&key).await) });
    }

    fn handle(&mut self, result: Result<TaskResult, JoinError>) {
        match result {
            Ok(TaskResult::Action { key, started, result }) => self.record(key, started, result),
            Ok(TaskResult::List { resource, census, result }) => {
                if result.is_ok() {
                    tracing::info!(resource = title(&resource.0, &resource.1), "{census}");
                }
                self.record_list(resource, result);
            }
            Ok(TaskResult::SwitchedOffNamespaces(off, failure)) => {
                let is_off = |key: &&ObjectKey| self.applications.is_off(key, &off);
                for key in self.plan.paused().filter(is_off).cloned().collect::<Vec<_>>() {
                    self.plan.record_end(&key, ResumeReason::SwitchedOff);
                }
                if let Some(error) = failure {
                    self.record_error("cannot read a namespace", &error);
                }
            }
            Ok(TaskResult::Ping(result)) => {
                self.is_pinging = false;
                if let Err(error) = result
                    && !matches!(error, Error::Gone)
                {
                    self.record_error("cannot trigger an audit event", &error);
                }
            }
            Err(error) => {
                tracing::error!(%error, "an action of the enforcer failed unexpectedly; restarting all actions");
                self.halt();
            }
        }
    }

    /// Handles the result of an action. `started` is recorded as the time of the action, since any later event may be a
    /// reaction to it.
    fn record(&mut self, key: ObjectKey, started: Now, result: Result<Outcome, Error>) {
        match result {
            Ok(Outcome::Paused(uid, until)) => {
                self.plan.record_pause(key.clone(), until, started);
                self.plan.record_check(&key, uid.as_deref(), self.now());
            }
            Ok(Outcome::Checked(uid)) => self.plan.record_check(&key, uid.as_deref(), self.now()),
            Ok(Outcome::NotPaused) => self.plan.record_lift(&key),
            Ok(Outcome::Gone) => self.plan.record_gone(&key),
            Ok(Outcome::GivenUp) => self.plan.record_skip(key, REMOVAL_BACKOFF, self.now()),
            Ok(Outcome::Ineligible) => self.plan.record_refusal(key, self.now()),
            Ok(Outcome::NoApplication(contested)) => {
                self.unpaused.report(&contested, Reason::NoApplication(key.object().name.to_owned()));
                self.plan.record_refusal(key, self.now());
            }
            Ok(Outcome::Excluded(contested, exclusion)) => {
                self.unpaused.report(&contested, Reason::Excluded(exclusion));
                self.plan.record_refusal(key, self.now());
            }
            Err(Error::Gone) => self.plan.record_gone(&key),
            Err(error @ (Error::Forbidden { .. } | Error::Unknown(_))) => {
                self.record_error("cannot pause an object", &error);
                self.plan.record_refusal(key, self.now());
            }
            Err(error) => {
                self.record_error("cannot complete an action", &error);
                self.plan.record_failure(&key, self.now());
            }
        }
    }

    fn record_list(&mut self, resource: (String, String), result: Result<Vec<ExistingPause>, Error>) {
        match result {
            Ok(found) => {
                let now = self.now();
                for ExistingPause { key, target, until } in found {
                    if self.executor.selection.may_carry(&key) && !self.plan.is_known(&key) {
                        let uid = target.uid.clone();
                        self.executor.pauses.insert(key.clone(), target);
                        self.plan.record_pause(key.clone(), until, now);
                        self.plan.record_check(&key, uid.as_deref(), now);
                    }
                }
                self.listed.insert(resource);
            }
            Err(error @ Error::Unknown(_)) => {
                self.record_error("cannot list paused objects", &error);
                self.listed.insert(resource);
            }
            Err(error) => {
                self.record_error("cannot list paused objects", &error);
                self.list_at.insert(resource, Instant::now() + LIST_AGAIN);
            }
        }
    }

    fn record_error(&mut self, what: &str, error: &Error) {
        tracing::warn!(%error, "{what}");
        self.last_error = Some((format!("{what}: {error}"), Instant::now()));
    }

    fn report(&mut self, now: Now) {
        let paused = self.plan.paused().count();
        let mut status = if self.plan.is_fresh(now) {
            format!("enforcing: {paused} objects paused")
        } else {
            format!(
                "no audit events for more than {} s: no new decisions, {paused} objects stay paused",
                self.rules.max_event_age / 1_000_000
            )
        };
        if self.unpaused.len() > 0 {
            status.push_str(&format!("; pauses not set: {}, see the log", self.unpaused.len()));
        }
        let lease = Some(self.leadership.problem()).filter(|problem| !problem.is_empty());
        let error =
            self.last_error.as_ref().filter(|(_, at)| at.elapsed() < ERROR_SHOWN_FOR).map(|(text, _)| text.clone());
        for text in [lease, error].into_iter().flatten() {
            status.push_str("; ");
            status.push_str(&text);
        }
        self.control.set_status(status);
    }

    fn now(&self) -> Now {
        Now { clock: clock::now(), latest: self.pipeline.latest_of(CLUSTER) }
    }
}

/// Returns the account that a client acts as.
///
/// # Errors
/// The API server does not answer, or does not name an account.
pub(crate) async fn account(client: &Client) -> Result<String, Error> {
    use k8s_openapi::api::authentication::v1::SelfSubjectReview;
    let api: kube::Api<SelfSubjectReview> = kube::Api::all(client.clone());
    let how = kube::api::PostParams::default();
    let review = within(ACCOUNT, api.create(&how, &SelfSubjectReview::default())).await;
    let review = review.map_err(|error| Error::Unavailable(error.to_string()))?;
    review
        .status
        .and_then(|s| s.user_info)
        .and_then(|u| u.username)
        .ok_or_else(|| Error::Unavailable("it did not return the account of this client".into()))
}

#[cfg(test)]
mod tests;
