"""Runs LLMLingua in an environment of its own: it needs transformers below 4.45. Imports nothing of this project.

Reads a line of JSON from standard input for each request (`context`, `question`, `target_token`, `long`) and writes one
to standard output (`text`, or `error`). Its argument is the folder of the language model.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


class _NoTokenizer:
    """Stands in for a tokenizer of tiktoken's, which LLMLingua would download for a statistic nobody reads."""

    def encode(self, text: str) -> list[str]:
        """Words."""
        return text.split()


def main() -> None:
    """Answer requests until standard input ends."""
    # Whatever the packages print must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    import tiktoken

    tiktoken.encoding_for_model = lambda _: _NoTokenizer()  # type: ignore[assignment, return-value]
    import torch
    from llmlingua import PromptCompressor

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "0")) or torch.get_num_threads())
    settings = {"trust_remote_code": False, "local_files_only": True}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    compressor = PromptCompressor(sys.argv[1], device_map=device, model_config=settings)
    for line in sys.stdin:
        try:
            answer = {"text": _compress(compressor, json.loads(line))}
        except Exception as error:  # noqa: BLE001  # whatever it is, the process that asked must hear of it
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _compress(compressor: Any, request: dict[str, Any]) -> str:
    # The settings that the project's own README gives for LongLLMLingua, but for the order, which stays.
    long = {
        "rank_method": "longllmlingua",
        "condition_in_question": "after_condition",
        "condition_compare": True,
        "context_budget": "+100",
        "dynamic_context_compression_ratio": 0.4,
        "reorder_context": "original",
    }
    result = compressor.compress_prompt(
        request["context"],
        question=request["question"],
        target_token=request["target_token"],
        concate_question=False,
        **(long if request["long"] else {}),
    )
    return str(result["compressed_prompt"])


if __name__ == "__main__":
    main()
