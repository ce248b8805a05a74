"""Prunes a model of the zoo with Torch-Pruning, in an interpreter that has it, and writes an ONNX file.

Run with this folder as the program; the job comes as JSON on stdin, the numbers go as JSON to stdout:

    {"folder": ..., "recipe": ..., "share": 0.5, "samples": 300, "labels": null or a .npy file, "seconds": 60,
     "processor": 120, "threads": 2, "seed": 0, "out": ".../model.onnx"}
"""

from __future__ import annotations

import copy
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from cutting import flops
from models import difference, restored
from recipes import RECIPES
from tuning import Lesson, tuned


def main() -> None:
    """Do the job on stdin."""
    job = json.load(sys.stdin)
    torch.set_num_threads(job["threads"])
    torch.manual_seed(job["seed"])
    folder = Path(job["folder"])
    data = {name: torch.from_numpy(array[: job["samples"]]) for name, array in np.load(folder / "calib.npz").items()}
    net, teacher = restored(folder), restored(folder)
    lesson = Lesson(data, None if job["labels"] is None else torch.from_numpy(np.load(job["labels"])), teacher)
    apart = difference(net, folder / "model.onnx", lesson.batch(slice(8)))
    if apart > 1e-3:
        raise SystemExit(f"the torch module is not the ONNX model: outputs differ by {apart:.2g} of their size")
    recipe, example = RECIPES[job["recipe"]], lesson.batch(slice(1))
    whole, start = flops(net, example), time.perf_counter()
    net = recipe.cut(net, lesson, job["share"])
    cutting = time.perf_counter() - start
    turns = tuned(net, lesson, recipe.schedule, (job["seconds"], job["processor"]))
    export(net.eval(), example, Path(job["out"]))
    print(json.dumps({"cutting_s": cutting, "turns": turns, "flops": flops(net, example) / whole, "apart": apart}))


def export(net: torch.nn.Module, example: dict[str, torch.Tensor], out: Path) -> None:
    """Write a module as ONNX with a free batch axis."""
    batch = torch.export.Dim("batch", min=1, max=1 << 16)
    two = {name: torch.cat([each, each]) for name, each in example.items()}
    shapes = tuple({0: batch} for _ in two)
    program = torch.onnx.export(
        copy.deepcopy(net),
        tuple(two.values()),
        input_names=list(two),
        output_names=["logits"],
        dynamic_shapes=shapes,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.save(out, external_data=False)


if __name__ == "__main__":
    main()
