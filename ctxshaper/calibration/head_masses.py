"""What every single head of a model attends to in each unit of text: what `calibrate` chooses heads by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctxshaper.calibration.head_attention import Asked, Groups, ReadHeads
from ctxshaper.calibration.row_shares import row_shares
from ctxshaper.data import Passage, Span
from ctxshaper.errors import ModelError
from ctxshaper.models.chat import user_turn
from ctxshaper.models.language_model import LanguageModel
from ctxshaper.reading.head_sets import HeadSet, Pair
from ctxshaper.reading.layout import Layout
from ctxshaper.reading.passage_tokens import Tokens
from ctxshaper.reading.prefill import offsets_of, read_prefix
from ctxshaper.reading.profile import HeadProfile
from ctxshaper.reading.query_pass import QueryPasses
from ctxshaper.reading.reading import PassageReading

# A question without content: what attention falls on anyhow (In-Context Re-ranking, arXiv 2410.02642).
NOTHING = "N/A"
# Tokens that may draw attention for what they are and not for what they say.
KINDS = ("words", "punctuation", "first token")


@dataclass(frozen=True)
class HeadShape:
    """The heads of a model, and what remembering their keys takes.

    Attributes:
        layers: L.
        heads: query heads of a layer, H.
        kv_heads: key heads of a layer; neighbouring query heads share one.
        dim: numbers of a key, D.
    """

    layers: int
    heads: int
    kv_heads: int
    dim: int

    def slot_bytes(self) -> int:
        """Bytes that one token's key takes in a memory: D of 8 bits, and a scale of 16."""
        return self.dim + 2

    def slots(self) -> NDArray[np.int64]:
        """[L * H] the slot of each head: which key head of the model it looks at."""
        return np.arange(self.layers * self.heads) // (self.heads // self.kv_heads)


@dataclass(frozen=True)
class UnitMass:
    """The attention that the units of one question's passages receive, by head.

    Attributes:
        asked: [V, U, K, L, H] float32 attention of the question's tokens, weighted in each of the `ROWS` ways, to each
            unit, summed over its tokens of each of the `KINDS`.
        nothing: [U, K, L, H] the same for a question without content, all of its tokens alike.
        tokens: [U, K] tokens of each kind.
        owners: [U] the passage of each unit.
    """

    asked: NDArray[np.float32]
    nothing: NDArray[np.float32]
    tokens: NDArray[np.int64]
    owners: NDArray[np.int64]


class HeadReader:
    """All heads of a model, read as `Reader` reads: passages independently, the query alone.

    Nothing is remembered between questions: each is read once.

    Args:
        model: a `LanguageModel`, or what one is made of: None for the embedded SmolLM2, a folder, a GGUF file, or a
            hub name.
        device: of a model that is made here: "auto", or a torch device.
        dtype: the same: "auto", "bfloat16", "float16" or "float32".

    Attributes:
        name: the model's.
        shape: its heads.
        base: the head profile whose texts stand around passages and query.

    Raises:
        ModelError: the model cannot be found or loaded.
    """

    def __init__(
        self, model: LanguageModel | str | Path | None = None, *, device: str = "auto", dtype: str = "auto"
    ) -> None:
        made = model if isinstance(model, LanguageModel) else LanguageModel(model, device=device, dtype=dtype)
        self.name = made.name
        self._decoder = made.decoder()
        self.base = HeadProfile.shipped(made.name) or _framed(made)
        self._layout = Layout(
            made.encoder,
            self.base,
            made.name,
            max_context=self._decoder.max_context,
            fingerprint=(),
            max_tokens=131_072,
        )
        self._prefix = read_prefix(self._decoder, self._layout.prefix)
        keys = self._prefix[0][0]
        self.shape = HeadShape(made.layers, made.heads, keys.shape[0], keys.shape[2])
        group = made.heads // keys.shape[0]
        pairs = [Pair(layer, h // group, h) for layer in range(made.layers) for h in range(made.heads)]
        self._passes = QueryPasses(self._decoder, self._prefix, self._layout.end, HeadSet("all", tuple(pairs)))
        self._nothing = self._asked(NOTHING, [])

    def read(self, query: str, passages: Sequence[Passage], units: Sequence[Sequence[Span]]) -> UnitMass:
        """Read one question's passages once, in one pass, and ask them the question and one without content.

        Args:
            query: the question.
            passages: whose `source` is read, with the title in front.
            units: by passage, sorted and disjoint.

        Raises:
            InvalidInputError: an empty query, or one that is too long.
            ModelError: the model gives attention that is not a number.
        """
        encoded = [self._layout.passage(passage) for passage in passages]
        windows = [ids for one in encoded for ids in one.ids]
        groups, tokens = self._groups(encoded, passages, units)
        lengths = [len(ids) for ids in windows]
        questions = [self._asked(query, windows), self._nothing]
        call = ReadHeads(offsets_of(lengths, self._decoder), self.shape.layers - 1, self._prefix, questions, groups)
        positions = [p for n in lengths for p in range(self._layout.end - n, self._layout.end)]
        if positions:
            self._decoder.run(np.concatenate(windows).tolist(), positions, call)
        asked, nothing = (self._by_unit(found, len(tokens)) for found in call.mass)
        owners = np.repeat(np.arange(len(units)), [len(spans) for spans in units])
        return UnitMass(asked, nothing[0], tokens, owners)

    def _asked(self, query: str, windows: Sequence[NDArray[np.int32]]) -> Asked:
        ids, rows = self._layout.query(query)
        found = self._passes.read({b"": (ids, rows)})[b""]
        layers, heads = self.shape.layers, self.shape.heads
        # Pairs are sorted by layer, key head and head, which is the order of the heads.
        own = found.rows.reshape(layers, heads, *found.rows.shape[1:])
        rest = found.rest.reshape(layers, heads, -1)
        shares = row_shares(query, self._layout.encoder, windows) if windows else np.full((1, len(rows)), 1 / len(rows))
        return Asked(own, rest, torch.from_numpy(shares).to(rest))

    def _groups(
        self, encoded: Sequence[Tokens], passages: Sequence[Passage], units: Sequence[Sequence[Span]]
    ) -> tuple[Groups, NDArray[np.int64]]:
        """One group for each unit and kind of token, and [U, K] tokens of each."""
        kinds = len(KINDS)
        # The last group takes what is no unit: headings, tokens between units.
        other = sum(map(len, units)) * kinds
        of, shares = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
        tokens = np.zeros(other + 1, dtype=np.int64)
        first = 0
        for one, passage, spans in zip(encoded, passages, units, strict=True):
            unit = PassageReading(one.offsets, np.zeros(len(one.offsets), np.float32)).tokens_of(spans)
            group = np.where(unit < 0, other, (first + unit) * kinds + _kinds(passage.source, one.offsets))
            tokens += np.bincount(group, minlength=len(tokens))
            seen = np.zeros(len(group))
            for a, b in one.windows:
                seen[a:b] += 1
            for a, b in one.windows:
                of += [np.full(one.heading, other), group[a:b]]
                shares += [np.ones(one.heading), 1 / seen[a:b]]
            first += len(spans)
        device = self._decoder.device
        share = torch.tensor(np.concatenate(shares), dtype=torch.float32, device=device)
        return (
            Groups(torch.tensor(np.concatenate(of), device=device), share, other + 1),
            tokens[:-1].reshape(-1, kinds),
        )

    def _by_unit(self, found: Sequence[Tensor], units: int) -> NDArray[np.float32]:
        mass: NDArray[np.float32] = torch.stack(list(found), 1)[..., :-1].cpu().numpy()
        if not np.isfinite(mass).all():
            raise ModelError("the model gave attention that is not a number; use dtype='float32'")
        # [V, L, H, U, K] as [V, U, K, L, H].
        return mass.reshape(*mass.shape[:3], units, len(KINDS)).transpose(0, 3, 4, 1, 2)


def _framed(model: LanguageModel) -> HeadProfile:
    before, after = user_turn(model.tokenizer, model.name)
    plain = HeadProfile.automatic(model.name, model.layers, model.heads)
    return HeadProfile(model.name, plain.heads, plain.filter_layer, prefix=before + plain.prefix, after_query=after)


def _kinds(source: str, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """[n] index into `KINDS` of each token."""
    kinds = np.array([0 if any(map(str.isalnum, source[a:b])) else 1 for a, b in offsets.tolist()], dtype=np.int64)
    kinds[:1] = 2
    return kinds
