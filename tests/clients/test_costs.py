"""What the plant costs, on a real server under load: all of it is idle, in progress or some request's, to the last unit."""

import contextlib
import json
import subprocess
import threading
import time

import httpx

from plant import Plant, binary, clean_environment, run

MODEL = "smollm2-135m"
REQUESTS = 24


def tokenworks(plant: Plant, *arguments: str) -> str:
    done = subprocess.run(
        [str(binary()), *arguments, "--config", str(plant.folder / "tokenworks.toml"), "--data-dir", str(plant.folder / "data")],
        env=clean_environment(str(plant.folder)),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def ask(plant: Plant, number: int) -> None:
    body = {"model": MODEL, "prompt": f"{number} ships came to", "max_tokens": 8 + number % 5 * 8, "ignore_eos": True}
    httpx.post(f"{plant.url}/v1/completions", json=body, timeout=120).raise_for_status()


def load(plant: Plant) -> None:
    threads = [threading.Thread(target=ask, args=(plant, number)) for number in range(REQUESTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def end(plant: Plant) -> None:
    plant.terminate()
    plant.process.wait(timeout=60)


def ask_and_be_cut_off(plant: Plant) -> None:
    body = {"model": MODEL, "prompt": "Once", "max_tokens": 4000, "ignore_eos": True}
    with contextlib.suppress(httpx.HTTPError):
        httpx.post(f"{plant.url}/v1/completions", json=body, timeout=120)


def costs(plant: Plant) -> dict:
    return json.loads(tokenworks(plant, "ledger", "verify", "--costs", "--json"))["costs"]


def test_costs_add_up_on_a_loaded_server_and_after_a_crash(tmp_path):
    sheet = run("plant", "example").stdout
    sheet_file = tmp_path / "plant.toml"
    sheet_file.write_text(sheet, encoding="utf-8")
    plant = Plant([MODEL], f'[plant]\nsheet_file = {json.dumps(str(sheet_file))}\npowercap_root = "no/such/folder"\n')
    try:
        load(plant)
        end(plant)
        found = costs(plant)
        assert found["requests"] == REQUESTS
        assert found["plant_uj"] == found["attributed_uj"] + found["idle_uj"] > 0
        assert found["in_progress_uj"] == 0 and found["attributed_uj"] > 0

        # Killed in the midst: what was in progress is idle cost after the next start.
        plant.start_again()
        client = threading.Thread(target=ask_and_be_cut_off, args=(plant,))
        client.start()
        plant.wait_for_work()
        time.sleep(3)  # Some intervals of it are closed.
        plant.kill()
        client.join()
        plant.start_again()
        end(plant)
        again = costs(plant)
        assert again["in_progress_uj"] == 0 and again["plant_uj"] > found["plant_uj"]
        assert again["plant_uj"] == again["attributed_uj"] + again["idle_uj"]
    finally:
        plant.stop()


def test_a_wrong_sheet_is_refused_by_name(tmp_path):
    for text, named in [
        ("life_years = \"0\"", "plant.equipment[0].life_years"),
        ("idle_watts = \"-1\"", "plant.idle_watts"),
    ]:
        field = text.split(" ")[0]
        lines = [text if line.startswith(f"{field} ") else line for line in run("plant", "example").stdout.splitlines()]
        (tmp_path / "plant.toml").write_text("\n".join(lines), encoding="utf-8")
        config = tmp_path / "tokenworks.toml"
        config.write_text(f"[plant]\nsheet_file = {json.dumps(str(tmp_path / 'plant.toml'))}\n", encoding="utf-8")
        done = run("plant", "show", "--config", str(config))
        assert done.returncode == 2 and named in done.stderr, done.stderr
