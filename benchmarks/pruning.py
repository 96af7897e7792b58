"""Channels cut from a teacher and a student on Fashion-MNIST: by criterion and ratio, and beside torch-pruning by hand.

    python benchmarks/pruning.py [--models teacher student] [--seeds 3]

Every row is kept as soon as it is measured, so a run that was stopped goes on. The accuracies are of the test split.
Where a net of ours is trained beside torch-pruning's, it may keep as many multiply-accumulates as that kept, and its
criterion and scope are the same at every ratio; what is trained longest, alone, is cut by scope auto. Seconds are those
of the process, on one thread.
"""

from __future__ import annotations

import argparse
import json

import fashion
from pruning_by_hand import PEERS
from pruning_headline import Row, headline
from pruning_rows import BRIEF, CRITERIA, CUTS, HEADLINE_CUT, LONG, LONGEST, MEASURES, RIVALS, SHORT, Bench, recipe

from tasks.measure.size import macs


def main() -> None:
    """Measure what is missing, the headline first, and write results/pruning.json after each row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["teacher", "student"], choices=["teacher", "student"])
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    splits = fashion.data()
    teacher, facts = fashion.teacher(splits)
    dense = {"teacher": teacher, "student": fashion.student(splits)}
    benches = [Bench(name, splits, dense[name], teacher, facts) for name in asked.models]
    for bench in benches:
        for criterion in CRITERIA:
            kept(bench, "one shot", criterion, 0.7, 0, BRIEF)
        kept(bench, "select", "taylor", 0.7, 0)
        kept(bench, "select", "magnitude", 0.7, 0)
    for bench in benches:
        for seed in range(asked.seeds):
            kept(bench, "alone", LONGEST, HEADLINE_CUT, seed, LONG)
            for rival in RIVALS:
                for cut in CUTS:
                    kept(bench, "recovered", rival, cut, seed, SHORT)
                    kept(bench, "recovered peer", rival, cut, seed, SHORT)
    for bench in benches:
        for cut in CUTS:
            for criterion in CRITERIA:
                for seed in range(asked.seeds):
                    kept(bench, "one shot", criterion, cut, seed, BRIEF)
            for peer in PEERS:
                kept(bench, "one shot peer", peer, cut, 0, BRIEF)


def kept(bench: Bench, kind: str, method: str, cut: float, seed: int, epochs: int = 0) -> None:
    """Measure a row unless it is on disk, then renew the results."""
    name = f"{bench.name} {kind} {method} {cut} {seed} {epochs}"
    path = fashion.WORK / "pruning" / f"{name}.json"
    if not path.is_file() or json.loads(path.read_text())["recipe"] != recipe(bench):
        path.parent.mkdir(exist_ok=True)
        head = {
            "model": bench.name,
            "kind": kind,
            "method": method,
            "cut": cut,
            "seed": seed,
            "epochs": epochs,
            "recipe": recipe(bench),
        }
        row = {**head, **MEASURES[kind](bench, method, cut, seed, epochs)}
        path.write_text(json.dumps(row))
        print(name, {key: value for key, value in row.items() if key not in head}, flush=True)
        keep(bench)


def keep(bench: Bench) -> None:
    """Write what has been measured so far, and the headline figures of the teacher's rows."""
    rows, mine = _all(bench), [row for row in _all(bench) if row["model"] == "teacher"]
    dense = macs(bench.teacher, bench.splits.card.input_shape)
    shown = [{key: value for key, value in row.items() if key != "recipe"} for row in rows]
    fashion.keep(
        "pruning", sorted({row["seed"] for row in rows}), shown, headline(mine, CUTS, dense, bench.facts["accuracy"])
    )


def _all(bench: Bench) -> list[Row]:
    rows = [json.loads(path.read_text()) for path in sorted((fashion.WORK / "pruning").glob("*.json"))]
    return [row for row in rows if row["recipe"] == recipe(bench)]


if __name__ == "__main__":
    main()
