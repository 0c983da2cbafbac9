//! A real Kafka broker for tests. `tests/kafka/fetch` fetches it; without it, tests are skipped.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::envtest::{free_port, scratch, wait_until};
use crate::proxy::Proxy;
use crate::require;

/// How long a producer waits until everything is stored.
const FLUSH: Duration = Duration::from_secs(60);

/// A broker that is its own controller, with topics of four partitions that are created when they are first used.
pub(crate) struct Broker {
    folder: PathBuf,
    programs: Programs,
    child: Option<Child>,
    pub(crate) port: u16,
}

/// A broker with a second listener that has TLS and asks who connects, and what a client needs for it.
pub(crate) struct Secured {
    pub(crate) broker: Broker,
    /// The port of that listener.
    pub(crate) port: u16,
    /// The value of `kafka.tls`.
    pub(crate) tls: String,
    /// Values of `kafka.sasl`, by name.
    pub(crate) logins: [(&'static str, String); 3],
    folder: PathBuf,
}

/// The programs of Kafka.
#[derive(Clone)]
struct Programs {
    java: PathBuf,
    jars: PathBuf,
}

/// One message.
pub(crate) struct Message {
    pub(crate) partition: i32,
    pub(crate) payload: Vec<u8>,
    /// In milliseconds since 1970.
    pub(crate) at: i64,
}

// === impl Secured ===

impl Secured {
    pub(crate) fn start(name: &str) -> Option<Secured> {
        require::program("openssl", &["openssl"])?;
        let (folder, port) = (scratch(name), free_port());
        let tls = format!("{{enabled: true, ca_file: {}}}", certificate(&folder));
        let login = "org.apache.kafka.common.security";
        let settings = format!(
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL\n\
             ssl.keystore.type=PKCS12\nssl.keystore.location={}/keystore.p12\nssl.keystore.password=secret\n\
             sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512,OAUTHBEARER\n\
             listener.name.secure.plain.sasl.jaas.config={login}.plain.PlainLoginModule required user_alice=\"right\";\n\
             listener.name.secure.scram-sha-512.sasl.jaas.config={login}.scram.ScramLoginModule required;\n\
             listener.name.secure.oauthbearer.sasl.jaas.config={login}.oauthbearer.OAuthBearerLoginModule required \
             unsecuredLoginStringClaim_sub=\"admin\";\n\
             listener.name.secure.oauthbearer.sasl.server.callback.handler.class=\
             {login}.oauthbearer.internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler\n",
            folder.display()
        );
        let scram = ["--add-scram", "SCRAM-SHA-512=[name=bob,password=right]"];
        let broker = Broker::start_with(&folder, &format!(",SECURE://127.0.0.1:{port}"), &settings, &scram)?;
        let mut secured = Secured { broker, port, tls, logins: Default::default(), folder };
        let right = secured.file("right", "right\n");
        let part = |json: Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
        let now = jiff::Timestamp::now().as_second();
        let claims = json!({"sub": "carol", "iat": now, "exp": now + 600});
        let token = secured.file("token", &format!("{}.{}.", part(json!({"alg": "none"})), part(claims)));
        secured.logins = [
            ("plain", format!("{{mechanism: PLAIN, username: alice, password_file: {right}}}")),
            ("scram", format!("{{mechanism: SCRAM-SHA-512, username: bob, password_file: {right}}}")),
            ("oauth", format!("{{mechanism: OAUTHBEARER, token_file: {token}}}")),
        ];
        Some(secured)
    }

    /// Writes a file, and returns its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        std::fs::write(self.folder.join(name), text).unwrap();
        self.folder.join(name).display().to_string()
    }
}

/// Writes a keystore for the broker that is signed by itself, and returns the certificate in PEM.
fn certificate(folder: &Path) -> String {
    let command = format!(
        "cd '{}' && openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=broker \
         -addext subjectAltName=IP:127.0.0.1 2>/dev/null && openssl pkcs12 -export -in cert.pem -inkey key.pem \
         -out keystore.p12 -passout pass:secret",
        folder.display()
    );
    let output = Command::new("sh").args(["-c", &command]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    folder.join("cert.pem").display().to_string()
}

// === impl Programs ===

impl Programs {
    /// Finds them, or says that what needs them is skipped.
    fn find() -> Option<Programs> {
        let java = require::program("kafka", &["java"])?;
        let jars = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("kafka").join("lib");
        if !jars.is_dir() {
            require::skip("kafka", &format!("no broker in {} (run tests/kafka/fetch)", jars.display()));
            return None;
        }
        Some(Programs { java, jars })
    }

    fn run(&self, class: &str) -> Command {
        let mut command = Command::new(&self.java);
        command.args(["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
        command.arg(self.jars.join("*")).arg(class).env_clear();
        command
    }
}

// === impl Broker ===

impl Broker {
    pub(crate) fn start() -> Option<Broker> {
        Broker::start_with(&scratch("broker"), "", "", &[])
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
        let programs = Programs::find()?;
        let controller = free_port();
        let node = format!(
            "node.id=1\nlisteners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{listener}\n\
             controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n{settings}"
        );
        let mut broker = Broker::configure(programs, port, folder, &node, 1);
        broker.format(&[&["--standalone"], format].concat());
        broker.launch();
        broker.wait();
        Some(broker)
    }

    /// Starts three brokers with everything on each of them, of which two must confirm.
    pub(crate) fn start_three() -> Option<[Broker; 3]> {
        let programs = Programs::find()?;
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
            let broker = Broker::configure(programs.clone(), port, &scratch(&format!("broker-{index}")), &node, 3);
            broker.format(&[]);
            broker
        });
        brokers.iter_mut().for_each(|broker| broker.launch());
        brokers.iter().for_each(Broker::wait);
        Some(brokers)
    }

    /// Creates a topic with one partition and these settings.
    pub(crate) fn create(&self, topic: &str, settings: &[&str]) {
        let settings = settings.iter().flat_map(|setting| ["--config", setting]);
        let output = self
            .programs
            .run("org.apache.kafka.tools.TopicCommand")
            .args(["--bootstrap-server", &self.address(), "--create", "--topic", topic, "--partitions", "1"])
            .args(settings)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
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
        self.launch();
        self.wait();
    }

    fn configure(programs: Programs, port: u16, folder: &Path, node: &str, replicas: u32) -> Broker {
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
        Broker { folder: folder.to_owned(), programs, child: None, port }
    }

    fn format(&self, arguments: &[&str]) {
        let output = self
            .programs
            .run("kafka.tools.StorageTool")
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

    fn launch(&mut self) {
        let log = std::fs::File::create(self.folder.join("broker.log")).unwrap();
        let child = self
            .programs
            .run("kafka.Kafka")
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
