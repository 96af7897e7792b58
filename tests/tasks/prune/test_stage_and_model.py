"""prune on models that come to their end, or of which it can cut a part only."""

import csv

import pytest
from pydantic import TypeAdapter
from toy import pictures, save_splits

from tasks import checkpoint
from tasks.data.splits import load_splits, moments
from tasks.files import Files
from tasks.models.skipped import Skipped
from tasks.params import Factory, Prune
from tasks.prune import stage
from tasks.prune.stage import prune

ENCODER = Factory(factory="networks:Encoder", args={"layers": 3})
RECURRENT = Factory(factory="networks:Recurrent")
TRAIN = {"epochs": 1, "batch_size": 16}
LAYERS = [f"encoder.layers.{layer}" for layer in range(3)]


@pytest.fixture(scope="module")
def projects(tmp_path_factory):
    """What the stage reads, by factory of teacher and student."""
    found = {}
    for factory in (ENCODER, RECURRENT):
        folder = tmp_path_factory.mktemp("project")
        reads = save_splits(folder, pictures(60))
        data = load_splits(reads)
        model = checkpoint.build(factory, data.card, moments(data.train), 0, "model")
        checkpoint.save(model, data.card, folder / "model", parent=None)
        found[factory.factory] = {**reads, "teacher": folder / "model", "student": folder / "model"}
    return found


@pytest.fixture
def pruned(tmp_path, projects, monkeypatch):
    """Runs the stage on the student that the factory built; gives the model and the steps in its diary."""
    monkeypatch.setattr(stage, "export", lambda *_: None)

    def run(factory, given):
        reads = projects[factory.factory]
        recovery = {"losses": [{"method": "kd"}], "step": TRAIN, "final": TRAIN}
        params = TypeAdapter(Prune).validate_python({**given, "recovery": recovery, "sensitivity": {"samples": 9}})
        writes = {"pruned": tmp_path / "pruned", "diary": tmp_path / "beside"}
        prune(params, 1.0, None, 0, Files(reads, writes, None))
        with (tmp_path / "pruned/diary.csv").open(encoding="utf-8", newline="") as file:
            steps = [row["step"] for row in csv.DictReader(file)]
        return checkpoint.load(tmp_path / "pruned", load_splits(reads).card), steps

    return run


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"pattern": "layer", "blocks": LAYERS[:2]}, "encoder.layers.2"),
        ({"pattern": "layer", "ignore": LAYERS[2:]}, "encoder.layers.2"),
    ],
    ids=["listed", "found"],
)
def test_a_ladder_that_runs_out_of_blocks_hands_on_the_smallest_model(pruned, given, left):
    """Two rungs take a block each; the third finds none left."""
    model, steps = pruned(ENCODER, {**given, "target": "budget", "ladder": {"shares": [0.7, 0.4, 0.3]}})
    assert steps == ["rung 1", "rung 2", "final"]
    assert [name for name, own in model.named_modules() if isinstance(own, Skipped)] == [
        f"model.{name}" for name in LAYERS if name != left
    ]


def test_a_ladder_that_runs_out_of_heads_hands_on_the_smallest_model(pruned):
    ladder = {"shares": [0.8, 0.6, 0.5]}  # with one head in each layer 0.511 is left
    model, steps = pruned(ENCODER, {"pattern": "head", "scope": "uniform", "target": "budget", "ladder": ladder})
    assert steps == ["rung 1", "rung 2", "final"]
    assert [model.get_submodule(f"model.{name}.self_attn").num_heads for name in LAYERS] == [1, 1, 1]


WEIGHTS = [
    {"pattern": "unstructured", "target": {"sparsity": 0.5}},
    {"pattern": "unstructured", "target": "budget"},
    {"pattern": "n_m"},
    {"pattern": "n_m", "target": "budget"},
]


@pytest.mark.parametrize("given", WEIGHTS)
def test_where_everything_is_ignored_a_line_says_so(pruned, given):
    message = r"^prune.ignore and prune.protect keep all weights that l1 could prune; keep fewer$"
    with pytest.raises(ValueError, match=message):
        pruned(RECURRENT, {**given, "ignore": ["embed", "lstm", "wide", "head"]})


@pytest.mark.parametrize(
    ("factory", "given", "said"),
    [
        (
            RECURRENT,
            {"pattern": "channel", "target": {"macs": 0.99}, "round_to": 1},
            "left whole: model.embed, model.lstm because of an LSTM",
        ),
        (
            RECURRENT,
            {"pattern": "n_m", "criterion": {"method": "wanda"}},
            "left dense, as wanda asks what a weight multiplies, known of convolutions and linear layers: "
            "model.lstm.weight_ih_l0, model.lstm.weight_hh_l0",
        ),
        (
            ENCODER,
            {"pattern": "channel", "target": {"macs": 0.9}, "round_to": 1},
            "left whole: model.embed, model.encoder.layers.0.linear2, model.encoder.layers.1.linear2, "
            "model.encoder.layers.2.linear2 because of a LayerNorm; model.encoder.layers.0.self_attn, "
            "model.encoder.layers.1.self_attn, model.encoder.layers.2.self_attn because of a MultiheadAttention",
        ),
    ],
    ids=["recurrent channels", "recurrent weights", "encoder channels"],
)
def test_one_line_of_the_log_says_what_stays_as_it_is_and_why(pruned, caplog, factory, given, said):
    pruned(factory, given)
    assert [record.getMessage() for record in caplog.records if "left " in record.getMessage()] == [f"prune: {said}"]
