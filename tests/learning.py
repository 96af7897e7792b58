"""Networks in integers that learn a little, for tests of training them."""

import numpy as np
import onnx
import torch
from graphs import answers
from processor import HERE
from toy import card, pictures

from tasks.export.onnx import export
from tasks.models.normalised import Normalised
from tasks.params import Factory
from tasks.quantize.calibration import min_max, observe
from tasks.quantize.emulation import Emulator
from tasks.quantize.int8 import quantize
from tasks.quantize.trainable import Trainable


def int8(model, x, weights="reduced"):
    return quantize(model, {name: min_max(seen) for name, seen in observe(model, lambda: [x]).items()}, weights)


def exported(network, folder, shape=(1, 8, 8)):
    """The float file of a network on raw pictures, with inferred shapes."""
    model = Normalised(network, torch.full((1, 1, 1), 8.0), torch.full((1, 1, 1), 0.2), Factory(factory="a:b")).eval()
    export(model, card(shape), pictures(16), folder, "model")
    return onnx.shape_inference.infer_shapes(onnx.load(folder / "model.onnx"), strict_mode=True, data_prop=True)


def logit_step(model, x, tmp_path):
    """Of logits in 8 bits, had they as many levels."""
    return np.ptp(answers(model, x, tmp_path)) / 255


def learned(model, x, steps=5):
    """The module after some steps that move every parameter."""
    torch.manual_seed(0)
    module = Trainable(model)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    wanted = torch.randint(0, 3, (len(x),))
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(torch.from_numpy(x)), wanted).backward()
        optimizer.step()
    return module


def differs_by(model, module, x, tmp_path):
    """In steps of the logits, at most; where this processor saturates, from the file's emulated exact answers."""
    found = module(torch.from_numpy(x)).detach().numpy()
    expected = answers(model, x, tmp_path) if HERE == "s8s8" else Emulator(model, "s8s8").run(x)
    return np.abs(found - expected).max() / np.ptp(expected) * 255
