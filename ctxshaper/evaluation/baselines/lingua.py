"""LLMLingua and LongLLMLingua (arXiv 2310.05736, 2310.06839), run in an environment of their own."""

from __future__ import annotations

import atexit
import json
import os
import re
import subprocess
import tempfile
import threading
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ctxshaper.data import Context, Passage, Span, Written
from ctxshaper.errors import MissingDependencyError, StageError
from ctxshaper.evaluation.baselines import lingua_worker
from ctxshaper.models.loading import load_lm, load_tokenizer
from ctxshaper.reading.reader import Reader
from ctxshaper.stages import Run, Stage

# Names the environment's interpreter where it is not the one that `make llmlingua` makes.
VARIABLE = "CTXSHAPER_LLMLINGUA_PYTHON"
# LLMLingua misses its target: so often it is asked again with a corrected one.
_TRIES = 3


@dataclass(frozen=True, kw_only=True)
class LLMLingua(Stage):
    """LLMLingua drops tokens that a small model finds likely; here the same small model that this project reads with.

    It is asked for a target until its text fills 85% to 100% of the budget, at most three times. What it keeps of each
    passage is found by aligning its text with the source, token by token.

    Attributes:
        long: LongLLMLingua: passages and tokens by how much the question makes them likely (arXiv 2310.06839).
    """

    long: bool = False

    def shape(self, context: Context, run: Run) -> Context:
        """Apply the rule of the class."""
        if context.limit is None or context.tokens <= context.limit:
            return context
        reader = run.parts.reader
        if not isinstance(reader, Reader):
            raise StageError(f"LLMLingua needs a Reader, whose model it loads, but got {type(reader).__name__}")
        texts = [f"{p.title}\n{p.text}" if p.title else p.text for p in context.passages]
        target, best = float(context.limit), None
        for _ in range(_TRIES):
            request = {"context": texts, "question": context.query, "target_token": target, "long": self.long}
            tried = self._aligned(context, texts, _worker(reader).ask(request), reader)
            if tried.tokens <= context.limit and (best is None or tried.tokens > best.tokens):
                best = tried
            if 0.85 * context.limit <= tried.tokens <= context.limit:
                break
            target *= 0.95 * context.limit / max(1, tried.tokens)
        run.log.notes["target"] = target
        return best or tried

    def _aligned(self, context: Context, texts: list[str], kept: str, reader: Reader) -> Context:
        """The text that was kept, divided by passage, with the parts of the source that it holds."""
        whole = "\n\n".join(texts)
        starts = np.cumsum([0, *(len(t) + 2 for t in texts)])
        ids, places = reader.encoder.data(whole)
        own, offsets = reader.encoder.data(kept)
        pieces: dict[int, list[int]] = {}
        spans: dict[int, list[Span]] = {}
        for i, j, size in SequenceMatcher(None, ids, own, autojunk=False).get_matching_blocks():
            for step in range(size):
                start, end = map(int, places[i + step])
                index = int(np.searchsorted(starts, start, side="right")) - 1
                pieces.setdefault(index, []).append(j + step)
                # A heading is no part of the source, and neither is what stands between two passages.
                body = len(context.passages[index].text)
                heading = int(starts[index]) + len(texts[index]) - body
                begin, stop = max(start - heading, 0), min(end - heading, body)
                if begin < stop:
                    spans.setdefault(index, []).append(Span(begin, stop))
        passages: list[Passage] = []
        order = sorted(pieces, key=lambda index: pieces[index][0])
        cuts = [0, *(int(offsets[pieces[index][0]][0]) for index in order[1:]), len(kept)]
        for index, a, b in zip(order, cuts[:-1], cuts[1:], strict=True):
            # The heading, if it was kept, is part of the text.
            bare = replace(context.passages[index], metadata={})
            text = kept[a:b].strip()
            passages.append(bare.rewrite([Written(text, tuple(spans.get(index, ())))] if text else []))
        return context.with_passages(passages)


class _Worker:
    """The process that runs LLMLingua, one request at a time."""

    def __init__(self, python: str, model: str) -> None:
        command = [python, str(Path(lingua_worker.__file__)), model]
        self._lock = threading.Lock()
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  # lives as long as the process
        self._process = subprocess.Popen(  # noqa: S603  # the user's own interpreter and this project's own file
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            encoding="utf-8",
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        atexit.register(self._close)

    def _close(self) -> None:
        # Leaving the process's context closes its pipes and waits for it.
        with self._errors, self._process:
            self._process.kill()

    def ask(self, request: dict[str, Any]) -> str:
        """The compressed text.

        Raises:
            StageError: LLMLingua failed, or its environment is not complete.
        """
        with self._lock:
            assert self._process.stdin is not None  # noqa: S101  # both are pipes
            assert self._process.stdout is not None  # noqa: S101
            try:
                self._process.stdin.write(json.dumps(request) + "\n")
                self._process.stdin.flush()
            except BrokenPipeError:
                pass
            line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            last = self._errors.read().strip().splitlines()[-1:] or ["it ended without a word"]
            raise StageError(f"LLMLingua's process failed: {last[0]}; set it up with `make llmlingua`")
        answer = json.loads(line)
        if "error" in answer:
            raise StageError(f"LLMLingua failed: {answer['error']}")
        return str(answer["text"])


def interpreter() -> str | None:
    """The interpreter of LLMLingua's environment, or None if there is none."""
    found = os.environ.get(VARIABLE) or str(Path(".venv-llmlingua/bin/python").absolute())
    return found if Path(found).is_file() else None


@cache
def _worker(reader: Reader) -> _Worker:
    python = interpreter()
    if python is None:
        raise MissingDependencyError(
            f"LLMLingua needs an environment of its own: `make llmlingua`, or name its interpreter in {VARIABLE}"
        )
    return _Worker(python, str(_exported(reader)))


def _exported(reader: Reader) -> Path:
    """The reader's model as a folder that the older transformers can read."""
    import torch

    name = re.sub(r"[^\w.-]", "_", reader.source.name)
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    # The last number counts up when what is written there changes.
    folder = cache_home / "ctxshaper" / f"{name}-{reader.source.fingerprint()[:16]}-for-llmlingua-2"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        new = Path(made) / "model"
        load_lm(reader.source, dtype=torch.float32, head=True).save_pretrained(new)
        load_tokenizer(reader.source).save_pretrained(new)
        # Two settings that transformers 5 spells in a new way; without the first, the old one reads a wrong model.
        config = json.loads((new / "config.json").read_text(encoding="utf-8"))
        config |= {
            "rope_theta": config.pop("rope_parameters", {}).get("rope_theta", 10_000.0),
            "torch_dtype": "float32",
        }
        (new / "config.json").write_text(json.dumps(config), encoding="utf-8")
        tokenizer = json.loads((new / "tokenizer_config.json").read_text(encoding="utf-8"))
        # As it decodes by itself the older one drops the space in " ,", and LLMLingua's own assertions then fail.
        tokenizer |= {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
        (new / "tokenizer_config.json").write_text(json.dumps(tokenizer), encoding="utf-8")
        try:
            new.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was quicker
                raise
    return folder
