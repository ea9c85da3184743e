"""One list of configured stages, crossed by the tests with every way of running them."""

from ctxshaper.generators import FakeGenerator
from ctxshaper.reading.focal import FocalReader
from ctxshaper.stages import S2A, STAGES, AttentionRAG, AttnRank, DistractionFilter, EvidenceFilter, GemFilter, Stage

CONFIGURED: list[Stage] = [
    EvidenceFilter(),
    EvidenceFilter(unit="block"),
    EvidenceFilter(unit="passage"),
    EvidenceFilter(embedding=True, bm25=True, second_hop=True),
    GemFilter(),
    GemFilter(k=10),
    GemFilter(unit="sentence"),
    GemFilter(unit="sentence", calibrated=True),
    GemFilter(unit="block", reading="independent"),
    AttentionRAG(),
    AttentionRAG(k=3, hint="generic"),
    AttentionRAG(reading="chunks", chunk=40, focal=FocalReader()),
    AttnRank(preset="edges"),
    AttnRank(preset="best_last"),
    DistractionFilter(keep=1, when_ignored="use"),
    DistractionFilter(keep=1, action="demote", when_ignored="use"),
    S2A(generator=FakeGenerator(lambda prompt: "Context: The bridge was designed by Ada Moreau.\nQuestion: Who?")),
]

assert {type(stage) for stage in CONFIGURED} == set(STAGES.values()), "a stage is missing from the list"
