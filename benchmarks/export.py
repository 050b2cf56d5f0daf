"""Compare exported encoders with the pipeline's on test images: features, speed, size.

    python benchmarks/export.py                           # models/clustered and data/, after `make demo`
    python benchmarks/export.py --model FOLDER --data FOLDER    # another model, another set in STL-10's layout
    python benchmarks/export.py --profile paper --images 64     # an untrained network with a profile's sizes

Each way describes the same images in the same batches, one after the other, with one thread and with one per core;
best of three rounds of at most 512 images. The largest difference is to `Encoder` with one thread, in float32.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import psutil
import torch
from numpy.typing import NDArray

from _common import ROOT, finish
from exemplarcnn import Encoder, read_stl10
from exemplarcnn.config import profiles
from exemplarcnn.config.sections import Features, Network
from exemplarcnn.data.types import Pixels
from exemplarcnn.networks import exemplar_cnn
from exemplarcnn.serving.export import export

ROUNDS, BATCH, TIMED = 3, 64, 512
Way = Callable[[Pixels], NDArray[np.float32]]


def untrained(profile: str) -> Encoder:
    """Return an encoder with a network of a profile's sizes, with its initial weights."""
    network = Network.model_validate(profiles.section(profiles.PACKAGED, profile, "network"))
    features = profiles.section(profiles.PACKAGED, profile, "features") | {"precision": "fp32"}
    classes = 16_000 if profile == "paper" else 2_000
    mean, std = [0.45] * 3, [0.25] * 3
    net = exemplar_cnn.initialise(network, classes, 32, 0, mean, std).eval()
    return Encoder(net, Features.model_validate(features), device="cpu")


def in_batches(way: Way, images: Pixels) -> NDArray[np.float32]:
    """Describe images batch by batch."""
    starts = range(0, len(images), BATCH)
    return np.concatenate([way(np.ascontiguousarray(images[start : start + BATCH])) for start in starts])


def ways(encoder: Encoder, folder: Path, threads: int) -> dict[str, Way]:
    """Return the ways to describe images, with some threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(folder / "encoder.onnx", options, providers=["CPUExecutionProvider"])
    program = torch.export.load(folder / "encoder.pt2").module()

    def torch_program(images: Pixels) -> NDArray[np.float32]:
        with torch.inference_mode():
            found: NDArray[np.float32] = program(torch.from_numpy(images)).numpy()
        return found

    def onnx(images: Pixels) -> NDArray[np.float32]:
        (found,) = session.run(None, {"images": images})
        return np.asarray(found)

    return {"Encoder": encoder, "torch program": torch_program, "ONNX, onnxruntime": onnx}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "clustered", help="a model's folder")
    parser.add_argument("--profile", help="an untrained network of a profile's sizes instead")
    parser.add_argument("--data", type=Path, default=ROOT / "data", help="a set in STL-10's layout")
    parser.add_argument("--images", type=int, help="only the first so many test images (default: all)")
    arguments = parser.parse_args()
    images = read_stl10(arguments.data).test_images[: arguments.images]
    cores = psutil.cpu_count(logical=False) or 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        encoder = untrained(arguments.profile) if arguments.profile else Encoder.load(arguments.model, "cpu")
        for suffix in ("onnx", "pt2"):
            export(encoder, folder / f"encoder.{suffix}")
        sizes = {
            "torch program": (folder / "encoder.pt2").stat().st_size,
            "ONNX, onnxruntime": (folder / "encoder.onnx").stat().st_size,
        }
        torch.set_num_threads(1)
        expected = in_batches(encoder, images)
        rows: list[dict[str, Any]] = []
        for threads in dict.fromkeys((1, cores)):
            torch.set_num_threads(threads)
            for title, way in ways(encoder, folder, threads).items():
                apart = float(np.abs(in_batches(way, images) - expected).max())
                seconds = []
                for _ in range(ROUNDS):
                    begun = time.perf_counter()
                    in_batches(way, images[:TIMED])
                    seconds.append(time.perf_counter() - begun)
                rate = min(TIMED, len(images)) / min(seconds)
                rows.append(
                    {
                        "way": title,
                        "threads": threads,
                        "images/s": round(rate, 1),
                        "largest difference": apart,
                        "MB": round(sizes.get(title, 0) / 1e6, 2) or None,
                    }
                )
    finish(
        pd.DataFrame(rows),
        "export",
        [f"{row} differs by more than 1e-5" for row in rows if row["largest difference"] > 1e-5],
        network=arguments.profile or str(arguments.model),
        images=len(images),
        features=encoder.size,
        rows=rows,
    )


if __name__ == "__main__":
    main()
