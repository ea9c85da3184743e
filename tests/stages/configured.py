"""One list of configured stages, crossed by the tests with every way of running them."""

from ctxshaper.stages import STAGES, EvidenceFilter, GemFilter, Stage

CONFIGURED: list[Stage] = [
    EvidenceFilter(),
    EvidenceFilter(unit="block"),
    EvidenceFilter(unit="passage"),
    EvidenceFilter(embedding=True, bm25=True, second_hop=True),
    GemFilter(),
    GemFilter(k=10),
    GemFilter(unit="sentence"),
    GemFilter(unit="block", reading="independent"),
]

assert {type(stage) for stage in CONFIGURED} == set(STAGES.values()), "a stage is missing from the list"
