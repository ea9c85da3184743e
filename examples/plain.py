"""Plain Python: shape what any retriever returned, and map a quotation back to its source."""

from corpus import QUESTION, TEXTS

from ctxshaper import Passage, Pipeline
from ctxshaper.connectors.citations import map_citation

shaper = Pipeline.from_recipe("qa")
shaped = shaper.shape(QUESTION, [Passage(t, id=title, metadata={"title": title}) for title, t in TEXTS.items()], "30%")

print(shaped.text)
print(f"tokens saved: {shaped.tokens_in - shaped.tokens} of {shaped.tokens_in}")

citation = map_citation(shaped, "designed by the engineer Ada Moreau")
assert citation is not None
(span,) = citation.spans
print(f"cited: {citation.id}[{span.start}:{span.end}] = {TEXTS[citation.id][span.start : span.end]!r}")
