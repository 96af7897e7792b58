import pytest
from served_models import make_served

from flows.served import open_served


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
