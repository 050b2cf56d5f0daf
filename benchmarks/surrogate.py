"""Measure patches per second, beside a plain scikit-image chain in the same run, and a set of the paper's size.

    python benchmarks/surrogate.py             # patches per second, on the embedded sample
    python benchmarks/surrogate.py FOLDER      # on the images of STL-10's train_X.bin in FOLDER
    python benchmarks/surrogate.py FOLDER --set 16000      # also a whole set: 16,000 images, 110 patches each
    python benchmarks/surrogate.py --quick     # a few patches

Three ways take turns, each with one thread of one process. All make 100 + 10 patches per image with the recipe of
docs/method.md, section 2:

- a chain of scikit-image calls in float64, which resizes the whole image for each patch (it writes nothing; the paper's
  authors wrote one PNG file per patch);
- the albumentations recipe, called as its users call it;
- the pipeline's own way to draw its sets, which gives the same bytes as the recipe.

The slower a way, the fewer images it gets. `write_set` writes the whole set with one process per core; if there are too
few images, they repeat. Its memory is the peak of the anonymous memory of all processes together.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from skimage import color, transform, util
from threadpoolctl import threadpool_limits

from _common import ROOT, finish, watched
from exemplarcnn import rng
from exemplarcnn.config import profiles
from exemplarcnn.config.params import parse
from exemplarcnn.config.sections import Surrogate
from exemplarcnn.data import stl10
from exemplarcnn.data.stl10_folder import binary_folder
from exemplarcnn.data.types import Pool
from exemplarcnn.patches.anchors import draw_anchors
from exemplarcnn.patches.recipes import arazo
from exemplarcnn.patches.recipes.transform import bind, to_uint8
from exemplarcnn.patches.sampler import PatchSampler
from exemplarcnn.patches.surrogate_set import DrawingJob, SetDefinition, write_set

TRAIN, VALID = 100, 10
ROUNDS = 5
Image = NDArray[np.float64]
Bytes = NDArray[np.uint8]


def stretch(patch: Image) -> Image:
    """Scale values linearly: the least to 0, the largest to 1."""
    low, high = patch.min(), patch.max()
    return (patch - low) / (high - low) if high > low else patch


def chain(image: Image, anchor: NDArray[np.int64], draw: np.random.Generator, params: Surrogate) -> Bytes:
    """Make one patch with scikit-image."""
    side = 32
    scale = draw.uniform(*params.scale)
    # In scikit-image "symmetric" repeats the pixel at the border.
    scaled = transform.rescale(image, scale, order=1, mode="symmetric", anti_aliasing=False, channel_axis=2)
    start = (anchor + 0.5) * scale + draw.normal(0, params.translate.amount * side, 2) - side / 2
    top, left = (int(np.clip(round(s), 0, size - side)) for s, size in zip(start, scaled.shape[:2], strict=True))
    patch = scaled[top : top + side, left : left + side]

    pixels = patch.reshape(-1, 3)
    mean = pixels.mean(axis=0)
    axes = np.linalg.eigh(np.cov(pixels, rowvar=False))[1][:, ::-1]
    pixels = ((pixels - mean) @ axes) * draw.uniform(*params.pca_factor, 3) @ axes.T + mean
    patch = stretch(pixels.reshape(patch.shape))

    patch = patch[:, ::-1] if draw.random() < params.flip else patch
    patch = transform.rotate(patch, draw.uniform(-params.rotate, params.rotate), order=1, mode="reflect")

    hsv = color.rgb2hsv(np.clip(patch, 0, 1))
    power, factor, shift = (draw.uniform(*span) for span in (params.hsv.power, params.hsv.factor, params.hsv.shift))
    hsv[..., 1:] = factor * hsv[..., 1:] ** power + shift
    hsv[..., 1] = np.clip(hsv[..., 1], 0, 1)
    patch = stretch(color.hsv2rgb(hsv))

    hsv = color.rgb2hsv(patch)
    hsv[..., 0] = (hsv[..., 0] + draw.uniform(*params.hue)) % 1
    result: Bytes = util.img_as_ubyte(np.clip(stretch(color.hsv2rgb(hsv)), 0, 1))
    return result


def by_scikit(pool: Pool, chosen: list[int], number: int, params: Surrogate) -> None:
    """Draw patches of some images with the chain."""
    draw = np.random.default_rng(0)
    for index in chosen:
        anchor = draw_anchors(pool[index], 1, draw)[0]
        image = util.img_as_float64(pool[index])
        for _ in range(number):
            chain(image, anchor, draw, params)


def by_albumentations(pool: Pool, chosen: list[int], number: int, params: Surrogate) -> None:
    """Draw patches of some images by calling the recipe."""
    compose, stream = arazo.build(params, 32), rng.Stream(0, rng.Purpose.TRAIN_PATCH)
    bind(compose, stream.generator)
    for index in chosen:
        anchor = draw_anchors(pool[index], 1, np.random.default_rng(0))[0]
        image = pool[index].astype(np.float32) / np.float32(255)
        for patch in range(number):
            stream.at(index, patch)
            to_uint8(compose(image=image, anchor=(int(anchor[0]), int(anchor[1])))["image"])


def by_pipeline(pool: Pool, chosen: list[int], number: int, params: Surrogate) -> None:
    """Draw patches of some images as the pipeline does."""
    sampler = PatchSampler(pool, params, 32, 0)
    for index in chosen:
        sampler.patches(index, number - VALID, rng.Purpose.TRAIN_PATCH)
        sampler.patches(index, VALID, rng.Purpose.VALID_PATCH)


WAYS = {"scikit-image chain": by_scikit, "albumentations": by_albumentations, "pipeline": by_pipeline}


def rates(pool: Pool, params: Surrogate, quick: bool) -> list[dict[str, Any]]:
    """Measure all ways in turns; return their median patches per second."""
    counts = {"scikit-image chain": 2, "albumentations": 12, "pipeline": 24}
    number, rounds = (VALID + 1, 1) if quick else (TRAIN + VALID, ROUNDS)
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    cv2.setNumThreads(1)
    with threadpool_limits(1):
        for turn in range(rounds + 1):
            for name, way in WAYS.items():
                chosen = [(turn * counts[name] + i) % len(pool) for i in range(counts[name])]
                begin = time.perf_counter()
                way(pool, chosen, number, params)
                if turn:  # the first turn warms up
                    seconds[name].append((time.perf_counter() - begin) / len(chosen) / number)
    found = {name: 1 / float(np.median(each)) for name, each in seconds.items()}
    peer = found["scikit-image chain"]
    return [{"way": name, "patches/s and core": rate, "times the chain": rate / peer} for name, rate in found.items()]


def child(pool_file: Path, folder: Path) -> None:
    """Draw a set, and print how long it took."""
    pool = stl10.ImageFile(pool_file)
    params = parse(profiles.compose(ROOT / "conf", "paper"), "profile paper")
    trained = params.variants.train["baseline"].model_copy(update={"patches_per_image": TRAIN})
    everything = np.arange(len(pool))
    table = pd.DataFrame({"class_id": everything, "image_id": everything, "origin": "seed"})
    begin = time.perf_counter()
    job = DrawingJob(folder, folder.with_name("work"), os.cpu_count() or 1)
    write_set(SetDefinition(pool, table, params.surrogate, trained, seed=0), job)
    print(json.dumps({"seconds": time.perf_counter() - begin}))


def whole_set(pool: Pool, count: int, work: Path) -> dict[str, Any]:
    """Draw a set of ``count`` images in its own process, and watch its memory from outside."""
    with tempfile.TemporaryDirectory(dir=work) as name:
        repeated = Path(name) / "pool.bin"
        stl10.write_images(repeated, pool.batch(np.arange(count) % len(pool)))
        answer = watched(__file__, str(repeated), str(Path(name) / "set"))
        size = sum(file.stat().st_size for file in (Path(name) / "set").iterdir())
    figures = {"images": count, "different": min(count, len(pool)), "patches": count * (TRAIN + VALID)}
    return figures | answer | {"patches/s": figures["patches"] / answer["seconds"], "gb": size / 1e9}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="STL-10's binary files (default: the embedded sample)")
    parser.add_argument("--set", type=int, default=0, metavar="IMAGES", help="also draw a set of this many images")
    parser.add_argument("--quick", action="store_true", help="a few patches, a set of 64 images")
    parser.add_argument("--work", type=Path, default=ROOT / "work", help="where the set is written and removed again")
    parser.add_argument("--child", type=Path, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child)
        return
    source = binary_folder(arguments.folder).resolve() if arguments.folder else ROOT / "data"
    pool = stl10.open_pool(source, "train")
    params = parse(profiles.compose(ROOT / "conf", "paper"), "profile paper").surrogate
    rows = rates(pool, params, arguments.quick)
    figures: dict[str, Any] = {}
    if count := 64 if arguments.quick else arguments.set:
        arguments.work.mkdir(parents=True, exist_ok=True)
        figures = whole_set(pool, count, arguments.work)
        print(pd.DataFrame([figures]).round(1).to_string(index=False), end="\n\n")
    finish(pd.DataFrame(rows).round(1), "surrogate", quick=arguments.quick, rows=rows, set=figures)


if __name__ == "__main__":
    main()
