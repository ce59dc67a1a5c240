"""Exit codes of several trainings in turn."""

import pytest
from studies.running import worse


@pytest.mark.parametrize(
    ("codes", "expected"), [((0, 0), 0), ((0, 3), 3), ((3, 0), 3), ((1, 3), 1), ((3, 1), 1), ((0, 1), 1)]
)
def test_a_failed_run_matters_more_than_one_that_others_still_train(codes, expected):
    assert worse(*codes) == expected
