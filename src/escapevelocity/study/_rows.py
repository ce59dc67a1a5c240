"""Where a history's rows are: in a table, or in a Parquet file of which columns are read when they are needed."""

from __future__ import annotations

import contextlib
import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from escapevelocity.errors import UserError, require
from escapevelocity.study._history_file import fitted, open_history_file, read_entries, readable
from escapevelocity.study._thin import TEXT

_NEEDED = ("run", "spec", "seed", "env_steps")
_HOLDS = os.name != "nt"


class Rows(ABC):
    """Rows of several runs, by run and column. Subclasses say how a column is read; it is kept once it was."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        for name in _NEEDED:
            require(name in schema.names, "columns", schema.names[:8], f"a history's, with one named {name}")
        self._columns: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        names = _as_dictionary(self.read("run"))
        codes = names.indices.to_numpy()
        self._order = np.argsort(codes, kind="stable")
        self._starts = np.searchsorted(codes[self._order], np.arange(len(names.dictionary) + 1))
        self._numbers = {name: index for index, name in enumerate(names.dictionary.to_pylist())}
        self.specs = self._specs()

    specs: Mapping[str, str]
    """Run to its spec.json's text."""

    @abstractmethod
    def read(self, column: str) -> pa.ChunkedArray:
        """Read a column of all rows."""

    def column(self, run: str, column: str) -> tuple[np.ndarray, np.ndarray]:
        """Give a numeric column's values on a run's rows, and which of them are not null; all null if it is absent."""
        if column not in self.schema.names:
            count = len(self._rows(run))
            return np.full(count, np.nan), np.zeros(count, bool)
        if column not in self._columns:
            found = self.read(column)
            self._columns[column] = (
                np.asarray(found.to_numpy())[self._order],
                np.asarray(found.is_valid())[self._order],
            )
        values, valid = self._columns[column]
        index = self._numbers[run]
        part = slice(self._starts[index], self._starts[index + 1])
        return values[part], valid[part]

    def table(self, run: str, columns: Sequence[str]) -> pa.Table:
        """Give a run's rows."""
        rows = pa.array(self._rows(run))
        return pa.table({name: self.read(name).take(rows) for name in columns})

    def _rows(self, run: str) -> np.ndarray:
        index = self._numbers[run]
        return self._order[self._starts[index] : self._starts[index + 1]]

    def _specs(self) -> dict[str, str]:
        texts = _as_dictionary(self.read("spec"))
        codes, dictionary = texts.indices.to_numpy(), texts.dictionary.to_pylist()
        present = [(name, self._rows(name)) for name in self._numbers]
        return {name: dictionary[codes[rows[0]]] for name, rows in present if len(rows)}


class TableRows(Rows):
    """Rows in memory."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        super().__init__(table.schema)

    @classmethod
    def of(cls, tables: Sequence[pa.Table], schema: pa.Schema) -> TableRows:
        """Put tables below each other, with the columns of `schema`."""
        whole = [fitted(table, schema) for table in tables]
        return cls(pa.concat_tables(whole) if whole else schema.empty_table())

    def read(self, column: str) -> pa.ChunkedArray:
        """Read a column of all rows."""
        return self._table[column]


class FileRows(Rows):
    """Rows in a history's Parquet file, as it was when it was opened: `collect` may replace it at any time.

    Where the system keeps a file that is open when another takes its name, it is held open. Windows does not let
    another take it then; there it is opened for each column, and a file that has been replaced is refused.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._source: pa.NativeFile | None = None
        with readable(path):
            self._stamp = _stamp(path)
            if _HOLDS:
                self._source = source = pa.OSFile(os.fspath(path))
                weakref.finalize(self, source.close)
        with open_history_file(path, None, self._source) as file:
            self.entries, self.left_out = read_entries(file)
            self._groups = {entry.name: index for index, entry in enumerate(self.entries)}
            schema = file.schema_arrow
            self._metadata = file.metadata
        super().__init__(schema)

    def read(self, column: str) -> pa.ChunkedArray:
        """Read a column of all rows.

        Raises:
            UserError: the file has been replaced (on Windows), or cannot be read any more.
        """
        with self._opened() as file:
            return file.read([column], use_threads=False)[column]

    def table(self, run: str, columns: Sequence[str]) -> pa.Table:
        """Give a run's rows."""
        if run not in self._groups:
            return super().table(run, columns)
        with self._opened() as file:
            return file.read_row_group(self._groups[run], list(columns), use_threads=False)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[pq.ParquetFile]:
        with readable(self._path):
            if self._source is None and _stamp(self._path) != self._stamp:
                raise UserError(f"{self._path} was replaced; read it again")
            with open_history_file(self._path, self._metadata, self._source) as file:
                yield file


def _stamp(path: Path) -> tuple[int, int, int]:
    """Changes when a file is replaced."""
    found = os.stat(path)
    return found.st_ino, found.st_mtime_ns, found.st_size


def _as_dictionary(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """One array with one dictionary; every row group of a file has its own."""
    if column.num_chunks == 0:
        return pa.array([], TEXT)
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    found = column.unify_dictionaries().combine_chunks()
    return found if isinstance(found, pa.DictionaryArray) else found.chunk(0)
