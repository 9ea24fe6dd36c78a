"""Fixtures: one server with the default model for most tests, and the official client for it."""

from collections.abc import Iterator

import httpx
import openai
import pytest

from plant import Plant

MODEL = "smollm2-135m"


@pytest.fixture(scope="session")
def plant() -> Iterator[Plant]:
    with Plant([MODEL]) as plant:
        yield plant
        # Whatever the tests did, nothing may be left behind.
        plant.wait_for_rest()


@pytest.fixture(scope="session")
def client(plant: Plant) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{plant.url}/v1", api_key="unused", max_retries=0, timeout=120) as client:
        yield client


@pytest.fixture(scope="session")
def raw(plant: Plant) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=plant.url, timeout=120) as raw:
        yield raw


@pytest.fixture
def model() -> str:
    return MODEL
