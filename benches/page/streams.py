#!/usr/bin/env python3
"""CPU and memory of a server that takes in 100,000 events a second, with and without open pages.

  benches/page/streams.py EDITWAR LOAD [PAGES] [SECONDS]

LOAD is the program of `cargo bench --bench load --no-run`. Each page is the stream that the page reads. The wars of benches/page/wars.py go on in
the meantime.
"""
import http.client, os, subprocess, sys, tempfile, threading, time

editwar, load = sys.argv[1:3]
pages, seconds = (int(sys.argv[i]) if len(sys.argv) > i else default for i, default in ((3, 100), (4, 15)))
HERE = os.path.dirname(os.path.abspath(__file__))
API, WEBHOOK, RATE = 18880, 18881, 100_000


def read(received):
    connection = http.client.HTTPConnection("127.0.0.1", API)
    connection.request("GET", "/api/v1/overview?watch=true")
    answer = connection.getresponse()
    try:
        while data := answer.read1(1 << 16):
            received[0] += len(data)
    except (OSError, ValueError, http.client.HTTPException):
        pass


def measure(folder, open_pages):
    server = subprocess.Popen([editwar, "serve", "--listen", f"127.0.0.1:{API}", "--webhook-listen", f"127.0.0.1:{WEBHOOK}",
                               "--set", f"webhook.tls={{cert: {folder}/cert.pem, key: {folder}/key.pem}}"], stderr=subprocess.DEVNULL)
    try:
        time.sleep(2)
        webhook = f"https://localhost:{WEBHOOK}/audit"
        feed = subprocess.Popen([sys.executable, f"{HERE}/wars.py", "100", webhook, "600"], env={**os.environ, "SSL_CERT_FILE": f"{folder}/cert.pem"})
        time.sleep(5)
        received = [0]
        for _ in range(open_pages):
            threading.Thread(target=read, args=(received,), daemon=True).start()
        time.sleep(2)
        before = received[0]
        summary = subprocess.run([load, "--url", webhook, "--ca", f"{folder}/cert.pem", "--pid", str(server.pid), "--rate", str(RATE),
                                  "--seconds", str(seconds)], check=True, capture_output=True, text=True).stdout.strip()
        feed.kill()
        print(f"{open_pages} pages, each received {(received[0] - before) / max(open_pages, 1) / seconds / 1e3:.0f} kB/s: {summary}", flush=True)
    finally:
        server.kill()
        server.wait()


with tempfile.TemporaryDirectory() as folder:
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1", "-subj",
                    "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE",
                    "-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"], check=True, stderr=subprocess.DEVNULL)
    for _ in range(3):
        measure(folder, 0)
        measure(folder, pages)
