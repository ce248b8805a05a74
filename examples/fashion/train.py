"""Train the Fashion-MNIST example model and write the calibration and evaluation pictures.

    python examples/fashion/train.py               # fashion.onnx and calibration_data/fashion/
    python examples/fashion/train.py --data-only   # the pictures alone; needs no PyTorch

The data set is read from the folder of the Debian package `dataset-fashion-mnist`; any folder with the four
original files will do (`--dataset`). Training takes about nine minutes on two cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from dataset import EVALUATION_PICTURES, Split, hold_out, load, normalise, write_data

HERE = Path(__file__).resolve().parent


def accuracy(path: Path, split: Split) -> float:
    """Return the share of pictures that the ONNX file, run by ONNX Runtime, classifies correctly."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    batches = np.array_split(normalise(split.images), max(1, len(split) // 500))
    logits = np.concatenate([session.run(["logits"], {"image": batch})[0] for batch in batches])
    return float(np.mean(logits.argmax(axis=1) == split.labels))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train the Fashion-MNIST example and write its pictures.")
    default = Path("/usr/share/datasets/fashion-mnist")
    parser.add_argument("--dataset", type=Path, default=default, help="folder of the IDX files (%(default)s)")
    parser.add_argument("--output", type=Path, default=HERE / "fashion.onnx", help="the model (%(default)s)")
    data = HERE.parents[1] / "calibration_data" / "fashion"
    parser.add_argument("--data", type=Path, default=data, help="folder for the pictures (%(default)s)")
    parser.add_argument("--data-only", action="store_true", help="write the pictures and stop")
    parser.add_argument("--epochs", type=int, default=5, help="passes over the training set (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads to train with (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (%(default)s)")
    return parser.parse_args()


def main() -> None:
    """Write the pictures, then train, export and score the model unless only pictures are wanted."""
    options = arguments()
    everything, test = load(options.dataset)
    calibration, rest = hold_out(everything, options.seed)
    write_data(calibration, test, options.data)
    print(f"pictures: {options.data}", flush=True)
    if options.data_only:
        return

    # Here and not above: writing the pictures must work where PyTorch is not installed.
    import resnet
    import torch

    torch.set_num_threads(options.threads)
    resnet.export(resnet.train(rest, options.epochs, options.seed), options.output)
    print(f"model: {options.output}, {options.output.stat().st_size:,} bytes")
    for part in (test, test.take(slice(EVALUATION_PICTURES))):
        share = accuracy(options.output, part)
        print(f"accuracy in ONNX Runtime on {len(part):,} test pictures: {share:.4f}")


if __name__ == "__main__":
    main()
