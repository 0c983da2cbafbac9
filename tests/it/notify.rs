//! Wars sent to other systems: a real Alertmanager, and a receiver of CloudEvents.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::cli::scratch;
use crate::cluster::{Cluster, HPA, Level, OPERATOR};
use crate::serve::Server;
use crate::{clock, envtest, require, util};

/// An HTTP server that records the requests that it receives.
pub(crate) struct Recorder {
    port: u16,
    requests: Arc<Mutex<Vec<(String, Value)>>>,
    /// Number of requests that it refuses before it accepts one, and with which status.
    refusals: Arc<AtomicUsize>,
    status: Arc<Mutex<&'static str>>,
}

impl Recorder {
    pub(crate) fn start() -> Recorder {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let recorder = Recorder {
            port: listener.local_addr().unwrap().port(),
            requests: Arc::default(),
            refusals: Arc::default(),
            status: Arc::new(Mutex::new("503 Service Unavailable")),
        };
        let (requests, refusals) = (recorder.requests.clone(), recorder.refusals.clone());
        let status = recorder.status.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (requests, refusals, status) = (requests.clone(), refusals.clone(), status.clone());
                std::thread::spawn(move || {
                    while answer(&mut stream.as_ref().unwrap(), &requests, &refusals, &status).is_some() {}
                });
            }
        });
        recorder
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/events", self.port)
    }

    /// Returns the heads and the bodies of the requests that were accepted.
    pub(crate) fn requests(&self) -> Vec<(String, Value)> {
        self.requests.lock().unwrap().clone()
    }
}

/// Answers one request. Returns `None` if the connection is closed.
fn answer(
    stream: &mut &TcpStream,
    requests: &Mutex<Vec<(String, Value)>>,
    refusals: &AtomicUsize,
    status: &Mutex<&'static str>,
) -> Option<()> {
    let mut reader = BufReader::new(*stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let lower = head.to_ascii_lowercase();
    let len = lower.split("content-length: ").nth(1)?.lines().next()?.parse().ok()?;
    let mut body = vec![0; len];
    reader.read_exact(&mut body).ok()?;
    let refuse = refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
    if !refuse {
        requests.lock().unwrap().push((lower, serde_json::from_slice(&body).unwrap()));
    }
    let status = if refuse { *status.lock().unwrap() } else { "200 OK" };
    stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes()).ok()
}

/// A real Alertmanager. It is killed on drop.
struct Alertmanager {
    child: Child,
    port: u16,
}

impl Alertmanager {
    fn start(program: &Path, folder: &Path, port: u16) -> Alertmanager {
        let child = Command::new(program)
            .arg(format!("--config.file={}", folder.join("config.yaml").display()))
            .arg(format!("--storage.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let manager = Alertmanager { child, port };
        util::until("Alertmanager is ready", || manager.get("/-/ready").is_some());
        manager
    }

    fn get(&self, path: &str) -> Option<String> {
        let output = Command::new("curl").args(["-sSf", &format!("http://127.0.0.1:{}{path}", self.port)]).output();
        let output = output.unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    fn alerts(&self) -> Vec<Value> {
        serde_json::from_str(&self.get("/api/v2/alerts").unwrap()).unwrap()
    }

    /// Stops it as a service manager does: it stores what it has sent.
    fn stop(mut self) {
        Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Two actors that fight over these ConfigMaps.
fn war(cluster: &mut Cluster, paths: &[&str], turns: u32) {
    for path in paths {
        let body =
            json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"labels": {"team": "payments"}}, "data": {}});
        cluster.create(HPA, path, body);
    }
    for turn in 0..turns {
        cluster.wait(5.0);
        let (who, value) = if turn % 2 == 0 { (OPERATOR, "on") } else { (HPA, "off") };
        for path in paths {
            cluster.patch(who, path, "", json!({"data": {"mode": value}}));
        }
    }
}

fn post(servers: &[&Server], cluster: &Cluster, from: usize) -> usize {
    let lines: Vec<&[u8]> = cluster.lines().collect();
    servers.iter().for_each(|server| server.post_lines(&lines[from..]));
    lines.len()
}

#[test]
fn alertmanager_fires_once_and_resolves_over_two_replicas_and_restarts_of_both() {
    let names = ["prometheus-alertmanager", "alertmanager"];
    let Some(program) = require::program("alertmanager", &names) else { return };
    let folder = scratch("alertmanager");
    let recorder = Recorder::start();
    let config = format!(
        "route: {{receiver: test, group_by: ['...'], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}\n\
         receivers: [{{name: test, webhook_configs: [{{url: '{}', send_resolved: true}}]}}]\n",
        recorder.url()
    );
    std::fs::write(folder.join("config.yaml"), config).unwrap();
    let port = envtest::free_port();
    let mut manager = Alertmanager::start(&program, &folder, port);
    let start = |name: &str| {
        let journal = folder.join(name);
        Server::start(&[
            "--journal",
            journal.to_str().unwrap(),
            "--set",
            // A peer that does not answer must not keep the other from being informed.
            &format!("notify.alertmanager.urls=[http://127.0.0.1:{port}, http://127.0.0.1:1]"),
            "--set",
            "notify.page_url=https://editwar.example.com",
        ])
        .ready()
    };
    let mut servers = [start("a"), start("b")];
    // A cluster without events for a day makes no alerts.
    let now = clock::now() - 120 * 1_000_000;
    let mut cluster = Cluster::at(Level::RequestResponse, now);
    let paths = ["configmaps/shop/one", "configmaps/shop/two", "configmaps/shop/three"];
    war(&mut cluster, &paths, 14);
    let posted = post(&[&servers[0], &servers[1]], &cluster, 0);

    util::until("the alert fires", || !recorder.requests().is_empty());
    let alerts = manager.alerts();
    assert_eq!(alerts.len(), 1, "one cause, one alert: {alerts:#?}");
    let pair = format!("{} | {}", HPA.0, OPERATOR.0);
    assert_eq!(
        alerts[0]["labels"],
        json!({"alertname": "EditWar", "classes": "controller", "namespace": "shop", "pair": pair, "severity": "warning", "team": "payments"})
    );
    let annotations = &alerts[0]["annotations"];
    assert!(annotations["summary"].as_str().unwrap().ends_with("keep overwriting each other: data.mode of 3 objects"));
    for line in ["ConfigMap shop/one: data.mode off ⇄ on", "ConfigMap shop/two: ", "ConfigMap shop/three: "] {
        assert!(annotations["description"].as_str().unwrap().contains(line), "{annotations:#}");
    }
    assert!(annotations["remedy"].as_str().unwrap().contains("kubectl "), "{annotations:#}");
    assert!(alerts[0]["generatorURL"].as_str().unwrap().starts_with("https://editwar.example.com/#/wars?q="));

    // Restarts of both: the same alert, and no other notification.
    manager.stop();
    manager = Alertmanager::start(&program, &folder, port);
    for (server, name) in servers.iter_mut().zip(["a", "b"]) {
        server.terminate();
        *server = start(name);
    }
    util::until("the alert fires again", || manager.alerts().len() == 1);
    envtest::pause(3_000);
    let statuses = || -> Vec<Value> { recorder.requests().iter().map(|(_, body)| body["status"].clone()).collect() };
    assert_eq!(statuses(), ["firing"], "one notification: {:#?}", recorder.requests());

    // Two of the wars end: the alert goes on. With the last one, it ends.
    cluster.wait(1.0);
    cluster.delete(HPA, paths[0]);
    cluster.delete(HPA, paths[1]);
    let posted = post(&[&servers[0], &servers[1]], &cluster, posted);
    util::until("the list of objects is shorter", || {
        manager
            .alerts()
            .iter()
            .all(|alert| alert["annotations"]["summary"].as_str().unwrap().ends_with("of ConfigMap shop/three"))
    });
    assert_eq!(manager.alerts().len(), 1);
    cluster.wait(1.0);
    cluster.delete(HPA, paths[2]);
    post(&[&servers[0], &servers[1]], &cluster, posted);
    util::until("the alert is resolved", || manager.alerts().is_empty() && statuses().len() > 1);
    envtest::pause(3_000);
    assert_eq!(statuses(), ["firing", "resolved"]);
    let (_, metrics) = servers[0].get("/metrics");
    let count = |result: &str| {
        let name = format!("editwar_notifications_total{{result=\"{result}\",sink=\"alertmanager\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse::<u32>().unwrap()
    };
    assert!(count("sent") >= 2 && count("failed") >= 1, "{metrics}");
}

#[test]
fn each_transition_is_one_cloud_event_in_order_also_after_failures_and_restarts() {
    let folder = scratch("cloud-events");
    let recorder = Recorder::start();
    recorder.refusals.store(2, Ordering::SeqCst);
    std::fs::write(folder.join("token"), "sesame\n").unwrap();
    let journal = folder.join("journal");
    let start = |redact: &[&str]| {
        let arguments = [
            "--journal".to_owned(),
            journal.display().to_string(),
            "--set".to_owned(),
            format!("notify.cloud_events.url={}", recorder.url()),
            "--set".to_owned(),
            format!("notify.cloud_events.token_file={}", folder.join("token").display()),
        ];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(redact.iter().copied()).collect();
        Server::start(&arguments).ready()
    };
    let mut server = start(&[]);
    let mut cluster = Cluster::new(Level::RequestResponse);
    war(&mut cluster, &["configmaps/shop/one"], 14);
    let posted = post(&[&server], &cluster, 0);
    util::until("all transitions arrive", || recorder.requests().len() == 3);
    for (number, (head, event)) in recorder.requests().iter().enumerate() {
        let (from, to) = [("calm", "contested"), ("contested", "thrashing"), ("thrashing", "sustained")][number];
        assert!(head.contains("content-type: application/cloudevents+json"), "{head}");
        assert!(head.contains("authorization: bearer sesame"), "{head}");
        assert_eq!(event["specversion"], "1.0");
        assert_eq!(event["type"], format!("dev.editwar.war.{to}"));
        assert_eq!((&event["source"], &event["subject"]), (&json!("/editwar"), &json!("configmaps/shop/one")));
        assert_eq!((&event["data"]["from"], &event["data"]["to"]), (&json!(from), &json!(to)));
        assert_eq!(event["time"], event["data"]["at"]);
        assert_eq!(event["data"]["findings"][0]["war"]["labels"], json!({"team": "payments"}));
        assert!(event.to_string().contains("\"off\""), "{event:#}");
    }
    // A replay sends nothing; the end of the war is sent, without values.
    server.terminate();
    server = start(&["--set", "redact_values=true"]);
    cluster.wait(1.0);
    cluster.delete(HPA, "configmaps/shop/one");
    let posted = post(&[&server], &cluster, posted);
    util::until("the end arrives", || recorder.requests().len() == 4);
    envtest::pause(2_000);
    let requests = recorder.requests();
    assert_eq!(requests.len(), 4, "{requests:#?}");
    assert_eq!(requests[3].1["type"], "dev.editwar.war.calm");
    assert!(!requests[3].1.to_string().contains("\"off\""), "{:#}", requests[3].1);
    // What happens shortly before a stop is still posted, although the receiver does not answer at first.
    recorder.refusals.store(2, Ordering::SeqCst);
    cluster.wait(1.0);
    war(&mut cluster, &["configmaps/shop/two"], 14);
    post(&[&server], &cluster, posted);
    server.terminate();
    let requests = recorder.requests();
    let types: Vec<&Value> = requests.iter().skip(4).map(|(_, event)| &event["data"]["to"]).collect();
    assert_eq!(types, ["contested", "thrashing", "sustained"]);
    let ids: std::collections::BTreeSet<String> = requests.iter().map(|(_, event)| event["id"].to_string()).collect();
    assert_eq!(ids.len(), 7, "ids are unique: {ids:?}");
}

#[test]
fn alerts_that_are_rejected_keep_no_others_from_being_sent() {
    let recorder = Recorder::start();
    *recorder.status.lock().unwrap() = "400 Bad Request";
    recorder.refusals.store(1, Ordering::SeqCst);
    let server = Server::start(&["--set", &format!("notify.alertmanager.urls=[http://127.0.0.1:{}]", recorder.port)]);
    // A hundred alerts fit into a request. Each of 120 people fights with the operator.
    let mut cluster = Cluster::at(Level::RequestResponse, clock::now() - 120 * 1_000_000);
    let people: Vec<&'static str> = (0..120).map(|n| &*Box::leak(format!("person-{n}").into_boxed_str())).collect();
    for person in &people {
        let path = format!("configmaps/shop/{person}");
        cluster.create(HPA, &path, json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {}, "data": {}}));
    }
    for turn in 0..14 {
        cluster.wait(5.0);
        for person in &people {
            let (who, value) = if turn % 2 == 0 { (OPERATOR, "on") } else { ((*person, "kubectl-edit"), "off") };
            cluster.patch(who, &format!("configmaps/shop/{person}"), "", json!({"data": {"mode": value}}));
        }
    }
    post(&[&server], &cluster, 0);
    let count = |result: &str| {
        server.metric(&format!("editwar_notifications_total{{result=\"{result}\",sink=\"alertmanager\"}}"))
    };
    util::until("the others are sent", || count("sent") >= 20.0);
    assert!(count("dropped") >= 1.0 && count("failed") == 0.0, "{}", server.get("/metrics").1);
    let sent: usize = recorder.requests().iter().map(|(_, body)| body.as_array().unwrap().len()).sum();
    assert!(sent >= 20, "{sent}");
}
