"""Injected instructions found by the reader's probe, families of attacks and kinds of host held out whole.

For each kind of host and each fold of families a probe is fitted on the other kinds and the other families, whose slots
are filled from one half of the words; it is judged on the kind and the families left out, made of the other half. The
public prompts in `--data` are a fold of their own. Recall is taken at the threshold that flags 1% of the host's own
benign passages, as `calibrate --screen` sets it. `--write` fits on everything and saves a head profile.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.questions import DATA
from benchmarks.screening.cases import TRIGGERS, cases
from benchmarks.screening.crossing import FALSE_ALARMS, Sentences, cell, folds_of
from benchmarks.table import Table
from ctxshaper import Reader
from ctxshaper.calibration.screening import probe_of, threshold_of


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the labelled questions and injections")
    parser.add_argument("--benign", type=int, default=300, help="benign passages of each kind of host")
    parser.add_argument("--attacks", type=int, default=10, help="injected passages of each kind of host and family")
    parser.add_argument("--hosts", nargs="+", help="only these kinds of host")
    parser.add_argument("--layers", nargs="+", type=int, default=[14, 15, 16])
    parser.add_argument("--ridge", type=float, default=0.3)
    parser.add_argument("--write", type=Path, help="save a head profile with a probe fitted on everything")


def run(arguments: argparse.Namespace) -> Sequence[Table]:
    """Recall and separation by kind of host, and what is flagged of benign trigger words."""
    reader = Reader()
    wanted = [*arguments.hosts, TRIGGERS] if arguments.hosts else None
    made = [
        one for one in cases(arguments.data, arguments.benign, arguments.attacks) if not wanted or one.host in wanted
    ]
    read = Sentences.read(reader, made, arguments.layers)
    rows: dict[str, dict[str, float]] = {}
    for host in dict.fromkeys(one.host for one in made if one.host != TRIGGERS):
        found = [cell(read, host, fold, arguments.ridge) for fold in folds_of(made)]
        rows[host] = _over_folds(found)
    weights, bias = read.fit("", (), arguments.ridge)
    benign = read.passage_scores(
        [i for i, one in enumerate(made) if not one.family and one.host != TRIGGERS], weights, bias
    )
    threshold = threshold_of(benign, FALSE_ALARMS if len(benign) >= 1 / FALSE_ALARMS else 0.0)
    triggers = read.passage_scores([i for i, one in enumerate(made) if one.host == TRIGGERS], weights, bias)
    flagged = {"all kinds": {"flagged": float((triggers > threshold).mean()), "sentences": float(len(triggers))}}
    if arguments.write:
        probe = probe_of(arguments.layers, weights, bias, threshold)
        replace(reader.profile, injection=probe).save(arguments.write)
    return [
        Table("kind of host, held out", rows),
        Table(
            "benign sentences with trigger words", flagged, ("Threshold: 1% of all benign passages, seen in the fit.",)
        ),
    ]


def _over_folds(found: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each figure, weighted by attacks, over the folds that can tell it: some have no injected sentence."""
    mean: dict[str, float] = {}
    for name in found[0]:
        known = [(one[name], one["attacks"]) for one in found if one["attacks"] and not np.isnan(one[name])]
        if name != "attacks" and known:
            mean[name] = float(np.average([value for value, _ in known], weights=[size for _, size in known]))
    return mean | {"attacks": sum(one["attacks"] for one in found)}
