#!/usr/bin/env python3
"""Size of the binary, and the time until it answers: `benches/start.py EDITWAR`. Medians of 41 runs, beside a program that does nothing."""
import os, socket, subprocess, sys, tempfile, time

editwar = sys.argv[1]
RUNS = 41


def median(run):
    run()
    return sorted(run() for _ in range(RUNS))[RUNS // 2] * 1e3


def of_process(*command):
    def run():
        started = time.perf_counter()
        process = os.posix_spawnp(command[0], command, os.environ, file_actions=[
            (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0), (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0)])
        os.waitpid(process, 0)
        return time.perf_counter() - started
    return run


def until_ready():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.perf_counter()
    server = subprocess.Popen([editwar, "serve", "--listen", f"127.0.0.1:{port}", "--webhook-listen", "127.0.0.1:0"], stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port)) as connection:
                    connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    if b" 200 " in connection.recv(64):
                        return time.perf_counter() - started
            except OSError:
                pass
            time.sleep(0.0005)
    finally:
        server.kill()
        server.wait()


with tempfile.NamedTemporaryFile(suffix=".log") as empty:
    print(f"| size of the binary | {os.path.getsize(editwar) / (1 << 20):.1f} MiB |")
    print(f"| `true` | {median(of_process('true')):.1f} ms |")
    print(f"| `editwar --version` | {median(of_process(editwar, '--version')):.1f} ms |")
    print(f"| `editwar analyze` of an empty file | {median(of_process(editwar, 'analyze', '-q', empty.name)):.1f} ms |")
    print(f"| `editwar serve` until /readyz answers 200 | {median(until_ready):.1f} ms |")
