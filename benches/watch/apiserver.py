#!/usr/bin/env python3
"""CPU time of a real kube-apiserver with and without `editwar watch -A`, at a fixed rate of writes: PUTs of 2,000 ConfigMaps over
kept connections, in rounds that alternate.

  benches/watch/apiserver.py EDITWAR BINARIES [RATE] [ROUNDS] [SECONDS]

BINARIES is the folder that tests/controlplane/build prints.
"""
import pathlib, statistics, subprocess, sys, time

from controlplane import QUIET, ControlPlane, cpu, write

editwar, binaries = sys.argv[1], pathlib.Path(sys.argv[2])
rate, rounds, seconds = (int(given) for given in (sys.argv[3:] + ["500", "3", "60"][len(sys.argv) - 3:]))


def measure(plane, watched):
    """Returns the writes, and the CPU seconds of kube-apiserver and of editwar."""
    watch = subprocess.Popen([editwar, "watch", "-A", "-o", "jsonl", "--kubeconfig", plane.kubeconfig], **QUIET) if watched else None
    time.sleep(10)
    before, own = cpu(plane.server.pid), cpu(watch.pid) if watch else 0
    writes = write(rate, seconds)
    used, own = cpu(plane.server.pid) - before, (cpu(watch.pid) - own) if watch else 0
    if watch:
        watch.kill()
        watch.wait()
    return writes, used, own


with ControlPlane(binaries) as plane:
    measure(plane, False)  # to warm up
    found = {False: [], True: []}
    for _ in range(rounds):
        for watched in found:
            found[watched].append(measure(plane, watched))
            print("with a watch" if watched else "without", *(f"{value:.2f}" for value in found[watched][-1]), flush=True)
    alone, both = (statistics.median(used for _, used, _ in found[watched]) for watched in (False, True))
    writes = statistics.median(count for count, _, _ in found[False] + found[True]) / seconds
    print(f"{writes:.0f} writes/s: kube-apiserver {alone / seconds:.3f} cores without, {both / seconds:.3f} with a watch ({(both / alone - 1) * 100:+.1f} %)")
