"""What the lab found, kept in a study's store, so that an experiment is computed once for all figures drawn from it.

STORE/_study/lab/EXPERIMENT-HASH/findings.json, and one Parquet file per table. The JSON is written last: what has none
is not there. It holds the version of its layout, and of the tables' columns: what verdicts read may change with them.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from escapevelocity.errors import UserError
from escapevelocity.lab.experiments.experiment import Experiment, Findings, Summary, Track, silently
from escapevelocity.runs.atomic import write_bytes, write_table

_DOCUMENT = "findings.json"
VERSION = 1
"""Of the layout, and of what experiments put into their tables: raise it when either changes. Files from before there
were versions have none."""


def findings_path(folder: Path, name: str, experiment: Experiment) -> Path:
    """Where the findings of an experiment with these settings are kept below `folder`."""
    settings = json.dumps(dataclasses.asdict(experiment), sort_keys=True)
    return folder / f"{name}-{hashlib.sha256(settings.encode()).hexdigest()[:10]}"


def find_or_run(folder: Path, name: str, experiment: Experiment, track: Track = silently) -> Findings:
    """The findings of an experiment: those that are kept, or else it runs and they are kept.

    Args:
        folder: where findings are kept.
        name: the experiment's name in `ev lab`.
        experiment: its settings.
        track: shows how far it is.

    Raises:
        UserError: when the folder cannot be written, or what is kept cannot be read.
    """
    path = findings_path(folder, name, experiment)
    if not (path / _DOCUMENT).exists():
        _write(path, experiment.run(track))
    return read_findings(path)


def read_findings(path: Path) -> Findings:
    """Read findings that are kept.

    Raises:
        UserError: when there are none, or they are damaged, or of another version.
    """
    try:
        document = json.loads((path / _DOCUMENT).read_text(encoding="utf-8"))
        _require_version(document, path)
        summary = Summary(document["summary"]["headings"], document["summary"]["rows"])
        tables = {part: _columns(pq.read_table(path / file)) for part, file in document["tables"].items()}
        return Findings(tables, summary, document["answers"])
    except FileNotFoundError as error:
        raise UserError(f"findings = {str(path)!r}: not there; run again without --draw-only") from error
    except UserError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        raise UserError(
            f"findings = {str(path)!r}: damaged ({error}); remove the folder and run again"
        ) from error


def _require_version(document: Any, path: Path) -> None:
    """Refuse what another version of the program, or another program, has written."""
    version = document.get("version") if isinstance(document, dict) else None
    if version != VERSION:
        raise UserError(
            f"findings version = {version!r}: must be {VERSION} in {str(path / _DOCUMENT)!r}; remove the folder and "
            "run the command again"
        )


def _write(path: Path, findings: Findings) -> None:
    files = {part: f"{part or 'main'}.parquet" for part in findings.tables}
    for part, columns in findings.tables.items():
        write_table(
            path / files[part], pa.table({name: np.asarray(column) for name, column in columns.items()})
        )
    rows = [[_plain(value) for value in row] for row in findings.summary.rows]
    summary = {"headings": list(findings.summary.headings), "rows": rows}
    document = {"version": VERSION, "tables": files, "summary": summary, "answers": list(findings.answers)}
    write_bytes(path / _DOCUMENT, json.dumps(document, ensure_ascii=False, indent=1).encode())


def _columns(table: pa.Table) -> Mapping[str, np.ndarray]:
    found = {name: table[name].to_numpy() for name in table.column_names}
    return {name: values.astype(str) if values.dtype == object else values for name, values in found.items()}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
