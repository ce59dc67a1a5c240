"""Every tutorial with commands runs from top to bottom, on shorter runs, and prints what it says but for numbers."""

import gc
import importlib.util
import re
import sys
import warnings
from typing import NamedTuple

import pytest
from docs_pages import DOCS, LEFT_OUT, run_page, without_numbers

from escapevelocity.cli import main


class Shortened(NamedTuple):
    """How a page is run here."""

    needs: tuple[str, ...]
    replace: dict[str, str]
    other: str = r"(?!)"
    """Shown lines that shorter runs do not print, as a regular expression."""


PAGES = {
    "tutorials/dead-sb3-run": Shortened(
        ("stable_baselines3",),
        {"6_000": "3_000"},
        r"saved: HEALTHY|.*(plateau|no sign of illness)|  for it: ",
    ),
    "tutorials/reproduce-a-figure": Shortened((), {}, r"True \["),
    "tutorials/ray-sweep": Shortened(
        (),
        {
            "40960": "512",
            "--executor ray": "--workers 1",  # What Ray does is tested in tests/study/test_study_ray_executor.py.
            **{"[2.5e-4, 2.5e-3]": "[2.5e-4]", "[4, 20]": "[4]"},
            **{"(2.5e-4, 2.5e-3)": "(2.5e-4,)", "(4, 20)": "(4,)"},
        },
        r"CartPole-v1-\w+ |(started|finished) CartPole|. of . runs|4 runs",
    ),
    "tutorials/own-remedy": Shortened(
        (),
        {"--steps 81920": "--steps 2048 --episode-limit 12", "--seeds 1 2 3": "--seeds 1 2"},
        r"runs/(sick|held): |.*(growth|dead neurons): |  parent went on to",
    ),
    "tutorials/adaptive-sampling": Shortened((), {"--steps 300": "--steps 30"}),
}
RUNS = {name: {"python", "sh"} for name in PAGES}
"""Which blocks of which pages this file runs."""


@pytest.fixture(autouse=True)
def no_trace(monkeypatch, tmp_path):
    """The page's folder is an empty one, and what it registers is forgotten afterwards."""
    from escapevelocity.ppo.remedies import REMEDIES

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    before = set(REMEDIES)
    yield
    for name in set(REMEDIES) - before:
        del REMEDIES[name]
    sys.modules.pop("norm_ceiling", None)
    with warnings.catch_warnings():  # Stable-Baselines3 leaves its logs open, as a reader's program would.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_a_tutorial_runs_and_prints_what_it_says(name):
    how = PAGES[name]
    for package in how.needs:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    shown = 0
    for promised, printed in run_page(DOCS / f"{name}.md", how.replace, main):
        heard = without_numbers(printed)
        lines = [line for line in promised.splitlines() if line.strip() not in ("", LEFT_OUT)]
        expected = [line for line in lines if not re.match(how.other, line)]
        assert [line for line in without_numbers("\n".join(expected)) if line not in heard] == [], printed
        shown += len(expected)
    assert shown >= 3
