#!/usr/bin/env python3
"""From exec of mole-server until /readyz answers 200, beside the time that reading the same weight files takes in the
same state of the system's file cache: warm (just read) and, with --cold, right after dropping it (needs root, and
drops everybody's). Programs take turns; the reader's figure is the fastest of its ways:

  into cache   all cores read into a small buffer that they use again: no byte is kept
  into memory  into fresh memory of the files' size, in huge pages: what keeping the weights costs at least
"""

import argparse
import concurrent.futures
import json
import mmap
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

CHUNK = 4 << 20  # of one read; a disk's system call costs nothing beside it
SMALL = 256 << 10  # stays in a core's cache
POLL_S = 0.002


def weight_files(checkpoint: pathlib.Path) -> list[pathlib.Path]:
    files = sorted(checkpoint.glob("*.safetensors"))
    if not files:
        raise SystemExit(f"{checkpoint}: holds no .safetensors file")
    return files


def read_seconds(files: list[pathlib.Path], threads: int, into_memory: bool) -> float:
    """Every byte of the files, in their order, by all threads."""
    sizes = [path.stat().st_size for path in files]
    begin = time.perf_counter()
    memory = mmap.mmap(-1, sum(sizes)) if into_memory else None
    if memory is not None:
        memory.madvise(mmap.MADV_HUGEPAGE)
    pieces, base = [], 0
    for path, size in zip(files, sizes):
        descriptor = os.open(path, os.O_RDONLY)
        pieces += [(descriptor, at, min(CHUNK, size - at), base + at) for at in range(0, size, CHUNK)]
        base += size
    small = [bytearray(SMALL) for _ in range(threads)]
    view = memoryview(memory) if memory is not None else None

    def worker(index: int) -> None:
        for descriptor, at, count, to in pieces[index::threads]:
            while count > 0:
                buffer = view[to:to + count] if view is not None else memoryview(small[index])[:min(SMALL, count)]
                got = os.preadv(descriptor, [buffer], at)
                if got <= 0:
                    raise SystemExit("a weight file became shorter while it was read")
                at, to, count = at + got, to + got, count - got

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        list(pool.map(worker, range(threads)))
    took = time.perf_counter() - begin
    for descriptor in {piece[0] for piece in pieces}:
        os.close(descriptor)
    if view is not None:
        view.release()
        memory.close()
    return took


def status_of(port: int) -> int:
    """Of GET /readyz; 0 while nobody answers."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            head = connection.recv(64)
    except OSError:
        return 0
    parts = head.split()
    return int(parts[1]) if len(parts) > 1 else 0


def start_seconds(server: pathlib.Path, checkpoint: pathlib.Path, flags: list[str], limit_s: float) -> float:
    with tempfile.TemporaryDirectory() as folder:
        port_file = pathlib.Path(folder) / "port"
        log = (pathlib.Path(folder) / "log").open("w+")
        begin = time.perf_counter()
        process = subprocess.Popen([str(server), str(checkpoint), "--port", "0", "--port-file", str(port_file), *flags],
                                   stderr=log)
        try:
            port = 0
            while True:
                if process.poll() is not None:
                    log.seek(0)
                    raise SystemExit(f"the server ended with {process.returncode}: {log.read()[-2000:]}")
                if time.perf_counter() - begin > limit_s:
                    raise SystemExit(f"not ready after {limit_s:.0f} s")
                if not port and port_file.exists():
                    port = int(port_file.read_text())
                if port and status_of(port) == 200:
                    return time.perf_counter() - begin
                time.sleep(POLL_S)
        finally:
            process.send_signal(signal.SIGKILL)  # nothing of it is needed: it only started
            process.wait()
            log.close()


def drop_cache() -> None:
    os.sync()
    try:
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3\n")
    except OSError as error:
        raise SystemExit(f"--cold: the file cache can't be dropped: {error}") from None


def measure(arguments: argparse.Namespace, cold: bool) -> dict:
    files = weight_files(arguments.checkpoint)
    ways = {"read into cache": lambda: read_seconds(files, arguments.threads, False),
            "read into memory": lambda: read_seconds(files, arguments.threads, True),
            "ready": lambda: start_seconds(arguments.bin / "mole-server", arguments.checkpoint, arguments.flags,
                                           arguments.limit_s)}
    seconds = {name: [] for name in ways}
    for _ in range(arguments.turns):
        for name, way in ways.items():
            if cold:
                drop_cache()
            else:
                read_seconds(files, arguments.threads, False)
            seconds[name].append(way())
    size = sum(path.stat().st_size for path in files)
    row = {"state": "cold" if cold else "warm", "bytes": size, "seconds": seconds,
           "median_s": {name: statistics.median(values) for name, values in seconds.items()}}
    middle = row["median_s"]
    row["ready_to_read"] = middle["ready"] / min(middle["read into cache"], middle["read into memory"])
    row["ready_to_read_into_memory"] = middle["ready"] / middle["read into memory"]
    print(f"{row['state']}: {size / 1e9:.2f} GB; ready {middle['ready']:.2f} s; read into cache "
          f"{middle['read into cache']:.2f} s, into memory {middle['read into memory']:.2f} s; ready is "
          f"{row['ready_to_read']:.2f} of the fastest, {row['ready_to_read_into_memory']:.2f} of that into memory "
          f"(medians of {arguments.turns})", flush=True)
    return row


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="folder of mole-server")
    parser.add_argument("--turns", type=int, default=5, help="the median of so many counts [%(default)s]")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of the reader [all cores]")
    parser.add_argument("--cold", action="store_true", help="also right after dropping the file cache")
    parser.add_argument("--no-warm", action="store_true")
    parser.add_argument("--limit-s", type=float, default=600.0)
    parser.add_argument("--json", type=pathlib.Path, help="file that gets all figures")
    parsed, parsed.flags = parser.parse_known_args(arguments)
    states = ([] if parsed.no_warm else [False]) + ([True] if parsed.cold else [])
    rows = [measure(parsed, cold) for cold in states]
    if parsed.json:
        parsed.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
