"""Disconnects, drain, overload, slow readers, keys: servers of their own where the test ends or configures one."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import openai
import pytest

from conftest import MODEL
from plant import Plant, model_file, run

LONG = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 2000, "ignore_eos": True, "stream": True}


def test_a_disconnect_frees_everything(plant: Plant, raw: httpx.Client) -> None:
    with raw.stream("POST", "/v1/completions", json=LONG) as reply:
        lines = reply.iter_lines()
        assert next(lines).startswith("data: ")
        assert plant.gauge("vllm:num_requests_running") >= 1
        assert plant.gauge("vllm:kv_cache_usage_perc") > 0
    plant.wait_for_rest()


def test_a_disconnect_during_prefill(plant: Plant, raw: httpx.Client) -> None:
    body = {"model": MODEL, "prompt": list(range(1000, 6000)), "max_tokens": 10}
    with contextlib.suppress(httpx.ReadTimeout):
        raw.post("/v1/completions", json=body, timeout=0.2)
    plant.wait_for_rest()


def test_closing_the_official_stream(plant: Plant, client: openai.OpenAI) -> None:
    arguments = {k: v for k, v in LONG.items() if k != "ignore_eos"}
    stream = client.completions.create(**arguments, extra_body={"ignore_eos": True})
    next(iter(stream))
    stream.close()
    plant.wait_for_rest()


def collect(plant: Plant, body: dict, result: list[str]) -> None:
    with httpx.stream("POST", f"{plant.url}/v1/completions", json=body, timeout=120) as reply:
        result.extend(line for line in reply.iter_lines() if line)


def test_sigterm_lets_a_stream_end() -> None:
    with Plant([MODEL]) as plant:
        lines: list[str] = []
        reader = threading.Thread(target=collect, args=(plant, LONG | {"max_tokens": 200}, lines))
        reader.start()
        plant.wait_for_work()
        plant.terminate()
        time.sleep(0.1)
        # New work is refused, whether the port still answers or not.
        with contextlib.suppress(httpx.TransportError):
            late = httpx.post(f"{plant.url}/v1/completions", json=LONG, timeout=30)
            assert late.status_code == 503
            assert int(late.headers["retry-after"]) > 0
        reader.join(timeout=120)
        assert not reader.is_alive()
        assert plant.process.wait(timeout=30) == 0
        assert lines[-1] == "data: [DONE]"
        chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
        assert chunks[-1]["choices"][0]["finish_reason"] == "length"


def test_overload_answers_429_and_recovers() -> None:
    with Plant([MODEL], settings="[engine]\nmax_running = 1\nmax_waiting = 1\n") as plant:
        statuses: list[int] = []
        retry_after: list[str] = []

        def ask() -> None:
            body = LONG | {"max_tokens": 40, "stream": False}
            reply = httpx.post(f"{plant.url}/v1/completions", json=body, timeout=120)
            statuses.append(reply.status_code)
            if reply.status_code != 200:
                retry_after.append(reply.headers["retry-after"])

        threads = [threading.Thread(target=ask) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=120)
        assert len(statuses) == 12
        assert set(statuses) == {200, 429}
        assert all(int(seconds) > 0 for seconds in retry_after)
        plant.wait_for_rest()
        statuses.clear()
        ask()
        assert statuses == [200]


def test_a_reader_that_does_not_read_is_cut_off() -> None:
    with Plant([MODEL], settings="[server]\nreader_idle_seconds = 0.5\n") as plant:
        # The prompt's log-probabilities, eight times over, are more than the kernel's socket buffers take, so that the
        # server comes to wait for this reader while the sequences go on.
        echo = {"prompt": list(range(1000, 2500)), "echo": True, "logprobs": 20, "n": 8, "max_tokens": 3000}
        body = json.dumps(LONG | echo).encode()
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect(("127.0.0.1", plant.port))
            head = f"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            slow.sendall(head.encode() + body)
            plant.wait_for_work()
            # Another client is not held up by the one that does not read.
            answer = httpx.post(
                f"{plant.url}/v1/completions", json=LONG | {"max_tokens": 5, "stream": False}, timeout=60
            )
            assert answer.json()["usage"]["completion_tokens"] == 5
            deadline = time.monotonic() + 120
            while plant.gauge("vllm:num_requests_running") > 0:
                assert time.monotonic() < deadline, "the slow reader still holds its sequence"
                time.sleep(0.05)
            slow.setblocking(True)
            slow.settimeout(30)
            received = b""
            with contextlib.suppress(ConnectionError):
                while piece := slow.recv(65536):
                    received += piece
            assert b"[DONE]" not in received
        plant.wait_for_rest()


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Plant, str]]:
    folder = tmp_path_factory.mktemp("keys")
    where = f"[server]\nkey_secret_file = {json.dumps(str(folder / 'key-secret'))}\n"
    config = folder / "keys.toml"
    config.write_text(where, encoding="utf-8")
    made = run("keys", "new", "team-a", "--json", "--config", str(config))
    assert made.returncode == 0, made.stderr
    key = json.loads(made.stdout)
    settings = where + f'[[server.keys]]\nname = "team-a"\nhash = "{key["hash"]}"\n'
    with Plant([MODEL], settings=settings) as plant:
        yield plant, key["key"]


def test_the_right_key(keyed: tuple[Plant, str]) -> None:
    plant, key = keyed
    with openai.OpenAI(base_url=f"{plant.url}/v1", api_key=key, max_retries=0) as client:
        assert [entry.id for entry in client.models.list().data] == [MODEL]
        answer = client.completions.create(model=MODEL, prompt="a", max_tokens=1)
        assert answer.usage.completion_tokens == 1


def test_a_wrong_key(keyed: tuple[Plant, str]) -> None:
    plant, key = keyed
    for wrong in ["wrong", key[:-1], key + "0"]:
        with openai.OpenAI(base_url=f"{plant.url}/v1", api_key=wrong, max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError) as caught:
                client.completions.create(model=MODEL, prompt="a", max_tokens=1)
            assert caught.value.code == "invalid_api_key"
            with pytest.raises(openai.AuthenticationError):
                client.models.list()


def test_without_a_key(keyed: tuple[Plant, str]) -> None:
    plant, key = keyed
    for path in ["/v1/models", "/metrics", "/openapi.json"]:
        assert httpx.get(plant.url + path).status_code == 401, path
    assert httpx.get(f"{plant.url}/health").status_code == 200
    assert plant.gauge("vllm:num_requests_running", authorization=f"Bearer {key}") == 0


def test_the_key_is_kept_only_as_a_hash(keyed: tuple[Plant, str]) -> None:
    plant, key = keyed
    files = [path for path in plant.folder.rglob("*") if path.is_file()]
    assert files
    assert all(key.encode() not in path.read_bytes() for path in files)


def test_another_address_without_keys_is_refused() -> None:
    result = run("serve", str(model_file(MODEL)), "--host", "0.0.0.0", "--port", "0", timeout=120)
    assert result.returncode != 0
    assert "key" in result.stderr


def test_a_port_in_use_is_told(plant: Plant) -> None:
    result = run("serve", str(model_file(MODEL)), "--port", str(plant.port), timeout=120)
    assert result.returncode != 0
    assert str(plant.port) in result.stderr


def test_a_model_without_a_chat_template() -> None:
    with Plant(["gemma3-270m"]) as plant:
        with openai.OpenAI(base_url=f"{plant.url}/v1", api_key="unused", max_retries=0) as client:
            with pytest.raises(openai.BadRequestError) as caught:
                client.chat.completions.create(model="gemma3-270m", messages=[{"role": "user", "content": "Hi"}])
            assert "template" in caught.value.message
            answer = client.completions.create(model="gemma3-270m", prompt="The capital of France is", max_tokens=3)
            assert answer.usage.completion_tokens == 3
            assert answer.usage.prompt_tokens == 6
