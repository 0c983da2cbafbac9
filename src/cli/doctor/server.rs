//! Checks the editwar server: whether it answers, whether events arrive, how complete they are, and how late.

use jiff::Timestamp;

use super::findings::Findings;
use crate::cli::args::doctor::DoctorChecks;
use crate::cli::evidence::Standing;
use crate::query::client::Server;
use crate::query::views::{Levels, Report};

/// Number of messages that are not read yet above which a server is behind.
const LAG_MESSAGES: f64 = 100_000.0;
/// A source is silent if its last batch is older than this. Even an idle cluster renews its leases.
const SILENT_SECONDS: f64 = 120.0;
/// Maximum age of the latest event.
const LATE_SECONDS: f64 = 60.0;
/// Maximum clock difference. Beyond it, verdicts are noticeably early or late.
const SKEW_SECONDS: i64 = 5;

/// Maximum number of unread bytes of a tailed log: a few seconds of a busy API server.
const BEHIND_BYTES: f64 = 67_108_864.0;

/// Time of the last batch of each source.
const LAST_BATCH: &str = "editwar_source_last_batch_timestamp_seconds";

/// A sample of `/metrics`: the name with its labels, and the value.
type Sample<'a> = (&'a str, f64);

/// What a server receives.
pub(super) struct Received {
    is_watching: bool,
    /// Requests for writes, if the server told.
    levels: Option<Levels>,
    /// Whether a batch of audit events ever arrived.
    has_batches: bool,
}

/// Watches of a server, by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Watches {
    connected: u64,
    /// Those that the server's account may not read.
    forbidden: u64,
    /// All others.
    disconnected: u64,
}

/// Checks a server. Returns `None` if it does not answer. `cluster_date` is the time of the API server's clock.
pub(super) async fn check(
    server: &Server,
    args: &DoctorChecks,
    cluster_date: Option<Timestamp>,
    findings: &mut Findings,
) -> Option<Received> {
    let (metrics, date) = match server.text("/metrics").await {
        Ok(answer) => answer,
        Err(error) => {
            let hint =
                "check that `editwar serve` is running and that you have access (in a cluster: get on services/proxy)";
            findings.bad("server", error.to_string(), hint);
            return None;
        }
    };
    match server.text("/readyz").await {
        Ok(_) => findings.good("server", "ready".into()),
        Err(error) => findings.bad("server", error.to_string(), "the server is starting or stopping: see its log"),
    }
    let samples: Vec<Sample<'_>> = metrics.lines().filter_map(sample).collect();
    let date = date.as_deref().and_then(parse_date);
    check_clocks(cluster_date, date, findings);
    let now = date.unwrap_or_else(Timestamp::now).as_millisecond() as f64 / 1e3;
    let watches = Watches::of(&samples);
    if let Some(watches) = watches {
        check_watches(watches, findings);
    }
    let has_batches = samples.iter().any(|(name, _)| name.starts_with(LAST_BATCH));
    // A server that only watches gets no batches.
    if has_batches || watches.is_none() {
        check_sources(&samples, args.cluster.as_deref(), now, findings);
    }
    check_tail(&samples, findings);
    check_journal(&samples, findings);
    check_brokers(&samples, findings);
    let levels = match server.get::<Report>("/api/v1/wars").await {
        Ok(report) => {
            check_bodies(&report, &samples, findings);
            findings.evidence(Standing::of_server(&report.coverage.levels, watches.is_some()));
            Some(report.coverage.levels)
        }
        Err(error) => {
            findings.bad("verdict", error.to_string(), "see the server's log");
            None
        }
    };
    Some(Received { is_watching: watches.is_some(), levels, has_batches })
}

// === impl Received ===

impl Received {
    /// Whether the server watches a cluster and never got an audit event.
    pub(super) fn is_only_watching(&self) -> bool {
        let audited = self.levels.map_or(0, |levels| levels.metadata + levels.request + levels.request_response);
        self.is_watching && !self.has_batches && audited == 0
    }
}

// === impl Watches ===

impl Watches {
    /// Returns the watches of a server. `None` if it does not watch.
    fn of(samples: &[Sample<'_>]) -> Option<Watches> {
        let state = |name: &'static str| {
            let found = samples.iter().find(|(sample, _)| {
                sample.strip_prefix("editwar_watches{state=\"").and_then(|rest| rest.strip_suffix("\"}")) == Some(name)
            });
            found.map(|(_, count)| *count as u64)
        };
        let of = |name: &'static str| state(name).unwrap_or(0);
        state("connected").map(|connected| Watches {
            connected,
            forbidden: of("forbidden"),
            disconnected: of("connecting") + of("failing"),
        })
    }
}

/// Checks the watches.
fn check_watches(watches: Watches, findings: &mut Findings) {
    let Watches { connected, forbidden, disconnected } = watches;
    let left_out = if forbidden > 0 { format!("; {forbidden} may not be read") } else { String::new() };
    let hint = "the server's log shows the reason; deploy/rbac/watch.yaml has the permissions";
    if connected == 0 {
        findings.bad("watch", format!("no resource is watched{left_out}"), hint);
    } else if disconnected > 0 {
        let all = connected + disconnected;
        findings.weak("watch", format!("{disconnected} of {all} watches are not connected"), hint);
    } else {
        findings.good("watch", format!("{connected} resources are watched{left_out}"));
    }
}

fn sample(line: &str) -> Option<Sample<'_>> {
    let (name, value) = line.rsplit_once(' ').filter(|_| !line.starts_with('#'))?;
    Some((name, value.parse().ok()?))
}

/// Parses a date like `Tue, 15 Nov 1994 08:12:31 GMT`.
pub(super) fn parse_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(&text.replace("GMT", "+0000")).ok().map(|zoned| zoned.timestamp())
}

fn check_clocks(cluster: Option<Timestamp>, server: Option<Timestamp>, findings: &mut Findings) {
    let (Some(cluster), Some(server)) = (cluster, server) else { return };
    // The two times were read at slightly different moments, with a resolution of seconds.
    let skew = (cluster.as_second() - server.as_second()).abs();
    if skew > SKEW_SECONDS {
        findings.weak(
            "clocks",
            format!("the clocks of the API server and of editwar differ by {skew} s"),
            "synchronize them with NTP: the age of events, and so alerts, are wrong by this much",
        )
    } else {
        findings.good("clocks", "the clocks of the API server and of editwar agree".into())
    }
}

fn check_sources(samples: &[Sample<'_>], cluster: Option<&str>, now: f64, findings: &mut Findings) {
    let of = cluster.map(|cluster| format!("cluster=\"{cluster}\""));
    let is_asked = |name: &str| of.as_ref().is_none_or(|of| name.contains(of));
    let sources = samples.iter().filter(|(name, _)| name.starts_with(LAST_BATCH) && is_asked(name));
    let ages: Vec<f64> = sources.map(|(_, at)| now - at).collect();
    let youngest = ages.iter().copied().fold(f64::INFINITY, f64::min);
    let silent = ages.iter().filter(|age| **age > SILENT_SECONDS).count();
    let hint = "start kube-apiserver with the flags of `editwar setup apiserver`; its log shows batches that it could \
                not post";
    if ages.is_empty() {
        findings.bad("events", "no batch has ever arrived".into(), hint);
    } else if youngest > SILENT_SECONDS {
        findings.bad("events", format!("the last batch arrived {youngest:.0} s ago"), hint);
    } else if silent > 0 {
        let text = format!("{silent} of {} sources have been silent for {SILENT_SECONDS} s", ages.len());
        findings.weak("events", text, "each API server posts its own events: check the silent one");
    } else {
        findings.good(
            "events",
            format!("the last batch arrived {:.0} s ago, from {} sources", youngest.max(0.0), ages.len()),
        );
    }
    if let Some((_, lag)) = samples.iter().find(|(name, _)| *name == "editwar_event_lag_seconds") {
        if *lag > LATE_SECONDS {
            findings.weak(
                "lag",
                format!("the latest event is {lag:.0} s old"),
                "set --audit-webhook-batch-max-wait=2s, unless the cluster is idle",
            )
        } else {
            findings.good("lag", format!("the latest event is {:.0} s old", lag.max(0.0)))
        }
    }
}

/// Checks the logs that are tailed, if there are any.
fn check_tail(samples: &[Sample<'_>], findings: &mut Findings) {
    let sum = |name: &str| {
        let found = samples.iter().filter(|(n, _)| n.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
        found.fold(None, |sum, (_, value)| Some(sum.unwrap_or(0.0) + value))
    };
    let Some(behind) = sum("editwar_tail_lag_bytes") else { return };
    let gaps = sum("editwar_tail_gaps_total").unwrap_or(0.0);
    if behind > BEHIND_BYTES {
        let text = format!("{:.0} MiB of the tailed logs are not read yet", behind / f64::from(1 << 20));
        findings.weak("tail", text, "the server catches up after a start; if it does not, give it more CPU");
    } else if gaps > 0.0 {
        let text = format!("{gaps} times, a log was rotated or truncated before it was read to its end");
        findings.weak(
            "tail",
            text,
            "keep more rotated files (--audit-log-maxbackup), and put the checkpoint on a persistent volume",
        );
    } else {
        findings.good("tail", "all logs are read to the end".into());
    }
}

/// Checks the journal, if there is one.
fn check_journal(samples: &[Sample<'_>], findings: &mut Findings) {
    let value = |name: &str| samples.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
    let Some(up) = value("editwar_journal_up") else { return };
    let lost = value("editwar_journal_records_total{outcome=\"dropped\"}").unwrap_or(0.0);
    let hint = "check whether its disk is full or mounted read-only; the server's log shows the reason";
    if up == 0.0 {
        findings.bad("journal", "cannot be written".into(), hint);
    } else if lost > 0.0 {
        findings.weak("journal", format!("{lost} writes are missing"), hint);
    } else {
        findings.good("journal", "works".into());
    }
}

/// Checks whether the server reads its topics of Kafka, if it has any.
fn check_brokers(samples: &[Sample<'_>], findings: &mut Findings) {
    let of = |prefix: &'static str| samples.iter().filter(move |(name, _)| name.starts_with(prefix));
    let topic = |name: &str| name.split('"').nth(1).unwrap_or_default().to_owned();
    let hint = "check the brokers, the network between them and editwar, and the credentials; the server's log shows the \
                reason";
    let behind = of("editwar_log_current{").find(|(_, is_current)| *is_current == 0.0);
    let unread = of("editwar_kafka_partitions{").find(|(_, partitions)| *partitions == 0.0);
    let lag = of("editwar_kafka_lag_messages{").find(|(_, lag)| *lag > LAG_MESSAGES);
    if let Some((name, _)) = behind {
        findings.bad("kafka", format!("the latest writes in topic {} are not known", topic(name)), hint);
    } else if let Some((name, _)) = unread {
        findings.bad("kafka", format!("no partition of topic {} is read", topic(name)), hint);
    } else if let Some((name, lag)) = lag {
        let hint = "if it grows, give editwar more CPU";
        findings.weak("kafka", format!("{lag} messages of topic {} are not read yet", topic(name)), hint);
    } else if of("editwar_kafka_lag_messages{").next().is_some() {
        let mut leader = of("editwar_log_leader{").map(|(_, leads)| if *leads == 1.0 { ", and it leads" } else { "" });
        findings.good("kafka", format!("all messages are read{}", leader.next().unwrap_or_default()));
    }
}

/// Checks whether the events contain enough information.
fn check_bodies(report: &Report, samples: &[Sample<'_>], findings: &mut Findings) {
    let levels = report.coverage.levels;
    let all = levels.metadata + levels.request + levels.request_response;
    let share = |n: u64| n * 100 / all.max(1);
    let hint = "log contested kinds at level RequestResponse: `editwar setup policy`";
    if all == 0 && levels.watched + levels.reviewed > 0 {
        // A watch or an admission webhook shows fields and values in another way.
    } else if all == 0 {
        findings.unknown("bodies", "no write has arrived yet".into(), "change an object, or use --probe NAMESPACE");
    } else if levels.request + levels.request_response == 0 && levels.joined > 0 {
        findings.good("bodies", format!("no write has a body; a watch shows the fields of {} writes", levels.joined));
    } else if levels.request + levels.request_response == 0 && levels.fields_reviewed > 0 {
        let shown = levels.fields_reviewed;
        findings
            .good("bodies", format!("no write has a body; an admission webhook shows the fields of {shown} writes"));
    } else if levels.request + levels.request_response == 0 {
        findings.weak("bodies", "no write has a body, so editwar cannot see fields and values".into(), hint);
    } else {
        let text = format!(
            "{} % of {all} writes have request and response bodies, {} % have none",
            share(levels.request_response),
            share(levels.metadata)
        );
        findings.good("bodies", text);
    }
    let truncated = report.coverage.truncated;
    if truncated > 0 {
        let text = format!("{truncated} events lost their bodies because they were too large");
        findings.weak("bodies", text, "raise --audit-webhook-truncate-max-event-size");
    }
    let malformed: f64 =
        samples.iter().filter(|(name, _)| name.starts_with("editwar_malformed_events_total")).map(|(_, n)| n).sum();
    if malformed > 0.0 {
        let text = format!("{malformed} events could not be read");
        findings.weak("decoding", text, "see the metric editwar_malformed_events_total for the reasons");
    }
    let wars = report.wars.len();
    findings.good("verdict", if wars == 0 { "no war".into() } else { format!("{wars} wars: see `editwar wars`") });
}

#[cfg(test)]
mod tests {
    use super::super::findings::State;
    use super::*;

    /// Returns the states of the findings for these metrics, half a minute after time 1000.
    fn found(metrics: &str) -> Vec<(&'static str, State)> {
        let samples: Vec<Sample<'_>> = metrics.lines().filter_map(sample).collect();
        let mut findings = Findings::default();
        check_sources(&samples, None, 1030.0, &mut findings);
        check_journal(&samples, &mut findings);
        check_brokers(&samples, &mut findings);
        findings.findings.iter().map(|f| (f.link, f.state)).collect()
    }

    #[test]
    fn silent_sources_and_silent_clusters_are_distinguished() {
        let batch = |source: &str, at: u32| {
            format!("editwar_source_last_batch_timestamp_seconds{{cluster=\"a\",source=\"{source}\"}} {at}\n")
        };
        assert_eq!(found(""), [("events", State::Broken)]);
        assert_eq!(found(&batch("1", 1000)), [("events", State::Ok)]);
        assert_eq!(found(&(batch("1", 1000) + &batch("2", 100))), [("events", State::Weak)]);
        assert_eq!(found(&(batch("1", 99) + &batch("2", 100))), [("events", State::Broken)]);
    }

    #[test]
    fn the_journal_is_checked_if_there_is_one() {
        let of =
            |metrics: &str| found(metrics).into_iter().find(|(link, _)| *link == "journal").map(|(_, state)| state);
        assert_eq!(of(""), None);
        assert_eq!(of("editwar_journal_up 1"), Some(State::Ok));
        assert_eq!(of("editwar_journal_up 1\neditwar_journal_records_total{outcome=\"dropped\"} 3"), Some(State::Weak));
        assert_eq!(of("editwar_journal_up 0"), Some(State::Broken));
    }

    #[test]
    fn topics_are_checked_if_there_are_any() {
        let of = |metrics: &str| found(metrics).into_iter().find(|(link, _)| *link == "kafka").map(|(_, state)| state);
        let lag = |count: u32| format!("editwar_kafka_lag_messages{{topic=\"a\"}} {count}\n");
        let with = |name: &str, value: u32| format!("{}{name}{{topic=\"a\"}} {value}", lag(3));
        assert_eq!(of("editwar_kafka_errors_total 0"), None);
        assert_eq!(of(&with("editwar_kafka_partitions", 4)), Some(State::Ok));
        assert_eq!(of(&with("editwar_kafka_partitions", 0)), Some(State::Broken));
        assert_eq!(of(&with("editwar_log_current", 1)), Some(State::Ok));
        assert_eq!(of(&with("editwar_log_current", 0)), Some(State::Broken));
        assert_eq!(of(&lag(1_000_000)), Some(State::Weak));
    }

    #[test]
    fn watches_are_checked_if_the_server_watches() {
        let of = |counts: [u64; 4]| {
            let states = ["connected", "connecting", "forbidden", "failing"];
            let lines =
                states.iter().zip(counts).map(|(state, n)| format!("editwar_watches{{state=\"{state}\"}} {n}\n"));
            let text: String = lines.collect();
            let samples: Vec<Sample<'_>> = text.lines().filter_map(sample).collect();
            let mut findings = Findings::default();
            check_watches(Watches::of(&samples).unwrap(), &mut findings);
            findings.findings.remove(0).state
        };
        assert_eq!(Watches::of(&[("editwar_watchers", 1.0)]), None);
        let found = [of([5, 0, 0, 0]), of([5, 0, 3, 0]), of([5, 1, 0, 0]), of([5, 0, 0, 1]), of([0, 2, 0, 0])];
        assert_eq!(found, [State::Ok, State::Ok, State::Weak, State::Weak, State::Broken]);
    }

    #[test]
    fn only_a_server_without_audit_events_is_only_watching() {
        let of = |is_watching, metadata, has_batches| {
            let levels = Some(Levels { metadata, watched: 4, ..Levels::default() });
            Received { is_watching, levels, has_batches }.is_only_watching()
        };
        assert!(of(true, 0, false));
        assert!(!of(false, 0, false) && !of(true, 1, false) && !of(true, 0, true));
    }

    #[test]
    fn tail_lag_and_gaps_are_reported() {
        let of = |behind: u64, gaps: u64| {
            let text =
                format!("editwar_tail_lag_bytes{{file=\"a\"}} {behind}\neditwar_tail_gaps_total{{file=\"a\"}} {gaps}");
            let samples: Vec<Sample<'_>> = text.lines().filter_map(sample).collect();
            let mut findings = Findings::default();
            check_tail(&samples, &mut findings);
            findings.findings.remove(0).state
        };
        assert_eq!((of(100, 0), of(1 << 30, 0), of(100, 1)), (State::Ok, State::Weak, State::Weak));
    }

    #[test]
    fn differing_clocks_are_reported() {
        let at = |text: &str| parse_date(text);
        let mut findings = Findings::default();
        check_clocks(at("Mon, 23 Nov 2026 15:00:00 GMT"), at("Mon, 23 Nov 2026 15:00:02 GMT"), &mut findings);
        check_clocks(at("Mon, 23 Nov 2026 15:00:00 GMT"), at("Mon, 23 Nov 2026 15:01:00 GMT"), &mut findings);
        let states: Vec<State> = findings.findings.iter().map(|f| f.state).collect();
        assert_eq!(states, [State::Ok, State::Weak]);
        assert!(findings.findings[1].text.contains("60 s"));
    }
}
