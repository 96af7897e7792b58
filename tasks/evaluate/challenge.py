"""One registered file against another on this workspace's test split: may it take the other's place?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tasks.data.dataset import Card, load_dataset
from tasks.data.splits import load_splits
from tasks.evaluate import gate
from tasks.evaluate.behaviour import REFERENCE, behaviour_checks, compare
from tasks.evaluate.figures import quality
from tasks.evaluate.groups import slice_members
from tasks.evaluate.variants import answers
from tasks.params import Params

CHALLENGER: Final = "challenger"
# a better model must answer otherwise where the other was wrong: against the teacher alone they ask for likeness
LIKENESS: Final = ("min_agreement", "min_parent_agreement")


@dataclass(frozen=True)
class Challenge:
    """The challenger's checks with the other file as the reference, and both accuracies on the same samples."""

    verdict: gate.Verdict
    accuracy: float
    reference_accuracy: float
    samples: int
    checks: list[gate.Check]

    def figures(self) -> dict[str, Any]:
        """As short JSON."""
        checks = {check.name: [check.value, check.limit, check.verdict] for check in self.checks}
        return {**asdict(self), "checks": checks}

    def reasons(self) -> str:
        """The checks that the verdict comes from."""
        return "; ".join(f"{check.name}: {check.note}" for check in self.checks if check.verdict == self.verdict)


def challenge(challenger: Path, reference: Path, name: str, params: Params, reads: Mapping[str, Path]) -> Challenge:
    """Judge the file in the folder `challenger` by the budget, with the one in `reference` in the teacher's place.

    name: of the reference, for the notes. reads: `data` and `split`, as the stages read them.

    Raises:
        ValueError: a file takes other inputs or knows other classes than the data has.
    """
    data = load_splits(reads)
    for folder in (challenger, reference):
        _same_task(folder, data.card)
    probabilities = answers({CHALLENGER: challenger, REFERENCE: reference}, data.test)
    targets, classes = data.test.targets(slice(None)).numpy(), data.card.classes
    own, before = (quality(targets, probabilities[one].argmax(1), len(classes)) for one in (CHALLENGER, REFERENCE))
    columns = list(dict.fromkeys([*data.card.slices, *params.evaluate.slices]))
    slices = slice_members(load_dataset(reads["data"]).table(), columns, data.test.indices) if columns else {}
    found = compare(CHALLENGER, probabilities, targets, classes, slices)
    budget = params.budget.model_copy(update=dict.fromkeys(LIKENESS))
    checks = [gate.accuracy_check(found.drop, len(data.test), budget)]
    if budget.max_class_recall_drop is not None:
        lost = [past - now for past, now in zip(before.recall, own.recall, strict=True)]
        checks.append(gate.class_check(lost, own.support, classes, budget.max_class_recall_drop))
    checks += behaviour_checks(found, budget, len(data.test), name)
    return Challenge(gate.overall(checks), own.accuracy, before.accuracy, len(data.test), checks)


def _same_task(folder: Path, card: Card) -> None:
    deploy = json.loads((folder / "deploy.json").read_text(encoding="utf-8"))
    known, shape = deploy["classes"], deploy["inputs"][0]["shape"][1:]
    if list(known) != list(card.classes):
        raise ValueError(
            f"{folder.name} knows {len(known)} classes ({_shortened(known)}), the data of this workspace has "
            f"{len(card.classes)} ({_shortened(card.classes)}): nothing compares the two; "
            "give what does another thing a register.model_name of its own"
        )
    if list(shape) != list(card.input_shape):
        raise ValueError(f"{folder.name} takes inputs of {shape}, the data of this workspace are {card.input_shape}")


def _shortened(names: object) -> str:
    text = ", ".join(map(str, names))  # type: ignore[call-overload]
    return text if len(text) <= 80 else f"{text[:80]}..."
