//! Traces, if they are built in: `cargo test --features otlp --test it otlp`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, Mutex};

use crate::serve::Server;

/// Starts a collector that answers each request with 200 and records it.
/// Requests: path and body.
type Sent = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

fn collector() -> (u16, Sent) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let sent: Sent = Arc::default();
    let seen = sent.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, seen) = (stream.unwrap(), seen.clone());
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut line = String::new();
                while reader.read_line(&mut line).unwrap() > 0 {
                    let path = line.clone();
                    let mut length = 0;
                    loop {
                        line.clear();
                        reader.read_line(&mut line).unwrap();
                        if line.trim().is_empty() {
                            break;
                        }
                        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                            length = value.trim().parse().unwrap();
                        }
                    }
                    let mut body = vec![0; length];
                    reader.read_exact(&mut body).unwrap();
                    seen.lock().unwrap().push((path, body));
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
                    line.clear();
                }
            });
        }
    });
    (port, sent)
}

#[test]
fn spans_are_exported_and_flushed_at_shutdown() {
    let (port, sent) = collector();
    let mut command = Command::new("sh");
    let script = format!(r#"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:{port} exec "$0" "$@""#);
    command.args(["-c", &script, env!("CARGO_BIN_EXE_editwar")]);
    let mut server = Server::start_as(command, "127.0.0.1:0", &[]);
    server.post_log("gitops-vs-kubectl");
    server.json("/api/v1/wars");
    assert!(server.terminate().success());
    let sent = sent.lock().unwrap();
    assert!(!sent.is_empty() && sent.iter().all(|(path, _)| path.starts_with("POST /v1/traces ")), "{}", server.said());
    let all: Vec<u8> = sent.iter().flat_map(|(_, body)| body.clone()).collect();
    // protobuf contains strings unencoded.
    let is_there = |text: &str| memchr::memmem::find(&all, text.as_bytes()).is_some();
    for text in ["service.name", "editwar", "batch", "observe", "events", "answer", "/api/v1/wars"] {
        assert!(is_there(text), "{text}");
    }
    // Spans do not appear in the log.
    assert!(!server.said().contains("\"span"), "{}", server.said());
}
