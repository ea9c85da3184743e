"""Eight short texts for the examples to search, and MiniLM to search them with."""

from langchain_core.embeddings import Embeddings
from llama_index.core.embeddings import BaseEmbedding

from ctxshaper import Embedder

TEXTS = {
    "Ember Bridge": "The Ember Bridge crosses the Varn at Oldport. It was designed by the engineer Ada Moreau in 1931. "
    "It carries two tram lines and a footpath. The bridge is 412 metres long. Its towers were repainted in 2004.",
    "Ada Moreau": "Ada Moreau was born in Lyon in 1894. She studied at Grenoble before the war. "
    "She moved to Oldport in 1922, where she worked for the harbour board. She died in 1970.",
    "Oldport": "Oldport is a harbour town of 40,000 people. Its fish market opens at five in the morning. "
    "The harbour froze in the winter of 1963. Most visitors come by train.",
    "Varn": "The Varn is a river of 210 kilometres. It rises in the Harz hills. Salmon returned to it in 1998.",
    "Old Bridge": "The Old Bridge of Oldport was a wooden bridge of 1740. A flood took it in 1926. "
    "Its designer is not known. Two of its piles can be seen at low water.",
    "Harbour board": "The harbour board runs the port. It employs 300 people. Its archive is open on Tuesdays.",
    "Trams": "The trams of Oldport run every ten minutes. The first line opened in 1902. A ticket costs 3.20 crowns.",
    "Lyon": "Lyon lies where the Rhone and the Saone meet. Its silk weavers were famous. It has 520,000 people.",
}
QUESTION = "Who designed the Ember Bridge?"
EMBEDDER = Embedder()


class MiniLM(Embeddings):
    """For LangChain."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return EMBEDDER.embed(texts).tolist()

    def embed_query(self, text: str) -> list[float]:
        return EMBEDDER.embed([text])[0].tolist()


class MiniLMNodes(BaseEmbedding):
    """For LlamaIndex."""

    def _get_text_embedding(self, text: str) -> list[float]:
        return EMBEDDER.embed([text])[0].tolist()

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)
