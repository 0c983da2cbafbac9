//! Whatever bytes a client sends to a listener, the listener answers or closes the connection, and continues to work.
//! The first byte determines what the rest is: raw bytes of a connection, a path and query, or a body.
#![no_main]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use editwar::detect::actor_class::ActorClassifier;
use editwar::detect::policy::Policy;
use editwar::ingest::intake::Intake;
use editwar::ingest::webhook::Webhook;
use editwar::net;
use editwar::notify::Sinks;
use editwar::pipeline::{Bounds, Pipeline};
use editwar::query::api::Api;
use editwar::telemetry::metrics::{self, Metrics};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

struct Server {
    runtime: Runtime,
    webhook: Webhook,
    api: Api,
}

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let bounds = Bounds { objects_max: 64, body_bytes_max: 1 << 16, requests_max: 256, ..Bounds::default() };
    let pipeline = Arc::new(Pipeline::new(Policy::default(), bounds));
    let metrics = Metrics::new(metrics::SeriesLimits {
        max_objects: 16,
        max_actors_per_object: 16,
        ttl: Duration::from_secs(60),
    });
    let api = Api::new(pipeline.clone(), Arc::new(ActorClassifier::default()), metrics.clone());
    api.set_ready(true);
    let webhook =
        Webhook::new(Intake::new(pipeline, metrics.clone(), Sinks::new(Vec::new())), metrics, 1 << 16, 1 << 20);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    Server { runtime, webhook, api }
});

/// Returns a server's answer to these bytes.
async fn talk(is_webhook: bool, bytes: &[u8], is_whole: bool) -> Vec<u8> {
    let (client, server) = tokio::io::duplex(64 << 10);
    let connection = tokio::spawn(async move {
        let builder = net::http_builder();
        let io = TokioIo::new(server);
        if is_webhook {
            let handler = |request| {
                let webhook = SERVER.webhook.clone();
                async move { Ok::<_, Infallible>(webhook.handle(request, PEER).await) }
            };
            drop(builder.serve_connection(io, service_fn(handler)).await);
        } else {
            let handler = |request| async move {
                Ok::<_, Infallible>(tokio::task::block_in_place(|| SERVER.api.answer(&request, PEER.ip(), true)))
            };
            drop(builder.serve_connection(io, service_fn(handler)).await);
        }
    });
    let (mut from, mut to) = tokio::io::split(client);
    let mut answer = Vec::new();
    let write = async {
        drop(to.write_all(bytes).await);
        // A client that closes the connection early gets no answer.
        if !is_whole {
            drop(to.shutdown().await);
        }
    };
    // A watched decision continues until its reader disconnects.
    let read = tokio::time::timeout(Duration::from_millis(500), from.read_to_end(&mut answer));
    drop(tokio::join!(write, read));
    drop((from, to));
    if let Err(error) = connection.await {
        assert!(!error.is_panic(), "{error}");
    }
    answer
}

fn status(answer: &[u8]) -> Option<u16> {
    let text = answer.strip_prefix(b"HTTP/1.1 ")?;
    std::str::from_utf8(text.get(..3)?).ok()?.parse().ok()
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((how, rest)) = input.split_first() else { return };
    let is_webhook = how & 1 == 1;
    let request = match how >> 1 & 3 {
        0 | 1 => rest.to_vec(),
        2 => {
            let target: String = rest.iter().map(|b| char::from(b'!' + b % 94)).filter(|c| *c != '#').collect();
            format!("GET /api/v1/{target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").into_bytes()
        }
        _ => {
            let head = "POST /audit HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: ";
            [format!("{head}{}\r\n\r\n", rest.len()).as_bytes(), rest].concat()
        }
    };
    let is_whole = how >> 1 & 2 == 2;
    let answer = SERVER.runtime.block_on(talk(is_webhook, &request, is_whole));
    if is_whole {
        let status = status(&answer);
        let well = status.is_some_and(|s| (200..500).contains(&s) || s == 501);
        assert!(well, "{status:?}: {}", String::from_utf8_lossy(&answer));
    }
});
