"""The built site: every public name is documented, every link leads somewhere, and a page asks no network."""

import ast
import re
import xml.etree.ElementTree as ET
import zlib
from functools import cache
from html import unescape
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest
import typer

from ctxshaper.commands.app import app
from tests.docs.pages import DOCS, ROOT

# What has an `__all__` and is not for users.
INNER = {
    "ctxshaper.data.page": "what Context.to_html calls",
    "ctxshaper.models.decoder": "the layers under a Reader",
    "ctxshaper.serving.routes": "the service's own; its contracts are in service.md",
}
# Modules without an `__all__` whose names users import.
MODULES = (
    "ctxshaper.calibration.abstention",
    "ctxshaper.calibration.head_masses",
    "ctxshaper.calibration.heads",
    "ctxshaper.calibration.made_up",
    "ctxshaper.calibration.orders",
    "ctxshaper.calibration.positions",
    "ctxshaper.connectors.citations",
    "ctxshaper.connectors.conformance",
    "ctxshaper.connectors.triples",
    "ctxshaper.data.files",
    "ctxshaper.errors",
    "ctxshaper.evaluation.baselines",
    "ctxshaper.evaluation.comparison",
    "ctxshaper.evaluation.loaders",
    "ctxshaper.evaluation.metrics",
    "ctxshaper.evaluation.mining",
    "ctxshaper.evaluation.paired",
    "ctxshaper.evaluation.questions",
    "ctxshaper.evaluation.report",
    "ctxshaper.evaluation.summary",
    "ctxshaper.reading.fake",
    "ctxshaper.reading.profile",
    "ctxshaper.reading.reader",
    "ctxshaper.reading.reading",
    "ctxshaper.serving.ray_data",
    "ctxshaper.serving.ray_serve",
    "ctxshaper.serving.ray_shards",
    "ctxshaper.serving.ray_store",
    "ctxshaper.serving.settings",
    "ctxshaper.stages.attnrank.profile",
    "ctxshaper.text.languages",
    "ctxshaper.text.segments",
    "ctxshaper.text.terms",
)


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def listed():
    """Each name of an `__all__`, with its package."""
    for path in sorted((ROOT / "ctxshaper").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == ["__all__"]:
                yield from ((module_of(path), name) for name in ast.literal_eval(node.value))


def defined(module):
    """The classes and functions of a module that have no underscore in front."""
    path = ROOT.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        named = isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        if named and not node.name.startswith("_"):
            yield module, node.name


def test_every_public_name_is_in_the_reference(site):
    data = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    documented = {line.split(" ", 1)[0] for line in zlib.decompress(data).decode().splitlines()}
    names = [*listed(), *(pair for module in MODULES for pair in defined(module))]
    assert len(names) > 200
    missing = [(module, name) for module, name in names if f"{module}.{name}" not in documented]
    assert [(module, name) for module, name in missing if module not in INNER] == []
    assert {module for module, _ in missing} == set(INNER)


def test_the_page_of_the_command_line_has_every_command_and_option(site):
    page = unescape((site / "reference" / "commands.html").read_text(encoding="utf-8"))

    def check(command, name):
        for part, below in getattr(command, "commands", {}).items():
            check(below, f"{name} {part}")
        if not hasattr(command, "commands"):
            section = re.split(r"<h2", page.split(f">{name}<", 1)[1])[0]
            assert {o for p in command.params for o in p.opts if o[0] == "-"} - {"--help", "-h"} <= set(
                re.findall(r"<code>(-[^<]+)</code>", section)
            )

    check(typer.main.get_command(app), "ctxshaper")


class Page(HTMLParser):
    """The anchors, links and resources of a page."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.links, self.resources = {""}, [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.anchors |= {found[name] for name in ("id", "name") if found.get(name)}
        if tag == "link":
            self.resources.append(found["href"])
        elif "href" in found:
            self.links.append(found["href"])
        if "src" in found:
            self.resources.append(found["src"])


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def broken(path, href, site, anchors):
    """What is wrong with a link, or nothing."""
    parts = urlsplit(href)
    if parts.scheme or parts.netloc:
        well_formed = parts.scheme in ("http", "https") and "." in parts.netloc and not re.search(r"\s", href)
        return None if well_formed or parts.scheme == "mailto" else "is no address"
    # The page for what is not found is served in any folder: its links begin at the site's root.
    base = site if parts.path.startswith("/") else path.parent
    target = (base / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
    if target.is_dir():
        target = target / "index.html"
    if not target.is_file():
        return "leads nowhere"
    if parts.fragment and unquote(parts.fragment) not in anchors(target):
        return "names an anchor that is not there"
    return None


def test_every_link_and_picture_is_there(site, pages):
    def anchors(target):
        return pages[target].anchors if target in pages else ()

    assert len(pages) > 40
    wrong = [
        f"{path.relative_to(site)}: {href} {problem}"
        for path, page in pages.items()
        for href in (*page.links, *page.resources)
        if (problem := broken(path, href, site, anchors))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "href", ["nowhere.html", "index.html#nowhere", "drawings/none.svg", "http:/no.host", "https://with a space.org"]
)
def test_the_check_sees_what_is_broken(site, pages, href):
    assert broken(site / "index.html", href, site, lambda target: pages[target].anchors)


def test_a_page_asks_no_network(site, pages):
    asked = {href for page in pages.values() for href in page.resources if urlsplit(href).netloc}
    assert asked == set()
    for sheet in site.rglob("*.css"):
        assert not re.search(r"@import|url\([\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet
    # mkdocs-material fetches two things by itself: a library where a page holds a diagram of Mermaid, and the stars of
    # a repository that the configuration names.
    assert not any('class="mermaid"' in path.read_text(encoding="utf-8") for path in pages)
    assert "repo_url" not in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert not any('data-md-component="source"' in path.read_text(encoding="utf-8") for path in pages)


def test_search_finds_the_pages(site):
    index = (site / "search" / "search_index.json").read_text(encoding="utf-8")
    assert "when_not.html" in index
    assert "reference/store.html#ctxshaper.reading.store.KeyStore.verify" in index


@cache
def drawings():
    return sorted((DOCS / "drawings").glob("*.svg"))


@pytest.mark.parametrize("path", drawings(), ids=lambda path: path.stem)
def test_a_drawing_says_what_it_shows_and_brings_its_background(path):
    svg = "{http://www.w3.org/2000/svg}"
    root = ET.parse(path).getroot()  # noqa: S314  # our own file
    assert len(root.find(f"{svg}title").text) > 5
    assert len(root.find(f"{svg}desc").text) > 100
    first = root.find(f"{svg}rect")
    assert root.get("viewBox").split()[2:] == [first.get("width"), first.get("height")]
    assert path.stat().st_size < 10_000
