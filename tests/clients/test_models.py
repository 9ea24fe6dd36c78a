"""Models, token counts and the state of the server."""

import json
from pathlib import Path

import httpx
import openai
import pytest

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "smollm2-135m.json").read_text(encoding="utf-8"))


def test_models(client: openai.OpenAI, model: str) -> None:
    listed = client.models.list().data
    assert [entry.id for entry in listed] == [model]
    one = client.models.retrieve(model)
    assert (one.id, one.object) == (model, "model")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nothing")


@pytest.mark.parametrize("case", REFERENCE["tokenizer_cases"], ids=lambda case: repr(case["text"])[:30])
def test_tokenize_and_back(raw: httpx.Client, model: str, case: dict) -> None:
    body = {"model": model, "prompt": case["text"], "add_special_tokens": False}
    reply = raw.post("/tokenize", json=body).raise_for_status().json()
    assert reply["tokens"] == case["ids"]
    assert reply["count"] == len(case["ids"])
    assert reply["max_model_len"] > 0
    back = raw.post("/detokenize", json={"model": model, "tokens": case["ids"]}).raise_for_status().json()
    assert back["prompt"] == case["text"]


def test_special_tokens_only_when_asked(raw: httpx.Client) -> None:
    def ids(**more: bool) -> list[int]:
        return raw.post("/tokenize", json={"prompt": "<|im_end|>", **more}).raise_for_status().json()["tokens"]

    assert 2 not in ids()
    assert ids(parse_special=True) == [2]


def test_bad_ids(raw: httpx.Client) -> None:
    assert raw.post("/detokenize", json={"tokens": [1 << 30]}).status_code == 400
    assert raw.post("/detokenize", json={"tokens": [-1]}).status_code == 400


def test_health_and_metrics(raw: httpx.Client, client: openai.OpenAI, model: str) -> None:
    client.completions.create(model=model, prompt="a", max_tokens=2)
    assert raw.get("/health").status_code == 200
    assert raw.get("/ready").status_code == 200
    metrics = raw.get("/metrics").raise_for_status()
    assert metrics.headers["content-type"].startswith("text/plain")
    for name in [
        "tokenworks_time_to_first_token_seconds_bucket",
        "tokenworks_inter_token_latency_seconds_bucket",
        "tokenworks_request_duration_seconds_bucket",
        "tokenworks_request_queue_seconds_bucket",
        "tokenworks_requests_running",
        "tokenworks_requests_waiting",
        "tokenworks_kv_cache_usage_ratio",
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
    ]:
        assert f"\n{name}{{" in metrics.text, name


def test_the_description_lists_the_routes(raw: httpx.Client) -> None:
    paths = raw.get("/openapi.json").raise_for_status().json()["paths"]
    for path in ["/v1/chat/completions", "/v1/completions", "/v1/models", "/tokenize", "/detokenize", "/metrics"]:
        assert path in paths
