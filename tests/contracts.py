"""What the contract tests of pruning share: every criterion of every pattern that params accept, a model for each."""

from typing import get_args

import torch
from networks import Encoder
from pydantic import TypeAdapter
from toy import pictures, stirred

from tasks.models.cnn import CNN
from tasks.models.resnet import ResNet
from tasks.params import Prune
from tasks.prune.evidence import Evidence
from tasks.prune.patterns import scan, shrink_

IMAGE = (1, 8, 8)
X = torch.rand(5, *IMAGE, generator=torch.Generator().manual_seed(0))
BY_LOSS = "loss"  # what stands for a criterion where none is named: the loss without a block
TARGETS = {"channel": 0.5, "head": 0.8, "layer": 0.8, "unstructured": 0.6}


def accepted():
    """(pattern, criterion) for all that params.yaml may say."""
    found = []
    for kind in get_args(get_args(Prune)[0]):
        (pattern,) = get_args(kind.model_fields["pattern"].annotation)
        if "criterion" not in kind.model_fields:
            found.append((pattern, BY_LOSS))
            continue
        for section in get_args(kind.model_fields["criterion"].annotation):
            found.append((pattern, *get_args(section.model_fields["method"].annotation)))
    return found


CELLS = accepted()
STRUCTURED = [cell for cell in CELLS if cell[0] in ("channel", "head")]
WEIGHTS = [cell for cell in CELLS if cell[0] in ("unstructured", "n_m")]
WHOLE = [cell for cell in CELLS if cell not in WEIGHTS]
# scores that no one can look up: SparseGPT ranks each block of columns when those before have changed it, and which
# weight it then drops is held against brute force in test_sparsegpt.py
RANKED_AS_IT_GOES = [cell for cell in WEIGHTS if cell[1] == "sparsegpt"]


def dense(pattern):
    torch.manual_seed(0)
    built = {
        "channel": lambda: stirred(ResNet(IMAGE, 3, (8, 16, 16))),
        "head": lambda: Encoder().eval(),
        "layer": lambda: stirred(ResNet(IMAGE, 3, (4, 6, 8, 8))),
    }
    return built[pattern]() if pattern in built else stirred(CNN(IMAGE, 3, (8, 12), (2, 2)))


def settings(pattern, criterion, measure="macs", **more):
    given = {"pattern": pattern, "recalibrate": False, **more}
    if criterion != BY_LOSS:
        given["criterion"] = {"method": criterion}
    if pattern != "n_m":
        given["target"] = {"sparsity" if pattern == "unstructured" else measure: TARGETS[pattern]}
    return TypeAdapter(Prune).validate_python(given)


def score(model):
    training = model.training
    with torch.no_grad():
        loss = float(model.eval()(X).square().mean())
    model.train(training)
    return loss, 0.0


def evidence(seed=0):
    return Evidence(IMAGE, score, pictures(), seed)


def cut_(model, params, seen=None, shares=(1.0,)):
    """What the stage does between two trainings; the masks of the last step."""
    seen = seen or evidence()
    return list(shrink_(model, params, seen, scan(model, params, seen), shares))[-1]
