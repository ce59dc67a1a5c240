"""What the early-warning study keeps, as its tests read it."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import studies.early_warning
from studies.early_warning.choice import agreed_steps
from studies.early_warning.grid import INSTRUMENTS, SIGNS_ASKED
from studies.early_warning.table import columns_of, floats

from escapevelocity.health.signs import Sign

HERE = Path(studies.early_warning.__file__).parent
CHOSEN = json.loads((HERE / "chosen.json").read_text(encoding="utf-8"))


def section(name: str) -> str:
    """A part of the page that the study writes."""
    text = (HERE / "README.md").read_text(encoding="utf-8")
    return text.split(f"<!-- {name}:start -->")[1].split(f"<!-- {name}:end -->")[0].strip()


def runs_of(table: pa.Table) -> list[tuple[str, int]]:
    """Setting and seed of every row."""
    return list(zip(table["setting"].to_pylist(), table["seed"].to_pylist(), strict=True))


def warnings_of(table: pa.Table, column: str = "warning") -> np.ndarray:
    """The steps (runs,) of a column of warnings, inf for never."""
    return np.nan_to_num(floats(table, column), nan=np.inf)


def agreed(table: pa.Table) -> np.ndarray:
    """The steps (runs,) at which the kept rule warns, by the columns of its signs."""
    assert list(columns_of(table, "sign")) == CHOSEN["signs"]
    by_sign = np.stack([warnings_of(table, f"sign/{name}") for name in CHOSEN["signs"]], axis=1)
    instruments = INSTRUMENTS[[SIGNS_ASKED.index(Sign(name)) for name in CHOSEN["signs"]]]
    return agreed_steps(by_sign, instruments, CHOSEN["agreeing"])
