"""Shared parts of the tests: one reader for all, tiny random models, the evaluation data where it is there."""

import json
import os
import threading
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch
from hypothesis import settings
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult

# Without a GPU the kernels run in Triton's interpreter. Triton asks once, at its own import, and a framework may import
# it before the kernels' tests are collected.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

from ctxshaper import Embedder, Passage, Reader
from ctxshaper.stages import Stage

# The same cases in every run, or a change that touches nothing could fail; HYPOTHESIS_PROFILE=default searches anew.
settings.register_profile("same", derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of Ray first: of two processes one gets them all, and one cluster starts instead of two."""
    items.sort(key=lambda item: not item.path.name.startswith("test_ray"))


@pytest.fixture(scope="session")
def reader() -> Reader:
    return Reader()


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    return Embedder()


@pytest.fixture(scope="session")
def hotpot() -> list[dict]:
    path = DATA / "hotpotqa_100.json"
    if not path.is_file():
        pytest.skip("the evaluation data is not beside the project (../shared/data/hotpotqa_100.json)")
    return json.loads(path.read_text(encoding="utf-8"))


class _Switch(Sampler):
    """Records spans while a test looks at them: elsewhere the suite runs as an application that samples none."""

    on = False

    def should_sample(self, *arguments, **options):
        return SamplingResult(Decision.RECORD_AND_SAMPLE if self.on else Decision.DROP)

    def get_description(self):
        return "while a test looks"


@pytest.fixture(scope="session")
def collected():
    """The switch and the exporter of the one tracer provider that a process can have."""
    switch, exporter = _Switch(), InMemorySpanExporter()
    provider = TracerProvider(sampler=switch)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return switch, exporter


@pytest.fixture
def spans(collected):
    """An exporter of OpenTelemetry that holds the spans which end during the test."""
    switch, exporter = collected
    exporter.clear()
    switch.on = True
    yield exporter
    switch.on = False


@pytest.fixture
def passages() -> list[Passage]:
    return [
        Passage("The lighthouse was built in 1894. It stands on a rock.", id="a", metadata={"title": "Lighthouse"}),
        Passage("The bridge was designed by Ada Moreau. She was born in Lyon. It is 3.5 km long.", id="b", score=0.7),
        Passage("Bananas are rich in potassium. They grow in bunches, e.g. of twelve.", id="c"),
    ]


@pytest.fixture
def waiting():
    """A stage that ends only when the event loop runs beside it, and the coroutine that lets it go."""
    released = threading.Event()

    class Waiting(Stage):
        def shape(self, context, run):
            assert released.wait(30), "the loop did not run while the stage worked"
            return context

    async def release():
        released.set()

    return Waiting(), release


FAMILIES = {
    "llama": {},
    "qwen2": {},
    "qwen3": {"head_dim": 16},
    "mistral": {"sliding_window": 1024},
    "phi3": {"pad_token_id": 0, "sliding_window": 600},
    "gemma2": {"head_dim": 16, "sliding_window": 512, "query_pre_attn_scalar": 16},
    "gemma3_text": {
        "head_dim": 16,
        "sliding_window": 512,
        "query_pre_attn_scalar": 16,
        # Its pattern has a full layer, with a rotary base of its own, after five others: more than the tiny one has.
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "sliding_attention"],
    },
}


@pytest.fixture(scope="session")
def tiny_model(reader, tmp_path_factory):
    """A folder with a tiny randomly initialised model of a family and SmolLM2's tokenizer."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from ctxshaper.models.loading import load_tokenizer

    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in made:
            torch.manual_seed(0)
            config = AutoConfig.for_model(
                family,
                vocab_size=49_152,
                hidden_size=64,
                intermediate_size=96,
                num_hidden_layers=4,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=4096,
                initializer_range=0.5,
                **FAMILIES[family],
            )
            folder = tmp_path_factory.mktemp(family)
            AutoModelForCausalLM.from_config(config).save_pretrained(folder)
            load_tokenizer(reader.source).save_pretrained(folder)
            made[family] = folder
        return made[family]

    return make
