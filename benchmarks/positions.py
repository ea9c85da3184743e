"""The position profile of the embedded generator, and whether an order made from it pays.

    python benchmarks/positions.py --data ../shared/data/hotpotqa_100.json

Even questions make the profile, odd ones test it. Measured is the mean log-likelihood per token of the gold answer.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from ctxshaper.calibration.orders import accuracy_profile, scorer, with_gains
from ctxshaper.calibration.positions import PositionReader, attention_profile
from ctxshaper.evaluation.loaders import load_questions
from ctxshaper.generators import LocalGenerator


def main() -> None:
    """Measure what the options ask for and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/hotpotqa_100.json"))
    parser.add_argument("--slots", type=int, nargs="+", default=[5, 10])
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--questions", type=int, default=50, help="of each half")
    parser.add_argument("--by-answers", action="store_true", help="also profile by the answer's likelihood per slot")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    questions = load_questions(arguments.data)
    first, second = questions[::2][: arguments.questions], questions[1::2][: arguments.questions]
    score = scorer(LocalGenerator(), "log-likelihood")
    reader = PositionReader()
    for slots in arguments.slots:
        started = time.perf_counter()
        profiles = {"attention": attention_profile(reader, first, slots, prompts=arguments.prompts)}
        if arguments.by_answers:
            profiles["answers"] = accuracy_profile(
                score, first, slots, generator=reader.source.name, measure="log-likelihood"
            )
        for name, profile in profiles.items():
            made = with_gains(profile, score, second)
            report = {
                "slots": slots,
                "by": name,
                "layer": made.layer,
                "shares": [round(a, 3) for a in made.attention],
                "basin_by_layer": made.provenance.get("basin_by_layer"),
                "mean_by_order": made.provenance["mean_by_order"],
                "gains": {k: [round(x, 4) for x in (g.gain, g.low, g.high, g.p)] for k, g in made.gains.items()},
                "pays": made.pays,
                "seconds": round(time.perf_counter() - started, 1),
            }
            print(json.dumps(report))


if __name__ == "__main__":
    main()
