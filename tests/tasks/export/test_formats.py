"""Every format of the table, held against the model; what cannot be made or does not agree is refused."""

import io
import json
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import version_converter
from toy import blobs, card, network

from tasks.data.splits import Splits
from tasks.export import pt2
from tasks.export.formats import FORMATS, Format, Source, export_all
from tasks.export.onnx import export
from tasks.export.opset import convert
from tasks.export.packed import packed
from tasks.export.parity import Parity, parity, refuse_difference
from tasks.extras import EXTRAS
from tasks.measure.accuracy import logits
from tasks.measure.runtime import answers, open_onnxruntime
from tasks.measure.size import deployed_bytes
from tasks.params import Exports
from tasks.quantize.int8 import quantize
from tasks.quantize.narrow import narrow, store_narrow

SAMPLES = blobs(30)
DATA = Splits(card((4,)), SAMPLES, SAMPLES, SAMPLES, SAMPLES)
PLAIN = [name for name in FORMATS if name != "executorch"]  # which takes half a minute: tests/slow


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A float model, and its file in integers."""
    folder = tmp_path_factory.mktemp("formats")
    model = network().eval()
    export(model, DATA.card, SAMPLES, folder, "distill.model")
    graph = onnx.shape_inference.infer_shapes(onnx.load(folder / "model.onnx"))
    names = [value.name for value in (*graph.graph.value_info, *graph.graph.input, *graph.graph.output)]
    onnx.save(quantize(graph, dict.fromkeys(names, (-8.0, 8.0))), folder / "int8.onnx")
    return [
        Source("pruned", folder / "model.onnx", model, integer=False),
        Source("quantized", folder / "int8.onnx", model, integer=True),
    ]


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("name", PLAIN)
def test_a_file_that_is_read_back_answers_as_the_model(sources, tmp_path, name, dynamic):
    if name in EXTRAS and not find_spec(name):
        pytest.skip(f"the extra {name} is not installed")
    # OpenVINO 2026.4 answers nonsense to an integer perceptron of fixed batch 1 on one thread, and is refused
    asked = sources if dynamic or name != "openvino" else sources[:1]
    made = export_all(asked, Exports(formats=[name], dynamic_batch=dynamic), DATA, tmp_path)
    assert [entry["model"] for entry in made] == [
        one.name for one in asked if FORMATS[name].integers or not one.integer
    ]
    for entry in made:
        assert entry["parity"]["label_agreement"] == 1 and entry["parity"]["samples"] == 30
        assert entry["batch"] == ("any" if dynamic else 1)
        assert entry["size_bytes"] == deployed_bytes(tmp_path / entry["file"])
    call = FORMATS[name].open(tmp_path / made[0]["file"])
    found = answers(call, SAMPLES, 30 if dynamic else 1)
    np.testing.assert_allclose(found, logits(sources[0].network, SAMPLES).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["onnx", "exported_program"])
def test_twice_gives_the_same_bytes_without_a_path_of_this_machine(sources, tmp_path, name):
    files = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        (entry, *_) = export_all(sources, Exports(formats=[name]), DATA, folder)
        files.append((folder / entry["file"]).read_bytes())
    assert files[0] == files[1]
    assert str(Path.cwd()).encode() not in files[0] and b"/toy.py" not in files[0]


@pytest.mark.skipif(not find_spec("openvino"), reason="the extra openvino is not installed")
def test_openvino_s_weights_beside_its_graph_are_counted(sources, tmp_path):
    (entry, _) = export_all(sources, Exports(formats=["openvino"]), DATA, tmp_path)
    assert entry["size_bytes"] == sum((tmp_path / f"pruned.{kind}").stat().st_size for kind in ("xml", "bin"))


def test_what_lies_beside_an_export_is_packed_and_counted_too(sources, tmp_path, monkeypatch):
    def write(source, path, shape, params):
        path.write_bytes(source.file.read_bytes())
        path.with_suffix(".bin").write_bytes(bytes(5000))

    kind = Format(".xml", write, lambda path: open_onnxruntime(sources[0].file), integers=True)
    monkeypatch.setattr("tasks.export.formats.FORMATS", {"onnx": kind})
    (entry,) = export_all(sources[:1], Exports(formats=["onnx"]), DATA, tmp_path)
    assert entry["packed_bytes"] == len(packed(sources[0].file.read_bytes())) + len(packed(bytes(5000)))


@pytest.mark.parametrize("version", [18, 21])
def test_onnx_comes_in_the_opset_that_is_asked_for(sources, tmp_path, version):
    export_all(sources, Exports(formats=["onnx"], opset=version), DATA, tmp_path)
    for name in ("pruned", "quantized"):
        (own,) = [entry.version for entry in onnx.load(tmp_path / f"{name}.onnx").opset_import if not entry.domain]
        assert own == version


def test_an_operation_that_the_opset_lacks_is_named_with_one_that_has_it(sources, tmp_path):
    graph = onnx.load(sources[0].file)
    wider = onnx.helper.make_node("Gelu", ["logits"], ["more"])
    graph.graph.node.append(wider)
    graph.graph.output[0].name = "more"
    onnx.save(graph, tmp_path / "gelu.onnx")
    source = Source("pruned", tmp_path / "gelu.onnx", sources[0].network, integer=True)
    with pytest.raises(ValueError, match=r"^evaluate\.exports\.opset is 15: Gelu cannot be said in it; 20 would do$"):
        export_all([source], Exports(formats=["onnx"], opset=15), DATA, tmp_path)


def test_a_four_bit_file_says_which_opset_has_its_type(sources, tmp_path):
    integer = onnx.load(sources[1].file)
    bits = {node.output[0]: 4 for node in integer.graph.node if node.op_type == "Gemm"}
    onnx.save(store_narrow(narrow(integer, bits)), tmp_path / "w4.onnx")
    source = Source("quantized", tmp_path / "w4.onnx", sources[1].network, integer=True)
    with pytest.raises(
        ValueError, match=r"^evaluate\.exports\.opset is 20: Cast of INT4 cannot be said in it; 21 would do$"
    ):
        export_all([source], Exports(formats=["onnx"], opset=20), DATA, tmp_path)
    assert [entry["file"] for entry in export_all([source], Exports(formats=["onnx"], opset=21), DATA, tmp_path)]


def test_whatever_the_converter_raises_names_the_opset_and_one_that_would_do(sources, tmp_path):
    graph = onnx.load(sources[0].file)
    graph.graph.node[0].input[0] = "nowhere"
    onnx.save(graph, tmp_path / "broken.onnx")
    with pytest.raises(version_converter.ConvertError):  # which is no RuntimeError
        version_converter.convert_version(graph, 21)
    with pytest.raises(ValueError, match=r"^evaluate\.exports\.opset is 21: Input nowhere is undefined!; 20 would do$"):
        convert(tmp_path / "broken.onnx", tmp_path / "m.onnx", 21, dynamic_batch=True, field="evaluate.exports")


def test_a_file_that_answers_otherwise_is_refused(sources, tmp_path):
    other = Source("pruned", sources[0].file, network(seed=1).eval(), integer=False)
    with pytest.raises(ValueError, match=r"^evaluate\.exports: pruned\.onnx differs from the model by \d"):
        export_all([other], Exports(formats=["onnx"]), DATA, tmp_path)


@pytest.mark.parametrize("name", EXTRAS)
def test_a_missing_extra_is_answered_with_the_line_that_installs_it(sources, tmp_path, monkeypatch, name):
    monkeypatch.setattr("tasks.extras.find_spec", lambda package: None)
    with pytest.raises(
        ValueError, match=rf"^evaluate\.exports\.formats needs {name}, .* `pip install 'downsize\[{name}\]'`"
    ):
        export_all(sources, Exports(formats=[name]), DATA, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_exported_program_with_pickle_in_it_is_refused(sources, tmp_path):
    program = torch.export.export(sources[0].network, (torch.zeros(2, 4),))
    torch.export.save(program, tmp_path / "sampled.pt2")  # its sample inputs are pickled
    with pytest.raises(ValueError, match=r"sample_inputs/model\.pt holds pickle"):
        pt2.read(tmp_path / "sampled.pt2")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("version", b"1.1"),
        ("m/data/weights/model.pt", b"x"),
        ("m/data/weights/model_weights_config.json", {"path_name": "weight_0", "use_pickle": True}),
        ("m/data/constants/model_constants_config.json", {"path_name": "custom_obj_0", "use_pickle": False}),
    ],
)
def test_every_place_where_pytorch_would_unpickle_is_known(tmp_path, name, content):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(name, content if isinstance(content, bytes) else json.dumps({"config": {"a": content}}))
    (tmp_path / "m.pt2").write_bytes(archive.getvalue())
    with pytest.raises(ValueError, match="holds pickle"):
        pt2.refuse_pickle(tmp_path / "m.pt2")


def test_parity_by_hand():
    expected = np.array([[1.0, -4.0], [3.0, 2.0]], np.float32)
    found = np.array([[1.0, -4.5], [1.0, 2.0]], np.float32)
    assert parity(expected, found) == Parity(2.0, 0.5, 0.5, 2)


@pytest.mark.parametrize("integer", [True, False])
def test_a_label_that_flips_is_refused_in_integers_too(integer):
    refuse_difference(Parity(1e-6, 1e-6, 1.0, 50), "x.onnx")
    with pytest.raises(ValueError, match=r"^x\.onnx gives the model's label for 98\.0% of 50 samples only"):
        refuse_difference(Parity(1e-6, 1e-6, 0.98, 50), "x.onnx", integer=integer)


def test_numbers_that_are_lost_on_the_way_are_refused():
    expected, lost = np.ones((2, 2), np.float32), np.full((2, 2), np.nan, np.float32)
    with pytest.raises(ValueError, match="differs from the model by nan"):
        refuse_difference(parity(expected, lost), "x.onnx")
    refuse_difference(parity(lost, lost), "x.onnx")
