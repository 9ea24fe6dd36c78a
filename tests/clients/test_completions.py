"""Completions through the official client."""

import openai
import pytest

PROMPT = "The capital of France is"
PROMPT_IDS = [504, 3575, 282, 4649, 314]


def test_text_and_ids_give_the_same_answer(client: openai.OpenAI, model: str) -> None:
    by_text = client.completions.create(model=model, prompt=PROMPT, max_tokens=8, temperature=0)
    by_ids = client.completions.create(model=model, prompt=PROMPT_IDS, max_tokens=8, temperature=0)
    assert by_text.object == "text_completion"
    assert by_text.choices[0].text.startswith(" Paris")
    assert by_text.choices[0].text == by_ids.choices[0].text
    assert by_text.usage.prompt_tokens == by_ids.usage.prompt_tokens == 5
    assert by_text.usage.completion_tokens == 8
    assert by_text.choices[0].finish_reason == "length"


def test_lists_answer_in_order(client: openai.OpenAI, model: str) -> None:
    other = "Once upon a time"
    alone = [client.completions.create(model=model, prompt=p, max_tokens=6, temperature=0) for p in (PROMPT, other)]
    texts = client.completions.create(model=model, prompt=[PROMPT, other], max_tokens=6, temperature=0)
    assert [choice.index for choice in texts.choices] == [0, 1]
    assert [choice.text for choice in texts.choices] == [answer.choices[0].text for answer in alone]
    assert texts.usage.prompt_tokens == sum(answer.usage.prompt_tokens for answer in alone)
    ids = client.completions.create(model=model, prompt=[PROMPT_IDS, PROMPT_IDS], max_tokens=6, temperature=0)
    assert [choice.text for choice in ids.choices] == [alone[0].choices[0].text] * 2


def test_echo_with_logprobs_scores_the_prompt(client: openai.OpenAI, model: str) -> None:
    answer = client.completions.create(model=model, prompt=PROMPT, max_tokens=0, echo=True, logprobs=2)
    choice = answer.choices[0]
    logprobs = choice.logprobs
    assert choice.text == PROMPT
    assert answer.usage.completion_tokens == 0
    assert "".join(logprobs.tokens) == PROMPT
    assert logprobs.token_logprobs[0] is None
    assert all(value < 0 for value in logprobs.token_logprobs[1:])
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.top_logprobs) == 5
    assert logprobs.text_offset == [0, 3, 11, 14, 21]


def test_scores_of_made_and_given_tokens_agree(client: openai.OpenAI, model: str) -> None:
    made = client.completions.create(model=model, prompt=PROMPT, max_tokens=12, temperature=0, echo=True, logprobs=1)
    text = made.choices[0].text
    given = client.completions.create(model=model, prompt=text, max_tokens=0, echo=True, logprobs=1)
    assert made.choices[0].logprobs.tokens == given.choices[0].logprobs.tokens
    assert made.choices[0].logprobs.token_logprobs[1:] == given.choices[0].logprobs.token_logprobs[1:]


def test_echo_and_answer(client: openai.OpenAI, model: str) -> None:
    answer = client.completions.create(model=model, prompt=PROMPT, max_tokens=4, temperature=0, echo=True)
    assert answer.choices[0].text.startswith(PROMPT + " Paris")


def test_stream(client: openai.OpenAI, model: str) -> None:
    whole = client.completions.create(model=model, prompt=PROMPT, max_tokens=10, temperature=0)
    stream = client.completions.create(
        model=model, prompt=PROMPT, max_tokens=10, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(choice.text for chunk in chunks for choice in chunk.choices)
    assert text == whole.choices[0].text
    assert chunks[-1].usage.completion_tokens == 10


def test_stop_and_penalties(client: openai.OpenAI, model: str) -> None:
    answer = client.completions.create(model=model, prompt=PROMPT, max_tokens=40, temperature=0, stop="\n")
    assert "\n" not in answer.choices[0].text
    assert answer.choices[0].finish_reason == "stop"
    plain = client.completions.create(model=model, prompt="la la la la", max_tokens=16, temperature=0)
    penalised = client.completions.create(
        model=model, prompt="la la la la", max_tokens=16, temperature=0, frequency_penalty=2, presence_penalty=2
    )
    assert plain.choices[0].text != penalised.choices[0].text


def test_special_tokens_in_prompts_are_read(client: openai.OpenAI, model: str) -> None:
    answer = client.completions.create(model=model, prompt="<|im_start|>", max_tokens=1)
    assert answer.usage.prompt_tokens == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [10_000_000]}, "prompt"),
        ({"prompt": [[1], []]}, "prompt"),
        ({"logprobs": 1000}, "logprobs"),
        ({"stop": [""]}, "stop"),
        ({"top_p": 0}, "top_p"),
        ({"prompt": "word " * 9000}, "8192"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_values_are_named(client: openai.OpenAI, model: str, arguments: dict, says: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(**({"model": model, "prompt": "a", "max_tokens": 2} | arguments))
    assert says in str(caught.value)
