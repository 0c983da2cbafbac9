//! A real Kafka broker for tests. `tests/kafka/fetch` fetches it; without it, tests are skipped.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

use crate::envtest::{free_port, scratch, wait_until};
use crate::proxy::Proxy;
use crate::require;

/// How long a producer waits until everything is stored.
const FLUSH: Duration = Duration::from_secs(60);

/// A broker that is its own controller, with topics of four partitions that are created when they are first used.
pub(crate) struct Broker {
    folder: PathBuf,
    java: PathBuf,
    child: Option<Child>,
    pub(crate) port: u16,
}

/// One message.
pub(crate) struct Message {
    pub(crate) partition: i32,
    pub(crate) payload: Vec<u8>,
    /// In milliseconds since 1970.
    pub(crate) at: i64,
}

// === impl Broker ===

impl Broker {
    pub(crate) fn start() -> Option<Broker> {
        Broker::start_with(&scratch("broker"), "", "", &[])
    }

    /// Starts a broker with a second listener of this protocol, such as `SASL_SSL`, with these settings. `format` are
    /// more arguments for the tool that formats the storage. Returns the broker and the port of that listener.
    pub(crate) fn start_secured(
        protocol: &str,
        folder: &Path,
        settings: &str,
        format: &[&str],
    ) -> Option<(Broker, u16)> {
        let port = free_port();
        let listener = format!(",SECURE://127.0.0.1:{port}");
        let map = "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT";
        let all = format!("{map},SECURE:{protocol}\n{settings}");
        Some((Broker::start_with(folder, &listener, &all, format)?, port))
    }

    /// Starts a broker with a second listener behind a proxy, over which connections can be cut. Returns the broker and the proxy.
    pub(crate) fn start_behind_proxy() -> Option<(Broker, Proxy)> {
        let (port, proxy) = (free_port(), Proxy::bind());
        let listener = format!(",PROXIED://127.0.0.1:{port}");
        let own = free_port();
        let settings = format!(
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{own},PROXIED://127.0.0.1:{}\n",
            proxy.port
        );
        let broker = Broker::start_at(own, &scratch("proxied"), &listener, &settings, &[])?;
        proxy.forward(port);
        Some((broker, proxy))
    }

    fn start_with(folder: &Path, listener: &str, settings: &str, format: &[&str]) -> Option<Broker> {
        Broker::start_at(free_port(), folder, listener, settings, format)
    }

    fn start_at(port: u16, folder: &Path, listener: &str, settings: &str, format: &[&str]) -> Option<Broker> {
        let java = require::program("kafka", &["java"])?;
        let jars = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("kafka").join("lib");
        if !jars.is_dir() {
            require::skip("kafka", &format!("no broker in {} (run tests/kafka/fetch)", jars.display()));
            return None;
        }
        let controller = free_port();
        let node = format!(
            "node.id=1\nlisteners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{listener}\n\
             controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n{settings}"
        );
        let mut broker = Broker::configure(java, port, folder, &node, 1);
        broker.format(&jars, &[&["--standalone"], format].concat());
        broker.launch(&jars);
        broker.wait();
        Some(broker)
    }

    /// Starts three brokers with everything on each of them, of which two must confirm.
    pub(crate) fn start_three() -> Option<[Broker; 3]> {
        let java = require::program("kafka", &["java"])?;
        let jars = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("kafka").join("lib");
        if !jars.is_dir() {
            require::skip("kafka", &format!("no broker in {} (run tests/kafka/fetch)", jars.display()));
            return None;
        }
        let ports = [free_port(), free_port(), free_port()];
        let controllers = [free_port(), free_port(), free_port()];
        let voters: Vec<String> = (1..).zip(controllers).map(|(id, port)| format!("{id}@127.0.0.1:{port}")).collect();
        let mut brokers = [0, 1, 2].map(|index| {
            let (port, controller) = (ports[index], controllers[index]);
            let node = format!(
                "node.id={}\nlisteners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
                 controller.quorum.voters={}\ndefault.replication.factor=3\nmin.insync.replicas=2\n",
                index + 1,
                voters.join(",")
            );
            let broker = Broker::configure(java.clone(), port, &scratch(&format!("broker-{index}")), &node, 3);
            broker.format(&jars, &[]);
            broker
        });
        brokers.iter_mut().for_each(|broker| broker.launch(&jars));
        brokers.iter().for_each(Broker::wait);
        Some(brokers)
    }

    /// Returns keys and contents of all messages of a topic with one partition.
    pub(crate) fn consume(&self, topic: &str) -> Vec<(String, Vec<u8>)> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.address())
            .set("group.id", "test")
            .set("enable.auto.commit", "false")
            .create()
            .unwrap();
        let mut all = TopicPartitionList::new();
        all.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
        consumer.assign(&all).unwrap();
        let (_, end) = consumer.fetch_watermarks(topic, 0, FLUSH).unwrap();
        let mut found = Vec::new();
        while (found.len() as i64) < end {
            let message = consumer.poll(FLUSH).expect("the topic has messages").unwrap();
            let key = String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
            found.push((key, message.payload().unwrap_or_default().to_vec()));
        }
        found
    }

    /// Kills the broker.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts a broker again that was killed.
    pub(crate) fn restart(&mut self) {
        let jars = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("kafka").join("lib");
        self.launch(&jars);
        self.wait();
    }

    fn configure(java: PathBuf, port: u16, folder: &Path, node: &str, replicas: u32) -> Broker {
        let mut properties = format!(
            "process.roles=broker,controller\ncontroller.listener.names=CONTROLLER\n\
             log.dirs={}\nlog.retention.ms=-1\nlog.message.timestamp.after.max.ms=9223372036854775807\nnum.partitions=4\ngroup.initial.rebalance.delay.ms=0\n\
             offsets.topic.num.partitions=1\ntransaction.state.log.num.partitions=1\n",
            folder.join("data").display()
        );
        for topic in ["offsets.topic", "transaction.state.log", "share.coordinator.state.topic"] {
            writeln!(properties, "{topic}.replication.factor={replicas}\n{topic}.min.isr=1").unwrap();
        }
        properties += node;
        std::fs::write(folder.join("server.properties"), properties).unwrap();
        Broker { folder: folder.to_owned(), java, child: None, port }
    }

    fn format(&self, jars: &Path, arguments: &[&str]) {
        let output = self
            .java(jars, "kafka.tools.StorageTool")
            .args(["format", "-t", "AAAAAAAAAAAAAAAAAAAAAA", "-c"])
            .arg(self.folder.join("server.properties"))
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn java(&self, jars: &Path, class: &str) -> Command {
        let mut command = Command::new(&self.java);
        command.args(["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
        command.arg(jars.join("*")).arg(class).env_clear();
        command
    }

    fn launch(&mut self, jars: &Path) {
        let log = std::fs::File::create(self.folder.join("broker.log")).unwrap();
        let child = self
            .java(jars, "kafka.Kafka")
            .arg(self.folder.join("server.properties"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    fn wait(&self) {
        wait_until("the broker has started", 120, || self.log().contains("Kafka Server started"));
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("broker.log")).unwrap_or_default()
    }

    /// Sends a signal to the broker.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Writes messages to a topic, and waits until they are stored.
    pub(crate) fn produce<'a>(&self, topic: &str, messages: impl IntoIterator<Item = &'a Message>) {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", self.address())
            .set("enable.idempotence", "true")
            .set("compression.type", "zstd")
            .set("queue.buffering.max.messages", "1000000")
            .create()
            .unwrap();
        for message in messages {
            let record = BaseRecord::<[u8], [u8]>::to(topic)
                .partition(message.partition)
                .payload(&message.payload)
                .timestamp(message.at);
            producer.send(record).map_err(|(error, _)| error).unwrap();
            producer.poll(Duration::ZERO);
        }
        producer.flush(FLUSH).unwrap();
        assert_eq!(producer.in_flight_count(), 0);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
