"""What the end-to-end tests share: the real server as a child process, and small waits for conditions."""

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from typing import Callable, Optional

TIMEOUT_S = 120  # nothing here should take long; a hang must not hold up everything


def wait_until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited {TIMEOUT_S} s in vain: {what}")
        time.sleep(0.01)


class Server:
    """mole-server on a free port. Its log is read line by line: every line must be JSON."""

    def __init__(self, binary: str, model: str, *flags: str):
        self._folder = tempfile.TemporaryDirectory()
        port_file = os.path.join(self._folder.name, "port")
        command = [binary, model, "--port", "0", "--port-file", port_file, *flags]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.log: list[str] = []
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        wait_until(lambda: os.path.exists(port_file) or self.process.poll() is not None, "the port")
        if self.process.poll() is not None:
            raise AssertionError(f"the server ended at once: {self.log}")
        with open(port_file, encoding="ascii") as file:
            self.port = int(file.read())
        self.url = f"http://127.0.0.1:{self.port}"
        wait_until(self.ready, "readiness")

    def _read_log(self) -> None:
        for line in self.process.stderr:
            self.log.append(line)

    def status(self, path: str) -> int:
        try:
            with urllib.request.urlopen(self.url + path, timeout=TIMEOUT_S) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def ready(self) -> bool:
        return self.process.poll() is None and self.status("/readyz") == 200

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(self.url + "/metrics", timeout=TIMEOUT_S) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith(name + " "):
                    return float(line.split()[1])
        raise AssertionError(f"there is no metric {name}")

    def idle(self) -> bool:
        return self.metric("mole_sequences_running") == 0 and self.metric("mole_requests_waiting") == 0

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        code = self.process.wait(timeout=TIMEOUT_S)
        self._reader.join(timeout=TIMEOUT_S)
        self.process.stderr.close()
        return code

    def stop(self) -> int:
        if self.process.poll() is None:
            self.terminate()
        code = self.wait()
        self._folder.cleanup()
        return code

    def log_records(self) -> list[dict]:
        return [json.loads(line) for line in self.log]


def run(*command: str, stdin: Optional[str] = None, env: Optional[dict] = None) -> subprocess.CompletedProcess:
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=TIMEOUT_S, env={**os.environ, **(env or {})}
    )
