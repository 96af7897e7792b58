import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from toy import card, stirred

from tasks import checkpoint
from tasks.measure.size import macs
from tasks.params import Factory
from tasks.prune.channels import remove_

SHAPE = (1, 8, 8)
CARD = card(SHAPE)
MOMENTS = torch.full((1, 1, 1), 8.0), torch.full((1, 1, 1), 4.0)
X = 16 * torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0))

CNN = Factory(factory="tasks.models.cnn:CNN", args={"channels": [8, 8], "strides": [2, 2]})
RESNET = Factory(factory="tasks.models.resnet:ResNet", args={"widths": [4, 8]})
MLP = Factory(factory="tasks.models.mlp:MLP", args={"hidden": [8, 8]})
DEPTHWISE = Factory(factory="tasks.models.depthwise:DepthwiseCNN", args={"channels": [8, 8], "strides": [2, 1]})
CUTS = [
    (CNN, "body.0.0"),
    (CNN, "body.1.0"),
    (RESNET, "body.1.0"),
    (RESNET, "body.2.body.0.0"),
    (MLP, "body.1"),
    (DEPTHWISE, "body.1.0"),
]


def built(factory=CNN, seed=0, data=CARD, moments=MOMENTS):
    return checkpoint.build(factory, data, moments, seed, "teacher.model")


@pytest.fixture
def saved(tmp_path):
    folder = tmp_path / "student"
    checkpoint.save(built(), CARD, folder, parent="teacher")
    return folder


@pytest.mark.parametrize(("factory", "layer"), CUTS)
def test_a_pruned_model_comes_back_bit_for_bit(tmp_path, factory, layer):
    model = built(factory)
    stirred(model.model)
    remove_(model, SHAPE, {f"model.{layer}": [1, 2, 5]})
    checkpoint.save(model, CARD, tmp_path / "pruned", parent="student")
    again = checkpoint.load(tmp_path / "pruned", CARD)
    assert torch.equal(again(X), model.eval()(X))
    assert macs(again, SHAPE) == macs(model, SHAPE) < macs(built(factory), SHAPE)
    assert str(again) == str(model) and again.factory == factory  # sizes that layers keep beside their weights
    checkpoint.save(again, CARD, tmp_path / "again", parent="student")
    for name in ("weights.safetensors", "model.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "pruned" / name).read_bytes()


def test_transposed_convolutions_and_slopes_come_back_bit_for_bit(tmp_path):
    model = built(Factory(factory="networks:Transposed"))
    stirred(model.model)
    remove_(model, SHAPE, {"model.make": [1, 4], "model.stem": [0]})
    checkpoint.save(model, CARD, tmp_path, parent="student")
    again = checkpoint.load(tmp_path, CARD)
    assert torch.equal(again(X), model.eval()(X)) and str(again) == str(model)


class Twice(nn.Module):
    """One layer under two names, one weight in two layers, and nothing of what a factory is offered."""

    def __init__(self):
        super().__init__()
        conv, norm = nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1)
        self.body = nn.Sequential(conv, norm, nn.ReLU(), conv, norm)
        self.first, self.second, self.head = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 3)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.head(self.second(self.first(self.body(x).flatten(1)).relu()).relu())


TWICE = Factory(factory=f"{__name__}:Twice")


def test_a_layer_under_two_names_is_written_once_and_comes_back_bit_for_bit(tmp_path):
    model = built(TWICE)
    stirred(model.model)
    checkpoint.save(model, CARD, tmp_path / "once", parent=None)
    names = load_file(tmp_path / "once/weights.safetensors").keys()
    assert "model.body.0.weight" in names and "model.first.weight" in names
    assert not {"model.body.3.weight", "model.body.4.running_mean", "model.second.weight"} & names
    again = checkpoint.load(tmp_path / "once", CARD)
    assert torch.equal(again(X), model.eval()(X))
    assert again.model.body[0] is again.model.body[3] and again.model.second.weight is again.model.first.weight
    checkpoint.save(again, CARD, tmp_path / "twice", parent=None)
    for name in ("weights.safetensors", "model.json"):
        assert (tmp_path / "twice" / name).read_bytes() == (tmp_path / "once" / name).read_bytes()


def test_weights_that_pruning_parted_come_back_apart(tmp_path):
    model = built(TWICE)
    remove_(model, SHAPE, {"model.second": [1, 5]})
    assert model.model.second.weight.shape == (62, 64) and model.model.first.weight.shape == (64, 64)
    checkpoint.save(model, CARD, tmp_path, parent=None)
    again = checkpoint.load(tmp_path, CARD)
    assert torch.equal(again(X), model.eval()(X)) and str(again) == str(model)


def test_by_any_of_its_names_a_layer_is_found_and_two_that_differ_are_refused(tmp_path):
    model = built(TWICE)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    later = {name: tensor + 1 for name, tensor in state.items() if name != "model.first.weight"}
    later = {name: tensor for name, tensor in later.items() if ".body.0." not in name and ".body.1." not in name}
    checkpoint.fit_weights_(model, later, "teacher.checkpoint")
    assert torch.equal(model.model.first.weight, state["model.first.weight"] + 1)
    message = (
        r"^here: the checkpoint does not fit: model.body.0.weight and model.body.3.weight differ, but are one here$"
    )
    with pytest.raises(ValueError, match=message):
        checkpoint.fit_weights_(model, {**state, "model.body.3.weight": torch.zeros(1, 1, 3, 3)}, "here")
    del state["model.body.0.weight"], state["model.body.3.weight"]
    with pytest.raises(ValueError, match=r"does not fit: lacks model.body.0.weight$"):
        checkpoint.fit_weights_(model, state, "here")


def test_halves_of_one_memory_are_written_whole(tmp_path):
    model = built(MLP)
    first, second = (model.get_submodule(name) for name in ("model.body.2", "model.body.5"))
    assert isinstance(first, nn.BatchNorm1d) and isinstance(second, nn.BatchNorm1d)
    both = torch.arange(16.0)
    first.running_mean, second.running_mean = both[:8], both[8:]
    checkpoint.save(model, CARD, tmp_path, parent=None)
    assert torch.equal(checkpoint.load(tmp_path, CARD)(X), model.eval()(X))


def test_nothing_is_pickled(saved, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("unpickled")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(torch, "load", refuse)
    assert sorted(path.name for path in saved.iterdir()) == ["model.json", "weights.safetensors"]
    checkpoint.load(saved, CARD)


def test_a_reloaded_model_can_be_trained_and_pruned_further(saved):
    model = checkpoint.load(saved, CARD)
    assert not model.training and all(parameter.requires_grad for parameter in model.parameters())
    remove_(model, SHAPE, {"model.body.0.0": [0]})
    assert model(X).shape == (5, 3)


def test_initial_weights_come_from_the_seed_alone():
    before = torch.random.get_rng_state()
    first, again, other = built(), built(), built(seed=1)
    assert torch.equal(first(X), again(X)) and not torch.equal(first(X), other(X))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_raw_inputs_are_normalised_and_a_constant_one_is_silenced():
    factory = Factory(factory="torch.nn:Identity")
    moments = torch.tensor([1.0, 2.0, 7.0]), torch.tensor([2.0, 0.5, 0.0])
    model = built(factory, data=card((3,)), moments=moments)
    assert model(torch.tensor([[3.0, 1.0, 7.5]])).tolist() == [[1, -2, 0]]


def one_line(caught):
    assert "\n" not in str(caught.value)


def test_weights_of_another_size_name_the_first_misfit(saved):
    state = load_file(saved / "weights.safetensors")
    save_file(state | {"model.head.weight": torch.zeros(3, 5)}, saved / "weights.safetensors")
    message = r"student: the checkpoint does not fit: model.head.weight is \(3, 5\), the model needs \(3, 8\)"
    with pytest.raises(ValueError, match=message):
        checkpoint.load(saved, CARD)


@pytest.mark.parametrize("name", ["model.head.bias", "mean"])
def test_missing_weights_are_named(saved, name):
    state = load_file(saved / "weights.safetensors")
    del state[name]
    save_file(state, saved / "weights.safetensors")
    with pytest.raises(ValueError, match=f"student.*: the checkpoint does not fit: lacks {name}$"):
        checkpoint.load(saved, CARD)


def test_surplus_weights_are_named_and_nothing_is_loaded():
    model = nn.Linear(2, 3)
    before = model.weight.clone()
    state = {"weight": torch.zeros(3, 2), "bias": torch.zeros(3), "more": torch.zeros(1)}
    with pytest.raises(ValueError, match="does not fit: has more, which the model has not"):
        checkpoint.fit_weights_(model, state, "teacher.checkpoint")
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize("kept", [0, 4, 200])
def test_truncated_weights_are_one_clear_line(saved, kept):
    path = saved / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"weights.safetensors: not a readable safetensors file \(") as caught:
        checkpoint.load(saved, CARD)
    one_line(caught)


@pytest.mark.parametrize("kept", [0, 50])
def test_a_truncated_model_json_is_one_clear_line(saved, kept):
    path = saved / "model.json"
    path.write_text(path.read_text()[:kept])
    with pytest.raises(ValueError, match=r"model.json: not a readable model card") as caught:
        checkpoint.load(saved, CARD)
    one_line(caught)


def test_a_table_of_channels_for_another_model_is_refused(saved):
    content = json.loads((saved / "model.json").read_text())
    content["channels"]["model.tail"] = {"in_features": 3, "out_features": 3}
    (saved / "model.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"the table of channels does not fit the model at 'model\.tail'"):
        checkpoint.load(saved, CARD)


def test_a_pt_file_is_refused_unread(tmp_path):
    (tmp_path / "teacher.pt").write_bytes(b"anything")
    with pytest.raises(ValueError, match=r"teacher.pt: only .safetensors is read \(other formats can run code\)"):
        checkpoint.read_weights(tmp_path / "teacher.pt")


def test_missing_files_are_named(saved):
    with pytest.raises(FileNotFoundError, match=r"gone\.safetensors: no such checkpoint"):
        checkpoint.read_weights(saved / "gone.safetensors")
    (saved / "model.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.json is missing; run the stage that makes student"):
        checkpoint.load(saved, CARD)


def test_another_number_of_classes_is_one_clear_line(saved):
    message = r"model.json: gives 3 outputs, the data has 2 classes; it must give one logit each$"
    with pytest.raises(ValueError, match=message):
        checkpoint.load(saved, card(SHAPE, ("yes", "no")))


def test_data_of_another_shape_is_one_clear_line(saved):
    with pytest.raises(ValueError, match=r"model.json: cannot take inputs of shape \(3, 8, 8\): ") as caught:
        checkpoint.load(saved, card((3, 8, 8)))
    one_line(caught)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (Factory(factory="torch.nn:Flatten"), "gives 64 outputs, the data has 3 classes; it must give one logit each"),
        (Factory(factory="torch.nn:Identity"), "the data has 3 classes; it must give one logit each"),
        (
            Factory(factory="tasks.params:Proxy"),
            "tasks.params:Proxy returned a Proxy; it must return a torch.nn.Module",
        ),
        (Factory(factory="torch.nn:Linear", args={"in_features": 5, "out_features": 3}), "cannot take inputs of shape"),
    ],
)
def test_a_model_that_does_not_fit_the_data_names_the_field(factory, message):
    with pytest.raises(ValueError, match=r"^teacher\.model: ") as caught:
        built(factory)
    assert message in str(caught.value)
    one_line(caught)
