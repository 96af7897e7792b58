import numpy as np
import pytest
from served_models import hand_over, make_served

from flows.served import open_served
from tasks.export.packed import pack
from tasks.served import RUNTIMES


def test_a_variants_folder_is_opened_as_it_is(tmp_path):
    make_served(tmp_path / "model", (1, 2, 2))
    with open_served(tmp_path, tmp_path / "params.yaml", str(tmp_path / "model")) as served:
        assert served.deploy["classes"] == ["no", "yes"]


def test_a_folder_that_is_none_of_a_variant_says_what_would_be(tmp_path):
    make_served(tmp_path / "model", (1, 2, 2))
    (tmp_path / "model/model.onnx").unlink()
    for folder, lacking in (("model", "no model.onnx"), ("", "no deploy.json and no model.onnx")):
        place = tmp_path / folder
        with (
            pytest.raises(ValueError, match=f"holds {lacking}; name a variant's folder, such as artifacts/quantized"),
            open_served(tmp_path, tmp_path / "params.yaml", str(place)),
        ):
            pass


@pytest.mark.parametrize(("suffix", "threads"), [("", 1), ("@cpu-all", 2)])
def test_what_was_handed_over_is_opened_as_the_device_after_the_at_sign(tmp_path, monkeypatch, suffix, threads):
    folder = hand_over(tmp_path / "deploy", **{"cpu-1t": ("onnxruntime", 1), "cpu-all": ("onnxruntime", 2)})
    asked = []
    monkeypatch.setitem(RUNTIMES, "onnxruntime", lambda model, threads: asked.append((model, threads)))
    with open_served(tmp_path, tmp_path / "params.yaml", f"{folder}{suffix}"):
        assert asked == [((folder / "model/model.onnx").read_bytes(), threads)]


def packed_alone(file):
    """The file gone, its packed form left."""
    pack(file)
    file.unlink()


def test_a_device_that_holds_the_packed_file_alone_is_served_by_it(tmp_path):
    folder = hand_over(tmp_path / "deploy", **{"cpu-1t": ("onnxruntime", 1)})
    packed_alone(folder / "model/model.onnx")
    for place in (folder, f"{folder}@cpu-1t", folder / "model"):
        with open_served(tmp_path, tmp_path / "params.yaml", str(place)) as served:
            assert served.predict(np.ones((1, 1, 2, 2)))["label"].tolist() == ["yes"]
    assert not (folder / "model/model.onnx").exists()


def test_a_damaged_packed_file_is_named(tmp_path):
    make_served(tmp_path / "model", (1, 2, 2))
    packed_alone(tmp_path / "model/model.onnx")
    (tmp_path / "model/model.onnx.packed").write_bytes(b"DOWNSZP1")
    with (
        pytest.raises(ValueError, match=r"model\.onnx\.packed: not a packed file; `downsize pack` makes one"),
        open_served(tmp_path, tmp_path / "params.yaml", str(tmp_path / "model")),
    ):
        pass


def test_a_variant_s_folder_has_no_devices(tmp_path):
    make_served(tmp_path / "model", (1, 2, 2))
    with (
        pytest.raises(ValueError, match=r"model: has no profile 'cpu-1t'; there is none$"),
        open_served(tmp_path, tmp_path / "params.yaml", f"{tmp_path}/model@cpu-1t"),
    ):
        pass
