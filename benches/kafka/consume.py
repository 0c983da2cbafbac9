#!/usr/bin/env python3
"""Reads a topic from its beginning with `editwar serve`, and the same log as a tailed file: events and CPU time, with and
without a journal. Starts a Kafka broker with four partitions.

  benches/kafka/consume.py EDITWAR LOG [ROUNDS [NAME…]]

LOG has an audit event on each line: `cargo bench --bench generate -- 512MiB metadata audit.log`. EDITWAR is a build with the feature
`kafka`. NAME is one of the printed names; default: all.
"""
import pathlib, signal, statistics, subprocess, sys, time

from broker import PORT, QUIET, Broker, cpu, memory, metrics, total

editwar, log, rounds = sys.argv[1], pathlib.Path(sys.argv[2]).resolve(), int(sys.argv[3]) if len(sys.argv) > 3 else 3
TOPIC = "audit"


def run(arguments, expected):
    """Returns seconds of wall clock and of CPU from the first event to the last one."""
    port = 28080
    server = subprocess.Popen([editwar, "serve", "--listen", f"127.0.0.1:{port}", "--webhook-listen", "127.0.0.1:28443", *arguments], **QUIET)
    while not (first := total(metrics(port), "editwar_events_total")):
        time.sleep(0.02)
    began, used = time.monotonic(), cpu(server.pid)
    while (now := total(metrics(port), "editwar_events_total")) < expected:
        time.sleep(0.05)
    seconds, used = time.monotonic() - began, cpu(server.pid) - used
    most = memory(server.pid)
    server.send_signal(signal.SIGTERM)
    server.wait()
    return (now - first) / seconds, (now - first) / used, most


with Broker() as broker:
    count = sum(chunk.count(b"\n") for chunk in iter(lambda f=open(log, "rb"): f.read(1 << 20), b""))
    began = time.monotonic()
    with open(log, "rb") as lines:
        subprocess.run(broker.java("org.apache.kafka.tools.ConsoleProducer", "--bootstrap-server", f"127.0.0.1:{PORT}", "--topic", TOPIC, "--compression-codec", "lz4",
                            "--batch-size", "262144", "--producer-property", "linger.ms=20"), stdin=lines, check=True, **QUIET)
    print(f"{count} events, {log.stat().st_size / 1e6:.0f} MB, produced in {time.monotonic() - began:.0f} s")
    topic = ["--set", f'kafka.brokers=["127.0.0.1:{PORT}"]', "--set", f"kafka.topics={{{TOPIC}: ''}}"]
    found = {}
    # Reads that change nothing are counted, too; the generator writes none twice.
    for number in range(rounds):
        for name, of in [("kafka", topic + ["--set", f"kafka.group=g{number}"]), ("tail", ["--tail", str(log)]),
                         ("kafka, journal", topic + ["--set", f"kafka.group=j{number}", "--journal", str(broker.work / f"kafka-{number}")]),
                         ("tail, journal", ["--tail", str(log), "--journal", str(broker.work / f"tail-{number}")])]:
            if sys.argv[4:] and name not in sys.argv[4:]:
                continue
            found.setdefault(name, []).append(run(of, 0.999 * count))
    for name, results in found.items():
        rates, per_cpu, most = ([r[i] for r in results] for i in range(3))
        print(f"{name:15} {statistics.median(rates):9.0f} events/s, {statistics.median(per_cpu):9.0f} events per CPU second, at most {max(most):.0f} MiB")
