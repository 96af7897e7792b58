"""What cannot be exported: the message names the operation or the module, and what would do."""

import pytest
import torch
from torch import nn

from tasks.export import pt2
from tasks.export.unsupported import lacking, trace


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 1 else -x


class Leaving(nn.Module):
    def forward(self, x):
        return torch.from_numpy(x.detach().numpy() * 2)


class Bessel(nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x)


def within(module):
    return nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), module), nn.Linear(4, 3)).eval()


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (Branching(), "1.1 branches on values in its forward; torch.where or torch.cond would do"),
        (Leaving(), "1.1 cannot be traced: .numpy() is not supported for tensor subclasses."),
    ],
)
def test_a_module_that_cannot_be_traced_is_named_with_the_reason(tmp_path, module, says):
    with pytest.raises(ValueError) as caught:
        pt2.write(within(module), tmp_path / "m.pt2", (4,), dynamic_batch=True, field="evaluate.exports")
    assert str(caught.value) == f"evaluate.exports: cannot be exported to an ExportedProgram: {says}"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "said",
    [
        "No ONNX function found for <OpOverload(op='prims.bessel_j0', overload='default')>",
        "OpenVINO does not support the following ONNX operations: Bessel_J0\nConversion failed",
        "Operator torch._ops.aten.bessel_j0.default is not Core ATen opset",
        "Missing out variants: {'aten::bessel_j0'}",
    ],
)
def test_each_exporter_s_way_to_say_it_leads_to_the_operation_and_its_callers(said):
    error = RuntimeError("while exporting")
    error.__cause__ = RuntimeError(said)
    found = lacking(error, within(Bessel()), torch.zeros(2, 4), "the runtime")
    remedy = "put operations in its place that the runtime has, such as those of torch.nn"
    assert found.lower() == f"it has no bessel_j0, which 1.1 calls; {remedy}"


def test_another_failure_is_told_in_one_line():
    assert lacking(RuntimeError("no\n  luck"), within(Bessel()), torch.zeros(2, 4), "ONNX") == "no luck"


def test_no_path_of_this_machine_is_left_in_a_trace():
    program = trace(within(nn.ReLU()), torch.zeros(2, 4), dynamic_batch=True, target="x", field="y")
    assert not any("stack_trace" in node.meta for node in program.graph.nodes)
