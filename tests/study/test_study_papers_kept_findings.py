"""The lab's findings in a store: read as they were written, refused where they are damaged or of another version."""

import json

import numpy as np
import pytest

from escapevelocity.errors import UserError
from escapevelocity.lab.experiments.damping import Damping
from escapevelocity.lab.experiments.experiment import Findings, Summary, silently
from escapevelocity.study.papers.kept_findings import VERSION, find_or_run, findings_path, read_findings


def test_findings_that_are_kept_are_those_that_were_found(tmp_path):
    class Made(Damping):
        def run(self, track=silently):
            tables = {"": {"x": np.array([1.5, np.nan]), "who": np.array(["a", "b"]), "n": np.array([1, 2])}}
            return Findings(tables, Summary(["h"], [["a", np.arange(4)[3], np.float64("nan")]]), ["said"])

    kept = find_or_run(tmp_path, "damping", Made())
    np.testing.assert_array_equal(kept.tables[""]["x"], [1.5, np.nan])
    assert list(kept.tables[""]["who"]) == ["a", "b"]
    assert np.asarray(kept.tables[""]["n"]).dtype == np.int64
    assert kept.summary.headings == ["h"]
    assert repr(kept.summary.rows) == "[['a', 3, nan]]"
    assert kept.answers == ["said"]
    assert findings_path(tmp_path, "damping", Made()) != findings_path(
        tmp_path, "damping", Made(num_steps=500)
    )


def test_damaged_findings_are_told(tmp_path):
    (tmp_path / "findings.json").write_text("{")
    with pytest.raises(ValueError, match=r"damaged .*remove the folder and run again"):
        read_findings(tmp_path)


@pytest.mark.parametrize(
    ("document", "version"),
    [
        ({"tables": {"": "main.parquet"}, "answers": []}, "None"),  # from before there were versions
        ({"version": 0, "tables": {}, "summary": {}, "answers": []}, "0"),
        (["foreign"], "None"),
    ],
)
def test_findings_of_another_version_are_refused_in_one_line(tmp_path, document, version):
    (tmp_path / "findings.json").write_text(json.dumps(document))
    said = rf"^findings version = {version}: must be {VERSION} in .*findings.json'; remove the folder and run"
    with pytest.raises(UserError, match=said) as caught:
        read_findings(tmp_path)
    assert "\n" not in str(caught.value)
