"""The position profile of a generator, and whether an order of passages made from it pays.

Even questions make the profile, odd ones test it. Measured is the mean log-likelihood per token of the gold answer.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.questions import DATA, FILES, HOTPOT
from benchmarks.table import Table
from ctxshaper import LocalGenerator
from ctxshaper.calibration.orders import accuracy_profile, scorer, with_gains
from ctxshaper.calibration.positions import PositionReader, attention_profile
from ctxshaper.evaluation.loaders import load_questions


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--questions", type=Path, default=DATA / FILES[HOTPOT], help="labelled questions")
    parser.add_argument("--slots", type=int, nargs="+", default=[5, 10])
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--limit", type=int, default=50, help="questions of each half")
    parser.add_argument("--by-answers", action="store_true", help="also profile by the answer's likelihood per slot")


def run(arguments: argparse.Namespace) -> list[Table]:
    """Shares of attention by slot, log-likelihoods by order, and the gains of the profile's order."""
    torch.set_num_threads(1)
    questions = load_questions(arguments.questions)
    first, second = questions[::2][: arguments.limit], questions[1::2][: arguments.limit]
    generator = LocalGenerator()
    score, reader = scorer(generator, "log-likelihood"), PositionReader()
    shares: dict[str, dict[str, float]] = {}
    orders: dict[str, dict[str, float]] = {}
    for slots in arguments.slots:
        profiles = {"attention": attention_profile(reader, first, slots, prompts=arguments.prompts)}
        if arguments.by_answers:
            profiles["answers"] = accuracy_profile(
                score, first, slots, generator=generator.source.name, measure="log-likelihood"
            )
        for name, profile in profiles.items():
            tried = with_gains(profile, score, second)
            row = f"{slots} slots, by {name}" + (f", layer {tried.layer}" if tried.layer is not None else "")
            shares[row] = {f"slot {slot}": share for slot, share in enumerate(tried.attention)}
            orders[row] = {f"order {order}": mean for order, mean in tried.provenance["mean_by_order"].items()}
            for other, gain in tried.gains.items():
                orders[row] |= {
                    f"gain over {other}": gain.gain,
                    f"{other}: 95% from": gain.low,
                    f"{other}: to": gain.high,
                    f"{other}: p": gain.p,
                }
            orders[row]["pays"] = float(tried.pays)
    return [Table("attention by slot", shares), Table("mean log-likelihood of the answer, by order", orders)]
