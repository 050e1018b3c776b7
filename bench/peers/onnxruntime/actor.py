"""The actor of a version in ONNX Runtime: the forward pass that ranker_bench times ours beside. README.md says what is the same and what is not.

Commands on standard input, one line of answer each:
  load FOLDER        takes a case that ranker_bench wrote: case.json, weights.safetensors, and the float32 arrays shared, items, states (inputs,
                     encoded and normalised) and actions (ours). Answers the largest difference of an action, of both forms.
  time FORM SECONDS  calls for about so long: microseconds of CPU time of one call
FORM: split (the shared columns' part once), plain (whole states) or identity (the items' array handed back: what a call costs).
"""
import json
import pathlib
import struct
import sys
import time

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


def read_safetensors(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header, data = json.loads(file.read(length)), file.read()
    return {name: numpy.frombuffer(data[entry["data_offsets"][0]:entry["data_offsets"][1]], dtype="<f4").reshape(entry["shape"])
            for name, entry in header.items() if name != "__metadata__"}


def session(nodes, inputs, output, constants):
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, width]) for name, width in inputs]
    out = helper.make_tensor_value_info(output[0], TensorProto.FLOAT, [None, output[1]])
    graph = helper.make_graph(nodes, "actor", values, [out], [numpy_helper.from_array(value, name) for name, value in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def network(weights, widths, shared_width, split):
    """states, or shared and items → actions."""
    constants = {f"{part}{i}": numpy.ascontiguousarray(weights[f"actor.{i}.{name}"]) for i in range(len(widths) - 1)
                 for part, name in (("w", "weight"), ("b", "bias"))}
    nodes = []
    if split:
        first = constants.pop("w0")
        constants["ws"], constants["wi"] = first[:, :shared_width].copy(), first[:, shared_width:].copy()
        # Gemm's third operand is broadcast over the rows: the shared part is the bias of the items' product.
        nodes += [helper.make_node("Gemm", ["shared", "ws", "b0"], ["part"], transB=1),
                  helper.make_node("Gemm", ["items", "wi", "part"], ["x0"], transB=1)]
        inputs = [("shared", shared_width), ("items", widths[0] - shared_width)]
    else:
        nodes.append(helper.make_node("Gemm", ["states", "w0", "b0"], ["x0"], transB=1))
        inputs = [("states", widths[0])]
    for i in range(1, len(widths) - 1):
        nodes += [helper.make_node("Relu", [f"x{i - 1}"], [f"r{i}"]),
                  helper.make_node("Gemm", [f"r{i}", f"w{i}", f"b{i}"], [f"x{i}"], transB=1)]
    nodes.append(helper.make_node("Tanh", [f"x{len(widths) - 2}"], ["actions"]))
    return session(nodes, inputs, ("actions", widths[-1]), constants)


class Case:
    def __init__(self, folder):
        case = json.loads((folder / "case.json").read_text())
        widths, shared_width = case["widths"], case["shared_width"]
        weights = read_safetensors(folder / "weights.safetensors")
        read = lambda name, width: numpy.fromfile(folder / name, dtype="<f4").reshape(-1, width)
        shared, items = read("shared", shared_width), read("items", widths[0] - shared_width)
        states, self.expected = read("states", widths[0]), read("actions", widths[-1])
        identity = session([helper.make_node("Identity", ["items"], ["same"])], [("items", items.shape[1])], ("same", items.shape[1]), {})
        self.forms = {"split": (network(weights, widths, shared_width, True), {"shared": shared, "items": items}),
                      "plain": (network(weights, widths, shared_width, False), {"states": states}),
                      "identity": (identity, {"items": items})}

    def difference(self):
        return max(float(numpy.abs(self.run(form) - self.expected).max()) for form in ("split", "plain"))

    def run(self, form):
        net, inputs = self.forms[form]
        return net.run(None, inputs)[0]

    def time(self, form, seconds):
        net, inputs = self.forms[form]
        run, calls = net.run, 1
        while True:
            before = time.process_time()
            for _ in range(calls):
                run(None, inputs)
            took = time.process_time() - before
            if took >= seconds:
                return 1e6 * took / calls
            calls = int(calls * min(100.0, max(1.2, 1.1 * seconds / took if took > 0 else 100.0))) + 1


def main():
    case = None
    print("ready", flush=True)
    for line in sys.stdin:
        command, *words = line.split()
        if command == "load":
            case = Case(pathlib.Path(words[0]))
            print(case.difference(), flush=True)
        else:
            print(case.time(words[0], float(words[1])), flush=True)


main()
