"""NNCF's defaults on an ONNX file: FLOAT.onnx SAMPLES.npy OUT.onnx."""

import sys

import nncf
import numpy as np
import onnx

source, samples, target = sys.argv[1:]
dataset = nncf.Dataset(np.load(samples), lambda row: {"x": row[None]})
onnx.save(nncf.quantize(onnx.load(source), dataset), target)
