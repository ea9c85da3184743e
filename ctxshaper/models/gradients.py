"""How much a language model's answer depends on each token of its prompt: gradients with respect to embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ctxshaper.data import deadline


def embedding_gradients(model: Any, ids: Sequence[int], answer: Sequence[int]) -> NDArray[np.float32]:
    """The length of the gradient of the answer's loss with respect to each prompt token's embedding.

    Args:
        model: of transformers, with its head.
        ids: [T] the prompt.
        answer: [A] what is written behind it, at least one token.

    Returns:
        [T] float32, at least 0: L2 norm of dL/dE, L being the mean cross entropy of the answer's tokens.
    """
    deadline.check()
    tokens = torch.tensor([[*ids, *answer]], device=model.device)
    with torch.enable_grad():
        embedded = model.get_input_embeddings()(tokens).detach().requires_grad_()
        # The logits before each token of the answer; those behind the last one are of no use.
        logits = model(inputs_embeds=embedded, use_cache=False, logits_to_keep=len(answer) + 1).logits[0, :-1]
        loss = torch.nn.functional.cross_entropy(logits.float(), tokens[0, len(ids) :])
        # With respect to these alone: the weights keep no gradients.
        (gradient,) = torch.autograd.grad(loss, embedded)
    found: NDArray[np.float32] = gradient[0, : len(ids)].float().norm(dim=-1).cpu().numpy()
    return found
