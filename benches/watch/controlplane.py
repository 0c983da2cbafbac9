"""What the benches with a real kube-apiserver share: etcd and an API server on loopback, and clients that write at a fixed rate."""
import http.client, json, multiprocessing, os, pathlib, shutil, ssl, subprocess, tempfile, time

OBJECTS, CLIENTS = 2000, 4
API, ETCD, PEER = 26443, 22379, 22380
TICKS = os.sysconf("SC_CLK_TCK")
TLS = ssl._create_unverified_context()
HEADERS = {"Authorization": "Bearer secret", "Content-Type": "application/json"}
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


class ControlPlane:
    """etcd and a kube-apiserver with these flags, with 2,000 ConfigMaps. `binaries` is the folder that tests/controlplane/build prints."""

    def __init__(self, binaries, flags=()):
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="editwar-apiserver-"))
        work = self.work
        subprocess.run(f"cd {work} && openssl genrsa -out sa.key 2048 && openssl rsa -in sa.key -pubout -out sa.pub", shell=True, check=True, capture_output=True)
        (work / "tokens.csv").write_text('secret,admin,admin,"system:masters"\n')
        self.kubeconfig = work / "kubeconfig"
        self.kubeconfig.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "t",
            "clusters": [{"name": "t", "cluster": {"server": f"https://127.0.0.1:{API}", "insecure-skip-tls-verify": True}}],
            "contexts": [{"name": "t", "context": {"cluster": "t", "user": "t"}}], "users": [{"name": "t", "user": {"token": "secret"}}]}))
        self.etcd = subprocess.Popen([binaries / "etcd", "--data-dir", work / "etcd", "--unsafe-no-fsync", f"--listen-client-urls=http://127.0.0.1:{ETCD}",
            f"--advertise-client-urls=http://127.0.0.1:{ETCD}", f"--listen-peer-urls=http://127.0.0.1:{PEER}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{PEER}", f"--initial-cluster=default=http://127.0.0.1:{PEER}"], **QUIET)
        self.server = subprocess.Popen([binaries / "kube-apiserver", f"--etcd-servers=http://127.0.0.1:{ETCD}", f"--secure-port={API}", "--bind-address=127.0.0.1",
            "--service-cluster-ip-range=10.0.0.0/24", f"--cert-dir={work}/certs", f"--token-auth-file={work}/tokens.csv", "--authorization-mode=RBAC",
            "--service-account-issuer=https://editwar.test", f"--service-account-key-file={work}/sa.pub", f"--service-account-signing-key-file={work}/sa.key",
            "--disable-admission-plugins=ServiceAccount", "--profiling=false", *flags], **QUIET)

    def __enter__(self):
        while True:
            try:
                if request(connect(), "GET", "/readyz") == 200:
                    break
            except OSError:
                pass
            time.sleep(0.5)
        connection = connect()
        for number in range(OBJECTS):
            assert request(connection, "POST", "/api/v1/namespaces/default/configmaps?fieldManager=bench", configmap(number, 0)) == 201
        return self

    def __exit__(self, *_):
        for process in (self.server, self.etcd):
            process.kill()
            process.wait()
        shutil.rmtree(self.work, ignore_errors=True)


def connect():
    return http.client.HTTPSConnection("127.0.0.1", API, context=TLS)


def request(connection, method, path, body=None):
    connection.request(method, path, json.dumps(body) if body else None, HEADERS)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def configmap(number, value):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"c{number}", "namespace": "default", "labels": {"app": "bench", "tier": "x"}},
            "data": {**{f"k{i}": "v" for i in range(7)}, "value": str(value)}}


def client(index, rate, until, counts):
    connection, done, began = connect(), 0, time.monotonic()
    while time.monotonic() < until:
        wait = began + done * CLIENTS / rate - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        number = (index + done * CLIENTS) % OBJECTS
        assert request(connection, "PUT", f"/api/v1/namespaces/default/configmaps/c{number}?fieldManager=bench", configmap(number, time.time())) == 200
        done += 1
    counts[index] = done


def write(rate, seconds):
    """Writes from several clients at this rate. Returns the number of writes."""
    counts, until = multiprocessing.Array("i", CLIENTS), time.monotonic() + seconds
    clients = [multiprocessing.Process(target=client, args=(index, rate, until, counts)) for index in range(CLIENTS)]
    [process.start() for process in clients]
    [process.join() for process in clients]
    return sum(counts)


def cpu(pid):
    """Seconds of CPU time of a process so far."""
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory(pid):
    """The resident memory of a process, in MiB."""
    return next(int(line.split()[1]) for line in open(f"/proc/{pid}/status") if line.startswith("VmRSS")) / 1024
