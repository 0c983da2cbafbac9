//! The process under attack, and an HTTP client for it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::outcome::{Context, Failure, Outcome, control};

/// The address of honest clients. The loopback network has many addresses.
pub(crate) const HONEST: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// Maximum time to wait for an ordinary response.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running editwar. It is killed on drop.
pub(crate) struct Server {
    child: Child,
    pub(crate) webhook: SocketAddr,
    pub(crate) admin: SocketAddr,
    log: Arc<Mutex<String>>,
}

/// An HTTP response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) took: Duration,
}

// === impl Server ===

impl Server {
    /// Starts `editwar serve` with these arguments, on free loopback ports.
    pub(crate) fn start(context: &Context, arguments: &[&str]) -> Result<Server, Failure> {
        Server::start_by(Command::new(&context.binary), arguments)
    }

    /// Like `start`, with a command that executes editwar.
    pub(crate) fn start_by(mut command: Command, arguments: &[&str]) -> Result<Server, Failure> {
        let mut child = command
            .args(["serve", "--listen", "127.0.0.1:0", "--webhook-listen", "127.0.0.1:0"])
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let mut found = None;
        while let Some(Ok(line)) = lines.next() {
            log.lock().unwrap().push_str(&format!("{line}\n"));
            let line: Value = serde_json::from_str(&line).unwrap_or_default();
            if let (Some(webhook), Some(admin)) = (line["webhook"].as_str(), line["api"].as_str()) {
                found = address(webhook).zip(address(admin));
                break;
            }
        }
        let Some((webhook, admin)) = found else {
            drop(child.kill());
            drop(child.wait());
            return Err(Failure::Control(format!("the server does not start: {}", log.lock().unwrap().trim())));
        };
        // The rest must be read, or the server would block on a full pipe.
        let rest = log.clone();
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| rest.lock().unwrap().push_str(&(line + "\n")));
        });
        Ok(Server { child, webhook, admin, log })
    }

    /// Waits until it is ready.
    pub(crate) fn ready(self) -> Result<Server, Failure> {
        let is_ready = || self.get("/readyz").is_ok_and(|answer| answer.status == 200);
        control(until(PATIENCE, is_ready), format!("the server does not get ready: {}", self.log_end()))?;
        Ok(self)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the log so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Returns the last lines of the log.
    pub(crate) fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().rev().take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        drop(Command::new("kill").args([&format!("-{name}"), &id]).stderr(Stdio::null()).status());
    }

    /// Returns whether the process is running.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for the process to end. Returns `None` if it does not in time.
    pub(crate) fn ends_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        let started = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                _ if started.elapsed() > limit => return None,
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Stops it with SIGTERM.
    pub(crate) fn terminate(&mut self) -> Outcome {
        self.signal("TERM");
        control(self.ends_within(PATIENCE).is_some(), "SIGTERM does not end the server within 60 s")
    }

    /// Stops it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Returns a size from `/proc/PID/status` in bytes.
    fn size(&self, name: &str) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|n| n.parse::<usize>().ok()).unwrap_or(0) << 10
    }

    /// Returns the peak memory usage.
    pub(crate) fn peak_bytes(&self) -> usize {
        self.size("VmHWM:")
    }

    /// Returns the current memory usage.
    pub(crate) fn resident_bytes(&self) -> usize {
        self.size("VmRSS:")
    }

    /// Returns the number of open file descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    /// GETs a path of the query API.
    pub(crate) fn get(&self, path: &str) -> io::Result<Answer> {
        ask(HONEST, self.admin, &request("GET", path, "", b""), PATIENCE)
    }

    /// GETs a path as JSON.
    pub(crate) fn json(&self, path: &str) -> Result<Value, Failure> {
        let answer = self.get(path).map_err(|e| Failure::Control(format!("GET {path}: {e}")))?;
        control(answer.status == 200, format!("GET {path}: {} {}", answer.status, answer.body))?;
        serde_json::from_str(&answer.body).map_err(|e| Failure::Control(format!("GET {path}: {e}")))
    }

    /// Returns the value of a series in `/metrics`.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = self.get("/metrics").map(|answer| answer.body).unwrap_or_default();
        let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(f64::NAN)
    }

    /// Posts events once, as an API server does.
    pub(crate) fn post_from(&self, from: Ipv4Addr, path: &str, events: &[String]) -> io::Result<Answer> {
        post(from, self.webhook, path, &crate::events::list(events))
    }

    /// Posts events as an API server does, with retries. Reports the last response if they are never accepted.
    pub(crate) fn post(&self, path: &str, events: &[String]) -> Outcome {
        let body = crate::events::list(events);
        let mut last = String::new();
        let is_taken = until(PATIENCE, || match post(HONEST, self.webhook, path, &body) {
            Ok(answer) if answer.status == 200 => true,
            Ok(answer) => {
                last = format!("{} {}", answer.status, answer.body.trim());
                false
            }
            Err(error) => {
                last = error.to_string();
                false
            }
        });
        control(is_taken, format!("an honest batch is not taken within 60 s: {last}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns the address in a URL.
fn address(url: &str) -> Option<SocketAddr> {
    url.split_once("://")?.1.split('/').next()?.parse().ok()
}

/// Runs the program once.
pub(crate) fn run(context: &Context, arguments: &[&str], folder: &Path) -> io::Result<Output> {
    Command::new(&context.binary).args(arguments).env_clear().current_dir(folder).stdin(Stdio::null()).output()
}

/// Formats a request.
pub(crate) fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// Posts a body with events.
pub(crate) fn post(from: Ipv4Addr, to: SocketAddr, path: &str, body: &[u8]) -> io::Result<Answer> {
    ask(from, to, &request("POST", path, "Content-Type: application/json\r\n", body), PATIENCE)
}

/// Opens a connection from a given address.
pub(crate) fn connect(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads can be made")
    });
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((from, 0)))?;
        let connected = tokio::time::timeout(Duration::from_secs(10), socket.connect(to)).await;
        connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??.into_std()
    })?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Sends a request, and reads the response until the server closes the connection, within the limit.
pub(crate) fn ask(from: Ipv4Addr, to: SocketAddr, request: &[u8], limit: Duration) -> io::Result<Answer> {
    let started = Instant::now();
    let mut stream = connect(from, to)?;
    stream.set_write_timeout(Some(limit))?;
    // A server that rejects early closes the connection while we write. Its response counts.
    drop(stream.write_all(request));
    let bytes = read_to_end(&mut stream, limit.saturating_sub(started.elapsed()))?;
    answer(&bytes, started.elapsed())
}

/// Reads until the end of the stream, within the limit.
pub(crate) fn read_to_end(stream: &mut TcpStream, limit: Duration) -> io::Result<Vec<u8>> {
    let started = Instant::now();
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let left = limit.saturating_sub(started.elapsed());
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Data before a connection reset counts as a response.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset && !bytes.is_empty() => return Ok(bytes),
            Err(error) => return Err(error),
        }
        if started.elapsed() > limit {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

/// Parses status and body of a response.
pub(crate) fn answer(bytes: &[u8], took: Duration) -> io::Result<Answer> {
    let text = String::from_utf8_lossy(bytes);
    let status = text.get(9..12).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no answer"))?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if is_chunked { unchunked(body) } else { body.to_owned() };
    Ok(Answer { status, body, took })
}

fn unchunked(mut body: &str) -> String {
    let mut out = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size, 16) else { break };
        let Some(chunk) = rest.get(..size) else { break };
        out.push_str(chunk);
        body = rest.get(size + 2..).unwrap_or_default();
    }
    out
}

/// Waits until a condition holds. Returns whether it did in time.
pub(crate) fn until(limit: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    loop {
        if is_so() {
            return true;
        }
        if started.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sleeps.
pub(crate) fn pause(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}
