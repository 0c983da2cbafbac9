#!/usr/bin/env python3
"""Posts a log to `editwar serve` as kube-apiserver does, in batches of 400 over four connections, and measures how fast the batches are
acknowledged and the CPU time of the server: without a journal, with a journal on disk, with a log on Kafka, and with both. Then kills
the leader of two replicas, and measures how long it takes until the other one leads. Starts a Kafka broker.

  benches/kafka/replicas.py EDITWAR LOG [ROUNDS]

LOG has an audit event on each line: `cargo bench --bench generate -- 200MiB metadata audit.log`. EDITWAR is a build with the feature
`kafka`.
"""
import http.client, pathlib, signal, statistics, subprocess, sys, threading, time, urllib.request

from broker import PORT, QUIET, Broker, cpu, memory, metrics, total

editwar, log, rounds = sys.argv[1], pathlib.Path(sys.argv[2]).resolve(), int(sys.argv[3]) if len(sys.argv) > 3 else 3
CONNECTIONS = 4


def start(number, arguments):
    server = subprocess.Popen([editwar, "serve", "--listen", f"127.0.0.1:{28080 + number}", "--webhook-listen", f"127.0.0.1:{28443 + number}", *arguments], **QUIET)
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
    most = memory(server.pid)
    server.send_signal(signal.SIGTERM)
    server.wait()
    return count / seconds, count / used, observed - seconds, most


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


with Broker() as broker:
    lines = log.read_bytes().splitlines()
    bodies = [b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[' + b",".join(lines[at:at + 400]) + b"]}" for at in range(0, len(lines), 400)]
    print(f"{len(lines)} events, {log.stat().st_size / 1e6:.0f} MB")
    kafka = lambda name: ["--set", f'kafka.brokers=["127.0.0.1:{PORT}"]', "--set", f"journal.kafka={{topic: {name}, transitions: null}}"]
    found = {}
    for number in range(rounds):
        for name, of in [("no journal", []), ("disk", ["--journal", str(broker.work / f"disk-{number}")]), ("kafka", kafka(f"k{number}")),
                         ("kafka, and disk", kafka(f"d{number}") + ["--journal", str(broker.work / f"both-{number}")])]:
            found.setdefault(name, []).append(run(of, bodies, len(lines)))
    for name, results in found.items():
        rates, per_cpu, behind, most = ([r[i] for r in results] for i in range(4))
        print(f"{name:15} {statistics.median(rates):9.0f} events/s acknowledged, {statistics.median(per_cpu):9.0f} events per CPU second, "
              f"observed {statistics.median(behind):.2f} s later, at most {max(most):.0f} MiB")
    takeovers = [takeover(kafka(f"t{number}")) for number in range(rounds)]
    print("seconds until another replica leads:", ", ".join(f"{seconds:.1f}" for seconds in takeovers))
