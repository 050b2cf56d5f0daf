"""Write an encoder as one file that runs without this package: ONNX, or a program of torch's (docs/serving.md)."""

import copy
import re
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from exemplarcnn.config.params import Config
from exemplarcnn.config.sections import Features
from exemplarcnn.files import atomic_write
from exemplarcnn.networks.exemplar_cnn import ExemplarCNN
from exemplarcnn.networks.features import described
from exemplarcnn.serving import registry
from exemplarcnn.serving.batch import loaded
from exemplarcnn.serving.encoder import Encoder, EncoderError

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
OPSET = 20
# One row would be taken for a constant.
EXAMPLES = 2


class _Graph(nn.Module):
    """From uint8 images to features, all in float32."""

    def __init__(self, network: ExemplarCNN, features: Features):
        super().__init__()
        self.network, self.features = network, features

    def forward(self, images: Tensor) -> Tensor:
        return described(self.network, self.network.normalise(images), self.features)


def check(path: Path) -> str:
    """Return the kind of a file to export to, by its ending; `EncoderError` if it cannot be made here."""
    kind = next((kind for kind, suffix in SUFFIXES.items() if suffix == path.suffix), None)
    if kind is None:
        known = " or ".join(SUFFIXES.values())
        raise EncoderError(f"{path}: found ending {path.suffix!r}; name a file that ends in {known}")
    if kind == "onnx":
        # torch's exporter imports these, and says less if one is missing.
        for package in ("onnx", "onnxscript"):
            if find_spec(package) is None:
                raise EncoderError(f"cannot export to ONNX: {package} is not installed; pip install onnx onnxscript")
    return kind


def export(encoder: Encoder, path: Path) -> None:
    """Write an encoder into a file: from images, (n, side, side, 3) uint8 with any n, to features, (n, size) float32.

    The file computes in float32, whatever ``precision`` says. The input is named ``images``, the output ``features``.

    Parameters
    ----------
    encoder
        The encoder.
    path
        The file to write. It ends in ``.onnx``, or in ``.pt2`` for a program that `torch.export.load` reads; load only
        files that you trust with it, since such a program holds pickles.

    Raises
    ------
    EncoderError
        If the file has another ending, or the packages onnx and onnxscript are missing.
    """
    kind = check(path)
    graph = _Graph(copy.deepcopy(encoder.network).cpu(), encoder.features).eval()
    example = torch.zeros((EXAMPLES, encoder.side, encoder.side, 3), dtype=torch.uint8)
    with torch.no_grad():
        program = torch.export.export(graph, (example,), dynamic_shapes=({0: Dim("n")},))
    with atomic_write(path) as partial:
        if kind == "torch":
            with warnings.catch_warnings():
                # dense1's weights are stored once, and the graph uses them in another shape.
                warnings.filterwarnings("ignore", "No complete tensor found in the group")
                torch.export.save(program, partial)
        else:
            _write_onnx(program, partial)


def _write_onnx(program: ExportedProgram, path: Path) -> None:
    plain = program.run_decompositions({torch.ops.aten.adaptive_max_pool2d.default: _adaptive_max_pool})
    exported = torch.onnx.export(
        plain, input_names=["images"], output_names=["features"], opset_version=OPSET, dynamo=True, verbose=False
    )
    assert exported is not None  # as long as it writes no file itself
    for value in (*exported.model.graph.inputs, *exported.model.graph.outputs):
        assert value.shape is not None
        value.shape[0] = "n"
    exported.save(str(path), external_data=False)


def _adaptive_max_pool(x: Tensor, size: list[int]) -> tuple[Tensor, Tensor]:
    """Do what torch's operation does, of which ONNX has none: maxima over windows that may overlap.

    Window i of n begins at ⌊i side / n⌋ and ends before ⌈(i + 1) side / n⌉. The second result, torch's indices, is
    used nowhere.
    """
    rows, columns = (
        [(i * side // n, -(-(i + 1) * side // n)) for i in range(n)] for side, n in zip(x.shape[-2:], size, strict=True)
    )
    pooled = torch.stack(
        [
            torch.stack([x[..., top:bottom, left:right].amax((-2, -1)) for left, right in columns], dim=-1)
            for top, bottom in rows
        ],
        dim=-2,
    )
    return pooled, torch.zeros_like(pooled, dtype=torch.int64)


def default_file(model: str, kind: str) -> Path:
    """Return the file to write if none is named: after the variant or the registered model."""
    name = re.sub(r"[^\w.-]+", "-", model.removeprefix("models:/"))
    return Path("exports") / f"{name}{SUFFIXES[kind]}"


def export_model(model: str, out: Path, config: Config) -> str:
    """Export a model; a registered one gets the file logged beside it.

    Parameters
    ----------
    model
        A variant trained here, or the address of a registered model.
    out
        The file to write: see `export`.
    config
        How a variant trained here computes features.

    Returns
    -------
    str
        What was done, in words.

    Raises
    ------
    PipelineError
        If there is no such model, or as `export`.
    """
    check(out)
    version = registry.resolve(model) if model.startswith("models:/") else None
    with loaded(version.uri if version else model, config) as packed:
        export(packed.encoder, out)
        side, size = packed.side, packed.size
    said = f"{out}: images (n, {side}, {side}, 3) uint8 to features (n, {size}) float32"
    return f"{said}; logged as {registry.log_beside(version, out)}" if version else said
