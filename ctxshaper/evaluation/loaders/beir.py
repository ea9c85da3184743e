"""BEIR's folders (Thakur et al., arXiv 2104.08663): corpus.jsonl, queries.jsonl and qrels/*.tsv."""

from __future__ import annotations

from pathlib import Path

from ctxshaper.data import Passage
from ctxshaper.errors import InvalidInputError
from ctxshaper.evaluation.loaders.files import entries, read_text, text_of
from ctxshaper.evaluation.questions import Question

# How many passages each question gets, as a retriever would hand them over.
_RETRIEVED = 20


def beir(folder: Path) -> list[Question]:
    """Questions with the 20 passages that BM25 ranks highest; relevant ones that it misses take the last places.

    Args:
        folder: with `corpus.jsonl` (`_id`, `title`, `text`), `queries.jsonl` (`_id`, `text`) and `qrels/test.tsv`
            (or the first of the qrels there is).

    Raises:
        InvalidInputError: a file is missing or has another format; the message names file and line.
    """
    # BM25 needs numpy: formats without a corpus do without.
    from ctxshaper.ranking.lexical import LexicalIndex

    qrels = sorted((folder / "qrels").glob("*.tsv"), key=lambda p: (p.stem != "test", p.name))
    if not qrels:
        raise InvalidInputError(f"{folder} holds no qrels/*.tsv; BEIR's format is corpus.jsonl, queries.jsonl, qrels/")
    corpus = _texts(_either(folder, "corpus"))
    queries = {name: text for name, (_, text) in _texts(_either(folder, "queries")).items()}
    relevant = _relevant(qrels[0], corpus, queries)
    names = list(corpus)
    index = LexicalIndex([f"{title} {text}" for title, text in corpus.values()])
    questions = []
    for query, gold in relevant.items():
        scores = index.scores(queries[query])
        best = [names[i] for i in sorted(range(len(names)), key=lambda i: -scores[i])[:_RETRIEVED]]
        missed = [name for name in gold if name not in best]
        best = best[: max(0, _RETRIEVED - len(missed))] + missed
        passages = tuple(
            Passage(corpus[n][1], id=n, metadata={"title": corpus[n][0]} if corpus[n][0] else {}, rank=rank)
            for rank, n in enumerate(best)
        )
        held = frozenset(rank for rank, name in enumerate(best) if name in gold)
        questions.append(Question(queries[query], (), passages, held, id=query))
    return questions


def _either(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.jsonl", folder / f"{name}.jsonl.gz"):
        if path.is_file():
            return path
    raise InvalidInputError(f"{folder} holds no {name}.jsonl")


def _texts(path: Path) -> dict[str, tuple[str, str]]:
    """Title and text by id."""
    found = {}
    for where, entry in entries(path):
        try:
            found[str(entry["_id"])] = (str(entry.get("title") or ""), text_of(entry, "text"))
        except (KeyError, ValueError) as error:
            raise InvalidInputError(f"{where}: not an entry of BEIR (_id, text): {error}") from error
    return found


def _relevant(path: Path, corpus: dict[str, tuple[str, str]], queries: dict[str, str]) -> dict[str, list[str]]:
    relevant: dict[str, list[str]] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        cells = line.split("\t")
        if not line.strip() or (number == 1 and not cells[-1].strip().lstrip("-").isdigit()):
            continue
        where = f"{path}, line {number}"
        if len(cells) != 3 or not cells[2].strip().lstrip("-").isdigit():
            raise InvalidInputError(f"{where}: a line is query, passage and grade between tabs, but got {line!r:.60}")
        query, name, grade = cells
        if query not in queries or name not in corpus:
            missing = f"the query {query!r}" if query not in queries else f"the passage {name!r}"
            raise InvalidInputError(f"{where}: {missing} is not in queries.jsonl or corpus.jsonl")
        if int(grade) > 0:
            relevant.setdefault(query, []).append(name)
    return relevant
