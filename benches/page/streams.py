#!/usr/bin/env python3
"""CPU and memory of a server that takes in events as fast as one client can send them, with and without open pages.

  benches/page/streams.py EDITWAR [PAGES] [EVENTS]

Each page is the stream that the page reads. The wars of benches/page/wars.py go on in the meantime.
"""
import datetime, http.client, json, os, subprocess, sys, threading, time

editwar, pages, count = sys.argv[1], int((sys.argv + [100])[2]) if len(sys.argv) > 2 else 100, int(sys.argv[3]) if len(sys.argv) > 3 else 1_000_000
HERE = os.path.dirname(__file__)
API, WEBHOOK = 18880, 18881
BATCH = 400


def batches(name):
    """Events at level Metadata about 20,000 objects, as bodies of requests."""
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
    for start in range(0, count, BATCH):
        items = [{"kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": f"{name}-{n}", "stage": "ResponseComplete",
                  "requestURI": f"/api/v1/namespaces/n-{n % 100}/pods/p-{n % 20000}/status", "verb": "patch",
                  "user": {"username": f"system:node:node-{n % 200}", "groups": ["system:nodes", "system:authenticated"]},
                  "sourceIPs": ["10.0.0.1"], "userAgent": "kubelet/v1.36.1 (linux/amd64) kubernetes/abcdef0",
                  "objectRef": {"resource": "pods", "namespace": f"n-{n % 100}", "name": f"p-{n % 20000}", "apiVersion": "v1", "subresource": "status"},
                  "responseStatus": {"metadata": {}, "code": 200}, "requestReceivedTimestamp": now, "stageTimestamp": now,
                  "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""}} for n in range(start, start + BATCH)]
        yield json.dumps({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": items}).encode()


def read(received):
    connection = http.client.HTTPConnection("127.0.0.1", API)
    connection.request("GET", "/api/v1/overview?watch=true")
    answer = connection.getresponse()
    try:
        while data := answer.read1(1 << 16):
            received[0] += len(data)
    except (OSError, ValueError, http.client.HTTPException):
        pass


def measure(open_pages):
    server = subprocess.Popen([editwar, "serve", "--listen", f"127.0.0.1:{API}", "--webhook-listen", f"127.0.0.1:{WEBHOOK}"],
                              stderr=subprocess.DEVNULL)
    try:
        time.sleep(2)
        webhook = f"http://127.0.0.1:{WEBHOOK}/audit"
        feed = subprocess.Popen([sys.executable, f"{HERE}/wars.py", "100", webhook, "600"])
        time.sleep(5)
        received = [0]
        for _ in range(open_pages):
            threading.Thread(target=read, args=(received,), daemon=True).start()
        bodies = list(batches(f"b{open_pages}"))
        ticks = lambda: sum(map(int, open(f"/proc/{server.pid}/stat").read().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")
        before, started, bytes_before = ticks(), time.monotonic(), received[0]
        connection = http.client.HTTPConnection("127.0.0.1", WEBHOOK)
        for body in bodies:
            connection.request("POST", "/audit", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
        took, used = time.monotonic() - started, ticks() - before
        memory = next(int(line.split()[1]) for line in open(f"/proc/{server.pid}/status") if line.startswith("VmRSS")) / 1024
        feed.kill()
        print(f"{open_pages} pages: {count / took:,.0f} events/s for {took:.1f} s, {used:.2f} CPU-seconds "
              f"({1e6 * used / count:.2f} µs an event), {memory:.0f} MiB, {(received[0] - bytes_before) / max(open_pages, 1) / took / 1e3:.1f} kB/s a page", flush=True)
    finally:
        server.kill()
        server.wait()


for _ in range(3):
    measure(0)
    measure(pages)
