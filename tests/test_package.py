"""What the package promises as a whole."""

import resource
import subprocess
import sys

import pytest

import ctxshaper
from tests.machine import slowness

PUBLIC = [
    "AttentionRAG",
    "AttnRank",
    "Budget",
    "Context",
    "ContextualizeQuery",
    "CtxshaperError",
    "DeadlineError",
    "Decision",
    "DistractionFilter",
    "Embedder",
    "EvidenceFilter",
    "FakeGenerator",
    "FakeReader",
    "GemFilter",
    "Generator",
    "GeneratorError",
    "HeadProfile",
    "InjectionScreen",
    "InvalidInputError",
    "Kept",
    "LangChainGenerator",
    "LanguageModel",
    "LlamaIndexGenerator",
    "LocalGenerator",
    "Log",
    "Message",
    "MissingDependencyError",
    "ModelError",
    "NoiseFilter",
    "OpenAIGenerator",
    "Parts",
    "Passage",
    "Pipeline",
    "PositionProfile",
    "Reader",
    "Reading",
    "Recipe",
    "RecipeError",
    "Rendering",
    "Run",
    "S2A",
    "S2AQuery",
    "ScoringStage",
    "SetAside",
    "Span",
    "Stage",
    "StageError",
    "StageTrace",
    "Structurize",
    "Trace",
    "Unit",
    "UnsupportedModelError",
    "WritingStage",
    "Written",
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


def test_the_base_install_imports_everything_and_says_what_is_missing_when_it_is_used():
    code = (
        "import sys\n"
        "for name in ('torch', 'numpy', 'transformers', 'tokenizers', 'httpx', 'sentence_transformers', 'bm25s'):\n"
        "    sys.modules[name] = None\n"
        "from ctxshaper import *\n"
        "import ctxshaper\n"
        "assert all(getattr(ctxshaper, name) for name in ctxshaper.__all__)\n"
        "Recipe.load('careful'), Context('q', (Passage('x'),), len).to_json(), FakeGenerator('a').generate('b')\n"
        "for use in (lambda: Reader(), lambda: LanguageModel('x'), lambda: Embedder(),\n"
        "            lambda: Pipeline.from_recipe('fast').shape('q', ['x. y.'], 1)):\n"
        "    try:\n        use()\n"
        "    except MissingDependencyError as e: print(e)"
    )
    lines = run(code).splitlines()
    assert len(lines) == 4
    assert all("pip install 'ctxshaper[re" in line for line in lines)


def test_help_answers_in_half_a_second():
    # Some 0.4 s of processor time on a quiet core, and half as much again beside another process on it.
    def once():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "ctxshaper", "--help"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(once() for _ in range(3)) < 0.7 * slowness()
