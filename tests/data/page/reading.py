"""Reads a page as a strict parser and a person do: balanced tags, unique ids, the text of each passage."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "input", "br"}


@dataclass
class Element:
    tag: str
    attrs: dict[str, str | None]
    parent: "Element | None" = None
    children: list["Element | str"] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(one if isinstance(one, str) else one.text for one in self.children)

    def all(self, tag: str | None = None, **attrs: str) -> list["Element"]:
        """The elements below, in order, with this tag and these attributes (`class_` for class)."""
        wanted = {name.rstrip("_"): value for name, value in attrs.items()}
        found = []
        for one in self.children:
            if isinstance(one, Element):
                if tag in (None, one.tag) and wanted.items() <= one.attrs.items():
                    found.append(one)
                found += one.all(tag, **attrs)
        return found


class Page(HTMLParser):
    """Raises where a tag is not closed in its turn, or an id stands twice."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root = self.here = Element("", {})
        self.ids: set[str] = set()
        self.feed(html)
        self.close()
        assert self.here is self.root, f"{self.here.tag} is not closed"

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute stands twice: {attrs}"
        element = Element(tag, dict(attrs), self.here)
        if (name := element.attrs.get("id")) is not None:
            assert name not in self.ids, f"id {name} stands twice"
            self.ids.add(name)
        self.here.children.append(element)
        if tag not in VOID:
            self.here = element

    def handle_endtag(self, tag):
        assert tag == self.here.tag, f"</{tag}> closes {self.here.tag}"
        self.here = self.here.parent

    def handle_data(self, data):
        self.here.children.append(data)


def sources(page: Page) -> list[str]:
    """The source texts as the page shows them, one for each passage."""
    return [article.all("div", class_="text")[-1].text for article in page.root.all("article")]
