"""Runs docs/walkthrough.md block by block and compares what it prints with what the page shows."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from plant import binary, clean_environment, free_port, model_file

PAGE = Path(__file__).parents[2] / "docs" / "walkthrough.md"
MODEL = "smollm2-135m"
# Stands between the outputs of two blocks.
BORDER = "-- next block --"


def blocks() -> list[tuple[str, str | None]]:
    """Each shell block with what is shown below it."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
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


def test_the_walkthrough_runs_as_it_stands(tmp_path: Path) -> None:
    pairs = blocks()
    assert len(pairs) >= 8
    # The program by its name, and the model where `pull` would put it.
    programs, models = tmp_path / "bin", tmp_path / ".cache" / "tokenworks" / "models"
    for folder in (programs, models):
        folder.mkdir(parents=True)
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
    log = tmp_path / "walkthrough" / "server.log"
    told = f"{done.stderr}\n{log.read_text(encoding='utf-8') if log.exists() else ''}"
    printed = done.stdout.split(f"{BORDER}\n")
    for (block, shown), output in zip(pairs, printed, strict=False):
        assert re.fullmatch(expected(shown or ""), output), f"{block}\nprinted\n{output}\n{told}"
    assert done.returncode == 0, told
    assert len(printed) == len(pairs) + 1 and printed[-1] == ""
