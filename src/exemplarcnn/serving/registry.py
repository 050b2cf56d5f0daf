"""Register trained networks as models: an encoder, and a classifier of the labelled images' classes.

Each version of a model belongs to the evaluation run that tested it. The same files are registered only once. The alias
``champion`` moves to a version only if its mean accuracy over the folds is better than that of the version that has the
alias, on the same images, labels and folds.
"""

import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from exemplarcnn import paths
from exemplarcnn.config.params import Config
from exemplarcnn.data import stl10
from exemplarcnn.errors import PipelineError
from exemplarcnn.files import digest, read_json
from exemplarcnn.serving import packed_model
from exemplarcnn.tracking import lineage, runs, sending, store

CHAMPION = "champion"
ENCODER, CLASSIFIER = "exemplarcnn-encoder", "exemplarcnn-classifier"
ABOUT = {
    ENCODER: "Features of square RGB images from a network that learned without labels",
    CLASSIFIER: "The same network with a linear SVM on all labelled images: class and decision values",
}
# What a packed model imports, and what serves it.
PACKAGES = (
    "mlflow",
    "numpy",
    "opencv-python-headless",
    "pandas",
    "pillow",
    "psutil",
    "pydantic",
    "PyYAML",
    "safetensors",
    "torch",
    "tqdm",
)
JUDGED_ON = ("train_X.bin", "train_y.bin", "fold_indices.txt", "test_X.bin", "test_y.bin")


class RegistryError(PipelineError):
    """A variant cannot be registered, or there is no such model."""


@dataclass(frozen=True)
class Registered:
    """What became of one variant as a version of one model.

    Attributes
    ----------
    model, version, variant
        The model's name, the version's number and the variant's name.
    accuracy
        Mean over the folds, in percent.
    new
        Whether the version is new.
    champion
        What became of ``champion``, in words.
    """

    model: str
    version: str
    variant: str
    accuracy: float
    new: bool
    champion: str


@dataclass(frozen=True)
class _Candidate:
    """A packed variant that is to become a version of a model.

    Attributes
    ----------
    model, variant
        Their names.
    accuracy
        Mean over the folds, in percent.
    judged_on
        Hash of the images, labels and folds behind the accuracy.
    run
        Id of the evaluation run that the version belongs to.
    packed
        The folder of its files.
    """

    model: str
    variant: str
    accuracy: float
    judged_on: str
    run: str
    packed: Path


def register(config: Config, variants: list[str], force_champion: bool = False) -> Iterator[Registered]:
    """Register trained variants as models: the encoder alone, and with its classifier.

    Parameters
    ----------
    config
        The parameters that they were made with.
    variants
        Names of the variants; if empty, all that were trained and evaluated.
    force_champion
        Move ``champion`` to them whatever their accuracy, for example because the data has changed.

    Yields
    ------
    Registered
        One per version.

    Raises
    ------
    RegistryError
        If a variant is unknown, or its results are missing or out of date.
    StoreError
        If the store cannot be reached.
    """
    chosen = _chosen(config, variants)
    with store.reached():
        said = sending.send(config)
        client = store.connect()
    records = lineage.read_lock()
    judged_on = digest(*(paths.DATA / name for name in JUDGED_ON))
    made: list[tuple[_Candidate, str, bool]] = []
    for name in chosen:
        stage = f"evaluate@{name}"
        if said[stage] not in sending.IN_STORE:
            raise RegistryError(f"cannot register {name}: {stage}: {said[stage]}")
        if altered := lineage.changed_outs(f"train@{name}", records) + lineage.changed_outs(stage, records):
            raise RegistryError(
                f"cannot register {name}: {altered[0]} is not what `dvc repro` made; `dvc checkout` restores that"
            )
        accuracy = float(read_json(paths.evaluation(name))["accuracy_mean"])
        svm = packed_model.classifier_of(name, config)
        for model in (ENCODER, CLASSIFIER) if svm else (ENCODER,):
            with tempfile.TemporaryDirectory() as folder:
                packed = Path(folder) / "packed"
                packed_model.pack_variant(packed, name, config, svm if model == CLASSIFIER else None)
                with store.reached():
                    run = runs.find(client, records[stage], records).info.run_id
                    candidate = _Candidate(model, name, accuracy, judged_on, run, packed)
                    made.append((candidate, *_version(client, candidate)))
    # Once all versions have their present accuracy: each competes with the champion's.
    for candidate, number, new in made:
        with store.reached():
            champion = _update_champion(client, candidate, number, force_champion)
        yield Registered(candidate.model, number, candidate.variant, candidate.accuracy, new, champion)


def _chosen(config: Config, variants: list[str]) -> list[str]:
    """Return the variants to register; raise `RegistryError` if one is unknown."""
    known = [name for name in config.variants.train if name in config.variants.evaluate]
    if not known:
        raise RegistryError(
            "cannot register: nothing is evaluated (as with images that have no labels), so versions cannot be ranked; "
            "`exemplarcnn embed FOLDER --model VARIANT` uses a network without the registry"
        )
    for name in variants:
        if name not in known:
            raise RegistryError(f"no trained and evaluated variant {name!r}; name one of {', '.join(known)}")
    return variants or known


def _version(client: Any, candidate: _Candidate) -> tuple[str, bool]:
    """Make a version of a candidate, unless there is one; return its number, and whether it is new."""
    model, content = candidate.model, digest(*sorted(candidate.packed.iterdir()))
    _make_model(client, model)
    found = [each for each in client.search_model_versions(f"name = '{model}'") if each.tags.get("content") == content]
    if found:
        number, new = str(found[0].version), False
    else:
        number, new = _upload(client, candidate), True
        client.set_model_version_tag(model, number, "content", content)
        client.set_model_version_tag(model, number, "variant", candidate.variant)
    # Of a version that was there, too: the same network may have been tested again, on other images or folds.
    client.set_model_version_tag(model, number, "judged_on", candidate.judged_on)
    client.set_model_version_tag(model, number, "accuracy_mean", f"{candidate.accuracy:.4f}")
    return number, new


def _make_model(client: Any, model: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_registered_model(model, description=ABOUT[model])


def _update_champion(client: Any, candidate: _Candidate, number: str, force: bool) -> str:
    """Move ``champion`` to a version if it is better, or if forced; say what became of it."""
    model = candidate.model
    holder = client.get_registered_model(model).aliases.get(CHAMPION)
    if holder is None:
        client.set_registered_model_alias(model, CHAMPION, number)
        return "champion, as the first"
    if str(holder) == number:
        return "champion already"
    tags = client.get_model_version(model, holder).tags
    gain = candidate.accuracy - float(tags.get("accuracy_mean", "nan"))
    alike = tags.get("judged_on") == candidate.judged_on
    client.set_model_version_tag(model, number, "champion.compared_with", str(holder))
    client.set_model_version_tag(model, number, "champion.gain", f"{gain:+.4f}" if alike else "not comparable")
    if not (force or (alike and gain > 0)):
        why = f"{gain:+.2f} points against" if alike else "tested on other images, labels or folds than"
        return f"{why} version {holder} ({tags.get('variant')}), which stays champion"
    client.set_registered_model_alias(model, CHAMPION, number)
    by = (
        f"{gain:+.2f} points against version {holder} ({tags.get('variant')})"
        if alike
        else f"in place of version {holder}"
    )
    return f"champion now, {by}"


def _upload(client: Any, candidate: _Candidate) -> str:
    """Add a version: code, weights, signature, example and requirements, among the evaluation run's artifacts."""
    import mlflow
    import numpy as np

    model, packed = candidate.model, candidate.packed
    folder, loaded = packed.parent / model, packed_model.PackedModel(packed, "cpu")
    example = stl10.open_pool(paths.DATA, "test").batch([0]).astype(np.float32)
    package = packed.parent / "exemplarcnn"
    shutil.copytree(Path(__file__).parents[1], package, ignore=shutil.ignore_patterns("__pycache__"))
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # there are only a few local files
    # MLflow warns that `predict` has no type hints, which it would take for the signature; no filter stops that.
    with warnings.catch_warnings(record=True):
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(package / "serving" / "pyfunc.py"),
            code_paths=[str(package)],
            artifacts={"model": str(packed)},
            signature=_signature(loaded),
            input_example=example,
            pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in PACKAGES],
            metadata={"variant": candidate.variant},
        )
    client.log_artifacts(candidate.run, str(folder), model)
    source = f"{client.get_run(candidate.run).info.artifact_uri}/{model}"
    said = f"Variant {candidate.variant}, images of {loaded.side}×{loaded.side} pixels"
    return str(client.create_model_version(model, source, run_id=candidate.run, description=said).version)


def _signature(loaded: packed_model.PackedModel) -> Any:
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    pixels = Schema([TensorSpec(np.dtype(np.float32), (-1, loaded.side, loaded.side, 3))])
    if not loaded.classes:
        return ModelSignature(pixels, Schema([TensorSpec(np.dtype(np.float32), (-1, loaded.size))]))
    scores = [ColSpec(DataType.float, f"score_{name}") for name in loaded.classes]
    return ModelSignature(pixels, Schema([ColSpec(DataType.string, "class"), *scores]))


@dataclass(frozen=True)
class Version:
    """A version of a registered model: its name, its number, and the run that it belongs to."""

    model: str
    number: str
    run: str

    @property
    def uri(self) -> str:
        """Its address, which no alias can move."""
        return f"models:/{self.model}/{self.number}"


def resolve(uri: str) -> Version:
    """Return the version that a model's address means now.

    Raises
    ------
    RegistryError
        If there is no such model.
    StoreError
        If the store cannot be reached.
    """
    from mlflow.exceptions import MlflowException

    if (parts := re.fullmatch(r"models:/+([^/@]+)(?:@(.+)|/(\d+))", uri)) is None:
        raise RegistryError(f"{uri}: name a version, as models:/NAME@ALIAS or models:/NAME/NUMBER")
    name, alias, number = parts.groups()
    with store.reached():
        client = store.connect_to_existing()
        try:
            found = client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, number)
        except MlflowException as error:
            raise _no_such_model(uri, error) from None
    return Version(name, str(found.version), found.run_id)


def log_beside(version: Version, file: Path) -> str:
    """Log an exported file to the run of a registered model; return its address, which the version has as a tag.

    Raises
    ------
    StoreError
        If the store cannot be reached.
    """
    place = f"exports/{version.model}"
    address = f"runs:/{version.run}/{place}/{file.name}"
    with store.reached():
        client = store.connect()
        client.log_artifact(version.run, str(file), place)
        client.set_model_version_tag(version.model, version.number, f"export{file.suffix}", address)
    return address


def _no_such_model(uri: str, error: Any) -> RegistryError:
    """Return what to say if a model is not there; raise any other error of MLflow's again."""
    if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
        raise error
    return RegistryError(f"{uri}: {error.message}; `exemplarcnn register` makes models")


def fetch(uri: str, folder: Path) -> Path:
    """Fetch a registered model's packed files, without running its code.

    Parameters
    ----------
    uri
        The model's address, such as ``models:/exemplarcnn-classifier@champion``.
    folder
        The folder to download to.

    Returns
    -------
    Path
        The folder of the packed model.

    Raises
    ------
    RegistryError
        If there is no such model.
    StoreError
        If the store cannot be reached.
    """
    from mlflow.exceptions import MlflowException

    with store.reached():
        store.connect_to_existing()
        import mlflow

        try:
            where = mlflow.artifacts.download_artifacts(
                artifact_uri=uri, dst_path=str(folder), tracking_uri=store.address(), registry_uri=store.address()
            )
        except MlflowException as error:
            raise _no_such_model(uri, error) from None
    packed = Path(where) / "artifacts" / "packed"
    if not packed.is_dir():
        raise RegistryError(f"{uri} was not made by `exemplarcnn register`; name a model that was")
    return packed
