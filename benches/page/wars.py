#!/usr/bin/env python3
"""Posts COUNT wars to a webhook: ConfigMaps whose value two accounts take from each other, in 50 namespaces.

  benches/page/wars.py COUNT http://127.0.0.1:8443/audit [SECONDS]

With SECONDS, goes on for so long after that: each second, a tenth of the objects is written again.
"""
import datetime, http.client, json, sys, time, urllib.parse

count, url = int(sys.argv[1]), urllib.parse.urlparse(sys.argv[2])
seconds = int(sys.argv[3]) if len(sys.argv) > 3 else 0
ROUNDS, BATCH = 14, 400
start = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=ROUNDS * 5)
BEGIN = start.timestamp()
connection = (http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection)(url.netloc)


def event(round, number):
    who = "system:serviceaccount:flux-system:kustomize-controller" if round % 2 else f"system:serviceaccount:team-{number % 7}:operator"
    at = (start + datetime.timedelta(seconds=round * 5, microseconds=number)).isoformat(timespec="microseconds").replace("+00:00", "Z")
    namespace, name = f"team-{number % 50}", f"settings-{number}"
    body = {"kind": "ConfigMap", "apiVersion": "v1", "data": {"mode": "on" if round % 2 else "off"},
            "metadata": {"name": name, "namespace": namespace, "uid": f"u-{number}", "resourceVersion": str(1 + round * count + number)}}
    return {"kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse", "auditID": f"{BEGIN}-{round}-{number}",
            "stage": "ResponseComplete", "requestURI": f"/api/v1/namespaces/{namespace}/configmaps/{name}", "verb": "create" if round == 0 else "update",
            "user": {"username": who}, "sourceIPs": ["10.0.0.1"], "userAgent": "bench", "responseStatus": {"code": 201 if round == 0 else 200},
            "objectRef": {"resource": "configmaps", "namespace": namespace, "name": name, "apiVersion": "v1"},
            "requestObject": body, "responseObject": body, "requestReceivedTimestamp": at, "stageTimestamp": at}


def post(events):
    body = json.dumps({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": events})
    connection.request("POST", url.path, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200, answer.status


waiting = []
for round in range(ROUNDS):
    for number in range(count):
        waiting.append(event(round, number))
        if len(waiting) == BATCH:
            post(waiting)
            waiting = []
if waiting:
    post(waiting)
for second in range(seconds):
    # A round begins every ten seconds. Its writes are at the present time.
    round = ROUNDS + second // 10
    start = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=round * 5)
    for at in range(second % 10, count, 10 * BATCH):
        post([event(round, number) for number in range(at, min(at + 10 * BATCH, count), 10)])
    time.sleep(1)
