"""LlamaIndex's nodes as passages, and shaped passages as nodes; citations of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from llama_index.core.schema import BaseNode, ImageNode, MetadataMode, Node, NodeWithScore, TextNode

from ctxshaper.connectors import citations
from ctxshaper.connectors.client import Outcome
from ctxshaper.connectors.matching import find_loosely
from ctxshaper.connectors.origins import within
from ctxshaper.connectors.records import KEY, Record, read, results
from ctxshaper.data import Passage


def is_text(node: BaseNode) -> bool:
    """Whether a node is text and nothing else; images and other media are not for a text reader."""
    if isinstance(node, TextNode):
        return not isinstance(node, ImageNode)
    if not isinstance(node, Node):
        return False
    return node.text_resource is not None and not (node.image_resource or node.audio_resource or node.video_resource)


def to_passages(nodes: Sequence[NodeWithScore]) -> list[Passage]:
    """Passages of text nodes: content without metadata, id, score, metadata. A pure function.

    A score that is not finite counts as none; metadata whose keys are not text stays with the node.
    """
    return [
        Passage(
            _text(item.node),
            id=item.node.node_id,
            score=item.score if item.score is not None and math.isfinite(item.score) else None,
            metadata={k: v for k, v in item.node.metadata.items() if isinstance(k, str) and k != KEY},
        )
        for item in nodes
    ]


def to_nodes(nodes: Sequence[NodeWithScore], passages: Sequence[Passage], outcome: Outcome) -> list[NodeWithScore]:
    """Copies of the text nodes that say what the passages say; the originals are not touched. A pure function.

    Args:
        nodes: as retrieved, all of them text.
        passages: what `to_passages` made of them.
        outcome: of shaping them.
    """
    shaped = []
    for result in results(passages, outcome, [read(item.node.metadata.get(KEY), _text(item.node)) for item in nodes]):
        original = nodes[result.rank]
        node = original.node
        copied = node.model_copy(
            update={
                # A citation engine cuts nodes anew and prints numbers into them: the record keeps the text it is about.
                "metadata": {**node.metadata, KEY: {**result.record, "text": result.text}},
                "excluded_llm_metadata_keys": [*{**dict.fromkeys(node.excluded_llm_metadata_keys), KEY: None}],
                "excluded_embed_metadata_keys": [*{**dict.fromkeys(node.excluded_embed_metadata_keys), KEY: None}],
                "relationships": dict(node.relationships),
            }
        )
        copied.set_content(result.text)
        shaped.append(original.model_copy(update={"node": copied, "score": result.score}))
    return shaped


def map_citation(nodes: Sequence[NodeWithScore | BaseNode], answer_span: str) -> citations.Citation | None:
    """Find the source of an answer's words in shaped nodes, such as `response.source_nodes`.

    Args:
        nodes: what the generator was given; a `CitationQueryEngine` may have cut and numbered them since.
        answer_span: words of the answer; found as `ctxshaper.connectors.citations.map_citation` finds them.

    Returns:
        The citation, whose spans count in the original node's text; None where no node says this.
    """
    blocks = []
    for index, item in enumerate(nodes):
        node = item.node if isinstance(item, NodeWithScore) else item
        if is_text(node):
            text, record = _recorded(node)
            blocks.append(citations.Block(text, record.origins, node.node_id, index, record.rank))
    return citations.find(blocks, answer_span)


def _text(node: BaseNode) -> str:
    content: str = node.get_content(metadata_mode=MetadataMode.NONE)
    return content


def _recorded(node: BaseNode) -> tuple[str, Record]:
    """What a node says, with its record: its own text, or that part of a longer one which a citation engine cut out."""
    text, data = _text(node), node.metadata.get(KEY)
    longer = data.get("text") if isinstance(data, dict) else None
    if isinstance(longer, str) and longer != text:
        # The engine numbers what it cuts in a first line ("Source 1:").
        for cut in (text, text.partition("\n")[2]):
            if cut.strip() and (found := find_loosely([longer], cut)):
                record, at = read(data, longer), found[1]
                moved = (
                    o._replace(start=o.start - at.start, end=o.end - at.start)
                    for o in within(record.origins, at.start, at.end)
                )
                return longer[at.start : at.end], replace(record, origins=tuple(moved))
    return text, read(data, text)
