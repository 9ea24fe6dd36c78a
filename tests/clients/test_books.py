"""What customers are charged when the server is killed again and again under load, seen from their side.

`TOKENWORKS_TEST_KILLS` is the number of kills (default 5), `TOKENWORKS_TEST_SEED` makes other moments and requests.
"""

import json
import os
import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from customers import ADMIN, MODEL, customer, settings
from plant import Plant

KILLS = int(os.environ.get("TOKENWORKS_TEST_KILLS", "5"))
SEED = int(os.environ.get("TOKENWORKS_TEST_SEED", "1"))
CLIENTS = 6
# Every third client asks for whole answers.
BUFFERED = 3
# Tokens of one answer that may be journaled and not yet with the client: frames on their way.
IN_FLIGHT = 8
PATIENCE_SECONDS = 120


@dataclass
class Answer:
    """One request, as its client knows it."""

    streamed: bool
    wanted: int
    received: int = 0
    # Of the reply, if all of it came.
    usage: dict | None = None


class Answers:
    """All requests by their tag: usage is told by tag, so what each was charged can be seen."""

    def __init__(self) -> None:
        self.by_tag: dict[str, Answer] = {}
        self.lock = threading.Lock()

    def open(self, answer: Answer) -> str:
        with self.lock:
            tag = f"request-{len(self.by_tag)}"
            self.by_tag[tag] = answer
            return tag

    def received(self) -> int:
        with self.lock:
            return sum(answer.received for answer in self.by_tag.values())


def ask(plant: Plant, key: str, tag: str, answer: Answer) -> None:
    """Sends one request and notes all that comes back."""
    body = {
        "model": MODEL, "prompt": f"A story about {tag}:", "max_tokens": answer.wanted, "stream": answer.streamed,
        "ignore_eos": True, "logprobs": 0, "metadata": {"tag": tag},
    }
    if answer.streamed:
        body["stream_options"] = {"include_usage": True}
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.stream("POST", f"{plant.url}/v1/completions", json=body, headers=headers, timeout=60) as reply:
        if not answer.streamed:
            whole = json.loads(reply.read())
            answer.received, answer.usage = whole["usage"]["completion_tokens"], whole["usage"]
            return
        for line in reply.iter_lines():
            if line.startswith("data: {"):
                frame = json.loads(line.removeprefix("data: "))
                logprobs = (choice.get("logprobs") or {} for choice in frame["choices"])
                answer.received += sum(len(each.get("tokens", [])) for each in logprobs)
                answer.usage = frame.get("usage") or answer.usage


def client(plant: Plant, key: str, answers: Answers, stop: threading.Event, chance: random.Random) -> None:
    streamed = chance.random() >= 1 / BUFFERED
    while not stop.is_set():
        answer = Answer(streamed, wanted=chance.randint(1, 40 if streamed else 12))
        try:
            ask(plant, key, answers.open(answer), answer)
        except httpx.TransportError:
            return


def run_until_killed(plant: Plant, key: str, answers: Answers, chance: random.Random) -> None:
    """Clients at work; after a random number of tokens and a random time the server is killed."""
    stop = threading.Event()
    chances = [random.Random(chance.random()) for _ in range(CLIENTS)]
    clients = [threading.Thread(target=client, args=(plant, key, answers, stop, each)) for each in chances]
    for each in clients:
        each.start()
    # Now and then before anything was delivered.
    wanted = answers.received() + (0 if chance.random() < 0.2 else chance.randint(1, 100))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while answers.received() < wanted:
        assert time.monotonic() < deadline, plant.log()
        time.sleep(0.002)
    time.sleep(chance.uniform(0, 0.2))
    plant.kill()
    stop.set()
    for each in clients:
        each.join()


def charges(plant: Plant, key: str) -> dict[str, dict]:
    """What was charged, by tag; each tag was sent once."""
    headers = {"Authorization": f"Bearer {key}"}
    usage = httpx.get(f"{plant.url}/v1/usage", headers=headers, timeout=60).raise_for_status().json()
    charged: dict[str, dict] = {}
    for row in usage["data"]:
        assert row["tag"] not in charged, f"{row['tag']} was charged in two hours"
        charged[row["tag"]] = row["sums"]
    return charged


def check(answer: Answer, charged: dict | None) -> int:
    """The crash rule for one answer. Gives the tokens charged above those received."""
    if charged is None:
        assert answer.received == 0, f"{answer} was delivered and not charged"
        return 0
    assert charged["requests"] == 1, f"{answer} was charged {charged['requests']} times"
    quantities = charged["quantities"]
    prompt, made = quantities["in_uncached"] + quantities["in_cached"], quantities["out_visible"]
    assert prompt > 0 and quantities["out_reasoning"] == 0
    above = made - answer.received
    if answer.usage is not None:
        assert (prompt, made) == (answer.usage["prompt_tokens"], answer.usage["completion_tokens"]), f"{answer}"
        assert above == 0, f"{answer}: {made} charged"
    elif answer.streamed:
        assert 0 <= above <= IN_FLIGHT, f"{answer}: {made} charged"
    else:
        # Whole answers are settled before they leave: for all of it, or not at all.
        assert made == answer.wanted, f"{answer}: {made} charged"
    return above


def test_a_killed_server_charges_what_was_delivered(tmp_path: Path) -> None:
    chance, answers = random.Random(SEED), Answers()
    print(f"seed {SEED}")
    with Plant([MODEL], settings(tmp_path)) as plant:
        key = customer(plant)
        for _ in range(KILLS):
            run_until_killed(plant, key, answers, chance)
            plant.start_again()
        charged = charges(plant, key)
        verified = httpx.get(f"{plant.url}/admin/v1/verify", headers={"Authorization": f"Bearer {ADMIN}"}, timeout=600)
        assert verified.status_code == 200, verified.text
    asked = answers.by_tag
    assert charged.keys() <= asked.keys()
    excess = sum(check(answer, charged.get(tag)) for tag, answer in asked.items())
    cut = [answer for answer in asked.values() if answer.usage is None]
    made = sum(sums["quantities"]["out_visible"] for sums in charged.values())
    print(
        f"{KILLS} kills: {len(asked)} requests, {len(cut)} cut off ({sum(not each.streamed for each in cut)} of them "
        f"whole answers), {len(asked) - len(charged)} void; {answers.received()} tokens received, {made} charged, "
        f"{excess} of them journaled and not received; verify: {verified.json()['entries']} entries, "
        f"{verified.json()['holds']} holds, right"
    )
    assert answers.received() > 0 and made > 0
    assert verified.json()["holds"] == 0
    # Every kill cuts off what is under way, and no more than that.
    assert KILLS <= len(cut) <= KILLS * CLIENTS
