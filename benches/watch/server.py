#!/usr/bin/env python3
"""A stand-in for an API server: one resource whose watch delivers revisions as fast as the client reads them.

Usage: server.py PORT OBJECTS REVISIONS. Of OBJECTS objects, the first REVISIONS / 20 change, twenty times each. Their owner
changes with every revision for one object in a hundred, and stays for the others.
"""
import http.server
import json
import sys
import threading

port, objects, revisions = (int(argument) for argument in sys.argv[1:])
DISCOVERY = {
    "kind": "APIGroupDiscoveryList",
    "apiVersion": "apidiscovery.k8s.io/v2",
    "items": [{
        "metadata": {"name": ""},
        "versions": [{
            "version": "v1", "freshness": "Current",
            "resources": [{
                "resource": "configmaps", "responseKind": {"group": "", "version": "", "kind": "ConfigMap"},
                "scope": "Namespaced", "singularResource": "configmap", "verbs": ["get", "list", "watch"],
            }],
        }],
    }],
}


def revision(number):
    """Returns the line of one revision: metadata of some 560 bytes, as the API server sends it."""
    changing = max(revisions // 20, 1)
    index, turn = number % changing, number // changing
    manager = "tool-b" if index % 100 == 0 and turn % 2 else "tool-a"
    at = f"2026-11-29T{turn // 3600 % 24:02}:{turn // 60 % 60:02}:{turn % 60:02}Z"
    fields = {"f:data": {".": {}, "f:v": {}}}
    creator = {"manager": "kubectl-create", "operation": "Update", "apiVersion": "v1", "time": "2026-11-28T00:00:00Z",
               "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:labels": {".": {}, "f:app": {}}}}}
    writer = {"manager": manager, "operation": "Update", "apiVersion": "v1", "time": at, "fieldsType": "FieldsV1",
              "fieldsV1": fields}
    metadata = {"name": f"object-{index}", "namespace": "shop", "uid": f"00000000-0000-4000-8000-{index:012}",
                "resourceVersion": str(1000 + number), "creationTimestamp": "2026-11-28T00:00:00Z",
                "labels": {"app": "shop"}, "managedFields": [creator, writer]}
    event = {"type": "MODIFIED", "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                                            "metadata": metadata}}
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        kind = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        self.send_header("Content-Type", kind if self.path in ("/api", "/apis") else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/api":
            self.answer(DISCOVERY)
        elif self.path == "/apis":
            self.answer({**DISCOVERY, "items": []})
        elif "watch=true" in self.path and "fieldSelector" not in self.path:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Connection", "close")
            self.end_headers()
            for first in range(0, revisions, 1000):
                self.wfile.write(b"".join(lines[first:first + 1000]))
            threading.Event().wait()
        else:
            self.answer({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                         "metadata": {"resourceVersion": "999", "remainingItemCount": objects}, "items": []})


lines = [revision(number) for number in range(revisions)]
print("ready", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
