#!/usr/bin/env python3
"""What an audit policy costs a real kube-apiserver: CPU time, memory, and bytes of the log for each write, at each level and with the
policy of `editwar setup policy`, to a file and to the webhook of editwar. PUTs of 2,000 ConfigMaps at a fixed rate.

  benches/watch/policy.py EDITWAR BINARIES [RATE] [ROUNDS] [SECONDS]

BINARIES is the folder that tests/controlplane/build prints.
"""
import pathlib, statistics, subprocess, sys, tempfile, time

from controlplane import QUIET, ControlPlane, cpu, memory, write

editwar, binaries = sys.argv[1], pathlib.Path(sys.argv[2])
rate, rounds, seconds = (int(given) for given in (sys.argv[3:] + ["200", "3", "30"][len(sys.argv) - 3:]))
work = pathlib.Path(tempfile.mkdtemp(prefix="editwar-policy-"))
LISTEN, WEBHOOK = "127.0.0.1:28080", "127.0.0.1:28443"
LEVEL = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: %s}]\n"
policies = {level: LEVEL % level for level in ("Metadata", "Request", "RequestResponse")}
policies["editwar's"] = subprocess.run([editwar, "setup", "policy"], capture_output=True, text=True, check=True).stdout
(work / "webhook.yaml").write_text(f"""apiVersion: v1
kind: Config
clusters: [{{name: editwar, cluster: {{server: "http://{WEBHOOK}/audit"}}}}]
contexts: [{{name: editwar, context: {{cluster: editwar, user: ""}}}}]
current-context: editwar
""")


def measure(name, to_webhook):
    """Returns CPU seconds and memory of kube-apiserver, bytes of the log for a write, and CPU seconds of editwar."""
    flags, log, sink = [], work / "audit.log", None
    log.unlink(missing_ok=True)
    if name != "none":
        policy = work / "policy.yaml"
        policy.write_text(policies[name])
        flags.append(f"--audit-policy-file={policy}")
        if to_webhook:
            flags.append(f"--audit-webhook-config-file={work / 'webhook.yaml'}")
            sink = subprocess.Popen([editwar, "serve", "--listen", LISTEN, "--webhook-listen", WEBHOOK], **QUIET)
        else:
            flags.append(f"--audit-log-path={log}")
    size = lambda: log.stat().st_size if log.exists() else 0
    try:
        with ControlPlane(binaries, flags) as plane:
            write(rate, 5)  # to warm up
            time.sleep(2)
            used, bytes_before, own = cpu(plane.server.pid), size(), cpu(sink.pid) if sink else 0
            writes = write(rate, seconds)
            time.sleep(2)
            return (cpu(plane.server.pid) - used) / seconds, memory(plane.server.pid), (size() - bytes_before) / writes, ((cpu(sink.pid) - own) / seconds) if sink else 0, writes / seconds
    finally:
        if sink:
            sink.kill()
            sink.wait()


runs = [("none", False), *((name, False) for name in policies), ("editwar's", True)]
found = {run: [] for run in runs}
for _ in range(rounds):
    for run in runs:
        found[run].append(measure(*run))
        print(*run, *(f"{value:.3f}" for value in found[run][-1]), flush=True)
for (name, to_webhook), results in found.items():
    cores, resident, size, own, writes = (statistics.median(result[i] for result in results) for i in range(5))
    print(f"{name:16} {'webhook' if to_webhook else 'file':8} {cores:.3f} cores, {resident:.0f} MiB, {size:.0f} bytes a write, editwar {own:.3f} cores, at {writes:.0f} writes/s")
