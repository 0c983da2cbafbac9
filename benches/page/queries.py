#!/usr/bin/env python3
"""Latency of questions with many wars, without and with load, and the CPU time of streams while nothing changes.

  benches/page/queries.py EDITWAR LOAD [WARS] [STREAMS]

LOAD is the program of `cargo bench --bench load --no-run`. It posts 200,000 events a second, over TLS, to the server that is asked.
"""
import http.client, math, os, socket, subprocess, sys, tempfile, time

editwar, load = sys.argv[1:3]
wars, streams = (int(sys.argv[i]) if len(sys.argv) > i else default for i, default in ((3, 10_000), (4, 500)))
HERE = os.path.dirname(os.path.abspath(__file__))
API, WEBHOOK = 18880, 18881
QUESTIONS = ["/api/v1/wars", "/api/v1/wars?limit=100", "/api/v1/overview", "/metrics"]
RUNS = 100


def cpu(pid):
    return sum(map(int, open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")


def ask(path):
    connection = http.client.HTTPConnection("127.0.0.1", API)
    started = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 200, (answer.status, body[:200])
    return time.perf_counter() - started, len(body)


def drained(sockets):
    """Reads what there is. Returns the number of bytes."""
    received = 0
    for stream in sockets:
        try:
            while data := stream.recv(1 << 20):
                received += len(data)
        except BlockingIOError:
            pass
    return received


def latencies(name, while_running=lambda: True):
    for path in QUESTIONS:
        times, size = [], 0
        while len(times) < RUNS and while_running():
            took, size = ask(path)
            times.append(took)
            time.sleep(0.05)
        if times:
            times.sort()
            print(f"{name}: {path}: p50 {times[len(times) // 2] * 1e3:.1f} ms, p99 {times[math.ceil(len(times) * 0.99) - 1] * 1e3:.1f} ms, "
                  f"at most {times[-1] * 1e3:.1f} ms, {size / 1e6:.2f} MB, {len(times)} times", flush=True)


with tempfile.TemporaryDirectory() as folder:
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1", "-subj",
                    "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE",
                    "-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"], check=True, stderr=subprocess.DEVNULL)
    plain = [editwar, "serve", "--listen", f"127.0.0.1:{API}", "--webhook-listen", f"127.0.0.1:{WEBHOOK}"]
    # The first server is asked without load, over HTTP; the load is posted over TLS, as an API server does.
    for is_tls in (False, True):
        tls = ["--set", f"webhook.tls={{cert: {folder}/cert.pem, key: {folder}/key.pem}}"] if is_tls else []
        server = subprocess.Popen(plain + tls, stderr=subprocess.DEVNULL)
        try:
            time.sleep(2)
            if is_tls:
                environment = {**os.environ, "SSL_CERT_FILE": f"{folder}/cert.pem"}
                subprocess.run([sys.executable, f"{HERE}/wars.py", str(wars), f"https://localhost:{WEBHOOK}/audit"], check=True, env=environment)
                running = subprocess.Popen([load, "--url", f"https://localhost:{WEBHOOK}/audit", "--ca", f"{folder}/cert.pem", "--pid",
                                            str(server.pid), "--rate", "200000", "--seconds", "90"])
                time.sleep(2)
                latencies("with 200,000 events/s", lambda: running.poll() is None)
                # It prints how many events it could send.
                assert running.wait() == 0
                continue
            subprocess.run([sys.executable, f"{HERE}/wars.py", str(wars), f"http://127.0.0.1:{WEBHOOK}/audit"], check=True)
            latencies("without load")
            for path in ("/api/v1/objects/configmaps/team-{0}/settings-{0}/decision?watch=true", "/api/v1/overview?watch=true"):
                sockets = []
                for number in range(streams):
                    # One client may have 128.
                    stream = socket.create_connection(("127.0.0.1", API), source_address=(f"127.0.0.{2 + number % 5}", 0))
                    stream.sendall(f"GET {path.format(number % 50)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                    sockets.append(stream)
                for stream in sockets:
                    stream.settimeout(30)
                    head = stream.recv(1 << 16)
                    assert b" 200 " in head[:20], head[:200]
                    stream.setblocking(False)
                # What the streams say at first is read, so that only what they cost from then on is measured.
                received = 1 << 30
                while received > 1 << 20:
                    received, until = 0, time.monotonic() + 3
                    while time.monotonic() < until:
                        received += drained(sockets)
                before, started = cpu(server.pid), time.monotonic()
                while time.monotonic() < started + 20:
                    drained(sockets)
                    time.sleep(1)
                used = (cpu(server.pid) - before) / (time.monotonic() - started)
                print(f"{streams} streams of {path} while nothing changes: {used * 100:.1f} % of a core", flush=True)
                for stream in sockets:
                    stream.close()
        finally:
            server.kill()
            server.wait()
