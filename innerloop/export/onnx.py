"""Export a step as an ONNX file, with translations of operators that the exporter or onnxruntime lacks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from innerloop import files
from innerloop.errors import InputError
from innerloop.export.graph import METADATA_KEY, io_names, quiet, step_graph
from innerloop.runs.folder import OpenedRun

__all__ = ["save_onnx", "translation_table"]


def save_onnx(opened: OpenedRun, path: Path | str) -> dict[str, Any]:
    """Write the turn as one ONNX file for onnxruntime; returns its description, which is also in the file's metadata.

    Raises InputError where the extra [onnx] is missing, or an operator has no ONNX form.
    """
    try:
        import onnxscript  # noqa: F401
    except ImportError:
        raise InputError("writing ONNX needs onnx and onnxscript: pip install 'innerloop[onnx]'") from None
    program, described = step_graph(opened)
    inputs, outputs = io_names(described)
    try:
        with quiet():
            found = torch.onnx.export(
                program,
                dynamo=True,
                input_names=inputs,
                output_names=outputs,
                custom_translation_table=translation_table(),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        why = next((line for line in reversed(str(error.__cause__ or error).splitlines()) if line.strip()), "")
        raise InputError(f"{opened.run.system} cannot be written as ONNX ({why}): export --graph instead") from None
    assert found is not None
    proto = to_protobuf(found.model)
    for value in [*proto.graph.input, *proto.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    entry = proto.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, json.dumps(described)
    files.write_bytes(path, proto.SerializeToString())
    return described


def to_protobuf(found: Any) -> Any:
    """The exporter's model as a protobuf: every weight once, though each call of a net has turned its own copy, and
    without the exporter's notes, which hold source lines of this machine.
    """
    import onnx_ir
    from onnx_ir.passes.common import DeduplicateInitializersPass

    proto = onnx_ir.to_proto(DeduplicateInitializersPass(size_limit=1 << 31)(found).model)
    graph = proto.graph
    for item in [graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer]:
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    return proto


def translation_table() -> dict[Any, Any]:
    """Operators for which the exporter has no ONNX form, or one that onnxruntime cannot run, in those that it can."""
    from onnxscript import opset18

    op: Any = opset18

    def where(condition: Any, a: Any, b: Any) -> Any:
        if str(a.dtype) == "BOOL":  # onnxruntime has no Where over truths
            return op.Or(op.And(condition, a), op.And(op.Not(condition), b))
        return op.Where(condition, a, b)

    def sort(x: Any, *, stable: Any = None, dim: int = -1, descending: bool = False) -> Any:
        """TopK of all; among equals it too puts the earlier first."""
        count = op.Gather(op.Shape(x), op.Constant(value_ints=[dim]))
        return op.TopK(x, count, axis=dim, largest=int(descending))

    def total(x: Any, dim: Sequence[int], keepdim: bool = False, dtype: int = -1) -> Any:
        """onnxruntime sums whole numbers as doubles, which loses bits of a key; its matrix product does not."""
        if str(x.dtype) != "INT64" or [d % len(x.shape) for d in dim] != [len(x.shape) - 1]:
            found = op.ReduceSum(x, op.Constant(value_ints=list(dim)), keepdims=int(keepdim))
            return op.Cast(found, to=dtype) if dtype not in (-1, None) else found
        ones = op.Expand(op.Constant(value_ints=[1]), op.Constant(value_ints=[x.shape[-1], 1]))
        found = op.MatMul(x, ones)
        return found if keepdim else op.Squeeze(found, op.Constant(value_ints=[-1]))

    aten = torch.ops.aten
    return {
        aten.where.self: where,
        aten.sort.stable: sort,
        aten.sum.dim_IntList: total,
        aten.erfinv.default: erfinv,
    }


# Giles, "Approximating the erfinv function" (GPU Computing Gems 2, 2012), single precision: a polynomial in
# w = -log(1 - x^2), shifted, for the middle (w < 5) and one in its root for the tails; highest power first.
MIDDLE = [2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503]
MIDDLE += [-0.00417768164, 0.246640727, 1.50140941]
TAIL = [-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613]
TAIL += [0.00943887047, 1.00167406, 2.83297682]


def erfinv(x: Any) -> Any:
    from onnxscript import opset18

    op: Any = opset18
    number = lambda v: op.Constant(value_float=v)  # noqa: E731

    def polynomial(coefficients: Sequence[float], w: Any) -> Any:
        p = number(coefficients[0])
        for c in coefficients[1:]:
            p = op.Add(op.Mul(p, w), number(c))
        return p

    one = number(1.0)
    w = op.Neg(op.Log(op.Mul(op.Sub(one, x), op.Add(one, x))))
    middle = polynomial(MIDDLE, op.Sub(w, number(2.5)))
    tail = polynomial(TAIL, op.Sub(op.Sqrt(op.Max(w, number(5.0))), number(3.0)))
    return op.Mul(op.Where(op.Less(w, number(5.0)), middle, tail), x)
