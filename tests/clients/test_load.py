"""The load generator against a real server: legal outcomes only, nothing leaked, memory within its bound."""

import json
import subprocess

from conftest import MODEL
from plant import Plant, model_file, required_path

MIB = 1 << 20
# Small, so that the first half of the run touches all of it: what grows afterwards would be a leak.
KV_MIB = 64


def load(plant: Plant, *arguments: str) -> dict:
    command = [str(required_path("TOKENWORKS_TEST_LOAD_BIN")), "serve-load", "--url", plant.url, "--json"]
    command += ["--pid", str(plant.process.pid), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=900, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)


def test_64_clients_with_random_disconnects() -> None:
    with Plant([MODEL], settings=f'[engine]\nkv_memory = "{KV_MIB}MiB"\n') as plant:
        limit = model_file(MODEL).stat().st_size // MIB + 1 + KV_MIB + 150
        report = load(
            plant,
            *["--clients", "64", "--requests", "200", "--disconnect", "0.3", "--seed", "3"],
            *["--slo", "ttft=10,tpot=1", "--rss-limit", str(limit), "--rss-growth-limit", "32"],
        )
        outcomes = report["outcomes"]
        assert outcomes["violations"] == 0
        assert sum(outcomes.values()) == 200
        assert outcomes["completed"] >= 100
        assert outcomes["closed_by_client"] >= 20
        assert report["settled"]["kv_usage"] == 0
        assert report["tokens"]["cached"] > 0, "shared prefixes must be found again"


def test_overload_is_refused_politely() -> None:
    with Plant([MODEL], settings="[engine]\nmax_running = 2\nmax_waiting = 2\n") as plant:
        report = load(plant, "--clients", "32", "--requests", "100", "--disconnect", "0.2")
        assert report["outcomes"]["rejected_429"] > 0
        assert report["outcomes"]["completed"] > 0
        assert report["outcomes"]["violations"] == 0
