"""Requests sent again under their Idempotency-Key: the same answer, charged once, also after a kill."""

import json
import uuid

import httpx
import openai
import pytest

from conftest import MODEL
from plant import Plant
from test_books import customer, settings


def body(number: int, max_tokens: int, stream: bool) -> dict:
    return {"model": MODEL, "prompt": f"The number {number} is", "max_tokens": max_tokens, "stream": stream,
            "ignore_eos": True}


def test_the_official_client_gets_the_same_answer_again(client: openai.OpenAI, model: str) -> None:
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    arguments = {"model": model, "messages": [{"role": "user", "content": "Name a river."}], "max_tokens": 8}
    first = client.chat.completions.with_raw_response.create(**arguments, extra_headers=headers)
    again = client.chat.completions.with_raw_response.create(**arguments, extra_headers=headers)
    assert again.headers["idempotent-replayed"] == "true" and "idempotent-replayed" not in first.headers
    assert again.content == first.content
    assert again.parse().id == first.parse().id
    # Told that it would not help, the client does not try again by itself.
    patient = client.with_options(max_retries=5)
    with pytest.raises(openai.ConflictError) as conflict:
        patient.chat.completions.create(**arguments, temperature=0, extra_headers=headers)
    assert conflict.value.code == "idempotency_conflict"
    assert conflict.value.response.request.headers["x-stainless-retry-count"] == "0"
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    streams = [list(client.chat.completions.create(**arguments, stream=True, extra_headers=headers)) for _ in range(2)]
    assert streams[0] == streams[1] and len(streams[0]) > 2


def test_keys_outlive_clients_that_leave_and_a_killed_server(tmp_path) -> None:
    with Plant([MODEL], settings(tmp_path)) as plant:
        auth = {"Authorization": f"Bearer {customer(plant)}"}

        def ask(key: str, number: int, max_tokens: int, stream: bool) -> httpx.Response:
            url = f"{plant.url}/v1/completions"
            headers = auth | {"Idempotency-Key": key}
            return httpx.post(url, json=body(number, max_tokens, stream), headers=headers, timeout=120)

        def leave(key: str, number: int, max_tokens: int) -> None:
            """Reads two frames and hangs up."""
            headers = auth | {"Idempotency-Key": key}
            request = {"url": f"{plant.url}/v1/completions", "json": body(number, max_tokens, True)}
            with httpx.stream("POST", **request, headers=headers, timeout=120) as answer:
                lines = answer.iter_lines()
                assert sum(line.startswith("data: {") for line, _ in zip(lines, range(4), strict=False)) == 2

        kept = ask("kept", 1, 10, True)
        assert kept.text.endswith("data: [DONE]\n\n")
        leave("left", 2, 30)
        early = ask("left", 2, 30, True)
        if early.status_code != 200:
            assert early.json()["error"]["code"] == "idempotency_in_flight" and early.headers["retry-after"]
        plant.wait_for_rest(**auth)
        left = ask("left", 2, 30, True)
        assert left.headers["idempotent-replayed"] == "true"
        frames = [json.loads(line[6:]) for line in left.text.splitlines() if line.startswith("data: {")]
        assert frames[-1]["choices"][0]["finish_reason"] == "length"
        leave("killed", 3, 1000)
        plant.kill()
        plant.start_again()
        for key, number, max_tokens, before in [("kept", 1, 10, kept), ("left", 2, 30, left)]:
            again = ask(key, number, max_tokens, True)
            assert (again.headers["idempotent-replayed"], again.content) == ("true", before.content)
        interrupted = ask("killed", 3, 1000, True)
        assert (interrupted.status_code, interrupted.json()["error"]["code"]) == (409, "idempotency_interrupted")
        usage = httpx.get(f"{plant.url}/v1/usage", headers=auth).raise_for_status().json()
        # Each once, the interrupted one for what it delivered.
        assert sum(row["sums"]["requests"] for row in usage["data"]) == 3
        assert (plant.folder / "data" / "answers.db").stat().st_mode & 0o777 == 0o600
