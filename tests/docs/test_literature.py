"""The page of the literature and the code: names that it gives exist, and numbers that the code cites stand on it."""

import ast
import importlib
import re

import pytest

from benchmarks.registry import NAMES
from tests.docs.pages import DOCS, ROOT

PAGE = (DOCS / "literature.md").read_text(encoding="utf-8")
CODE = sorted((ROOT / "ctxshaper").rglob("*.py"))
# Ours in capitals, by call, as a function with an underscore, or by module; options and commands have tests elsewhere.
NAME = re.compile(r"([A-Z]\w+|\w+_\w+|ctxshaper(?:\.\w+)+)(?:\.(\w+))?(?:\((.*)\))?")
NUMBER = re.compile(r"(?<![\d.])\d{4}\.\d{4,5}(?![\d.])")
# Written on a branch that is not merged yet.
COMING = set[str]()


def defined():
    """By name, the members and the arguments of every class and function of the package, methods' and fields' names."""
    found = {}
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                fields = {n.target.id for n in node.body if isinstance(n, ast.AnnAssign)}
                methods = [n for n in node.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
                own = fields.union(*(arguments(m) for m in methods if m.name == "__init__"), {m.name for m in methods})
                found.setdefault(node.name, set()).update(own)
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                found.setdefault(node.name, set()).update(arguments(node))
    return found


def arguments(function):
    return {a.arg for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)}


KNOWN = defined()
MEMBERS = set().union(*KNOWN.values())


def unknown(said):
    """What is wrong with a name in backticks, or nothing; not asked of what is no name of ours."""
    match = NAME.fullmatch(said)
    if not match:
        return None
    name, member, given = match.groups()
    if name.startswith("ctxshaper."):
        importlib.import_module(".".join(filter(None, (name, member))))
        return None
    if name not in KNOWN:
        return None if name in COMING | MEMBERS and not member and not given else f"there is no {name}"
    missing = {member, *re.findall(r"(\w+)=", given or "")} - {None} - KNOWN[name]
    return f"{name} has no {missing}" if missing else None


def names():
    return dict.fromkeys(re.findall(r"`([^`\n]+)`", PAGE))


def test_every_name_of_ours_on_the_page_is_in_the_code():
    asked = [said for said in names() if NAME.fullmatch(said)]
    assert len(asked) > 25
    assert [problem for said in asked if (problem := unknown(said))] == []


@pytest.mark.parametrize(
    "said", ["EvidenceFilters", "Reader.read_all", "GemFilter(calibratd=True)", "Session(tokens=...)", "kept_triple"]
)
def test_the_check_sees_a_name_that_is_not_there(said):
    assert unknown(said)


def test_a_module_that_is_not_there_is_seen():
    with pytest.raises(ModuleNotFoundError):
        unknown("ctxshaper.calibration.nothing")


def test_files_and_benchmarks_on_the_page_are_there():
    files = [said for said in names() if re.fullmatch(r"[\w/]+\.py", said)]
    assert files
    assert all((ROOT / name).is_file() for name in files)
    assert set(re.findall(r"python -m benchmarks (\w+)", PAGE)) <= set(NAMES)


def test_every_work_that_the_code_cites_is_on_the_page():
    cited = {
        number
        for path in CODE
        for place in re.findall(r"arXiv[\s:\d.,and]+", path.read_text(encoding="utf-8"))
        for number in NUMBER.findall(place)
    }
    assert len(cited) > 30
    assert cited - set(NUMBER.findall(PAGE)) == set()


def test_numbers_are_numbers_of_arxiv_and_rows_have_their_cells():
    assert len(set(NUMBER.findall(PAGE))) > 110
    assert all(7 <= int(number[:2]) <= 26 and 1 <= int(number[2:4]) <= 12 for number in NUMBER.findall(PAGE))
    for table in re.findall(r"(?:^\|.*\|\n)+", PAGE, re.MULTILINE):
        assert len({row.count("|") for row in table.splitlines()}) == 1, table[:200]
