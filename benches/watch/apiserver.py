#!/usr/bin/env python3
"""CPU time of a real kube-apiserver with and without `editwar watch -A`, at a fixed rate of writes: PUTs of 2,000 ConfigMaps over
kept connections, in rounds that alternate.

  benches/watch/apiserver.py EDITWAR BINARIES [RATE] [ROUNDS] [SECONDS]

BINARIES is the folder that tests/controlplane/build prints.
"""
import http.client, json, multiprocessing, os, pathlib, shutil, ssl, statistics, subprocess, sys, tempfile, time

editwar, binaries = sys.argv[1], pathlib.Path(sys.argv[2])
rate, rounds, seconds = (int(given) for given in (sys.argv[3:] + ["500", "3", "60"][len(sys.argv) - 3:]))
OBJECTS, CLIENTS = 2000, 4
API, ETCD, PEER = 26443, 22379, 22380
work = pathlib.Path(tempfile.mkdtemp(prefix="editwar-apiserver-"))
TICKS = os.sysconf("SC_CLK_TCK")
tls = ssl._create_unverified_context()
HEADERS = {"Authorization": "Bearer secret", "Content-Type": "application/json"}
subprocess.run(f"cd {work} && openssl genrsa -out sa.key 2048 && openssl rsa -in sa.key -pubout -out sa.pub", shell=True, check=True, capture_output=True)
(work / "tokens.csv").write_text('secret,admin,admin,"system:masters"\n')
(work / "kubeconfig").write_text(json.dumps({
    "apiVersion": "v1", "kind": "Config", "current-context": "t",
    "clusters": [{"name": "t", "cluster": {"server": f"https://127.0.0.1:{API}", "insecure-skip-tls-verify": True}}],
    "contexts": [{"name": "t", "context": {"cluster": "t", "user": "t"}}], "users": [{"name": "t", "user": {"token": "secret"}}]}))
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
etcd = subprocess.Popen([binaries / "etcd", "--data-dir", work / "etcd", "--unsafe-no-fsync", f"--listen-client-urls=http://127.0.0.1:{ETCD}",
    f"--advertise-client-urls=http://127.0.0.1:{ETCD}", f"--listen-peer-urls=http://127.0.0.1:{PEER}",
    f"--initial-advertise-peer-urls=http://127.0.0.1:{PEER}", f"--initial-cluster=default=http://127.0.0.1:{PEER}"], **quiet)
server = subprocess.Popen([binaries / "kube-apiserver", f"--etcd-servers=http://127.0.0.1:{ETCD}", f"--secure-port={API}", "--bind-address=127.0.0.1",
    "--service-cluster-ip-range=10.0.0.0/24", f"--cert-dir={work}/certs", f"--token-auth-file={work}/tokens.csv", "--authorization-mode=RBAC",
    "--service-account-issuer=https://editwar.test", f"--service-account-key-file={work}/sa.pub", f"--service-account-signing-key-file={work}/sa.key",
    "--disable-admission-plugins=ServiceAccount", "--profiling=false"], **quiet)


def request(connection, method, path, body=None):
    connection.request(method, path, json.dumps(body) if body else None, HEADERS)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def connect():
    return http.client.HTTPSConnection("127.0.0.1", API, context=tls)


def configmap(number, value):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"c{number}", "namespace": "default", "labels": {"app": "bench", "tier": "x"}},
            "data": {**{f"k{i}": "v" for i in range(7)}, "value": str(value)}}


def client(index, until, counts):
    """Writes at its share of the rate."""
    connection, done, began = connect(), 0, time.monotonic()
    while time.monotonic() < until:
        wait = began + done * CLIENTS / rate - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        number = (index + done * CLIENTS) % OBJECTS
        assert request(connection, "PUT", f"/api/v1/namespaces/default/configmaps/c{number}?fieldManager=bench", configmap(number, time.time())) == 200
        done += 1
    counts[index] = done


def cpu(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def measure(watched):
    """Returns the writes, and the CPU seconds of kube-apiserver and of editwar."""
    watch = subprocess.Popen([editwar, "watch", "-A", "-o", "jsonl", "--kubeconfig", work / "kubeconfig"], **quiet) if watched else None
    time.sleep(10)
    counts, until = multiprocessing.Array("i", CLIENTS), time.monotonic() + seconds
    before, own = cpu(server.pid), cpu(watch.pid) if watch else 0
    clients = [multiprocessing.Process(target=client, args=(index, until, counts)) for index in range(CLIENTS)]
    [process.start() for process in clients]
    [process.join() for process in clients]
    used, own = cpu(server.pid) - before, (cpu(watch.pid) - own) if watch else 0
    if watch:
        watch.kill()
        watch.wait()
    return sum(counts), used, own


try:
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
    measure(False)  # to warm up
    found = {False: [], True: []}
    for _ in range(rounds):
        for watched in found:
            found[watched].append(measure(watched))
            print("with a watch" if watched else "without", *(f"{value:.2f}" for value in found[watched][-1]), flush=True)
    alone, both = (statistics.median(used for _, used, _ in found[watched]) for watched in (False, True))
    writes = statistics.median(count for count, _, _ in found[False] + found[True]) / seconds
    print(f"{writes:.0f} writes/s: kube-apiserver {alone / seconds:.3f} cores without, {both / seconds:.3f} with a watch ({(both / alone - 1) * 100:+.1f} %)")
finally:
    server.kill()
    etcd.kill()
    shutil.rmtree(work, ignore_errors=True)
