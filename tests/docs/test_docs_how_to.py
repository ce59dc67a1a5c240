"""The code of every page about trainers and remedies runs from top to bottom and prints what the page promises."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from end_to_end import process_environment

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
NEEDED = {
    "sb3": ("torch", "stable_baselines3"),
    "cleanrl": ("torch",),
    "torchrl": ("torch", "torchrl"),
    "remedy": (),
    "asr-pytorch": ("torch", "pytorch_metric_learning"),
}
RUNS = {f"how-to/{name}": {"python"} for name in NEEDED}
SHORTER = {"sb3": {"1024": "256"}}
"""What is written otherwise here, so that a page takes less time: as many updates, of fewer steps each."""
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\s*(-?\d[\d.,]*(e[+-]?\d+)?|nan)\b")


def without_numbers(text: str) -> list[str]:
    """The lines of an output without the digits, which depend on the machine."""
    return [NUMBER.sub(" #", line) for line in text.splitlines()]


def test_numbers_are_all_that_is_left_out():
    assert without_numbers("step  10: KL -1.5e-03, rank 3\n5 % of nan") == [
        "step #: KL #, rank #",
        " # % of #",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", NEEDED)
def test_a_page_runs_and_prints_what_it_says_but_for_the_numbers(name, tmp_path):
    for package in NEEDED[name]:
        pytest.importorskip(package)
    blocks = BLOCK.findall((HOW_TO / f"{name}.md").read_text(encoding="utf-8"))
    code = "\n".join(text for language, text in blocks if language == "python")
    promised = [text for language, text in blocks if language == "text"]
    for old, new in SHORTER.get(name, {}).items():
        assert old in code
        code = code.replace(old, new)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=process_environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    if promised:  # The page about TorchRL shows no output: it was written where TorchRL is not installed.
        assert without_numbers(done.stdout) == without_numbers("".join(promised))
    else:
        assert done.stdout.count("actor rank") == 3


@pytest.mark.parametrize("name", NEEDED)
def test_every_page_that_a_page_points_to_exists(name):
    page = HOW_TO / f"{name}.md"
    prose = BLOCK.sub("", page.read_text(encoding="utf-8"))
    targets = re.findall(r"\]\(([^)#:]+)\)", prose)
    assert targets
    assert [target for target in targets if not (page.parent / target).exists()] == []
