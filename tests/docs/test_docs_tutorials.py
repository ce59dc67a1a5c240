"""A tutorial of exact computations prints, from top to bottom, to the digit what the page says it prints."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from end_to_end import process_environment

DOCS = Path(__file__).parents[2] / "docs"
TUTORIALS = [DOCS / "tutorials" / "gravity-well.md"]  # The others are run by test_docs_tutorials_run.py.
RUNS = {f"tutorials/{page.stem}": {"python"} for page in TUTORIALS}
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```", re.MULTILINE | re.DOTALL)
MARK = "-- end of a block --"


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_prints_what_it_says(page, tmp_path):
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    code = [text for language, text in blocks if language == "python"]
    promised = [text for language, text in blocks if language == "text"]
    assert [language for language, _ in blocks] == ["python", "text"] * len(code)
    done = subprocess.run(
        [sys.executable, "-c", f"print({MARK!r})\n".join([*code, ""])],
        env=process_environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(f"{MARK}\n")[:-1] == promised


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_every_picture_and_page_that_a_tutorial_points_to_exists(page):
    targets = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert targets
    assert [target for target in targets if not (page.parent / target).exists()] == []
