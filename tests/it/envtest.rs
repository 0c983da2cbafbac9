//! A real etcd and kube-apiserver for tests. `tests/controlplane/build` builds the binaries. Others are used if they are
//! in `$KUBEBUILDER_ASSETS`, as envtest has them. Without any, tests are skipped.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::{require, util};

/// Tokens that the API server accepts: user and groups.
const USERS: &[(&str, &str)] = &[
    ("admin", "system:masters"),
    ("alice", "developers"),
    ("bob", "developers"),
    ("system:serviceaccount:kube-system:horizontal-pod-autoscaler", "developers"),
    ("system:serviceaccount:openshift-cnv:virt-platform-autopilot", "developers"),
    ("system:serviceaccount:flux-system:kustomize-controller", "developers"),
    ("system:serviceaccount:argocd:argocd-application-controller", "developers"),
    ("system:serviceaccount:editwar:editwar", "editwar"),
];

/// An audit policy as many managed clusters have it: no bodies.
pub(crate) const METADATA: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules: [{level: Metadata}]
";

pub(crate) struct ApiServer {
    folder: PathBuf,
    assets: PathBuf,
    /// Runs until this is dropped.
    etcd: Option<Child>,
    etcd_port: u16,
    apiserver: Option<Child>,
    pub(crate) port: u16,
    /// Flags for audit logging.
    audit: Vec<String>,
}

/// Returns the directory with the binaries. Without them, the test is skipped.
fn assets() -> Option<PathBuf> {
    let folder = std::env::var_os("KUBEBUILDER_ASSETS").map_or_else(built, PathBuf::from);
    let missing: Vec<&str> =
        ["etcd", "kube-apiserver", "kubectl"].into_iter().filter(|name| !folder.join(name).exists()).collect();
    if missing.is_empty() {
        return Some(folder);
    }
    let missing = missing.join(", ");
    require::skip("apiserver", &format!("no {missing} in {} (run tests/controlplane/build)", folder.display()));
    None
}

/// Returns the directory into which `tests/controlplane/build` writes the version of `$EDITWAR_KUBERNETES`, or else of
/// its `go.mod`.
fn built() -> PathBuf {
    let version = std::env::var("EDITWAR_KUBERNETES").unwrap_or_else(|_| {
        let requirements = include_str!("../controlplane/go.mod").lines();
        requirements.filter_map(|line| line.trim().strip_prefix("k8s.io/kubernetes ")).next().unwrap().to_owned()
    });
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("controlplane").join(version).join("bin")
}

/// Returns a port for a server that starts later. It is below the range of ephemeral ports, so that it is not assigned
/// to a client in the meantime, and this process locks it against other test processes of the machine.
pub(crate) fn free_port() -> u16 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    static LOCKED: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let locks = std::env::temp_dir().join("editwar-test-ports");
    std::fs::create_dir_all(&locks).unwrap();
    let next = || 20_000 + ((std::process::id() * 61 + COUNT.fetch_add(1, Ordering::Relaxed)) % 10_000) as u16;
    let is_free = |port: &u16| {
        let lock = File::create(locks.join(port.to_string())).unwrap();
        let is_free = lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", *port)).is_ok();
        if is_free {
            LOCKED.lock().unwrap().push(lock);
        }
        is_free
    };
    std::iter::repeat_with(next).find(is_free).unwrap()
}

/// Number of attempts to start a server, if other programs take its port first.
const STARTS_MAX: usize = 5;

/// Returns whether a server has ended because its port is in use, by its log.
fn lost_its_port(log: &Path) -> bool {
    std::fs::read_to_string(log).is_ok_and(|log| log.contains("address already in use"))
}

/// Creates an empty directory below the target directory.
pub(crate) fn scratch(name: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}-{count}", std::process::id()));
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Waits until `is_so` holds, and checks it ten times a second.
pub(crate) fn wait_until(what: &str, seconds: u64, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(seconds), "waited {seconds} s in vain until {what}");
        pause(100);
    }
}

#[expect(clippy::disallowed_methods, reason = "a real server's progress has no clock of ours")]
pub(crate) fn pause(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

impl ApiServer {
    /// Starts etcd and an API server that posts its audit events to the URL `audit`. Returns `None` without the
    /// binaries.
    pub(crate) fn start(audit: Option<&str>) -> Option<ApiServer> {
        ApiServer::start_batching(audit, "1s")
    }

    /// Like `start`, with batches that are posted `wait` after their first event.
    pub(crate) fn start_batching(audit: Option<&str>, wait: &'static str) -> Option<ApiServer> {
        let folder = scratch("audit");
        let file = |name: &str| folder.join(name).display().to_string();
        let flags = audit.map(|url| {
            let webhook = format!(
                "apiVersion: v1\nkind: Config\nclusters: [{{name: editwar, cluster: {{server: '{url}'}}}}]\n\
                 contexts: [{{name: editwar, context: {{cluster: editwar, user: ''}}}}]\ncurrent-context: editwar\n"
            );
            std::fs::write(file("policy.yaml"), util::POLICY).unwrap();
            std::fs::write(file("webhook.yaml"), webhook).unwrap();
            vec![
                format!("--audit-policy-file={}", file("policy.yaml")),
                format!("--audit-webhook-config-file={}", file("webhook.yaml")),
                format!("--audit-webhook-batch-max-wait={wait}"),
                "--audit-webhook-initial-backoff=1s".into(),
            ]
        });
        ApiServer::start_with(flags.unwrap_or_default())
    }

    /// Starts etcd and an API server that writes its audit events to a file. Returns the file too.
    pub(crate) fn start_logging(policy: &str) -> Option<(ApiServer, PathBuf)> {
        let folder = scratch("logging");
        let (path, log) = (folder.join("policy.yaml"), folder.join("audit.log"));
        std::fs::write(&path, policy).unwrap();
        let flags =
            vec![format!("--audit-policy-file={}", path.display()), format!("--audit-log-path={}", log.display())];
        Some((ApiServer::start_with(flags)?, log))
    }

    /// Starts etcd and an API server with these flags for audit logging. Returns `None` without the binaries.
    pub(crate) fn start_with(audit: Vec<String>) -> Option<ApiServer> {
        let assets = assets()?;
        let folder = scratch("apiserver");
        let (etcd, etcd_port) = (0..STARTS_MAX).find_map(|_| start_etcd(&assets, &folder)).expect("etcd gets a port");
        let tokens: Vec<String> =
            USERS.iter().map(|(user, groups)| format!("{},{user},{user},\"{groups}\"", token(user))).collect();
        std::fs::write(folder.join("tokens.csv"), tokens.join("\n")).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(folder.join("sa.key"), key.serialize_pem()).unwrap();
        std::fs::write(folder.join("sa.pub"), key.public_key_pem()).unwrap();
        std::fs::write(folder.join("policy.yaml"), util::POLICY).unwrap();
        let mut server =
            ApiServer { folder, assets, etcd: Some(etcd), etcd_port, apiserver: None, port: free_port(), audit };
        server.launch_anywhere();
        server.kubectl("admin", &["create", "namespace", "shop"]);
        server.kubectl(
            "admin",
            &["create", "clusterrolebinding", "developers", "--clusterrole=cluster-admin", "--group=developers"],
        );
        Some(server)
    }

    /// Starts another API server with the same etcd, as on another node of the control plane. It must be dropped first.
    pub(crate) fn start_beside(&self, audit: Vec<String>) -> ApiServer {
        let folder = scratch("apiserver");
        for file in ["tokens.csv", "sa.key", "sa.pub"] {
            std::fs::copy(self.folder.join(file), folder.join(file)).unwrap();
        }
        let (assets, etcd_port) = (self.assets.clone(), self.etcd_port);
        let mut server = ApiServer { folder, assets, etcd: None, etcd_port, apiserver: None, port: free_port(), audit };
        server.launch_anywhere();
        server
    }

    /// Starts the API server, at another port if a program uses this one.
    fn launch_anywhere(&mut self) {
        for _ in 1..STARTS_MAX {
            if self.try_launch() {
                break;
            }
            self.port = free_port();
        }
        self.launch();
    }

    /// Starts the API server and waits until it answers.
    pub(crate) fn launch(&mut self) {
        assert!(self.try_launch(), "port {} is in use: {}", self.port, self.log());
    }

    /// Like `launch`. Returns `false` if another program uses the port. Does nothing if the API server runs.
    fn try_launch(&mut self) -> bool {
        if self.apiserver.is_some() {
            return true;
        }
        let log_path = self.folder.join("apiserver.log");
        drop(std::fs::remove_file(&log_path));
        let file = |name: &str| self.folder.join(name).display().to_string();
        let mut command = Command::new(self.assets.join("kube-apiserver"));
        command
            .arg(format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port))
            .arg(format!("--secure-port={}", self.port))
            .args(["--bind-address=127.0.0.1", "--service-cluster-ip-range=10.0.0.0/24"])
            .arg(format!("--cert-dir={}", file("certs")))
            .arg(format!("--token-auth-file={}", file("tokens.csv")))
            .args(["--authorization-mode=RBAC", "--service-account-issuer=https://editwar.test"])
            .arg(format!("--service-account-key-file={}", file("sa.pub")))
            .arg(format!("--service-account-signing-key-file={}", file("sa.key")))
            .args(["--disable-admission-plugins=ServiceAccount", "--profiling=false"]);
        command.args(&self.audit);
        let child = command.stdout(Stdio::null()).stderr(log(&self.folder, "apiserver.log")).spawn().unwrap();
        self.apiserver = Some(child);
        let started = Instant::now();
        while !self.output("admin", &["get", "--raw", "/readyz"]).status.success() {
            let exited = self.apiserver.as_mut().and_then(|child| child.try_wait().unwrap());
            if exited.is_some() && lost_its_port(&log_path) {
                self.halt();
                return false;
            }
            assert!(exited.is_none(), "the API server ended: {}", self.log());
            assert!(started.elapsed() < Duration::from_secs(180), "the API server does not come up: {}", self.log());
            pause(300);
        }
        true
    }

    /// Restarts the API server with other flags for audit logging.
    pub(crate) fn relaunch_with(&mut self, audit: Vec<String>) {
        self.halt();
        self.audit = audit;
        self.launch();
    }

    /// Returns the end of the API server's log.
    fn log(&self) -> String {
        let text = std::fs::read_to_string(self.folder.join("apiserver.log")).unwrap();
        text.lines().rev().take(20).map(str::to_owned).collect::<Vec<_>>().join("\n")
    }

    /// Stops the API server. etcd keeps its data.
    pub(crate) fn halt(&mut self) {
        if let Some(mut child) = self.apiserver.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Returns the path of a binary.
    pub(crate) fn binary(&self, name: &str) -> PathBuf {
        self.assets.join(name)
    }

    /// Runs kubectl as a user.
    pub(crate) fn output(&self, user: &str, args: &[&str]) -> Output {
        Command::new(self.assets.join("kubectl"))
            .args(self.flags(user))
            .args(args)
            .env_clear()
            .env("HOME", &self.folder)
            .output()
            .unwrap()
    }

    /// Runs kubectl as a user and returns its stdout. It must succeed.
    pub(crate) fn kubectl(&self, user: &str, args: &[&str]) -> String {
        let output = self.output(user, args);
        assert!(output.status.success(), "kubectl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Applies a manifest as a user.
    pub(crate) fn apply(&self, user: &str, manifest: &str) {
        let path = self.folder.join(format!("manifest-{user}.yaml").replace(':', "-"));
        std::fs::write(&path, manifest).unwrap();
        self.kubectl(user, &["apply", "-f", path.to_str().unwrap()]);
    }

    /// Runs a shell command in which kubectl uses this server as `user`.
    pub(crate) fn shell(&self, user: &str, command: &str) -> Output {
        let flags = self.flags(user).join(" ");
        let script =
            format!("kubectl() {{ '{}' {flags} \"$@\"; }}\n{command}\n", self.assets.join("kubectl").display());
        Command::new("sh").args(["-c", &script]).env_clear().env("HOME", &self.folder).output().unwrap()
    }

    fn flags(&self, user: &str) -> Vec<String> {
        let server = format!("--server=https://127.0.0.1:{}", self.port);
        vec![server, format!("--token={}", token(user)), "--insecure-skip-tls-verify".into()]
    }

    /// Writes a kubeconfig for a user.
    pub(crate) fn kubeconfig(&self, user: &str) -> PathBuf {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: t\n\
             clusters: [{{name: t, cluster: {{server: 'https://127.0.0.1:{}', insecure-skip-tls-verify: true}}}}]\n\
             contexts: [{{name: t, context: {{cluster: t, user: t}}}}]\nusers: [{{name: t, user: {{token: {}}}}}]\n",
            self.port,
            token(user)
        );
        let path = self.folder.join(format!("kubeconfig-{user}").replace(':', "-"));
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.halt();
        if let Some(etcd) = &mut self.etcd {
            drop(etcd.kill());
            drop(etcd.wait());
        }
        if !std::thread::panicking() {
            drop(std::fs::remove_dir_all(&self.folder));
        }
    }
}

/// Starts etcd and waits until it listens. Returns `None` if another program uses one of its ports.
fn start_etcd(assets: &Path, folder: &Path) -> Option<(Child, u16)> {
    let (port, peer) = (free_port(), free_port());
    drop(std::fs::remove_file(folder.join("etcd.log")));
    let mut etcd = Command::new(assets.join("etcd"))
        .args(["--data-dir", folder.join("etcd").to_str().unwrap(), "--unsafe-no-fsync"])
        .arg(format!("--listen-client-urls=http://127.0.0.1:{port}"))
        .arg(format!("--advertise-client-urls=http://127.0.0.1:{port}"))
        .arg(format!("--listen-peer-urls=http://127.0.0.1:{peer}"))
        .arg(format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"))
        .arg(format!("--initial-cluster=default=http://127.0.0.1:{peer}"))
        .stdout(Stdio::null())
        .stderr(log(folder, "etcd.log"))
        .spawn()
        .unwrap();
    let started = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        let log = || std::fs::read_to_string(folder.join("etcd.log")).unwrap();
        if etcd.try_wait().unwrap().is_some() {
            assert!(lost_its_port(&folder.join("etcd.log")), "etcd ended: {}", log());
            drop(std::fs::remove_dir_all(folder.join("etcd")));
            return None;
        }
        assert!(started.elapsed() < Duration::from_secs(180), "etcd does not listen: {}", log());
        pause(50);
    }
    Some((etcd, port))
}

fn token(user: &str) -> String {
    format!("token-{}", user.replace(':', "-"))
}

fn log(folder: &Path, name: &str) -> File {
    std::fs::OpenOptions::new().create(true).append(true).open(folder.join(name)).unwrap()
}
