"""Code that the user names registers environments, remedies and kinds of runs; nothing in a run names any."""

import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

from escapevelocity.errors import UserError


def import_modules(names: Sequence[str]) -> list[ModuleType]:
    """Import modules that a study names: those that register environments, remedies or kinds.

    Args:
        names: such as `my_environments` or `package.module`, from the current folder or installed.

    Raises:
        UserError: a module that is not there. Errors inside a module keep their traceback.
    """
    modules = []
    for name in names:
        if name.endswith(".py") or not all(part.isidentifier() for part in name.split(".")):
            raise UserError(f"import = {name!r}: must be a module's name, such as my_module for my_module.py")
        if "" not in sys.path:
            sys.path.insert(
                0, ""
            )  # As `python -m` does; the script `ev` does not look in the current folder.
        try:
            modules.append(importlib.import_module(name))
        except ModuleNotFoundError as error:
            if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
                raise
            raise UserError(
                f"import = {name!r}: not found in the current folder or among the installed packages; "
                "name a module (my_module for my_module.py) and start ev in its folder"
            ) from None
    return modules
