"""params.yaml as frozen, strict models: one section per stage, plus seed, budget and what surrounds a run.

Every default of the project lives here. Imports nothing heavy, so that `downsize check` answers at once.
"""

from tasks.params.coreset import Coreset, Herding, KCenter, RandomSelection
from tasks.params.criterion import Criterion
from tasks.params.data import Expectation, Ingest, Range, Split, Validate
from tasks.params.deployment import ExportFormat, Exports, Profile, Runtime
from tasks.params.distill import Assistant, Distill
from tasks.params.judging import Expect, Judge, Proxy
from tasks.params.outcome import Budget, Corruptions, Evaluate, Register, Tracking
from tasks.params.prune import ChannelPruning, Prune, Schedule, UnstructuredPruning
from tasks.params.quantize import (
    Activation,
    AdaRound,
    Auto,
    Bf16,
    Calibration,
    CalibrationMethod,
    Entropy,
    Fp8,
    Fp16,
    Gptq,
    Int4WeightOnly,
    Int8,
    Int8Dynamic,
    Int8Symmetric,
    MinMax,
    Mixed,
    Mse,
    Percentile,
    Qat,
    Quantize,
    Rounding,
    Rtn,
    Static,
    StaticInt8,
)
from tasks.params.recipe import Params, load_params, parse_params, read_params
from tasks.params.retraining import Retraining
from tasks.params.running import Email, Notify, Timeouts, Timetable, Watch
from tasks.params.search import Halving, Search, Span
from tasks.params.section import Factory, Section
from tasks.params.students import PrunedTeacher, Slim, Student
from tasks.params.synthesis import DistributionMatching, KernelRidge, Synthesis
from tasks.params.training import Answers, Augment, Clean, Dkd, FeatureLoss, Kd, Live, Loss, Teacher, Train, Views

__all__ = [
    "Activation",
    "AdaRound",
    "Answers",
    "Assistant",
    "Augment",
    "Auto",
    "Bf16",
    "Budget",
    "Calibration",
    "CalibrationMethod",
    "ChannelPruning",
    "Clean",
    "Coreset",
    "Corruptions",
    "Criterion",
    "Distill",
    "DistributionMatching",
    "Dkd",
    "Email",
    "Entropy",
    "Evaluate",
    "Expect",
    "Expectation",
    "ExportFormat",
    "Exports",
    "Factory",
    "FeatureLoss",
    "Fp8",
    "Fp16",
    "Gptq",
    "Halving",
    "Herding",
    "Ingest",
    "Int4WeightOnly",
    "Int8",
    "Int8Dynamic",
    "Int8Symmetric",
    "Judge",
    "KCenter",
    "Kd",
    "KernelRidge",
    "Live",
    "Loss",
    "MinMax",
    "Mixed",
    "Mse",
    "Notify",
    "Params",
    "Percentile",
    "Profile",
    "Proxy",
    "Prune",
    "PrunedTeacher",
    "Qat",
    "Quantize",
    "RandomSelection",
    "Range",
    "Register",
    "Retraining",
    "Rounding",
    "Rtn",
    "Runtime",
    "Schedule",
    "Search",
    "Section",
    "Slim",
    "Span",
    "Split",
    "Static",
    "StaticInt8",
    "Student",
    "Synthesis",
    "Teacher",
    "Timeouts",
    "Timetable",
    "Tracking",
    "Train",
    "UnstructuredPruning",
    "Validate",
    "Views",
    "Watch",
    "load_params",
    "parse_params",
    "read_params",
]
