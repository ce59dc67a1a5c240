"""Commands that have commands, such as `ev study plan`: one module each, and a page that lists them."""

import difflib
import importlib
from collections.abc import Mapping, Sequence

from escapevelocity.errors import UserError


def run_group(name: str, commands: Mapping[str, str], intro: str, start: str, argv: Sequence[str]) -> int:
    """Run a command of a group: the module `escapevelocity.cli.GROUP_COMMAND`.

    Args:
        name: of the group, such as "study".
        commands: what each command does, by its name.
        intro: the page's usage line and what the group is about.
        start: what to type first, a line each.
        argv: the arguments after the group's name.

    Returns:
        The exit code.

    Raises:
        UserError: a command that the group does not have.
    """
    if not argv or argv[0] in ("-h", "--help"):
        lines = [f"  {command:<10} {text}" for command, text in commands.items()]
        print("\n".join([intro, "", "commands:", *lines, "", "Start here:", start]))
        return 0
    command, *rest = argv
    if command not in commands:
        near = difflib.get_close_matches(command, commands, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(commands)}"
        raise UserError(f"{name} command = {command!r}: not a command of ev {name}; {hint}")
    return importlib.import_module(f"escapevelocity.cli.{name}_{command}").main(rest)
