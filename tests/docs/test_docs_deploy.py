"""The page about deployment: its commands and its code run, and print what it shows but for the numbers."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from end_to_end import process_environment

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "deploy.md"
RUNS = {"how-to/deploy": {"python", "sh"}}
TEXT = PAGE.read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(python|sh|text)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\d[\d,.]*(e[+-]?\d+)?(\+cpu)?")
RETURN = re.compile(r"^return (-?[\d.]+) after (\d+) steps$", re.MULTILINE)


def without_numbers(text: str) -> str:
    """The output without what depends on the machine."""
    return NUMBER.sub("#", text)


@pytest.mark.slow
def test_the_page_runs_and_prints_what_it_shows_but_for_the_numbers(tmp_path):
    for package in ("torch", "onnx", "onnxruntime"):
        pytest.importorskip(package)

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            env=process_environment(),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    printed, returns = "", []
    for language, text in BLOCK.findall(TEXT):
        if language == "text":
            assert without_numbers(printed) == without_numbers(text)
            returns += RETURN.findall(printed)
        elif language == "python":
            printed = run("-c", text)
        else:
            name, *arguments = text.split()
            assert name == "ev"
            printed = run("-m", "escapevelocity.cli", *arguments)
    # ONNX Runtime, the module and plain PyTorch play the same short episode; contacts may magnify their last digits.
    assert len(returns) == 3
    for column in zip(*returns, strict=True):
        values = [float(value) for value in column]
        assert values == pytest.approx([values[0]] * 3, rel=0.02)


def test_the_tables_name_every_output_head_and_module():
    from typing import get_args

    from escapevelocity.ppo.config import Head
    from escapevelocity.ppo.export.description import HeadDescription, Kind

    for head in get_args(Head):
        assert re.search(rf"^\| `{head}` \| .+ \| .+ \|$", TEXT, re.MULTILINE)
        for output in HeadDescription(head).outputs:
            assert re.search(rf"^\| .*`{output}`.* \| .+ \|$", TEXT, re.MULTILINE)
    activations = {"Tanh", "ReLU", "GELU", "LeakyReLU"}  # "and the activations"
    assert [kind for kind in get_args(Kind) if kind not in activations and f"`{kind}`" not in TEXT] == []


def test_every_page_that_this_one_points_to_exists():
    targets = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert targets
    assert [target for target in targets if not (PAGE.parent / target).exists()] == []
