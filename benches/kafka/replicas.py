#!/usr/bin/env python3
"""Posts a log to `editwar serve` as kube-apiserver does, in batches of 400 over four connections, and measures how fast the batches are
acknowledged and the CPU time of the server: without a journal, with a journal on disk, with a log on Kafka, and with both. Then kills
the leader of two replicas, and measures how long it takes until the other one leads. Starts a Kafka broker.

  benches/kafka/replicas.py EDITWAR LOG [ROUNDS]

LOG has an audit event on each line: `cargo bench --bench generate -- 200MiB metadata audit.log`. EDITWAR is a build with the feature
`kafka`.
"""
import http.client, os, pathlib, re, shutil, signal, statistics, subprocess, sys, tempfile, threading, time, urllib.request

editwar, log, rounds = sys.argv[1], pathlib.Path(sys.argv[2]).resolve(), int(sys.argv[3]) if len(sys.argv) > 3 else 3
root = pathlib.Path(__file__).resolve().parents[2]
jars = subprocess.run([root / "tests/kafka/fetch"], capture_output=True, text=True, check=True).stdout.strip() + "/*"
work = pathlib.Path(tempfile.mkdtemp(prefix="editwar-replicas-"))
PORT, CONTROLLER, CONNECTIONS = 29092, 29093, 4
TICKS = os.sysconf("SC_CLK_TCK")
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

(work / "server.properties").write_text(f"""process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{PORT},CONTROLLER://127.0.0.1:{CONTROLLER}
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:{CONTROLLER}
log.dirs={work}/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
""")


def java(*arguments):
    return ["java", "-Xmx512m", "-cp", jars, *arguments]


def metrics(port):
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    except OSError:
        return ""


def total(text, name):
    return sum(float(n) for n in re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.M))


def cpu(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def start(number, arguments):
    server = subprocess.Popen([editwar, "serve", "--listen", f"127.0.0.1:{28080 + number}", "--webhook-listen", f"127.0.0.1:{28443 + number}", *arguments], **quiet)
    while True:
        try:
            if urllib.request.urlopen(f"http://127.0.0.1:{28080 + number}/readyz", timeout=5).status == 200:
                return server
        except OSError:
            time.sleep(0.05)


def post(bodies):
    connection = http.client.HTTPConnection("127.0.0.1", 28443)
    while True:
        try:
            body = bodies.pop()
        except IndexError:
            return
        while True:
            connection.request("POST", "/audit", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                break
            time.sleep(0.05)


def run(arguments, bodies, count):
    """Returns acknowledged events a second, events per CPU second, seconds until all are observed, and MiB at most."""
    server = start(0, arguments)
    bodies = list(reversed(bodies))
    used, began = cpu(server.pid), time.monotonic()
    threads = [threading.Thread(target=post, args=(bodies,)) for _ in range(CONNECTIONS)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    seconds = time.monotonic() - began
    while total(metrics(28080), "editwar_events_total") < 0.999 * count:
        time.sleep(0.02)
    observed, used = time.monotonic() - began, cpu(server.pid) - used
    memory = int(re.search(r"VmHWM:\s+(\d+)", open(f"/proc/{server.pid}/status").read())[1]) / 1024
    server.send_signal(signal.SIGTERM)
    server.wait()
    return count / seconds, count / used, observed - seconds, memory


def takeover(kafka):
    """Returns how long two replicas are without a leader after it was killed."""
    servers = [start(number, kafka) for number in (0, 1)]
    leads = lambda number: total(metrics(28080 + number), "editwar_log_leader") == 1
    while not any(map(leads, (0, 1))):
        time.sleep(0.1)
    leader = 0 if leads(0) else 1
    servers[leader].kill()
    began = time.monotonic()
    while not leads(1 - leader):
        time.sleep(0.05)
    servers[1 - leader].kill()
    return time.monotonic() - began


subprocess.run(java("kafka.tools.StorageTool", "format", "--standalone", "-t", "AAAAAAAAAAAAAAAAAAAAAA", "-c", str(work / "server.properties")), check=True, **quiet)
broker_log = open(work / "broker.log", "w")
broker = subprocess.Popen(java("kafka.Kafka", str(work / "server.properties")), stdout=broker_log, stderr=broker_log)
try:
    while "Kafka Server started" not in (work / "broker.log").read_text():
        time.sleep(0.2)
    lines = log.read_bytes().splitlines()
    bodies = [b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[' + b",".join(lines[at:at + 400]) + b"]}" for at in range(0, len(lines), 400)]
    print(f"{len(lines)} events, {log.stat().st_size / 1e6:.0f} MB")
    kafka = lambda name: ["--set", f'kafka.brokers=["127.0.0.1:{PORT}"]', "--set", f"journal.kafka={{topic: {name}, transitions: null}}"]
    found = {}
    for number in range(rounds):
        for name, of in [("no journal", []), ("disk", ["--journal", str(work / f"disk-{number}")]), ("kafka", kafka(f"k{number}")),
                         ("kafka, and disk", kafka(f"d{number}") + ["--journal", str(work / f"both-{number}")])]:
            found.setdefault(name, []).append(run(of, bodies, len(lines)))
    for name, results in found.items():
        rates, per_cpu, behind, memory = ([r[i] for r in results] for i in range(4))
        print(f"{name:15} {statistics.median(rates):9.0f} events/s acknowledged, {statistics.median(per_cpu):9.0f} events per CPU second, "
              f"observed {statistics.median(behind):.2f} s later, at most {max(memory):.0f} MiB")
    takeovers = [takeover(kafka(f"t{number}")) for number in range(rounds)]
    print("seconds until another replica leads:", ", ".join(f"{seconds:.1f}" for seconds in takeovers))
finally:
    broker.kill()
    shutil.rmtree(work, ignore_errors=True)
