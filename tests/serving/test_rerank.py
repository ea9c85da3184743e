"""`/v1/rerank` and `/v2/rerank`, with the clients that people use."""

import cohere
import httpx
import pytest
from langchain_cohere import CohereRerank
from langchain_core.documents import Document

QUESTION = "Who designed the Ember Bridge in Lyon?"
DOCUMENTS = [
    "Bananas are rich in potassium. They grow in warm countries.",
    "Lyon lies where the Rhône and the Saône meet. It is old.",
    "The Ember Bridge in Lyon was designed by Ada Moreau. Boats pass under it, red or blue.",
]


def rerank(url, path="/v1/rerank", **body):
    answer = httpx.post(f"{url}{path}", json={"query": QUESTION, "documents": DOCUMENTS} | body, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def checked(results, count=3):
    scores = [result["relevance_score"] for result in results]
    assert len(results) == count
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert results[0]["index"] == 2


def test_by_relevance_and_between_0_and_1(url):
    checked(rerank(url)["results"])
    checked(rerank(url, top_n=1)["results"], 1)
    checked(rerank(url, model="fast", top_n=99)["results"])


def test_where_nothing_answers_all_scores_are_low(url):
    found = rerank(url, documents=DOCUMENTS[:2], query="What is the boiling point of tungsten?")
    assert found["results"][0]["relevance_score"] < 0.2
    assert found["meta"]["answerable"] == found["results"][0]["relevance_score"]


def test_documents_come_back_only_where_asked_for(url):
    assert "document" not in rerank(url)["results"][0]
    assert rerank(url, return_documents=True)["results"][0]["document"] == {"text": DOCUMENTS[2]}


@pytest.mark.parametrize("how", [{"prune": True}, {"budget": "40%"}, {"prune": True, "budget": 1000}])
def test_pruned_text_is_of_the_document_byte_for_byte(url, how):
    found = rerank(url, **how)
    checked(found["results"])
    for result in found["results"]:
        document = DOCUMENTS[result["index"]]
        assert result["pruned_text"].replace(" … ", "") == "".join(document[a:b] for a, b in result["spans"]).strip()
    assert "Ada Moreau" in found["results"][0]["pruned_text"]
    if "40%" in how.values():
        assert found["meta"]["tokens"]["output_tokens"] <= 0.4 * found["meta"]["tokens"]["input_tokens"]


def test_empty_documents_rank_last(url):
    found = rerank(url, documents=["", *DOCUMENTS, "  \n"])
    assert next(result["index"] for result in found["results"]) == 3
    assert {result["index"]: result["relevance_score"] for result in found["results"]}[0] == 0
    assert rerank(url, documents=["", " "])["results"][0]["relevance_score"] == 0
    assert rerank(url, documents=[])["results"] == []


def test_a_recipe_that_ranks_nothing_is_refused(fake_url):
    answer = httpx.post(f"{fake_url}/v1/rerank", json={"query": "q", "documents": ["a"], "model": "rerank-v3.5"})
    assert answer.status_code == 404
    assert "this service has fast" in answer.json()["message"]


def test_the_cohere_client_v1(url):
    client = cohere.Client(api_key="any", base_url=url)
    found = client.rerank(query=QUESTION, documents=DOCUMENTS, model="qa", top_n=2, return_documents=True)
    assert next(result.index for result in found.results) == 2
    assert found.results[0].document.text == DOCUMENTS[2]
    assert found.results[0].relevance_score > found.results[1].relevance_score
    assert found.meta.api_version.version == "1"


def test_the_cohere_client_v2_and_its_errors(url):
    client = cohere.ClientV2(api_key="any", base_url=url)
    found = client.rerank(query=QUESTION, documents=DOCUMENTS, model="fast", top_n=2)
    assert next(result.index for result in found.results) == 2
    with pytest.raises(cohere.NotFoundError, match="there is no model"):
        client.rerank(query=QUESTION, documents=DOCUMENTS, model="rerank-v3.5")
    with pytest.raises(cohere.BadRequestError, match="a text with content"):
        client.rerank(query=" ", documents=DOCUMENTS, model="fast")


def test_langchains_reranker(url):
    ranker = CohereRerank(model="qa", top_n=2, client=cohere.ClientV2(api_key="any", base_url=url))
    found = ranker.compress_documents([Document(text, metadata={"n": n}) for n, text in enumerate(DOCUMENTS)], QUESTION)
    assert next(document.metadata["n"] for document in found) == 2
    assert found[0].page_content == DOCUMENTS[2]
    assert 0 <= found[1].metadata["relevance_score"] <= found[0].metadata["relevance_score"] <= 1


def test_the_requests_of_open_webui_and_haystack(url):
    # Open WebUI's external reranker sends texts and top_n, and reads index and relevance_score.
    found = rerank(url, model="qa", top_n=len(DOCUMENTS))
    assert sorted(found["results"], key=lambda result: result["index"])[2]["relevance_score"] > 0.5
    # Haystack's and Jina's rerankers send objects, and fields that are nobody's business here.
    documents = [{"text": text} for text in DOCUMENTS]
    found = rerank(url, documents=documents, model="qa", top_n=2, truncation=True, max_tokens_per_doc=512, priority=0)
    checked(found["results"], 2)
