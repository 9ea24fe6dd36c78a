"""A plant with an admin key, and customers on it."""

import hashlib
import hmac
import json
from pathlib import Path

import httpx

from plant import Plant

MODEL = "smollm2-135m"
ADMIN = "tw-admin"
SECRET = "a secret of the tests alone"


def settings(folder: Path) -> str:
    """The part of the configuration that names the admin key."""
    secret = folder / "secret"
    secret.write_text(SECRET, encoding="utf-8")
    digest = hmac.new(SECRET.encode(), ADMIN.encode(), hashlib.sha256).hexdigest()
    return f'[server]\nkey_secret_file = {json.dumps(str(secret))}\n[[server.keys]]\nname = "ops"\nhash = "{digest}"\n'


def admin(plant: Plant, method: str, path: str, body: dict | None = None) -> dict:
    """An act of administration, which must be done."""
    headers = {"Authorization": f"Bearer {ADMIN}"}
    answer = httpx.request(method, f"{plant.url}/admin/v1{path}", json=body, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def customer(plant: Plant, name: str = "Acme", **plan: object) -> str:
    """Makes a customer whose tokens have a price, and gives the key."""
    tiers = [{"input": "10 per 1M", "output": "30 per 1M"}]
    admin(plant, "PUT", "/prices", {"model": MODEL, "from": "2020-01-01T00:00:00Z", "tiers": tiers})
    admin(plant, "PUT", "/plans", {"id": "basic"} | plan)
    admin(plant, "PUT", "/organisations", {"id": "acme", "name": name, "plan": "basic"})
    admin(plant, "PUT", "/projects", {"id": "web", "organisation": "acme", "name": "Web"})
    return admin(plant, "POST", "/keys", {"id": "k1", "project": "web", "name": "web"})["key"]
