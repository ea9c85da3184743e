"""One list of configured stages, crossed by the tests with every way of running them."""

from ctxshaper.stages import (
    S2A,
    STAGES,
    AttentionRAG,
    AttnRank,
    ContextualizeQuery,
    DistractionFilter,
    EvidenceFilter,
    GemFilter,
    InjectionScreen,
    NoiseFilter,
    S2AQuery,
    Stage,
    Structurize,
)

CONFIGURED: list[Stage] = [
    EvidenceFilter(),
    EvidenceFilter(unit="block"),
    EvidenceFilter(unit="passage"),
    EvidenceFilter(embedding=True, bm25=True),
    GemFilter(),
    GemFilter(k=10),
    GemFilter(k=10, unit="sentence"),
    GemFilter(unit="sentence"),
    GemFilter(unit="sentence", calibrated=True),
    GemFilter(unit="block", reading="independent"),
    AttentionRAG(),
    AttentionRAG(k=3),
    AttentionRAG(reading="chunks", chunk=60, hint="generator"),
    AttentionRAG(reading="chunks", chunk=40),
    AttnRank(preset="edges"),
    AttnRank(preset="best_last"),
    DistractionFilter(keep=1, when_ignored="use"),
    DistractionFilter(keep=1, action="demote", when_ignored="use"),
    InjectionScreen(),
    InjectionScreen(action="cut"),
    InjectionScreen(action="mark"),
    S2A(),
    S2A(variant="keep_original"),
    NoiseFilter(),
    NoiseFilter(chunk=40, answer=3, unit="block"),
    S2AQuery(),
    ContextualizeQuery(),
    Structurize(least=2),
    Structurize(headings="text", least=2),
]
# What a generator that stages ask says in tests.
ANSWER = "Context: The bridge was designed by Ada Moreau.\nQuestion: Who?"

assert {type(stage) for stage in CONFIGURED} == set(STAGES.values()), "a stage is missing from the list"
