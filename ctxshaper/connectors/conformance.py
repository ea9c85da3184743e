"""A conformance test for any document compressor or node postprocessor, not only this project's. Needs no pytest.

for check in check_compressor(MyCompressor()):
    assert check.passed, f"{check.name}: {check.detail}"
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

QUERY = "Who designed the bridge?"
OTHER_QUERY = "What are bananas rich in?"
TEXTS = (
    "The bridge was designed by Ada Moreau. She was born in Lyon. It is 3.5 km long.",
    "Bananas are rich in potassium. They grow in bunches.",
    "The lighthouse was built in 1894. It stands on a rock.",
    "The bridge crosses the Varn. It was opened in 1931. A toll was taken until 1950.",
)
# Scores are what compressors are there to write; everything else that a caller put in must stay.
_SCORES = ("relevance_score", "score")


@dataclass(frozen=True, slots=True)
class Check:
    """One promise, and whether it was kept.

    Attributes:
        name: the promise.
        passed: whether it held.
        detail: what happened instead.
    """

    name: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """Something that takes documents and a query and returns documents.

    Attributes:
        make: a fresh list of four documents, each with an id and metadata.
        call: documents and query to documents.
        acall: the same, async.
        describe: a document as (id, metadata, plain data of all of it).
    """

    make: Callable[[], list[Any]]
    call: Callable[[list[Any], str], Sequence[Any]]
    acall: Callable[[list[Any], str], Awaitable[Sequence[Any]]]
    describe: Callable[[Any], tuple[str | None, dict[str, Any], Any]]


def check_compressor(compressor: Any) -> list[Check]:
    """Check a LangChain document compressor, or a document transformer.

    Args:
        compressor: with `compress_documents` and `acompress_documents`, or `transform_documents` and its twin.
    """
    from langchain_core.documents import Document

    def make() -> list[Any]:
        return [
            Document(text, id=f"id{i}", metadata={"source": f"{i}.txt", "page": {"number": i}})
            for i, text in enumerate(TEXTS)
        ]

    compresses = hasattr(compressor, "compress_documents")
    return check(
        Subject(
            make,
            compressor.compress_documents if compresses else lambda d, _: compressor.transform_documents(d),
            compressor.acompress_documents if compresses else lambda d, _: compressor.atransform_documents(d),
            lambda document: (document.id, document.metadata, document.model_dump()),
        )
    )


def check_postprocessor(postprocessor: Any) -> list[Check]:
    """Check a LlamaIndex node postprocessor."""
    from llama_index.core.schema import NodeWithScore, TextNode

    def make() -> list[Any]:
        return [
            NodeWithScore(
                node=TextNode(text=text, id_=f"id{i}", metadata={"source": f"{i}.txt", "page": {"number": i}}),
                score=0.9 - i / 10,
            )
            for i, text in enumerate(TEXTS)
        ]

    return check(
        Subject(
            make,
            lambda nodes, query: postprocessor.postprocess_nodes(nodes, query_str=query),
            lambda nodes, query: postprocessor.apostprocess_nodes(nodes, query_str=query),
            lambda item: (item.node.node_id, item.node.metadata, item.model_dump()),
        )
    )


def check(subject: Subject) -> list[Check]:
    """Run every check; what raises has failed."""
    made = []
    for promise in _PROMISES:
        try:
            problem = promise(subject)
        except Exception as error:  # noqa: BLE001  # whatever it raises, it did not keep the promise
            problem = f"{type(error).__name__}: {error}"
        made.append(Check((promise.__doc__ or "").rstrip("."), not problem, problem[:300]))
    return made


def _dump(subject: Subject, documents: Sequence[Any]) -> list[Any]:
    return [copy.deepcopy(subject.describe(document)[2]) for document in documents]


def _run(subject: Subject, query: str = QUERY) -> list[Any]:
    return _dump(subject, subject.call(subject.make(), query))


def _input_untouched(subject: Subject) -> str:
    """Input not mutated."""
    documents = subject.make()
    before, held = _dump(subject, documents), list(documents)
    subject.call(documents, QUERY)
    if [id(d) for d in documents] != [id(d) for d in held]:
        return "the list itself was changed"
    return "" if _dump(subject, documents) == before else "documents were changed"


def _output_owned(subject: Subject) -> str:
    """Output shares no metadata with input."""
    documents = subject.make()
    before = _dump(subject, documents)
    for document in subject.call(documents, QUERY):
        subject.describe(document)[1]["mark"] = True
    return "" if _dump(subject, documents) == before else "a mark on the output shows up in the input"


def _ids(subject: Subject) -> str:
    """Ids kept."""
    known = {subject.describe(d)[0] for d in subject.make()}
    got = [subject.describe(d)[0] for d in subject.call(subject.make(), QUERY)]
    return "" if set(got) <= known else f"ids {got}"


def _metadata(subject: Subject) -> str:
    """Metadata kept."""
    given = [{k: v for k, v in subject.describe(d)[1].items() if k not in _SCORES} for d in subject.make()]
    for document in subject.call(subject.make(), QUERY):
        metadata = subject.describe(document)[1]
        if not any(all(metadata.get(k) == v for k, v in one.items()) for one in given):
            return f"metadata {metadata}"
    return ""


def _json(subject: Subject) -> str:
    """Metadata JSON-safe."""
    for document in subject.call(subject.make(), QUERY):
        json.dumps(subject.describe(document)[1], allow_nan=False)
    return ""


def _empty(subject: Subject) -> str:
    """Empty input gives empty output."""
    got = subject.call([], QUERY)
    return "" if list(got) == [] else f"got {got!r}"


def _repeatable(subject: Subject) -> str:
    """Order of calls does not matter."""
    first = _run(subject)
    _run(subject, OTHER_QUERY)
    return "" if _run(subject) == first else "the same call gave another result after another call"


def _async_equal(subject: Subject) -> str:
    """Async equals sync."""

    async def run() -> list[Any]:
        return _dump(subject, await subject.acall(subject.make(), QUERY))

    return "" if asyncio.run(run()) == _run(subject) else "async gave another result"


def _threads(subject: Subject) -> str:
    """16 threads give what one gives."""
    wanted = {query: _run(subject, query) for query in (QUERY, OTHER_QUERY)}
    queries = [QUERY, OTHER_QUERY] * 8
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda query: _run(subject, query), queries))
    wrong = sum(result != wanted[query] for query, result in zip(queries, results, strict=True))
    return f"{wrong} of {len(queries)} results differ" if wrong else ""


_PROMISES = (
    _input_untouched,
    _output_owned,
    _ids,
    _metadata,
    _json,
    _empty,
    _repeatable,
    _async_equal,
    _threads,
)
