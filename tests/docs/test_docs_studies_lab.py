"""The lab's results in the repository are complete: a page with its pictures and its data for every experiment."""

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from escapevelocity.cli.lab import EXPERIMENTS

FOLDER = Path(__file__).parents[2] / "studies" / "lab"
LEFT_OUT = {"trajectories"}  # 3 MB, see .gitignore


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_has_its_page_pictures_and_data(name):
    page = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", page)
    assert pictures
    assert all((FOLDER / picture).exists() for picture in pictures)
    assert re.search(rf"^    ev lab {name} .*--out studies/lab$", page, re.MULTILINE)
    assert "--quick" not in page
    if name not in LEFT_OUT:
        assert pq.read_table(FOLDER / f"{name}.parquet").num_rows > 0


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_overview_points_to_every_page(name):
    assert f"]({name}.md)" in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_the_escape_table_holds_the_reference_steps_of_the_design():
    """theory.md: K = 6, b = 0.2, Δ = 0.5, η = 0.4, π₁ = 10⁻² … 10⁻⁶."""
    rows = pq.read_table(FOLDER / "escape.parquet").to_pylist()
    steps = {(row["method"], row["best_prob"]): row["steps"] for row in rows}
    reference = {
        "SPG": (254, 2520, 25034, 250047, 2500060),
        "EPG(4)": (64, 271, 945, 3097, 9924),
        "EPG(3)": (38, 118, 291, 664, 1469),
        "EPG(2)": (13, 25, 37, 49, 61),
    }
    for method, expected in reference.items():
        assert tuple(steps[method, prob] for prob in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)) == expected
