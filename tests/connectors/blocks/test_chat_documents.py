"""Documents of chat requests: valid by Cohere's own types, and its citations lead to places in them."""

import cohere
import pytest
from hypothesis import given, settings
from pydantic import TypeAdapter

from ctxshaper import InvalidInputError, Passage, Span, Written
from ctxshaper.connectors.blocks import ChatDocuments
from tests.connectors.blocks.made import FIRST, SOURCE, THIRD, context, contexts

DOCUMENT = TypeAdapter(cohere.Document)


def cited(text, *names, answer="In short: {}"):
    """A citation as the API answers it."""
    start = answer.format(text).index(text)
    sources = [cohere.DocumentSource(id=name, document={"id": name}) for name in names]
    return cohere.Citation(start=start, end=start + len(text), text=text, sources=sources, type="TEXT_CONTENT")


@settings(max_examples=150, deadline=None)
@given(contexts())
def test_documents_are_valid_and_any_line_of_one_is_found_in_its_own_document(shaped):
    documents = ChatDocuments(shaped)
    names = [document["id"] for document in documents.documents]
    assert len(set(names)) == len(names)
    parts = list(shaped.rendering.parts(shaped.passages))
    for part, document, plain in zip(parts, documents.documents, documents.template_documents, strict=True):
        assert DOCUMENT.validate_python(document, strict=True).data["snippet"] == part.body
        assert plain == {"title": shaped.passages[part.place].title, "text": part.body}
        for line in filter(str.strip, part.body.splitlines()):
            for citation in documents.cite(cited(line.strip(), document["id"])):
                assert citation.passage == part.place
                source = shaped.passages[part.place].source
                for quote, span in zip(citation.quotes, citation.spans, strict=citation.generated is False):
                    assert citation.generated or source[span.start : span.end] == quote
                if citation.exact and not citation.generated:
                    assert all(quote in part.body for quote in citation.quotes)


def test_one_citation_of_two_documents_leads_into_both():
    shaped = context(Passage("Bananas."), Passage(SOURCE, id="b").keep([FIRST, THIRD]), "Ada Moreau lived in Lyon.")
    documents = ChatDocuments(shaped)
    assert [document["id"] for document in documents.documents] == ["passage-0", "b", "passage-2"]
    citation = cited("Ada Moreau", "b", "passage-2")
    first, second = documents.cite(citation)
    assert (first.id, first.spans, first.exact) == ("b", (Span(27, 37),), True)
    assert (second.rank, second.spans, second.exact) == (2, (Span(0, 10),), True)
    assert documents.cite(citation.model_dump()) == [first, second]


def test_words_that_a_document_does_not_repeat_cite_all_of_it():
    documents = ChatDocuments(context(Passage(SOURCE, id="b").keep([FIRST, THIRD])))
    (citation,) = documents.cite(cited("roughly three and a half kilometres", "b"))
    assert (citation.spans, citation.exact) == ((FIRST, THIRD), False)
    assert documents.cite(cited(" ", "b", answer="{}"))[0].exact is False


def test_a_written_document_is_cited_by_its_support():
    documents = ChatDocuments(context(Passage(SOURCE, id="b").rewrite([Written("Moreau designed it.", (FIRST,))])))
    (citation,) = documents.cite(cited("Moreau designed", "b"))
    assert (citation.spans, citation.quotes, citation.generated) == ((FIRST,), (), True)


def test_names_that_stand_twice_are_told_apart():
    shaped = context(Passage("One.", id="a"), Passage("Two.", id="a"), Passage("Three.", id="a#1"))
    documents = ChatDocuments(shaped)
    assert [document["id"] for document in documents.documents] == ["a", "a#1", "a#1#2"]
    assert documents.cite(cited("Two", "a#1"))[0].rank == 1
    assert documents.cite(cited("Three", "a#1#2"))[0].rank == 2


@pytest.mark.parametrize(
    "citation",
    [
        cited("Ada", "unknown"),
        {"text": "Ada", "sources": None},
        {"text": 7, "sources": []},
        {"text": "Ada", "sources": [{}]},
        {"text": "Ada", "sources": [None]},
        None,
        "Ada",
    ],
)
def test_a_foreign_or_malformed_citation_is_an_error(citation):
    with pytest.raises(InvalidInputError):
        ChatDocuments(context(Passage(SOURCE, id="b"))).cite(citation)


def test_nothing_kept_is_no_document():
    assert ChatDocuments(context("", "  \n")).documents == []
