"""What the benches with Kafka share: a broker on loopback in a temporary folder, and the measures of a server."""
import os, pathlib, re, shutil, subprocess, tempfile, time, urllib.request

PORT, CONTROLLER = 29092, 29093
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
TICKS = os.sysconf("SC_CLK_TCK")


class Broker:
    """A broker that is its own controller, whose new topics have four partitions."""

    def __init__(self):
        root = pathlib.Path(__file__).resolve().parents[2]
        fetched = subprocess.run([root / "tests/kafka/fetch"], capture_output=True, text=True, check=True)
        self.jars = fetched.stdout.strip() + "/*"
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="editwar-kafka-"))
        properties = self.work / "server.properties"
        properties.write_text(f"""process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{PORT},CONTROLLER://127.0.0.1:{CONTROLLER}
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:{CONTROLLER}
log.dirs={self.work}/data
num.partitions=4
group.initial.rebalance.delay.ms=0
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
""")
        identity = ["--standalone", "-t", "AAAAAAAAAAAAAAAAAAAAAA", "-c", str(properties)]
        subprocess.run(self.java("kafka.tools.StorageTool", "format", *identity), check=True, **QUIET)
        log = self.work / "broker.log"
        with open(log, "w") as out:
            self.process = subprocess.Popen(self.java("kafka.Kafka", str(properties)), stdout=out, stderr=out)
        while "Kafka Server started" not in log.read_text():
            time.sleep(0.2)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        shutil.rmtree(self.work, ignore_errors=True)

    def java(self, *arguments):
        """The command that runs a program of Kafka."""
        return ["java", "-Xmx512m", "-cp", self.jars, *arguments]


def metrics(port):
    """The metrics of a server, or nothing if it does not answer."""
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    except OSError:
        return ""


def total(text, name):
    """The sum of all series of a metric."""
    return sum(float(n) for n in re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.M))


def cpu(pid):
    """Seconds of CPU time of a process so far."""
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory(pid):
    """The largest resident memory of a process so far, in MiB."""
    return int(re.search(r"VmHWM:\s+(\d+)", open(f"/proc/{pid}/status").read())[1]) / 1024
