"""Runs pages of docs/ block by block and compares what they print with what they show."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from plant import binary, clean_environment, free_port, model_file

DOCS = Path(__file__).parents[2] / "docs"
MODEL = "smollm2-135m"
# Stands between the outputs of two blocks.
BORDER = "-- next block --"


def blocks(page: str) -> list[tuple[str, str | None]]:
    """Each shell block with what is shown below it."""
    text = DOCS / f"{page}.md"
    found = re.findall(r"^```(\w+)\n(.*?)^```$", text.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert {kind for kind, _ in found} == {"sh", "text"}
    pairs: list[tuple[str, str | None]] = []
    for kind, text in found:
        if kind == "sh":
            pairs.append((text, None))
        else:
            block, shown = pairs.pop()
            assert shown is None, "two outputs below one block"
            pairs.append((block, text))
    return pairs


def expected(shown: str) -> str:
    """What is shown as a pattern: `…` is anything within its line, alone on a line any number of lines."""
    lines = (r"(?:.*\n)*" if line == "…\n" else ".*".join(map(re.escape, line.split("…"))) for line in shown.splitlines(True))
    return "".join(lines)


@pytest.mark.parametrize(("page", "folder", "least"), [("walkthrough", "walkthrough", 8), ("experiments", "experiment", 3), ("value", "value", 6)])
def test_the_page_runs_as_it_stands(tmp_path: Path, page: str, folder: str, least: int) -> None:
    pairs = blocks(page)
    assert len(pairs) >= least
    # The program by its name, and the model where `pull` would put it.
    programs, models = tmp_path / "bin", tmp_path / ".cache" / "tokenworks" / "models"
    for made in (programs, models):
        made.mkdir(parents=True)
    (programs / "tokenworks").symlink_to(binary().resolve())
    (models / f"{MODEL}.gguf").symlink_to(model_file(MODEL).resolve())
    environment = clean_environment(str(tmp_path)) | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PORT": str(free_port()),
    }
    script = ["set -euo pipefail", 'trap \'kill "${SERVER:-}" 2> /dev/null || true\' EXIT']
    for block, _ in pairs:
        script += [block, f"echo '{BORDER}'"]
    done = subprocess.run(
        [shutil.which("bash") or "bash", "-c", "\n".join(script)],
        env=environment, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, encoding="utf-8",
        timeout=300, check=False,
    )
    log = tmp_path / folder / "server.log"
    told = f"{done.stderr}\n{log.read_text(encoding='utf-8') if log.exists() else ''}"
    printed = done.stdout.split(f"{BORDER}\n")
    for (block, shown), output in zip(pairs, printed, strict=False):
        assert re.fullmatch(expected(shown or ""), output), f"{block}\nprinted\n{output}\n{told}"
    assert done.returncode == 0, told
    assert len(printed) == len(pairs) + 1 and printed[-1] == ""
