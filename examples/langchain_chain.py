"""LangChain: a retrieval chain whose model reads shaped documents."""

from corpus import QUESTION, TEXTS, MiniLM
from embedded_lm import SmolChat
from langchain_community.vectorstores import FAISS
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough

from ctxshaper.connectors.langchain import ContextShaper, map_citation


class Report(BaseCallbackHandler):
    """Each shaping reports itself inside its run."""

    def on_custom_event(self, name: str, data: dict, **kwargs: object) -> None:
        print(f"tokens saved: {data['tokens_in'] - data['tokens']} of {data['tokens_in']}")


store = FAISS.from_documents([Document(t, id=title, metadata={"title": title}) for title, t in TEXTS.items()], MiniLM())
shaper = ContextShaper(pipeline="qa", budget="30%")
prompt = ChatPromptTemplate.from_template("{context}\n\nAnswer in one short sentence: {query}")


def context(state: dict) -> str:
    return "\n\n".join(document.page_content for document in state["documents"])


answer = RunnablePassthrough.assign(context=context) | prompt | SmolChat() | StrOutputParser()
chain = (
    {"query": RunnablePassthrough(), "documents": store.as_retriever(search_kwargs={"k": 6})}
    | RunnablePassthrough.assign(documents=shaper)
    | RunnablePassthrough.assign(answer=answer)
)
result = chain.invoke(QUESTION, {"callbacks": [Report()]})
print(f"answer: {result['answer']}")

citation = map_citation(result["documents"], result["answer"]) or map_citation(result["documents"], "Ada Moreau")
(span, *_) = citation.spans
print(f"cited: {citation.id}[{span.start}:{span.end}] = {TEXTS[citation.id][span.start : span.end]!r}")
