import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from learning import exported, int8
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import load_file
from toy import blobs, card, network, pictures, save_splits, stirred

from tasks import checkpoint
from tasks.checkpoint import build
from tasks.data.splits import Splits, load_splits, moments
from tasks.export.onnx import export
from tasks.files import Files
from tasks.models.cnn import CNN
from tasks.params import Factory, Quantize, Retraining, Train
from tasks.quantize.calibration import CALIBRATIONS
from tasks.quantize.retrain import Coach
from tasks.quantize.schemes import SCHEMES
from tasks.quantize.speed import Faster
from tasks.quantize.stage import quantize
from tasks.quantize.trained import TRAINED
from tasks.training.loop import fit_

LIMITS = (0.2, None)  # of the budget: 18 samples without a loss prove no drop below 15.3 pp
TRAIN = {"epochs": 2, "batch_size": 9, "lr": 0.01}


@pytest.fixture(scope="module")
def reads(tmp_path_factory):
    """The files of a project up to prune."""
    folder = tmp_path_factory.mktemp("project")
    found = save_splits(folder, blobs(90)) | {"pruned": folder / "pruned", "teacher": folder / "teacher"}
    model = network().eval()
    data = load_splits(found)
    factory = Factory(factory="tasks.models.mlp:MLP", args={"hidden": [8]})
    teacher = build(factory, data.card, moments(data.train), 0, "teacher.model")
    fit_(teacher, data.train, data.validation, Train(epochs=20, batch_size=9), seed=0, series="teacher")
    checkpoint.save(teacher, data.card, found["teacher"], None)
    with torch.no_grad():
        model(load_splits(found).train.inputs(slice(None)))
    export(model, card((4,)), load_splits(found).validation, found["pruned"], "distill.model")
    return found


def quantized(reads, folder, **params):
    beside = folder.with_name(f"{folder.name}_diary")
    files = Files(reads, {"quantized": folder, "diary": beside})
    metrics = quantize(TypeAdapter(Quantize).validate_python(params), *LIMITS, 0, files)
    return metrics, json.loads((folder / "quantization.json").read_text())


def test_all_products_are_integer_and_the_figures_say_so(reads, tmp_path):
    metrics, facts = quantized(reads, tmp_path / "quantized")
    assert metrics["integer_op_share"] == 1 and metrics["agreement_with_float"] == 1
    assert facts["scheme"] == "int8"
    assert [entry["arithmetic"] for entry in facts["operations"]] == ["integer", "integer"]
    assert metrics["size_bytes"] == (tmp_path / "quantized/model.onnx").stat().st_size


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_answers_as_the_float_file_and_twice_gives_the_same_bytes(reads, tmp_path, scheme):
    first, second = tmp_path / "first", tmp_path / "second"
    metrics, facts = quantized(reads, first, scheme=scheme)
    assert (metrics, facts) == quantized(reads, second, scheme=scheme)
    assert facts["scheme"] == scheme and metrics["agreement_with_float"] == 1
    assert metrics["integer_op_share"] == (1 if scheme in ("int8", "int8_dynamic") else 0)
    assert {path.name: path.read_bytes() for path in first.iterdir()} == {
        path.name: path.read_bytes() for path in second.iterdir()
    }
    onnx.checker.check_model(onnx.load(first / "model.onnx"))


def test_an_unknown_scheme_is_answered_with_the_alternatives():
    schemes = "'int8', 'int8_dynamic', 'int8_symmetric', 'mixed', 'qat', 'fp8', 'fp16', 'bf16', 'int4_weight_only'"
    with pytest.raises(ValidationError, match=schemes):
        TypeAdapter(Quantize).validate_python({"scheme": "int7"})


@pytest.mark.parametrize("scheme", TRAINED)
def test_schemes_that_train_stay_in_integers_and_twice_give_the_same_bytes(reads, tmp_path, scheme):
    first, second = tmp_path / "first", tmp_path / "second"
    params = {"scheme": scheme, "bits": 4, "training": {"towards": "teacher", "train": TRAIN}}
    metrics, facts = quantized(reads, first, **params)
    assert (metrics, facts) == quantized(reads, second, **params)
    assert metrics["integer_op_share"] == 1 and metrics["accuracy"] >= metrics["accuracy_float"]
    assert facts["training"]["epochs"] == 2 and facts["training"]["label_agreement"] == 1
    assert facts["training"]["max_difference_steps"] <= 1
    names = {path.name for path in first.iterdir()}
    assert names == {"model.onnx", "deploy.json", "quantization.json", "training.csv", "trained.safetensors"}
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)
    stored = onnx.load(first / "model.onnx").graph.initializer
    assert sum(item.data_type == onnx.TensorProto.INT4 for item in stored) == 2
    assert max(array.abs().max() for array in load_file(first / "trained.safetensors").values()) > 0


def test_the_float_model_itself_is_learned_from_unless_the_teacher_is_asked_for(reads, tmp_path):
    data = load_splits(reads)
    model = checkpoint.load(reads["teacher"], data.card)
    checkpoint.save(model, data.card, tmp_path / "pruned", None)
    export(model, data.card, data.validation, tmp_path / "pruned", "distill.model")
    alone = {name: path for name, path in reads.items() if name != "teacher"} | {"pruned": tmp_path / "pruned"}
    metrics, facts = quantized(alone, tmp_path / "quantized", scheme="qat", training={"train": TRAIN})
    assert metrics["agreement_with_float"] == 1 and set(facts["weight_bits"].values()) == {8}
    with pytest.raises(KeyError, match="teacher"):
        quantized(alone, tmp_path / "other", scheme="qat", training={"towards": "teacher", "train": TRAIN})


def test_what_reads_raw_pictures_into_levels_trains_too(tmp_path):
    torch.manual_seed(0)
    samples = pictures(60)
    network = stirred(CNN((1, 8, 8), 3, (4, 8), (1, 2)))
    data = Splits(card((1, 8, 8)), samples, samples, samples, samples)
    source = exported(network, tmp_path)
    model = int8(source, samples.inputs(slice(None)).numpy())
    assert "Sub" not in {node.op_type for node in model.graph.node}
    made, facts = Coach({"pruned": network}.__getitem__, data, 0, None).train(model, Retraining(train=TRAIN), source)
    assert facts["epochs"] == 2 and facts["label_agreement"] >= 0.99
    assert facts["logit_step"] > 0 and [node.name for node in made.graph.node] == [
        node.name for node in model.graph.node
    ]


@pytest.mark.parametrize("bits", [8, 4])
def test_weights_that_pruning_set_to_zero_stay_zero_in_training(reads, tmp_path, bits):
    data = load_splits(reads)
    model = checkpoint.load(reads["teacher"], data.card)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter[parameter.abs() < parameter.abs().median()] = 0
    export(model, data.card, data.validation, tmp_path / "pruned", "distill.model")
    own = {**reads, "pruned": tmp_path / "pruned"}
    training = {"towards": "teacher", "train": TRAIN}
    quantized(own, tmp_path / "quantized", scheme="qat", bits=bits, equalise=True, training=training)
    learned = load_file(tmp_path / "quantized/trained.safetensors")
    matrices = [array for array in learned.values() if array.ndim == 2]
    before = sorted(int((weight == 0).sum()) for weight in model.parameters() if weight.ndim == 2)
    assert sorted(int((matrix == 0).sum()) for matrix in matrices) == before and min(before) > 0


def test_without_training_no_floats_are_kept(reads, tmp_path):
    _, facts = quantized(reads, tmp_path / "quantized", scheme="mixed", max_drop=1.0)
    assert set(facts["weight_bits"].values()) == {4} and "training" not in facts
    assert not (tmp_path / "quantized/trained.safetensors").exists()


def test_the_ladder_is_in_the_facts_without_its_times_and_beside_with_them(reads, tmp_path):
    _, facts = quantized(reads, tmp_path / "quantized", max_drop=0.02)
    (rung,) = facts["ladder"]["rungs"]
    assert facts["ladder"]["max_drop"] == 0.02 and facts["ladder"]["chosen"] == rung["rung"] == "static INT8"
    assert rung["inside"] and rung["size_bytes"] == (tmp_path / "quantized/model.onnx").stat().st_size
    assert "seconds" not in rung
    assert "seconds" in (tmp_path / "quantized_diary/ladder.csv").read_text().splitlines()[0]


def test_an_operation_named_in_float_stays_so_and_an_unknown_one_is_refused(reads, tmp_path):
    metrics, _ = quantized(reads, tmp_path / "quantized", ladder=False, in_float=["logits"])
    assert metrics["integer_op_share"] == 0.5
    with pytest.raises(ValueError, match=r"^quantize\.in_float: no operation is called 'conv7'; there are .*logits"):
        quantized(reads, tmp_path / "unknown", ladder=False, in_float=["conv7"])


def test_training_without_samples_is_refused(reads, tmp_path):
    data = replace(load_splits(reads), coreset=blobs(3).first(0, 0))
    with pytest.raises(ValueError, match=r"^quantize\.training has no samples: the coreset is empty"):
        Coach(lambda _: network(), data, 0, None).train(onnx.ModelProto(), Retraining(), onnx.ModelProto())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_drop": -0.1}, r"max_drop\.by_share\s+Input should be greater than or equal to 0"),
        ({"max_drop": "none"}, r"max_drop\.by_budget\s+Input should be 'budget'"),
        ({"scheme": "qat", "bits": 1}, r"qat\.bits"),
        ({"scheme": "mixed", "bits": 8}, r"mixed\.bits"),
        ({"training": {"train": {"precision": "bfloat16"}}}, "256 levels need the digits of float32"),
        ({"training": {"train": {"epochs": 0}}}, r"train\.epochs"),
        ({"training": {"losses": [{"method": "mutual"}]}}, "'kd', 'kd_standardised', 'dkd', 'dist', 'mse'"),
        ({"training": {"losses": []}}, "at least 1 item"),
        ({"training": {"train": {"augment": {"mixup": 0.2}}}}, "mixup and cutmix need answers"),
    ],
)
def test_params_that_cannot_be_are_refused(wrong, message):
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(Quantize).validate_python(wrong)


@pytest.mark.parametrize(("bits", "limit"), [(0, "greater than or equal to 2"), (9, "less than or equal to [48]")])
@pytest.mark.parametrize("scheme", ["int4_weight_only", "mixed", "qat"])
def test_bits_that_cannot_be_are_refused_with_the_limit(scheme, bits, limit):
    with pytest.raises(ValidationError, match=rf"{scheme}\.bits\s+Input should be {limit}"):
        TypeAdapter(Quantize).validate_python({"scheme": scheme, "bits": bits})


@pytest.mark.parametrize("params", [{"scheme": "int8"}, {"scheme": "int4_weight_only", "rounding": {"method": "gptq"}}])
def test_calibration_without_samples_is_refused(reads, tmp_path, params):
    empty = tmp_path / "coreset"
    empty.mkdir()
    np.savez(empty / "indices.npz", indices=np.array([], np.int64))
    with pytest.raises(ValueError, match=r"^quantize\.calibration has no samples: the coreset is empty"):
        quantized(reads | {"coreset": empty}, tmp_path / "quantized", **params)


def test_gptq_reads_the_coreset_and_says_what_it_was_worth(reads, tmp_path):
    params = {"scheme": "int4_weight_only", "rounding": {"method": "gptq", "samples": 20}, "bits": 3}
    metrics, facts = quantized(reads, tmp_path / "quantized", **params)
    assert metrics["agreement_with_float"] == 1
    assert facts["gptq"]["layers"] == 2 and 0 < facts["gptq"]["output_error_vs_rtn"] < 1


def test_calibration_by_tensor_is_counted_in_the_facts(reads, tmp_path):
    metrics, facts = quantized(reads, tmp_path / "quantized", calibration={"method": "auto"})
    assert metrics["agreement_with_float"] == 1 and set(facts["calibration"]) <= set(CALIBRATIONS)
    assert sum(facts["calibration"].values()) >= 3  # input, what is between, and logits


def test_the_options_before_quantization_are_counted_and_change_the_file(reads, tmp_path):
    plain, _ = quantized(reads, tmp_path / "plain")
    metrics, facts = quantized(reads, tmp_path / "quantized", equalise=True, correct_bias=True)
    # it has no convolutions, and one of its layers no bias
    assert facts["equalised_pairs"] == 0 and facts["corrected_layers"] == 1
    assert metrics["agreement_with_float"] == plain["agreement_with_float"] == 1
    assert (tmp_path / "plain/model.onnx").read_bytes() != (tmp_path / "quantized/model.onnx").read_bytes()


@pytest.mark.parametrize("scheme", ["int8", "int8_symmetric"])
def test_learned_rounding_and_smoothing_say_what_they_did(reads, tmp_path, scheme):
    knobs = {"rounding": {"method": "adaround", "steps": 50}, "smooth": 0.5, "correct_bias": True}
    metrics, facts = quantized(reads, tmp_path / "quantized", scheme=scheme, **knobs)
    assert metrics["agreement_with_float"] == 1
    # nothing in the file makes the first product's input, and one of its layers has no bias
    assert facts["smoothed_products"] == 1 and facts["corrected_layers"] == 1
    assert facts["adaround"]["127"]["layers"] == 2 and facts["adaround"]["127"]["output_error_vs_rtn"] <= 1


@pytest.mark.parametrize("activation", ["unsigned", "signed"])
def test_activations_are_of_the_type_that_was_asked_for(reads, tmp_path, activation):
    _, facts = quantized(reads, tmp_path / "quantized", activation=activation)
    assert facts["activation"] == {"type": activation}
    model = onnx.load(tmp_path / "quantized/model.onnx")
    stored = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    types = {stored[node.input[2]].dtype.name for node in model.graph.node if node.op_type == "QuantizeLinear"}
    assert types == {"uint8" if activation == "unsigned" else "int8"}


STATIC = {
    "int8": {"ladder": False},
    "ladder": {"max_drop": 0.0, "training": {"train": TRAIN}},
    "mixed": {"scheme": "mixed", "max_drop": 1.0},
    "qat": {"scheme": "qat", "training": {"train": TRAIN}},
}


@pytest.mark.parametrize("quicker", ["unsigned", "signed"])
@pytest.mark.parametrize("case", STATIC)
def test_by_default_the_type_that_is_faster_here_is_taken_whatever_the_scheme(
    reads, tmp_path, monkeypatch, case, quicker
):
    """No output holds a time: what was decided gives the same bytes as what was asked for."""
    data = load_splits(reads)
    model = checkpoint.load(reads["teacher"], data.card)
    checkpoint.save(model, data.card, tmp_path / "pruned", None)
    export(model, data.card, data.validation, tmp_path / "pruned", "distill.model")
    own, asked = reads | {"pruned": tmp_path / "pruned"}, []

    def faster(models, samples):
        asked.append([*models])
        return quicker, [Faster(1, 1.0 + len(asked), 2.0, 0.5, 0.4, 0.6, 1.0, 1.0)]

    monkeypatch.setattr("tasks.quantize.speed.faster", faster)
    _, facts = quantized(own, tmp_path / "auto", **STATIC[case])
    quantized(own, tmp_path / "again", **STATIC[case])
    _, named = quantized(own, tmp_path / "named", **STATIC[case], activation=quicker)
    assert asked == [["unsigned", "signed"]] * 2  # once for a stage, however many files it makes
    assert facts["activation"] == {"type": quicker, "measured": True} and named["activation"] == {"type": quicker}
    assert facts | {"activation": None} == named | {"activation": None}
    assert (tmp_path / "auto/model.onnx").read_bytes() == (tmp_path / "named/model.onnx").read_bytes()
    for path in (tmp_path / "auto").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
    figures = [(tmp_path / f"{run}_diary/activations.csv").read_text() for run in ("auto", "again", "named")]
    assert figures[0] != figures[1] and figures[2].count("\n") == 1  # beside, with the names of the columns alone


@pytest.mark.parametrize("scheme", ["int8_symmetric", "int8_dynamic", "int4_weight_only", "fp16"])
def test_schemes_without_a_choice_of_activations_time_nothing(reads, tmp_path, monkeypatch, scheme):
    monkeypatch.setattr("tasks.quantize.speed.faster", None)
    _, facts = quantized(reads, tmp_path / "quantized", scheme=scheme)
    assert "activation" not in facts


def test_auto_measures_both(reads, tmp_path):
    _, facts = quantized(reads, tmp_path / "quantized")
    assert facts["activation"]["measured"] and facts["activation"]["type"] in ("unsigned", "signed")
    rows = (tmp_path / "quantized_diary/activations.csv").read_text().splitlines()
    assert rows[0].startswith("batch,unsigned_ms,signed_ms,speedup") and [row.split(",")[0] for row in rows[1:]] == [
        "1",
        "18",  # all of its validation samples
    ]


def test_the_budget_s_ladder_stands_in_the_facts_with_its_limits(reads, tmp_path):
    _, facts = quantized(reads, tmp_path / "quantized")
    assert facts["ladder"]["max_drop"] == "budget"
    assert facts["ladder"]["limits"] == {"accuracy_drop": 0.2, "class_recall_drop": None}
    assert facts["ladder"]["rungs"][0]["accuracy_drop_upper95"] > 0


def test_the_emulated_accuracies_say_of_how_many_samples_they_are(reads, tmp_path):
    metrics, facts = quantized(reads, tmp_path / "few", portable_samples=7)
    assert metrics["emulated_samples"] == facts["portability"]["samples"] == 7
    assert metrics["accuracy_s8s8"] * 7 == pytest.approx(round(metrics["accuracy_s8s8"] * 7))
    assert "accuracy_s8s8" not in quantized(reads, tmp_path / "none", portable=False)[0]
