"""Some minutes of war: recordings are posted, or logged, as clusters that do so now; users of a live API server fight its Golden State."""
import datetime, gzip, http.client, json, subprocess, sys, threading, time

scratch, webhook, kubectl, minutes = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
begin = time.time()
end = begin + 60 * minutes

def wait(share):
    """Until this share of the time is over; whether that is before the end."""
    time.sleep(max(0, min(end, begin + share * (end - begin)) - time.time()))
    return time.time() < end

def post(source, path, body, kind="application/json"):
    link = http.client.HTTPConnection("127.0.0.1", webhook, timeout=30, source_address=(source, 0))
    link.request("POST", path, body, {"Content-Type": kind})
    status = link.getresponse().status
    link.close()
    return status

def posted(cluster, source):
    def sink(events):
        body = {"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": events}
        status = post(source, f"/audit/{cluster}", json.dumps(body).encode())
        if status != 200:
            print(f"{cluster}: {status}", file=sys.stderr)
    return sink

def logged(events):
    with open(f"{scratch}/audit.log", "a") as log:
        log.writelines(json.dumps(event) + "\n" for event in events)

def replay(number, recording, sink, since, till):
    """A recording, drawn out or together to last from one share of the time to another, in batches."""
    parse = lambda event, key: datetime.datetime.fromisoformat(event[key].replace("Z", "+00:00")).timestamp()
    with gzip.open(f"fixtures/recordings/{recording}/audit.log.gz", "rt") as log:
        events = sorted((e for e in map(json.loads, log) if "stageTimestamp" in e), key=lambda e: e["stageTimestamp"])
    first, last = (parse(events[at], "stageTimestamp") for at in (0, -1))
    at = lambda then: begin + (end - begin) * (since + (till - since) * (then - first) / (last - first))
    for event in events:
        event["auditID"] = f"{number:04x}{event['auditID'][4:]}"
        for key in ("requestReceivedTimestamp", "stageTimestamp"):
            now = datetime.datetime.fromtimestamp(at(parse(event, key)), datetime.timezone.utc)
            event[key] = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    wait(since)
    while events and time.time() < end:
        time.sleep(2)
        due = sum(parse(event, "stageTimestamp") <= time.time() for event in events)
        if due:
            sink(events[:due])
        events = events[due:]

def run(user, *arguments):
    command = [kubectl, "--kubeconfig", f"{scratch}/{user}", "-n", "shop", *arguments]
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={"HOME": scratch})

def live():
    """An autoscaler against the Golden State's replicas, later a person against its configuration; overrides meanwhile."""
    patch = lambda user, what, values: run(user, "patch", *what.split("/"), "--type=merge", "-p", json.dumps(values))
    run("admin", "create", "configmap", "clock")
    tick = 0
    while time.time() < end:
        tick += 1
        patch("bob", "configmap/clock", {"data": {"tick": str(tick)}})
        share = (time.time() - begin) / (end - begin)
        if tick == 10:
            run("alice", "annotate", "configmap", "banner", "platform.kubevirt.io/ignore=data.mode")
            run("bob", "annotate", "configmap", "prices", "platform.kubevirt.io/mode=unmanaged")
        if share > 0.2:
            patch("hpa", "deployment/web", {"spec": {"replicas": 5}})
        if 0.45 < share < 0.8:
            patch("alice", "configmap/features", {"data": {"mode": "lax"}})
        time.sleep(3)

def faults():
    """What is no audit event, and what is no path."""
    for share in (0.35, 0.5, 0.7):
        wait(share)
        post("127.0.0.3", "/audit/west", b"not json")
        post("127.0.0.3", "/audit/west", b'{"kind":"EventList","items":[{"kind":"Event","auditID":7},{"hello":1}]}')
        post("127.0.0.3", "/audit/west", b'{"kind":"EventList","items":[{"kind":"Event","auditID":"x","verb":"upd')
        post("127.0.0.3", "/audit/too/long", b"{}")

plan = [
    ("hpa-vs-applier", posted("east", "127.0.0.2"), 0.05, 0.5),
    ("gitops-vs-kubectl", posted("east", "127.0.0.2"), 0.15, 0.6),
    ("oddities", posted("west", "127.0.0.3"), 0.25, 0.85),
    ("conflict-storm", posted("west", "127.0.0.3"), 0.4, 0.75),
    ("flapping-webhook", logged, 0.1, 1),
]
threads = [threading.Thread(target=replay, args=(number, *part), daemon=True) for number, part in enumerate(plan)]
threads += [threading.Thread(target=what, daemon=True) for what in (live, faults)]
for thread in threads:
    thread.start()
wait(1)
