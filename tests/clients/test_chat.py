"""Chat completions through the official client."""

import math

import openai
import pytest

MESSAGES = [{"role": "user", "content": "What is 2+2?"}]


def test_chat_answers_with_usage(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=32, temperature=0)
    choice = answer.choices[0]
    assert answer.object == "chat.completion"
    assert answer.model == model
    assert choice.message.role == "assistant"
    assert "4" in choice.message.content
    assert choice.finish_reason == "stop"
    assert answer.usage.prompt_tokens == 37
    assert 0 < answer.usage.completion_tokens <= 32
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert 0 <= answer.usage.prompt_tokens_details.cached_tokens <= 36


def test_stream_is_the_same_answer_in_pieces(client: openai.OpenAI, model: str) -> None:
    whole = client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=24, temperature=0)
    stream = client.chat.completions.create(
        model=model,
        messages=MESSAGES,
        max_tokens=24,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    text, reasons, usages, ids = "", [], [], set()
    for chunk in stream:
        assert chunk.object == "chat.completion.chunk"
        ids.add(chunk.id)
        if chunk.usage is not None:
            assert chunk.choices == []
            usages.append(chunk.usage)
        for choice in chunk.choices:
            text += choice.delta.content or ""
            if choice.finish_reason:
                reasons.append(choice.finish_reason)
    assert text == whole.choices[0].message.content
    assert reasons == [whole.choices[0].finish_reason]
    assert len(ids) == 1
    assert len(usages) == 1
    assert usages[0].completion_tokens == whole.usage.completion_tokens
    assert usages[0].prompt_tokens == whole.usage.prompt_tokens


def test_stream_without_include_usage_has_none(client: openai.OpenAI, model: str) -> None:
    stream = client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=4, stream=True)
    chunks = list(stream)
    assert len(chunks) > 1
    assert all(chunk.usage is None and len(chunk.choices) == 1 for chunk in chunks)


def test_a_repeated_prompt_is_cached(client: openai.OpenAI, model: str) -> None:
    messages = [{"role": "user", "content": "Please repeat these words. " + "river stone cloud " * 40}]
    first, second = (
        client.chat.completions.create(model=model, messages=messages, max_tokens=4, temperature=0) for _ in range(2)
    )
    assert second.usage.prompt_tokens_details.cached_tokens >= 96
    assert second.usage.prompt_tokens_details.cached_tokens < second.usage.prompt_tokens
    assert first.choices[0].message.content == second.choices[0].message.content


def test_logprobs(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model, messages=MESSAGES, max_tokens=8, temperature=0, logprobs=True, top_logprobs=5
    )
    entries = answer.choices[0].logprobs.content
    assert entries
    for entry in entries:
        values = [top.logprob for top in entry.top_logprobs]
        assert len(values) == 5
        assert values == sorted(values, reverse=True)
        assert entry.logprob == values[0] <= 0
        assert sum(math.exp(value) for value in values) <= 1.0001
    joined = b"".join(bytes(entry.bytes) for entry in entries).decode()
    assert joined == answer.choices[0].message.content


def test_candidates_share_the_prompt(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "Tell a story."}], n=3, max_tokens=12, temperature=1.2, seed=5
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) > 1
    assert answer.usage.prompt_tokens < 60, "the prompt counts once"
    assert 12 < answer.usage.completion_tokens <= 36


def test_streamed_candidates_are_told_apart(client: openai.OpenAI, model: str) -> None:
    texts: dict[int, str] = {}
    stream = client.chat.completions.create(model=model, messages=MESSAGES, n=2, max_tokens=8, seed=1, stream=True)
    finished = []
    for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
            if choice.finish_reason:
                finished.append(choice.index)
    assert sorted(finished) == [0, 1]
    assert sorted(texts) == [0, 1]


def test_seed_makes_an_answer_repeatable(client: openai.OpenAI, model: str) -> None:
    def ask(seed: int) -> str:
        answer = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": "Invent a name for a ship."}],
            max_tokens=16,
            temperature=1.5,
            seed=seed,
        )
        return answer.choices[0].message.content

    assert ask(7) == ask(7)
    assert len({ask(seed) for seed in range(1, 5)}) > 1


@pytest.mark.parametrize("stream", [False, True])
def test_stop_strings_across_tokens(client: openai.OpenAI, model: str, stream: bool) -> None:
    arguments = {"model": model, "messages": MESSAGES, "max_tokens": 32, "temperature": 0}
    whole = client.chat.completions.create(**arguments).choices[0].message.content
    middle = len(whole) // 2
    stop = whole[middle - 3 : middle + 3]
    answer = client.chat.completions.create(**arguments, stop=[stop, "never occurs"], stream=stream)
    if stream:
        chunks = [choice for chunk in answer for choice in chunk.choices]
        text = "".join(choice.delta.content or "" for choice in chunks)
        reason = chunks[-1].finish_reason
    else:
        text, reason = answer.choices[0].message.content, answer.choices[0].finish_reason
    assert text == whole[: whole.index(stop)]
    assert reason == "stop"


def test_length_ends_at_max_tokens(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model, messages=MESSAGES, max_tokens=40, temperature=0, extra_body={"ignore_eos": True}
    )
    assert answer.usage.completion_tokens == 40
    assert answer.choices[0].finish_reason == "length"


def test_max_completion_tokens_is_the_newer_name(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=MESSAGES, max_completion_tokens=3, temperature=0)
    assert answer.usage.completion_tokens == 3


def test_logit_bias_forces_a_token(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model, messages=MESSAGES, max_tokens=3, temperature=0, logit_bias={"19556": 100}
    )
    assert answer.choices[0].message.content == "HelloHelloHello"


def test_streamed_text_is_whole_characters(client: openai.OpenAI, model: str) -> None:
    stream = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Write: 黑暗光明 🌍🌎 ünïcödé"}],
        max_tokens=64,
        temperature=1.8,
        seed=3,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    for chunk in stream:
        for choice in chunk.choices:
            (choice.delta.content or "").encode()


def test_special_tokens_in_contents_stay_text(client: openai.OpenAI, raw, model: str) -> None:
    messages = [{"role": "user", "content": "a<|im_end|>b"}]
    reply = raw.post("/tokenize", json={"model": model, "messages": messages}).raise_for_status().json()
    assert reply["tokens"].count(2) == 2, "only the template's own <|im_end|>"
    answer = client.chat.completions.create(model=model, messages=messages, max_tokens=1)
    assert answer.usage.prompt_tokens == reply["count"]


def test_fields_that_change_nothing_are_taken(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model,
        messages=MESSAGES,
        max_tokens=1,
        user="u",
        metadata={"a": "b"},
        store=False,
        service_tier="auto",
        safety_identifier="s",
        prompt_cache_key="k",
    )
    assert answer.usage.completion_tokens == 1
