"""Logistic regression for what is fitted here: the injection probe, and how likely passages answer."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
_STEPS = 50


def logistic(
    table: Numbers, labels: NDArray[np.int64], weights: Numbers, ridge: float, device: torch.device | str = "cpu"
) -> tuple[Numbers, float]:
    """Weights and bias of a logistic regression with a ridge on standardised columns, by Newton's method.

    Args:
        table: [n, F], one row for each example.
        labels: [n] 1 or 0.
        weights: [n] how much each row counts; their sum is taken as 1.
        ridge: factor of half the squared norm of the standardised weights.
        device: where it is computed, in double precision.

    Returns:
        [F] weights and the bias of the columns as they are: log odds.
    """
    rows, marks = torch.from_numpy(table).to(device), torch.from_numpy(labels).to(device)
    share = torch.from_numpy(weights / weights.sum()).to(device)
    middle = share @ rows
    spread = (share @ (rows - middle) ** 2).clamp_min(1e-12).sqrt()
    given = torch.cat([torch.ones_like(rows[:, :1]), (rows - middle) / spread], 1)
    damping = ridge * torch.eye(given.shape[1], dtype=rows.dtype, device=device)
    damping[0, 0] = 1e-9
    found = torch.zeros_like(damping[0])
    for _ in range(_STEPS):
        likely = torch.sigmoid(given @ found)
        slope = given.T @ (share * (likely - marks)) + damping @ found
        bend = (given.T * (share * likely * (1 - likely))) @ given + damping
        step = torch.linalg.solve(bend, slope)
        found -= step * min(1.0, 5.0 / max(float(step.abs().max()), 1e-9))
        if step.abs().max() < 1e-6:
            break
    slopes = found[1:] / spread
    return slopes.cpu().numpy(), float(found[0] - slopes @ middle)
