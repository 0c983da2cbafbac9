#!/usr/bin/env python3
"""Reads a topic from its beginning with `editwar serve`, and the same log as a tailed file: events and CPU time, with and
without a journal. Starts a Kafka broker with four partitions.

  benches/kafka/consume.py EDITWAR LOG [ROUNDS [NAME…]]

LOG has an audit event on each line: `cargo bench --bench generate -- 512MiB metadata audit.log`. EDITWAR is a build with the feature
`kafka`. NAME is one of the printed names; default: all.
"""
import os, pathlib, re, shutil, signal, statistics, subprocess, sys, tempfile, time, urllib.request

editwar, log, rounds = sys.argv[1], pathlib.Path(sys.argv[2]).resolve(), int(sys.argv[3]) if len(sys.argv) > 3 else 3
root = pathlib.Path(__file__).resolve().parents[2]
jars = subprocess.run([root / "tests/kafka/fetch"], capture_output=True, text=True, check=True).stdout.strip() + "/*"
work = pathlib.Path(tempfile.mkdtemp(prefix="editwar-kafka-"))
PORT, CONTROLLER, TOPIC = 29092, 29093, "audit"
TICKS = os.sysconf("SC_CLK_TCK")


def java(*arguments, **options):
    return ["java", "-Xmx512m", "-cp", jars, *arguments]


(work / "server.properties").write_text(f"""process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{PORT},CONTROLLER://127.0.0.1:{CONTROLLER}
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:{CONTROLLER}
log.dirs={work}/data
num.partitions=4
group.initial.rebalance.delay.ms=0
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
""")
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
subprocess.run(java("kafka.tools.StorageTool", "format", "--standalone", "-t", "AAAAAAAAAAAAAAAAAAAAAA", "-c", str(work / "server.properties")), check=True, **quiet)
broker_log = open(work / "broker.log", "w")
broker = subprocess.Popen(java("kafka.Kafka", str(work / "server.properties")), stdout=broker_log, stderr=broker_log)


def events(port):
    try:
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    except OSError:
        return 0
    return sum(float(n) for n in re.findall(r"^editwar_events_total\{.*\} (\S+)$", text, re.M))


def cpu(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def run(arguments, expected):
    """Returns seconds of wall clock and of CPU from the first event to the last one."""
    port = 28080
    server = subprocess.Popen([editwar, "serve", "--listen", f"127.0.0.1:{port}", "--webhook-listen", "127.0.0.1:28443", *arguments], **quiet)
    while not (first := events(port)):
        time.sleep(0.02)
    began, used = time.monotonic(), cpu(server.pid)
    while (now := events(port)) < expected:
        time.sleep(0.05)
    seconds, used = time.monotonic() - began, cpu(server.pid) - used
    memory = int(re.search(r"VmHWM:\s+(\d+)", open(f"/proc/{server.pid}/status").read())[1]) / 1024
    server.send_signal(signal.SIGTERM)
    server.wait()
    return (now - first) / seconds, (now - first) / used, memory


try:
    while "Kafka Server started" not in (work / "broker.log").read_text():
        time.sleep(0.2)
    count = sum(chunk.count(b"\n") for chunk in iter(lambda f=open(log, "rb"): f.read(1 << 20), b""))
    began = time.monotonic()
    with open(log, "rb") as lines:
        subprocess.run(java("org.apache.kafka.tools.ConsoleProducer", "--bootstrap-server", f"127.0.0.1:{PORT}", "--topic", TOPIC, "--compression-codec", "lz4",
                            "--batch-size", "262144", "--producer-property", "linger.ms=20"), stdin=lines, check=True, **quiet)
    print(f"{count} events, {log.stat().st_size / 1e6:.0f} MB, produced in {time.monotonic() - began:.0f} s")
    topic = ["--set", f'kafka.brokers=["127.0.0.1:{PORT}"]', "--set", f"kafka.topics={{{TOPIC}: ''}}"]
    found = {}
    # Reads that change nothing are counted, too; the generator writes none twice.
    for number in range(rounds):
        for name, of in [("kafka", topic + ["--set", f"kafka.group=g{number}"]), ("tail", ["--tail", str(log)]),
                         ("kafka, journal", topic + ["--set", f"kafka.group=j{number}", "--journal", str(work / f"kafka-{number}")]),
                         ("tail, journal", ["--tail", str(log), "--journal", str(work / f"tail-{number}")])]:
            if sys.argv[4:] and name not in sys.argv[4:]:
                continue
            found.setdefault(name, []).append(run(of, 0.999 * count))
    for name, results in found.items():
        rates, per_cpu, memory = ([r[i] for r in results] for i in range(3))
        print(f"{name:15} {statistics.median(rates):9.0f} events/s, {statistics.median(per_cpu):9.0f} events per CPU second, at most {max(memory):.0f} MiB")
finally:
    broker.kill()
    shutil.rmtree(work, ignore_errors=True)
