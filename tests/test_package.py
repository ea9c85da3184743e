"""What the package promises as a whole."""

import resource
import subprocess
import sys

import pytest

import ctxshaper

PUBLIC = [
    "Abstention",
    "AttentionRAG",
    "AttnRank",
    "Budget",
    "Context",
    "CtxshaperError",
    "DistractionFilter",
    "Dropped",
    "Embedder",
    "EvidenceFilter",
    "FakeGenerator",
    "FocalReader",
    "GemFilter",
    "Generator",
    "GeneratorError",
    "HeadProfile",
    "InvalidInputError",
    "LangChainGenerator",
    "LlamaIndexGenerator",
    "LocalGenerator",
    "MissingDependencyError",
    "ModelError",
    "OpenAIGenerator",
    "Passage",
    "Pipeline",
    "PositionProfile",
    "Reader",
    "Reading",
    "Recipe",
    "RecipeError",
    "Rendering",
    "S2A",
    "Span",
    "StageError",
    "StageTrace",
    "Trace",
    "UnsupportedModelError",
]


def test_the_public_names_are_these():
    assert sorted(ctxshaper.__all__) == sorted(PUBLIC)
    for name in PUBLIC:
        assert getattr(ctxshaper, name).__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = ctxshaper.Nothing


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_importing_needs_no_model_library():
    code = (
        "import sys, ctxshaper, ctxshaper.commands.app\n"
        "print([m for m in ('torch', 'transformers', 'numpy') if m in sys.modules])"
    )
    assert run(code).strip() == "[]"


def test_a_missing_extra_is_one_clear_error():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import ctxshaper\n"
        "try:\n    ctxshaper.Pipeline\n"
        "except ctxshaper.MissingDependencyError as e: print(e)"
    )
    assert "pip install 'ctxshaper[reader]'" in run(code)


def test_help_answers_in_half_a_second():
    # Processor time, not the clock: other work on the machine must not decide.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "ctxshaper", "--help"], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5
