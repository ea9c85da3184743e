"""The pages of docs/ as their fences: what is code, what it prints, and why some of it does not run."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
_REASON = re.compile(r"<!-- not run: (.+) -->")
_PRINTS = re.compile(r"\n*prints\n\n```text\n(.*?)```\n", re.DOTALL)
_FENCE = re.compile(r"(?:^(?P<before>[^\n]*)\n)?^```(?P<kind>\w+)\n(?P<code>.*?)^```\n", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Fence:
    """A fence of a page.

    Attributes:
        page: its path below docs/.
        line: where its code begins.
        kind: the language it names.
        code: its text.
        reason: why it does not run; empty where it does.
        printed: what the page says that it prints.
    """

    page: str
    line: int
    kind: str
    code: str
    reason: str
    printed: str

    def __str__(self):
        return f"docs/{self.page}:{self.line}"


def fences(path):
    text = path.read_text(encoding="utf-8")
    made = []
    for match in _FENCE.finditer(text):
        reason = _REASON.fullmatch(match["before"] or "")
        prints = _PRINTS.match(text, match.end())
        line = text.count("\n", 0, match.start("code")) + 1
        made.append(
            Fence(
                path.relative_to(DOCS).as_posix(),
                line,
                match["kind"],
                match["code"],
                reason[1] if reason else "",
                prints[1] if prints else "",
            )
        )
    return made


def of_kind(*kinds):
    """By page, its fences of these languages; pages without any are left out."""
    found = {path: [fence for fence in fences(path) if fence.kind in kinds] for path in PAGES}
    return {path: some for path, some in found.items() if some}
