"""Starts and watches a real `tokenworks serve`."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import httpx

START_SECONDS = 120
SETTLE_SECONDS = 20


def required_path(variable: str) -> Path:
    """A path from the environment; missing means that the tests were started in a wrong way, which must be seen."""
    value = os.environ.get(variable)
    if not value:
        raise RuntimeError(f"{variable} is not set; run ./scripts/test, which sets it")
    path = Path(value)
    if not path.exists():
        raise RuntimeError(f"{variable}={value}: no such file or folder")
    return path


def binary() -> Path:
    return required_path("TOKENWORKS_TEST_BIN")


def model_file(name: str) -> Path:
    path = required_path("TOKENWORKS_TEST_MODELS") / f"{name}.gguf"
    if not path.is_file():
        raise RuntimeError(f"{path} is missing; ./scripts/test fetches it")
    return path


def clean_environment(folder: str) -> dict[str, str]:
    """The caller's own settings must not change what is tested."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TOKENWORKS_", "OPENAI_", "XDG_"))}
    return kept | {"HOME": folder, "NO_COLOR": "1"}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def run(*arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Runs a command of the binary to its end."""
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run(
            [str(binary()), *arguments],
            env=clean_environment(folder),
            cwd=folder,
            capture_output=True,
            text=True,
            encoding="utf-8",
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
        )


class Plant:
    """A server process of its own, on a free port."""

    def __init__(self, models: list[str], settings: str = "") -> None:
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        text = settings
        for name in models:
            text += f'\n[models.{name}]\nsource = {json.dumps(str(model_file(name)))}\n'
        (folder / "tokenworks.toml").write_text(text, encoding="utf-8")
        self._log = (folder / "server.log").open("w+", encoding="utf-8")
        self._command = [str(binary()), "serve", *models, "--host", "127.0.0.1", "--port", str(self.port)]
        self._command += ["--config", str(folder / "tokenworks.toml"), "--data-dir", str(folder / "data")]
        self._start()

    def _start(self) -> None:
        self.process = subprocess.Popen(
            self._command,
            env=clean_environment(str(self.folder)),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self._wait_until_ready()

    def kill(self) -> None:
        """Ends the process as a crash would, without a word to it."""
        self.process.kill()
        self.process.wait()

    def start_again(self) -> None:
        """After `kill`, on the same data."""
        self._start()

    def log(self) -> str:
        return (self.folder / "server.log").read_text(encoding="utf-8", errors="replace")

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}:\n{self.log()}")
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/ready").status_code == 200:
                    return
            time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"not ready after {START_SECONDS} s:\n{self.log()}")

    def gauge(self, name: str, **auth: str) -> float:
        return metric(httpx.get(f"{self.url}/metrics", headers=auth).raise_for_status().text, name)

    def wait_for_rest(self, **auth: str) -> None:
        """Nothing runs, waits or holds a KV block; fails when that does not come about."""
        names = ["vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"]
        deadline = time.monotonic() + SETTLE_SECONDS
        while any(values := [self.gauge(name, **auth) for name in names]):
            assert time.monotonic() < deadline, f"not at rest: {dict(zip(names, values, strict=True))}"
            time.sleep(0.02)

    def wait_for_work(self) -> None:
        deadline = time.monotonic() + SETTLE_SECONDS
        while self.gauge("vllm:num_requests_running") == 0:
            assert time.monotonic() < deadline, "nothing runs"
            time.sleep(0.005)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.terminate()
            try:
                self.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._log.close()
        self._folder.cleanup()

    def __enter__(self) -> "Plant":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def metric(text: str, name: str) -> float:
    """Sum over labels in the Prometheus text format."""
    values = re.findall(rf"^{re.escape(name)}(?:\{{.*\}})? (\S+)", text, flags=re.MULTILINE)
    assert values, f"/metrics has no {name}"
    return sum(float(value) for value in values)
