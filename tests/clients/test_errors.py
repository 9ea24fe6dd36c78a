"""Bad requests: a clear error, and the others unaffected."""

import json

import httpx
import openai
import pytest

MESSAGES = [{"role": "user", "content": "Hi"}]
CHAT = "/v1/chat/completions"


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        ({"temperature": -1}, "temperature"),
        ({"temperature": 9}, "temperature"),
        ({"temperature": "warm"}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 100000}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -5}, "max_tokens"),
        ({"top_logprobs": 5}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 500}, "top_logprobs"),
        ({"stop": ["a"] * 100}, "stop"),
        ({"logit_bias": {"99999999": 1}}, "logit_bias"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"messages": []}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"extra_body": {"no_such_field": 1}}, "no_such_field"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_bad_fields_are_named(client: openai.OpenAI, model: str, arguments: dict, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**({"model": model, "messages": MESSAGES, "max_tokens": 2} | arguments))
    error = caught.value
    assert error.status_code == 400
    assert error.type == "invalid_request_error"
    assert error.param is not None and error.param.startswith(param)
    assert param in error.message


def test_unknown_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-none", messages=MESSAGES)
    assert caught.value.code == "model_not_found"


def test_a_prompt_that_fills_the_context(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "word " * 9000}])
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b'{"model": "smollm2-135m", "messages": [{"role": "user", "content": "a"}], "temperature": NaN}',
        b'{"model": "smollm2-135m", "messages": [{"role": "user", "content": "\xff\xfe"}]}',
        b'{"model": "smollm2-135m", "model": "x", "messages": 1}',
        b"[" * 100_000,
        b'{"messages": [{"role": "user", "content": "a"}]} trailing',
    ],
    ids=lambda body: repr(body[:40]),
)
def test_bad_json(raw: httpx.Client, body: bytes) -> None:
    reply = raw.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 400
    assert reply.json()["error"]["type"] == "invalid_request_error"


def test_an_infinite_number_is_refused(raw: httpx.Client, model: str) -> None:
    body = '{"model": "%s", "messages": [{"role": "user", "content": "a"}], "temperature": 1e999}' % model
    reply = raw.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 400


def test_50_mb(raw: httpx.Client, model: str) -> None:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "a" * 50_000_000}]})
    try:
        reply = raw.post(CHAT, content=body, headers={"content-type": "application/json"})
    except (httpx.WriteError, httpx.ReadError):
        # The server may hang up on a sender that goes on after the refusal; what counts is that it lives.
        pass
    else:
        assert reply.status_code == 413
        assert reply.json()["error"]["code"] == "request_too_large"
    assert raw.get("/health").status_code == 200


def test_50_mb_in_chunks_without_a_length(raw: httpx.Client) -> None:
    def pieces():
        yield b'{"prompt": "'
        for _ in range(50):
            yield b"a" * 1_000_000

    try:
        reply = raw.post("/v1/completions", content=pieces(), headers={"content-type": "application/json"})
    except (httpx.WriteError, httpx.ReadError):
        pass
    else:
        assert reply.status_code == 413
    assert raw.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"host": "evil.example"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
    ],
    ids=str,
)
def test_a_web_page_cannot_drive_it(raw: httpx.Client, model: str, headers: dict, status: int) -> None:
    body = json.dumps({"model": model, "messages": MESSAGES, "max_tokens": 1})
    reply = raw.post(CHAT, content=body, headers={"content-type": "application/json"} | headers)
    assert reply.status_code == status
    assert "error" in reply.json()
    assert "access-control-allow-origin" not in reply.headers


def test_a_preflight_of_a_foreign_page_gets_no_permission(raw: httpx.Client) -> None:
    headers = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    reply = raw.options(CHAT, headers=headers)
    assert "access-control-allow-origin" not in reply.headers


def test_unknown_routes_and_methods(raw: httpx.Client) -> None:
    assert raw.get("/v1/nothing").status_code == 404
    assert raw.get(CHAT).status_code == 405


def test_the_server_works_after_all_that(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=2)
    assert answer.usage.completion_tokens > 0
