"""Options that every study has that trains."""

import argparse

from benchmarks._common import positive


def study_options(name: str, doc: str | None) -> argparse.ArgumentParser:
    """A parser with `--report` and `--workers`; a study adds its own.

    Args:
        name: the study's folder.
        doc: what it does, for the help.
    """
    parser = argparse.ArgumentParser(prog=f"python -m studies.{name}", description=doc)
    parser.add_argument("--report", action="store_true", help="train nothing, report what is finished")
    parser.add_argument("--workers", type=positive, help="processes at a time (default: one per core)")
    return parser
