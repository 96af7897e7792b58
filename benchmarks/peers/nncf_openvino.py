"""NNCF's defaults on an OpenVINO model, as its documentation shows: FLOAT.onnx SAMPLES.npy OUT.xml."""

import sys

import nncf
import numpy as np
import openvino

source, samples, target = sys.argv[1:]
dataset = nncf.Dataset(np.load(samples), lambda row: {"x": row[None]})
openvino.save_model(nncf.quantize(openvino.convert_model(source), dataset), target)
