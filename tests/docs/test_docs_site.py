"""The documentation site: complete, strict, without a request to anywhere else, and no number that no study has."""

import functools
import http.server
import importlib.util
import pkgutil
import re
import threading
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
from docs_pages import DOCS, ROOT

import escapevelocity

pytest.importorskip("mkdocs", reason="the site needs mkdocs: pip install 'escapevelocity[docs]'")


def hook(name):
    """A hook of the site, loaded as mkdocs does."""
    spec = importlib.util.spec_from_file_location(f"_hook_{name}", DOCS / "_hooks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_has_a_page_for_every_public_module():
    """Found by Python's own way of walking packages, not by the hook's."""
    names = {"escapevelocity"}
    for path, prefix in [(list(escapevelocity.__path__), "escapevelocity.")]:
        queue = [(path, prefix)]
        while queue:
            below, start = queue.pop()
            for module in pkgutil.iter_modules(below, start):
                names.add(module.name)
                if module.ispkg:
                    folder = f"{below[0]}/{module.name.rpartition('.')[2]}"
                    queue.append(([folder], f"{module.name}."))
    public = {name for name in names if not any(part.startswith("_") for part in name.split("."))}
    reference = hook("reference")
    modules = reference.public_modules()
    assert {module.name for module in modules} == public
    assert all(module.summary for module in modules)
    assert len({module.uri for module in modules}) == len(modules)
    texts = {module.name: "\n".join(reference._page(module, modules)) for module in modules}
    assert all(f"::: {name}" in text for name, text in texts.items())


def test_every_name_that_a_package_offers_stands_on_its_page():
    reference = hook("reference")
    modules = reference.public_modules()
    for package in ("health", "policy", "lab", "envs", "runs", "report", "interop", "ppo.remedies"):
        (module,) = [one for one in modules if one.name == f"escapevelocity.{package}"]
        loaded = importlib.import_module(module.name)
        text = "\n".join(reference._page(module, modules))
        missing = [name for name in loaded.__all__ if f"[`{name}`]" not in text and f".{name}\n" not in text]
        assert missing == []


def test_findings_are_those_of_the_studies_check_for_check():
    findings = hook("findings")
    text = (ROOT / "studies" / "hopper_collapse" / "README.md").read_text(encoding="utf-8")
    figures = findings.figures_of(text)
    checks = [check for figure in figures for check in figure.checks if check.claimed != "–"]
    assert len(checks) == text.count("(claimed: ")
    assert len([one for figure in figures for one in figure.judgements]) == text.count("- Judgement for ")
    for check in checks:
        assert f"{check.what} (claimed: {check.claimed}): {check.value}; {check.told}." in text
    drawn = findings.on_page_markdown(
        (DOCS / "findings.md").read_text(encoding="utf-8"),
        SimpleNamespace(file=SimpleNamespace(src_uri="findings.md")),
    )
    assert "<!-- findings" not in drawn
    assert drawn.count("| **confirmed** |") == text.count("; confirmed.")
    assert drawn.count("| **not confirmed** |") == text.count("; not confirmed.")
    assert "see below" not in drawn
    for folder in ("early_warning", "segment_rule", "escort_minatar", "sb3_replication", "asr"):
        section = drawn.partition(f"](studies/{folder}/README.md)**")[2].partition("\n**[")[0]
        assert len(section.strip()) > 20, f"{folder} says nothing of itself"


def test_links_of_the_repository_become_the_sites():
    repository = hook("repository")
    there = {
        "studies/lab/README.md",
        "metrics.md",
        "index.md",
        "reference/health/index.md",
        "reference/ppo/config.md",
    }
    files = SimpleNamespace(get_file_from_path=lambda uri: uri if uri in there else None)

    def site(target, home, here):
        return repository._site(target, home, here, files)

    tutorial = ("docs/tutorials/x.md", "tutorials/x.md")
    assert site("../../studies/lab/README.md#a", *tutorial) == "../studies/lab/README.md#a"
    assert site("../metrics.md", *tutorial) == "../metrics.md"
    assert site("../../README.md", *tutorial) == "../index.md"
    assert (
        site("../../docs/metrics.md", "studies/lab/README.md", "studies/lab/README.md") == "../../metrics.md"
    )
    assert (
        site("../src/escapevelocity/health/__init__.py", "docs/design.md", "design.md")
        == "reference/health/index.md"
    )
    assert (
        site("../src/escapevelocity/ppo/config.py", "docs/design.md", "design.md")
        == "reference/ppo/config.md"
    )
    for same in ("https://arxiv.org/abs/2405.00662", "#here", "nowhere.md"):
        assert site(same, *tutorial) == same


def test_long_names_in_tables_may_break_and_code_elsewhere_is_left_alone():
    change = hook("pages").on_page_content
    assert "health/<wbr>actor/<wbr>rank_<wbr>pca" in change("<td><code>health/actor/rank_pca</code></td>")
    assert change("<p><code>health/actor/rank_pca</code></p>") == "<p><code>health/actor/rank_pca</code></p>"
    assert change("<td><code>seed</code></td>") == "<td><code>seed</code></td>"


def test_docstrings_show_examples_as_code_and_no_accidental_links():
    pytest.importorskip("griffe")
    readable = hook("docstrings").readable
    assert readable("A share, in [0, 1] [M, Fig. 35].") == "A share, in [0, 1] \\[M, Fig. 35]."
    text = "Sum.\n\nExample:\n    >>> print([1] [0])\n    [0.5] [0.5]\n"
    assert readable(text) == text.replace("Example:", "Examples:")
    assert readable("C = π(a*)/τ, or (p/2)·π(a*)") == "C = π(a\\*)/τ, or (p/2)·π(a\\*)"
    assert readable("as *said*, `a*b*` and **loud**") == "as *said*, `a*b*` and **loud**"


class Loaded(HTMLParser):
    """Addresses that a page makes a browser load."""

    def __init__(self):
        super().__init__()
        self.addresses, self.pictures = [], []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag in ("script", "img", "iframe", "source") and given.get("src"):
            self.addresses.append(given["src"])
        if tag == "link" and given.get("rel") not in ("canonical", "next", "prev"):
            self.addresses.append(given.get("href", ""))
        if tag == "img":
            self.pictures.append(given)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built strictly, with a part of the reference: all of it takes four times as long (`make docs`)."""
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings_handlers.python")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    out = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        patch.setattr("warnings.filters", [])
        config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(out), strict=True)
        reference = next(h for name, h in config.hooks.items() if name.endswith("reference.py"))
        every = reference.public_modules()
        some = [one for one in every if one.is_package or one.name.startswith("escapevelocity.runs.")]
        patch.setattr(reference, "public_modules", lambda: some)
        build(config)
    return out


@pytest.mark.slow
def test_the_site_builds_strictly_and_loads_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 50
    for page in pages:
        loaded = Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        assert [address for address in loaded.addresses if re.match(r"(https?:)?//", address)] == []
        assert all(picture.get("alt") for picture in loaded.pictures), page
    assert (site / "studies" / "lab" / "trajectories.png").exists()
    assert not list(site.rglob("*.py"))


@pytest.fixture(scope="module")
def served(site):
    """The site's address: opened as files its search could not load its index."""
    handler = functools.partial(Quiet, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Prints no line for every request."""

    def log_message(self, format, *args):
        del format, args


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", ["", "tutorials/dead-sb3-run/", "metrics/", "findings/", "benchmarks/"])
def test_a_page_of_the_site_complains_of_nothing_and_keeps_nobody_out(
    served, open_page, accessible, page, scheme
):
    opened = open_page(f"{served}/{page}", color_scheme=scheme)
    opened.wait_for_load_state("networkidle")
    accessible(opened)
