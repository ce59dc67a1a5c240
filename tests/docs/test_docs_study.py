"""The page about studies: its code reads a history (its plans are held against `ev` by test_cli_study_plan.py)."""

import re

from docs_pages import DOCS, ROOT, blocks, run_page, without_numbers

PAGE = DOCS / "how-to" / "study.md"
RUNS = {"how-to/study": {"python"}}
KEPT = ROOT / "studies" / "hopper_collapse" / "history.parquet"


def test_the_code_reads_draws_and_prints_as_shown(tmp_path, monkeypatch):
    """On a history that is kept in the repository and has the same settings, in place of one that takes training."""
    monkeypatch.chdir(tmp_path)
    import matplotlib.pyplot as plt

    *_, (promised, printed) = run_page(PAGE, {'"my-study.parquet"': repr(str(KEPT))}, lambda arguments: 0)
    assert without_numbers(printed) == without_numbers(promised)
    assert re.search(r"^pfo: \d+ seeds, pre-activation norm [\d.]+ at the end$", printed, re.MULTILINE)
    assert (tmp_path / "my-study.png").stat().st_size > 10_000
    plt.close("all")


def test_the_page_has_code_to_run():
    assert [block.language for block in blocks(PAGE)].count("python") == 1
