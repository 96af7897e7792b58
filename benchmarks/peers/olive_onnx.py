"""Olive's static quantization of an ONNX file with its defaults: FLOAT.onnx SAMPLES.npy OUT.onnx."""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

os.environ["OLIVE_DISABLE_TELEMETRY"] = "1"  # it is read when olive is imported
from olive.workflows import run

source, samples, target = sys.argv[1:]
SCRIPT = f"""
import numpy as np, torch
from olive.data.registry import Registry

class Rows(torch.utils.data.Dataset):
    def __init__(self): self.x = np.load({samples!r})
    def __len__(self): return len(self.x)
    def __getitem__(self, place): return {{"x": self.x[place]}}, 0

@Registry.register_dataset()
def rows(**_): return Rows()
"""
with tempfile.TemporaryDirectory() as folder:
    script = Path(folder) / "rows.py"
    script.write_text(SCRIPT)
    data = {"name": "rows", "user_script": str(script), "load_dataset_config": {"type": "rows"}}
    config = {
        "input_model": {"type": "ONNXModel", "model_path": source},
        "data_configs": [{**data, "dataloader_config": {"batch_size": 1}}],
        "passes": {"quantize": {"type": "OnnxStaticQuantization", "data_config": "rows"}},
        "output_dir": f"{folder}/out",
        "no_artifacts": True,
    }
    path = Path(folder) / "config.json"
    path.write_text(json.dumps(config))
    run(str(path))
    found = sorted(Path(folder).rglob("*.onnx"), key=lambda file: file.stat().st_mtime)
    shutil.copyfile(found[-1], target)
