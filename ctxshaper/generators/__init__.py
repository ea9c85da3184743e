"""Language models that write: one small protocol, and the ways to what lies behind it. Importing it loads no model."""

from ctxshaper.generators.adapters import LangChainGenerator, LlamaIndexGenerator
from ctxshaper.generators.base import Generator, Prompt, ScoringGenerator
from ctxshaper.generators.fake import FakeGenerator
from ctxshaper.generators.local import LocalGenerator
from ctxshaper.generators.openai import OpenAIGenerator

__all__ = [
    "FakeGenerator",
    "Generator",
    "LangChainGenerator",
    "LlamaIndexGenerator",
    "LocalGenerator",
    "OpenAIGenerator",
    "Prompt",
    "ScoringGenerator",
]
