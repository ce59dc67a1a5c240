"""`--import MODULE`: code that the user names registers environments and remedies; nothing in a run names any."""

import importlib
import sys
from collections.abc import Sequence

from escapevelocity.errors import UserError


def modules_in(argv: Sequence[str]) -> list[str]:
    """The values of --import on a command line whose other options may depend on them."""
    names, taking = [], False
    for argument in argv:
        if argument.startswith("-"):
            flag, equals, value = argument.partition("=")
            taking = flag == "--import"
            names += [value] if taking and equals else []
        elif taking:
            names.append(argument)
    return names


def import_modules(names: Sequence[str]) -> None:
    """Import modules by name, from the current folder or the installed packages.

    Args:
        names: such as `my_environments` or `package.module`.

    Raises:
        UserError: a module that is not there. Errors inside a module keep their traceback.
    """
    for name in names:
        if name.endswith(".py") or not all(part.isidentifier() for part in name.split(".")):
            raise UserError(f"import = {name!r}: must be a module's name, such as my_module for my_module.py")
        if "" not in sys.path:
            sys.path.insert(
                0, ""
            )  # As `python -m` does; the script `ev` does not look in the current folder.
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
                raise
            raise UserError(
                f"import = {name!r}: not found in the current folder or among the installed packages"
            ) from None
