"""params.yaml as frozen, strict models: one section per stage, plus seed, budget and tracking.

Every default of the project lives here. Imports nothing heavy, so that `downsize check` answers at once.
"""

from tasks.params.coreset import Coreset, Herding, KCenter, Proxy, RandomSelection
from tasks.params.data import Expectation, Ingest, Range, Split, Validate
from tasks.params.outcome import Budget, Evaluate, Register, Tracking
from tasks.params.prune import ChannelPruning, Criterion, Prune, Schedule, UnstructuredPruning
from tasks.params.quantize import Calibration, Entropy, Mse, Percentile, Quantize
from tasks.params.recipe import Params, load_params
from tasks.params.section import Factory, Section
from tasks.params.training import Augment, Distill, Dkd, Kd, Loss, Teacher, Train

__all__ = [
    "Augment",
    "Budget",
    "Calibration",
    "ChannelPruning",
    "Coreset",
    "Criterion",
    "Distill",
    "Dkd",
    "Entropy",
    "Evaluate",
    "Expectation",
    "Factory",
    "Herding",
    "Ingest",
    "KCenter",
    "Kd",
    "Loss",
    "Mse",
    "Params",
    "Percentile",
    "Proxy",
    "Prune",
    "Quantize",
    "RandomSelection",
    "Range",
    "Register",
    "Schedule",
    "Section",
    "Split",
    "Teacher",
    "Tracking",
    "Train",
    "UnstructuredPruning",
    "Validate",
    "load_params",
]
