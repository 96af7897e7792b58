import shutil

import numpy as np
import pytest
import torch
from scipy.special import softmax
from toy import blobs, card, network

from tasks.export.onnx import export
from tasks.measure.confidence import confidence
from tasks.measure.runtime import open_session, run
from tasks.quantize.temperature import calibrate_


def test_a_temperature_changes_the_probabilities_and_no_answer(tmp_path):
    samples, model = blobs(90), network().eval()
    with torch.no_grad():
        model(samples.inputs(slice(None)))
    export(model, card((4,)), samples, tmp_path / "plain", "distill.model")
    shutil.copytree(tmp_path / "plain", tmp_path / "scaled")
    found = calibrate_(tmp_path / "scaled/model.onnx", samples)
    before, after = (run(open_session(tmp_path / name / "model.onnx"), samples) for name in ("plain", "scaled"))
    np.testing.assert_allclose(after * found["temperature"], before, rtol=1e-5, atol=1e-5)
    assert (after.argmax(1) == before.argmax(1)).all()
    assert found["nll_after"] < found["nll_before"] and found["samples"] == 90
    expected = confidence(samples.y, softmax(after.astype(float), 1))
    assert (expected.nll, expected.ece) == pytest.approx((found["nll_after"], found["ece_after"]), rel=1e-3)
