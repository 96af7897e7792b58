"""What every pruned model that came back from disk must still do."""

import numpy as np
from toy import pictures

from tasks import checkpoint
from tasks.export.onnx import export
from tasks.measure.runtime import open_session


def serves_as_any_other(model, card, x, folder):
    """`model` was loaded from folder/once: it saves to the same bytes, trains on, and its file gives its answers."""
    checkpoint.save(model, card, folder / "twice", parent="student")
    for name in ("weights.safetensors", "model.json"):
        assert (folder / "once" / name).read_bytes() == (folder / "twice" / name).read_bytes()
    model.train()(x).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    export(model.eval(), card, pictures(), folder / "once", "model")
    answers = open_session(folder / "once" / "model.onnx").run(None, {"x": x.numpy()})[0]
    np.testing.assert_allclose(answers, model(x).detach().numpy(), rtol=1e-4, atol=1e-4)
