"""Writes the API reference: a page for every public module, found in the source, so that none can be forgotten.

A module is public if no part of its name begins with an underscore. What a package offers at its top from private
modules stands in full on the package's own page; the rest is linked.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mkdocs.structure.files import File, Files

SOURCE = Path(__file__).parents[2] / "src"
PACKAGE = "escapevelocity"
FOLDER = "reference"
SECTION = "API"
"""The entry of the navigation that the pages stand under."""


class Module(NamedTuple):
    """A public module, as its source has it."""

    name: str
    path: Path

    @property
    def is_package(self) -> bool:
        """Whether it has modules of its own."""
        return self.path.name == "__init__.py"

    @property
    def uri(self) -> str:
        """Its page among the site's sources."""
        *folders, last = [FOLDER, *self.name.split(".")[1:]]
        if self.is_package:
            return "/".join([*folders, last, "index.md"])
        return "/".join([*folders, "index-module.md" if last == "index" else f"{last}.md"])

    @property
    def tree(self) -> ast.Module:
        """Its source, parsed and not run."""
        return ast.parse(self.path.read_text(encoding="utf-8"))

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return (ast.get_docstring(self.tree) or "").split("\n")[0]


def public_modules() -> list[Module]:
    """Every public module, packages before their modules."""
    found = []
    for path in sorted((SOURCE / PACKAGE).rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if not any(part.startswith("_") for part in parts):
            found.append(Module(".".join(parts), path))
    return sorted(found)


def on_config(config: Any, **_: Any) -> Any:
    """Hang the pages into the navigation, as a tree of packages."""
    modules = public_modules()
    for entry in config.nav:
        if SECTION in entry:
            entry[SECTION] = _branch(PACKAGE, modules)
    return config


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Add the pages."""
    modules = public_modules()
    for module in modules:
        files.append(File.generated(config, module.uri, content="\n".join(_page(module, modules))))
    return files


def _branch(package: str, modules: list[Module]) -> list[Any]:
    """A package's part of the navigation: its own page, its packages, then its modules."""
    (own,) = [module for module in modules if module.name == package]
    children = _children(package, modules)
    packages = [{_last(child): _branch(child.name, modules)} for child in children if child.is_package]
    return [own.uri, *packages, *({_last(child): child.uri} for child in children if not child.is_package)]


def _children(package: str, modules: list[Module]) -> list[Module]:
    return [module for module in modules if module.name.rpartition(".")[0] == package]


def _last(module: Module) -> str:
    return module.name.rpartition(".")[2]


def _page(module: Module, modules: list[Module]) -> Iterator[str]:
    if not module.is_package:
        yield from ("---", f"title: {_last(module)}", "---", f"# `{module.name}`", "")
        yield from (f"::: {module.name}", "    options:", "      heading_level: 2", "")
        return
    yield from ("---", f"title: {_last(module)}", "---", f"# `{module.name}`", "")
    yield from (f"::: {module.name}", "    options:", "      members: false", "")
    homes, public = _offered(module), {one.name for one in modules}
    linked = [name for name, home in homes.items() if home in public]
    if homes:
        yield from ("## To be imported from here", "", f"    from {module.name} import …", "")
    if linked:
        yield from (", ".join(f"[`{name}`][{homes[name]}.{name}]" for name in linked), "")
    if children := _children(module.name, modules):
        yield from ("## Modules", "", "| module | what it is |", "| --- | --- |")
        for child in children:
            link = child.uri.removeprefix(module.uri.removesuffix("index.md"))
            summary = child.summary.replace("|", r"\|")
            yield f"| [`{_last(child)}`]({link}) | {summary} |"
        yield ""
    whole = [name for name, home in homes.items() if home not in public]
    if whole:
        yield from ("## Definitions", "")
    for name in whole:
        yield from (f"::: {module.name}.{name}", "    options:", "      heading_level: 3")
        yield from ("      show_root_heading: true", "      show_root_toc_entry: true", "")


def _offered(package: Module) -> dict[str, str]:
    """The names that a package offers at its top, with the modules that define them."""
    homes = {}
    for node in ast.walk(package.tree):
        if isinstance(node, ast.ImportFrom):
            home = f"{package.name}.{node.module}" if node.level else node.module
            homes |= {alias.asname or alias.name: home for alias in node.names}
    names = [
        ast.literal_eval(node.value)
        for node in package.tree.body
        if isinstance(node, ast.Assign)
        and any(getattr(target, "id", "") == "__all__" for target in node.targets)
    ]
    return {name: homes[name] for name in sorted(names[0], key=str.lower) if name in homes} if names else {}
