"""Running servers as the benches see them: statements, pgbench, and what /proc says of their processes.

CPU time is utime + stime of the server's processes and their children; children that have ended are in their parent's
account once they were waited for.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

TICKS = os.sysconf("SC_CLK_TCK")
LINEITEM = (
    "CREATE TABLE lineitem (l_orderkey bigint NOT NULL, l_partkey integer NOT NULL, l_suppkey integer NOT NULL, "
    "l_linenumber integer NOT NULL, l_quantity decimal(15,2) NOT NULL, l_extendedprice decimal(15,2) NOT NULL, "
    "l_discount decimal(15,2) NOT NULL, l_tax decimal(15,2) NOT NULL, l_returnflag char(1) NOT NULL, "
    "l_linestatus char(1) NOT NULL, l_shipdate date NOT NULL, l_commitdate date NOT NULL, l_receiptdate date NOT NULL, "
    "l_shipinstruct char(25) NOT NULL, l_shipmode char(10) NOT NULL, l_comment varchar(44) NOT NULL{})"
)
ORDERS = (
    "CREATE TABLE orders (o_orderkey bigint NOT NULL, o_custkey integer NOT NULL, o_orderstatus char(1) NOT NULL, "
    "o_totalprice decimal(15,2) NOT NULL, o_orderdate date NOT NULL, o_orderpriority char(15) NOT NULL, "
    "o_clerk char(15) NOT NULL, o_shippriority integer NOT NULL, o_comment varchar(79) NOT NULL{})"
)


class Server:
    def __init__(self, name, where):
        self.name = name
        pid, port, database, *rest = where.split(":", 3)
        host = rest[0] if rest else "127.0.0.1"
        self.pid = int(pid)
        self.environment = {
            **os.environ, "PGHOST": host, "PGPORT": port, "PGDATABASE": database, "PGUSER": "scry",
        }

    def transport(self):
        return "Unix-domain sockets" if self.environment["PGHOST"].startswith("/") else "the loopback"

    def run(self, *command, check=True):
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        if check and done.returncode != 0:
            sys.exit(f"{self.name}: {' '.join(command)}: {done.stdout}{done.stderr}")
        return done

    def sql(self, *statements):
        commands = [part for statement in statements for part in ("-c", statement)]
        return self.run("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", *commands).stdout.strip()

    def cpu_seconds(self):
        """CPU time of the server so far: its processes', and that of its children which have ended."""
        total = 0
        pids = [self.pid]
        while pids:
            pid = pids.pop()
            try:
                fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
                pids += [int(child) for child in open(f"/proc/{pid}/task/{pid}/children").read().split()]
            except FileNotFoundError:
                continue
            # utime, stime, cutime, cstime: fields 14 to 17, counted from 1, of which ")" ends the second.
            total += sum(int(field) for field in fields[11:15])
        return total / TICKS

    def resident_bytes(self):
        pages = open(f"/proc/{self.pid}/statm").read().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


def settle(server):
    """Lets ended backends be waited for, so that their CPU time is in the account."""
    time.sleep(0.3)
    return server.cpu_seconds()


def pgbench(server, script, clients, seconds, *options):
    """Transactions per second and CPU time for each, µs. A script is one of pgbench's own or a file beside this one."""
    file = pathlib.Path(__file__).with_name(f"{script}.sql")
    which = ("-f", file) if file.exists() else ("-b", script)
    before = settle(server)
    done = server.run(
        "pgbench", "-n", *which, "-M", "prepared", "-c", str(clients), "-j", str(min(clients, 2)), "-T", str(seconds), *options,
    )
    cpu = settle(server) - before
    transactions = int(re.search(r"number of transactions actually processed: (\d+)", done.stdout)[1])
    failures = int(re.search(r"number of failed transactions: (\d+)", done.stdout)[1])
    if failures or "aborted" in done.stdout + done.stderr:
        sys.exit(f"{server.name}: {script}, {clients} clients: {done.stdout}{done.stderr}")
    rate = float(re.search(r"^tps = ([0-9.]+)", done.stdout, re.M)[1])
    return rate, cpu / transactions * 1e6


def latencies(server, script, clients, seconds):
    """Transactions per second, and the 50th and 99th percentile and the longest of their latencies, ms."""
    with tempfile.TemporaryDirectory() as folder:
        rate, _ = pgbench(server, script, clients, seconds, "-l", f"--log-prefix={folder}/log")
        times = sorted(
            int(line.split(" ", 3)[2]) / 1000 for path in pathlib.Path(folder).iterdir() for line in path.open()
        )
    return rate, times[len(times) // 2], times[len(times) * 99 // 100], times[-1]


class BusyDisk:
    """Processes that keep the disk busy with synchronous writes, as long as the `with` lasts."""

    # Writers and the bytes of each write.
    KINDS = {"small": (8, 1 << 12), "large": (2, 1 << 18)}
    WRITER = """
import os, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_DSYNC, 0o600)
block, written = os.urandom(int(sys.argv[2])), 0
while os.getppid() == int(sys.argv[3]):
    os.pwrite(file, block, written % (1 << 28))
    written += len(block)
"""

    def __init__(self, folder, kind):
        self.folder, self.kind = folder, kind

    def __enter__(self):
        writers, size = self.KINDS[self.kind]
        self.paths = [pathlib.Path(self.folder) / f"busy-{nth}" for nth in range(writers)]
        self.writers = [
            subprocess.Popen([sys.executable, "-c", self.WRITER, path, str(size), str(os.getpid())]) for path in self.paths
        ]
        return self

    def __exit__(self, *_):
        for writer in self.writers:
            writer.kill()
            writer.wait()
        for path in self.paths:
            path.unlink(missing_ok=True)


def machine():
    model = re.search(r"model name\s*: (.*)", open("/proc/cpuinfo").read())
    memory = int(re.search(r"MemTotal:\s+(\d+)", open("/proc/meminfo").read())[1]) // 2**20
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} × {model[1] if model else 'unknown processor'}, {memory} GB, Linux {os.uname().release}, "
        f"load before the run {load:.1f}"
    )
