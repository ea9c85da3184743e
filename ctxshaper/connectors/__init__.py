"""Connectors: the shaper as a native part of other frameworks. Nothing is imported before its module is named.

`ctxshaper.connectors.langchain`, `ctxshaper.connectors.langchain.agent`, `ctxshaper.connectors.llama_index`;
`ctxshaper.connectors.citations` maps what an answer says back to its source, with or without a framework;
`ctxshaper.connectors.blocks` writes a context in the blocks of the model APIs, and reads their citations;
`ctxshaper.connectors.triples` makes passages of a knowledge graph's triples, and finds those that are kept.
"""
