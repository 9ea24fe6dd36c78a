"""What customers are charged when the server is killed again and again while it streams, seen from their side."""

import hashlib
import hmac
import json
import threading
import time
from pathlib import Path

import httpx

from plant import Plant

MODEL = "smollm2-135m"
ADMIN = "tw-admin"
SECRET = "a secret of the tests alone"
KILLS = 5
CLIENTS = 6
PATIENCE_SECONDS = 120


def settings(folder: Path) -> str:
    secret = folder / "secret"
    secret.write_text(SECRET, encoding="utf-8")
    digest = hmac.new(SECRET.encode(), ADMIN.encode(), hashlib.sha256).hexdigest()
    return f'[server]\nkey_secret_file = {json.dumps(str(secret))}\n[[server.keys]]\nname = "ops"\nhash = "{digest}"\n'


def customer(plant: Plant) -> str:
    """Makes a customer whose tokens have a price, and gives the key."""

    def admin(method: str, path: str, body: dict) -> dict:
        headers = {"Authorization": f"Bearer {ADMIN}"}
        answer = httpx.request(method, f"{plant.url}/admin/v1{path}", json=body, headers=headers, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()

    tiers = [{"input": "10 per 1M", "output": "30 per 1M"}]
    admin("PUT", "/prices", {"model": MODEL, "from": "2020-01-01T00:00:00Z", "tiers": tiers})
    admin("PUT", "/plans", {"id": "basic"})
    admin("PUT", "/organisations", {"id": "acme", "name": "Acme", "plan": "basic"})
    admin("PUT", "/projects", {"id": "web", "organisation": "acme", "name": "Web"})
    return admin("POST", "/keys", {"id": "k1", "project": "web", "name": "web"})["key"]


class Received:
    """Tokens that reached the clients, by answer."""

    def __init__(self) -> None:
        self.tokens: dict[str, int] = {}
        self.finished: dict[str, int] = {}
        self.lock = threading.Lock()

    def take(self, frame: dict) -> None:
        with self.lock:
            choices = (choice.get("logprobs") or {} for choice in frame["choices"])
            made = sum(len(logprobs.get("tokens", [])) for logprobs in choices)
            self.tokens[frame["id"]] = self.tokens.get(frame["id"], 0) + made
            if frame.get("usage"):
                self.finished[frame["id"]] = frame["usage"]["completion_tokens"]


def stream(plant: Plant, key: str, number: int, received: Received, stop: threading.Event) -> None:
    body = {
        "model": MODEL, "prompt": f"A story about the number {number}:", "max_tokens": 40, "stream": True,
        "ignore_eos": True, "logprobs": 0, "stream_options": {"include_usage": True},
    }
    while not stop.is_set():
        try:
            headers = {"Authorization": f"Bearer {key}"}
            url = f"{plant.url}/v1/completions"
            with httpx.stream("POST", url, json=body, headers=headers, timeout=60) as answer:
                for line in answer.iter_lines():
                    if line.startswith("data: {"):
                        received.take(json.loads(line.removeprefix("data: ")))
        except httpx.TransportError:
            return


def test_a_killed_server_charges_what_was_delivered(tmp_path: Path) -> None:
    received = Received()
    with Plant([MODEL], settings(tmp_path)) as plant:
        key = customer(plant)
        for kill in range(KILLS):
            stop = threading.Event()
            clients = [
                threading.Thread(target=stream, args=(plant, key, number, received, stop)) for number in range(CLIENTS)
            ]
            for client in clients:
                client.start()
            # Far enough that tokens are on their way.
            wanted = sum(received.tokens.values()) + 40 * (kill + 1)
            deadline = time.monotonic() + PATIENCE_SECONDS
            while sum(received.tokens.values()) < wanted:
                assert time.monotonic() < deadline, plant.log()
                time.sleep(0.01)
            plant.kill()
            stop.set()
            for client in clients:
                client.join()
            plant.start_again()
        usage = httpx.get(f"{plant.url}/v1/usage", headers={"Authorization": f"Bearer {key}"}).raise_for_status().json()
        verified = httpx.get(f"{plant.url}/admin/v1/verify", headers={"Authorization": f"Bearer {ADMIN}"}, timeout=60)
        assert verified.status_code == 200, verified.text
    sums = [row["sums"] for row in usage["data"]]
    charged = sum(each["quantities"]["out_visible"] for each in sums)
    delivered = sum(received.tokens.values())
    begun = [id for id, tokens in received.tokens.items() if tokens]
    print(f"{KILLS} kills: {len(begun)} answers, {delivered} tokens received, {charged} charged")
    assert all(received.tokens[id] == tokens for id, tokens in received.finished.items())
    # Never less than was received, and more only by chunks on their way: at most a few of each client at each kill.
    assert 0 < delivered <= charged <= delivered + KILLS * CLIENTS * 8
    # Each answer once; those of which nothing arrived may have been on their way too.
    assert len(begun) <= sum(each["requests"] for each in sums) <= len(begun) + KILLS * CLIENTS
