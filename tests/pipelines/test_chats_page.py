"""The page about chats says what its code prints."""

import contextlib
import io
import re
from pathlib import Path

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "chats.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```(?:\n\nprints\n\n```text\n(.*?)```)?", PAGE, re.DOTALL)


def test_the_examples_print_what_the_page_says():
    assert len(EXAMPLES) == 4
    names = {}  # later ones go on from the first
    for code, output in EXAMPLES:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "docs/chats.md", "exec"), names)  # noqa: S102  # our own page
        assert printed.getvalue() == output
