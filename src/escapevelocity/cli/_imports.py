"""`--import MODULE` on a command line whose other options may depend on what the module registers."""

from collections.abc import Sequence


def modules_in(argv: Sequence[str]) -> list[str]:
    """The values of --import on a command line, before it is parsed."""
    names, taking = [], False
    for argument in argv:
        if argument.startswith("-"):
            flag, equals, value = argument.partition("=")
            taking = flag == "--import"
            names += [value] if taking and equals else []
        elif taking:
            names.append(argument)
    return names
