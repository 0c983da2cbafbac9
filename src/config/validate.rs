//! Validates values, and combinations of keys.

use std::net::SocketAddr;

use super::load::{Error, invalid};
use super::{Auth, Config, Forward, Kafka, KafkaSasl, KafkaTls, LimitsConfig, Mode, Notify, SaslMechanism, Tls};
use crate::detect::cooperation::CooperationRules;
use crate::detect::verdict::Confidence;
use crate::util::cluster_name;

/// Minimum of `bounds.max_memory`.
const MEMORY_BYTES_MIN: usize = 64 << 20;
/// Minimum of `journal.max_size`: a few of the smallest segments.
const JOURNAL_BYTES_MIN: usize = 16 << 20;
/// Minimum of `journal.retention`, in seconds.
const RETENTION_S_MIN: u64 = 60;

/// The settings that determine whether a listener is secure.
struct Listener<'a> {
    name: &'a str,
    listen: SocketAddr,
    tls: &'a Option<Tls>,
    auth: &'a Auth,
    allow_insecure: bool,
}

// === impl Config ===

impl Config {
    /// # Errors
    /// [`Error::Invalid`], with the key as its origin.
    pub(super) fn validate(&self) -> Result<(), Error> {
        let Config { webhook, admin, .. } = self;
        let listeners = [
            Listener {
                name: "webhook",
                listen: webhook.listen,
                tls: &webhook.tls,
                auth: &webhook.auth,
                allow_insecure: webhook.allow_insecure,
            },
            Listener {
                name: "admin",
                listen: admin.listen,
                tls: &admin.tls,
                auth: &admin.auth,
                allow_insecure: admin.allow_insecure,
            },
        ];
        listeners.iter().try_for_each(Listener::validate)?;
        self.limits.validate("limits")?;
        for (number, over) in self.overrides.iter().enumerate() {
            over.limits.validate(&format!("overrides[{number}].limits"))?;
        }
        self.validate_cooperation()?;
        self.validate_enforce()?;
        self.validate_journal()?;
        self.validate_notify()?;
        self.validate_kafka()?;
        self.validate_forward()?;
        self.validate_bounds()
    }

    fn validate_cooperation(&self) -> Result<(), Error> {
        let names = CooperationRules::names();
        match self.cooperation.disabled.iter().find(|name| !names.contains(&name.as_str())) {
            Some(unknown) => {
                let why = format!("unknown co-operation {unknown}; expected one of {}", names.join(", "));
                Err(invalid("cooperation.disabled", &why))
            }
            None => Ok(()),
        }
    }

    fn validate_enforce(&self) -> Result<(), Error> {
        if self.enforce.min_confidence == Confidence::Confirmed {
            return Err(invalid("enforce.min_confidence", "expected possible or probable"));
        }
        let assets = &self.enforce.assets;
        match self.enforce.mode {
            Mode::Pause if self.enforce.resources.is_empty() => Err(invalid(
                "enforce.resources",
                "set the resources that may be paused, such as enforce.resources=[deployments.apps]",
            )),
            Mode::Reconcile if !assets.is_dir() => Err(invalid(
                "enforce.assets",
                &format!("{} is not a directory: set the directory of the Golden State", assets.display()),
            )),
            _ => Ok(()),
        }
    }

    fn validate_journal(&self) -> Result<(), Error> {
        if self.journal.retention.0.as_secs() < RETENTION_S_MIN {
            return Err(invalid("journal.retention", "must be at least 1m"));
        }
        if self.journal.max_size.0 < JOURNAL_BYTES_MIN {
            return Err(invalid("journal.max_size", "must be at least 16MiB"));
        }
        Ok(())
    }

    fn validate_notify(&self) -> Result<(), Error> {
        let Notify { page_url, alertmanager, cloud_events, .. } = &self.notify;
        let urls = alertmanager.urls.iter().map(|url| ("notify.alertmanager.urls", url));
        let urls = urls.chain(cloud_events.url.iter().map(|url| ("notify.cloud_events.url", url)));
        for (key, url) in urls.chain(page_url.iter().map(|url| ("notify.page_url", url))) {
            validate_url(key, url)?;
        }
        let is_name = |name: &str| {
            !name.is_empty()
                && !name.starts_with(|c: char| c.is_ascii_digit())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        if let Some(name) = alertmanager.labels.keys().find(|name| !is_name(name)) {
            let why = format!("expected names of letters, digits and _, got \"{name}\"");
            return Err(invalid("notify.alertmanager.labels", &why));
        }
        if cloud_events.source.as_ref().is_some_and(|source| source.is_empty() || source.contains(char::is_whitespace))
        {
            return Err(invalid("notify.cloud_events.source", "expected a URI reference, such as /clusters/east"));
        }
        Ok(())
    }

    /// A server that forwards knows no wars, and cannot act on them.
    fn validate_forward(&self) -> Result<(), Error> {
        let Some(Forward { url, .. }) = &self.tail.forward else { return Ok(()) };
        validate_url("tail.forward.url", url)?;
        let host = url.strip_prefix("http://").map(|rest| rest.split(['/', ':']).next().unwrap_or_default());
        if host.is_some_and(|host| host != "localhost" && !host.starts_with("127.")) {
            return Err(invalid("tail.forward.url", "expected https://, since events and the token are sent there"));
        }
        let Config { tail, journal, watch, enforce, kafka, notify, .. } = self;
        if tail.files.is_empty() {
            return Err(invalid("tail.files", "set it, because tail.forward is set"));
        }
        if !tail.cluster.is_empty() {
            let why = "not with tail.forward: name the cluster in its url, such as https://editwar.example.com:8443/audit/CLUSTER";
            return Err(invalid("tail.cluster", why));
        }
        let others = [
            ("journal.path", journal.path.is_some()),
            ("journal.kafka", journal.kafka.is_some()),
            ("watch.enabled", watch.enabled),
            ("enforce.mode", enforce.mode != Mode::Observe),
            ("kafka.topics", !kafka.topics.is_empty()),
            ("notify.alertmanager.urls", !notify.alertmanager.urls.is_empty()),
            ("notify.cloud_events.url", notify.cloud_events.url.is_some()),
        ];
        match others.iter().find(|(_, is_set)| *is_set) {
            Some((key, _)) => Err(invalid(key, "not with tail.forward: set it on the server that gets the events")),
            None => Ok(()),
        }
    }

    fn validate_kafka(&self) -> Result<(), Error> {
        let Kafka { brokers, topics, group, tls, sasl } = &self.kafka;
        let log = self.journal.kafka.as_ref().map(|log| &log.topic);
        let transitions = self.journal.kafka.as_ref().and_then(|log| log.transitions.as_ref());
        let is_used = !topics.is_empty() || log.is_some();
        if brokers.is_empty() && is_used {
            return Err(invalid("kafka.brokers", "set it, because kafka.topics or journal.kafka is set"));
        }
        if !brokers.is_empty() && !is_used {
            return Err(invalid("kafka.topics", "set it or journal.kafka, because kafka.brokers is set"));
        }
        if log.is_some() && log == transitions {
            return Err(invalid("journal.kafka.transitions", "must not be journal.kafka.topic"));
        }
        if let Some(topic) = log.filter(|topic| topics.contains_key(*topic)) {
            return Err(invalid("journal.kafka.topic", &format!("kafka.topics has {topic}, too: set another name")));
        }
        let has_port = |broker: &str| broker.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if let Some(broker) = brokers.iter().find(|broker| !has_port(broker) || broker.contains([',', '/', ' '])) {
            let why = format!("expected an address with a port, such as kafka-0.example.com:9092, got \"{broker}\"");
            return Err(invalid("kafka.brokers", &why));
        }
        let is_topic_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let named = topics.keys().map(|topic| ("kafka.topics", topic));
        let mut named = named
            .chain(log.map(|topic| ("journal.kafka.topic", topic)))
            .chain(transitions.map(|topic| ("journal.kafka.transitions", topic)));
        if let Some((key, topic)) = named.find(|(_, topic)| topic.is_empty() || !topic.chars().all(is_topic_char)) {
            return Err(invalid(key, &format!("no name of a topic: \"{topic}\"")));
        }
        if let Some(cluster) = topics.values().find(|cluster| !cluster_name::is_valid(cluster)) {
            return Err(invalid("kafka.topics", &format!("no name of a cluster: \"{cluster}\"")));
        }
        if group.trim().is_empty() {
            return Err(invalid("kafka.group", "must not be empty"));
        }
        let KafkaTls { enabled, ca_file, cert_file, key_file } = tls;
        if !enabled && [ca_file, cert_file, key_file].into_iter().any(Option::is_some) {
            return Err(invalid("kafka.tls.enabled", "set it to true, or remove the other keys of kafka.tls"));
        }
        if cert_file.is_some() != key_file.is_some() {
            return Err(invalid("kafka.tls", "set both cert_file and key_file, or none of them"));
        }
        let Some(KafkaSasl { mechanism, username, password_file, token_file }) = sasl else { return Ok(()) };
        match mechanism {
            SaslMechanism::OauthBearer if token_file.is_none() => {
                Err(invalid("kafka.sasl.token_file", "set the file with the token for OAUTHBEARER"))
            }
            SaslMechanism::OauthBearer => Ok(()),
            _ if username.is_empty() => Err(invalid("kafka.sasl.username", "set the user name")),
            _ if password_file.is_none() => Err(invalid("kafka.sasl.password_file", "set the file with the password")),
            _ => Ok(()),
        }
    }

    fn validate_bounds(&self) -> Result<(), Error> {
        if self.bounds.max_memory.is_some_and(|memory| memory.0 < MEMORY_BYTES_MIN) {
            return Err(invalid("bounds.max_memory", "must be at least 64MiB"));
        }
        for (key, count) in [
            ("bounds.max_objects", self.bounds.max_objects),
            ("bounds.max_remembered_requests", self.bounds.max_remembered_requests),
        ] {
            if count == 0 {
                return Err(invalid(key, "must be at least 1"));
            }
        }
        Ok(())
    }
}

fn validate_url(key: &str, url: &str) -> Result<(), Error> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    if rest.is_none_or(|rest| rest.is_empty() || rest.starts_with('/')) {
        return Err(invalid(key, &format!("expected a URL such as https://example.com, got \"{url}\"")));
    }
    if url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(invalid(key, "a URL must not contain white space"));
    }
    if rest.is_some_and(|rest| rest.split('/').next().is_some_and(|host| host.contains('@'))) {
        return Err(invalid(key, "a URL must not contain credentials: use token_file"));
    }
    Ok(())
}

// === impl Listener ===

impl Listener<'_> {
    fn validate(&self) -> Result<(), Error> {
        let Listener { name, listen, tls, auth, allow_insecure } = self;
        let has_tls = tls.is_some();
        if auth.client_ca.is_some() && !has_tls {
            return Err(invalid(
                &format!("{name}.auth.client_ca"),
                &format!("client certificates need TLS: configure {name}.tls"),
            ));
        }
        if auth.client_crl.is_some() && auth.client_ca.is_none() {
            return Err(invalid(
                &format!("{name}.auth.client_crl"),
                &format!("revocation lists need a client CA: configure {name}.auth.client_ca"),
            ));
        }
        // Its issuer signs tokens for anybody.
        if auth.oidc.is_some() && auth.allow.is_empty() {
            return Err(invalid(
                &format!("{name}.auth.oidc"),
                &format!("an issuer may identify anybody: list the permitted accounts in {name}.auth.allow"),
            ));
        }
        if listen.ip().is_loopback() || *allow_insecure {
            return Ok(());
        }
        if !has_tls {
            return Err(invalid(
                &format!("{name}.listen"),
                &format!(
                    "{listen} is reachable from outside without TLS: configure {name}.tls, listen on 127.0.0.1, or set \
                     {name}.allow_insecure=true"
                ),
            ));
        }
        if !auth.is_on() {
            return Err(invalid(
                &format!("{name}.auth"),
                &format!(
                    "{listen} is reachable from outside without authentication: configure {name}.auth.client_ca, \
                     token_file, token_review or oidc, or set {name}.allow_insecure=true"
                ),
            ));
        }
        Ok(())
    }
}

// === impl LimitsConfig ===

impl LimitsConfig {
    fn validate(&self, key: &str) -> Result<(), Error> {
        if self.buckets.as_ref().is_some_and(Vec::is_empty) {
            return Err(invalid(&format!("{key}.buckets"), "expected at least one bucket"));
        }
        let windows = self.buckets.iter().flatten().map(|bucket| bucket.window);
        if windows.chain(self.contention.map(|contention| contention.window)).any(|window| window.0.as_secs() == 0) {
            return Err(invalid(key, "a window must be at least one second"));
        }
        Ok(())
    }
}
