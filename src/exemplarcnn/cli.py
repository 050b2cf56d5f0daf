"""The ``exemplarcnn`` command: profiles, data, results. The pipeline itself runs as ``dvc repro``."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml

from exemplarcnn import paths
from exemplarcnn.errors import PipelineError, reason

if TYPE_CHECKING:
    from exemplarcnn.data.image_set import Summary

app = typer.Typer(
    help="ExemplarCNN with clustered surrogate classes. Run these from the repository's root.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data = typer.Typer(help="Check, draw, download or import the images in data/.", no_args_is_help=True)
app.add_typer(data, name="data")

NOTES = 20  # most files to list on the screen; a table lists them all
HEADER = "# Written by `exemplarcnn profile {name}` from conf/, which explains the numbers; `dvc repro` reads this.\n"


@contextmanager
def _plain_errors() -> Iterator[None]:
    try:
        yield
    except PipelineError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        typer.echo(f"error: {where}{reason(error)}; fix this and rerun", err=True)
        raise typer.Exit(1) from None


@app.command()
def profile(
    name: Annotated[str | None, typer.Argument(help="A profile in conf/profile; without it, list them.")] = None,
) -> None:
    """Write params.yaml from a profile, or list the profiles."""
    from exemplarcnn.config import profiles
    from exemplarcnn.files import Dumper

    if name is None:
        for known in profiles.names(paths.CONF):
            typer.echo(known)
        return
    with _plain_errors():
        values = profiles.compose(paths.CONF, name)
        text = yaml.dump(values, Dumper=Dumper, sort_keys=False, allow_unicode=True)  # as DVC writes it
        paths.PARAMS.write_text(HEADER.format(name=name) + text, encoding="utf-8")
        typer.echo(f"{paths.PARAMS} holds profile {name}; `dvc repro` runs it")


@app.command()
def check() -> None:
    """Check params.yaml and data/, and describe them."""
    from exemplarcnn.config.params import load
    from exemplarcnn.data import image_set
    from exemplarcnn.launching import preflight
    from exemplarcnn.tracking import lineage, repository

    with _plain_errors():
        params = load()
        if (repository.root() / ".dvc").is_dir():
            # Without a git repository `dvc pull -q` fails silently; this call says why.
            lineage.cache_folder()
        typer.echo(
            f"{paths.PARAMS}: profile {params.profile}, seed {params.seed}, trains {', '.join(params.variants.train)}"
        )
        _describe_data(image_set.check(paths.DATA))
        there = lineage.out_of_date("audit", lineage.read_lock()) is None and paths.AUDIT.is_dir()
        preflight.check(params, audited=there)


@app.command()
def plan(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    anew: Annotated[bool, typer.Option("--anew", help="As if nothing were done or cached.")] = False,
) -> None:
    """Say what `dvc repro` will cost: steps, disk, memory, time. Measures for a minute or so."""
    from exemplarcnn.config.params import load
    from exemplarcnn.launching import preflight
    from exemplarcnn.planning import plan, table

    with _plain_errors():
        params = load()
        preflight.check(params)
        made = plan.make(params, anew=anew)
        typer.echo(json.dumps(made.as_json(), indent=2) if as_json else table.render(made))
        if made.problems():
            raise typer.Exit(1)


@app.command()
def show() -> None:
    """Print the results table of the last run, and the most telling differences."""
    from exemplarcnn.reporting import results, summary

    with _plain_errors():
        typer.echo(summary.render(results.read()))
        _tell_if_outdated()


@app.command()
def page() -> None:
    """Write reports/index.html: everything the last run found, on one page."""
    from exemplarcnn.config.params import load
    from exemplarcnn.reporting import page

    with _plain_errors():
        page.write(paths.PAGE, load(), paths.CONF)
        typer.echo(f"{paths.PAGE} written; open it in a browser")
        _tell_if_outdated()


@app.command("log")
def log_results() -> None:
    """Send the results in this folder that the MLflow store lacks. Safe to repeat."""
    from exemplarcnn.config.params import load
    from exemplarcnn.tracking import sending

    with _plain_errors():
        params = load()
        outcome = sending.send(params)
        for stage, said in outcome.items():
            typer.echo(f"{stage}: {said}")
        if sending.BROKEN in outcome.values():
            raise typer.Exit(1)


@app.command()
def compare(
    variants: Annotated[list[str] | None, typer.Argument(help="Show only these variants.")] = None,
    profile: Annotated[str | None, typer.Option(help="Show only runs of this profile.")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV, with full hashes.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, one object per run, with full hashes.")] = False,
) -> None:
    """List the evaluations in the MLflow store, best first, with the parameters that differ."""
    from exemplarcnn.tracking import comparison, pages

    with _plain_errors():
        found = comparison.found(variants, profile)
    table = comparison.table_of(found)
    if csv:
        typer.echo(table.to_csv(index=False), nl=False)
    elif json:
        typer.echo(table.to_json(orient="records", date_format="iso", indent=2))
    elif table.empty:
        with _plain_errors():
            there = comparison.evaluations()
        known = [", ".join(sorted(set(there[column]))) for column in ("variant", "profile")] if len(there) else []
        has = "it has the variants {} and the profiles {}".format(*known) if known else "`dvc repro` adds some"
        typer.echo(f"no evaluation in the MLflow store matches; {has}; `exemplarcnn store` says where it is")
    else:
        typer.echo(comparison.for_people(table).to_string(index=False, na_rep=""))
        if said := pages.invitation(found):
            typer.echo(said, err=True)


@app.command()
def verify(
    repair: Annotated[bool, typer.Option(help="Remove damaged files from DVC's cache.")] = False,
) -> None:
    """Read data and results byte by byte, and compare them with data.dvc and dvc.lock."""
    from exemplarcnn.tracking import integrity

    with _plain_errors():
        read, damaged = integrity.verify(repair)
    for each in damaged:
        what = "damaged in DVC's cache" if each.cached else "not as recorded"
        typer.echo(f"{what}: {each.path} (of {each.out})", err=True)
    if not damaged:
        typer.echo(f"{read:,} files read, all as recorded")
        return
    if repair:
        typer.echo("removed the damaged cache files and the results made from them; `dvc pull data.dvc` and")
        typer.echo("`dvc repro` bring them back. `dvc checkout` restores other files that are not as recorded")
        return
    typer.echo("`exemplarcnn verify --repair` removes damaged cache files, and `dvc repro` rebuilds them;", err=True)
    typer.echo("`dvc checkout` restores the other files, unless you changed them on purpose", err=True)
    raise typer.Exit(1)


@app.command("register")
def register_models(
    variants: Annotated[list[str] | None, typer.Argument(help="Only these; by default, all evaluated ones.")] = None,
    champion: Annotated[bool, typer.Option(help="Make the variant the champion, whatever its accuracy.")] = False,
) -> None:
    """Register trained networks as MLflow models, for features and for classes. The best becomes the champion."""
    from exemplarcnn.config.params import load
    from exemplarcnn.serving import registry

    with _plain_errors():
        if champion and len(variants or []) != 1:
            raise PipelineError(
                "--champion requires exactly one VARIANT, as in `exemplarcnn register VARIANT --champion`"
            )
        for made in registry.register(load(), variants or [], champion):
            about = f"{made.model} version {made.version}{'' if made.new else ' (already registered)'}"
            typer.echo(f"{about}: {made.variant}, {made.accuracy:.2f} %; {made.champion}")


FolderOfImages = Annotated[Path, typer.Argument(help="A folder of images of any size, or a file in STL-10's format.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Output, .csv or .npy; .npy comes with a .csv of file names.")]
Model = Annotated[str, typer.Option(help="A variant trained here, or a registered model: models:/NAME@ALIAS.")]


@app.command()
def embed(source: FolderOfImages, out: Out, model: Model) -> None:
    """Compute features of images."""
    from exemplarcnn.config.params import load
    from exemplarcnn.serving import batch

    with _plain_errors():
        typer.echo(batch.embed(source, out, model, load()))


@app.command()
def predict(source: FolderOfImages, out: Out, model: Model) -> None:
    """Classify images into the classes of the labelled ones."""
    from exemplarcnn.config.params import load
    from exemplarcnn.serving import batch

    with _plain_errors():
        typer.echo(batch.predict(source, out, model, load()))


class Kind(Enum):
    """What a network is exported to."""

    onnx = "onnx"
    torch = "torch"


@app.command("export")
def export_model(
    model: Annotated[str, typer.Argument(help="A variant trained here, or a registered model: models:/NAME@ALIAS.")],
    to: Annotated[Kind, typer.Option(help="ONNX, or a program that torch.export.load reads.")] = Kind.onnx,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="In place of exports/NAME: .onnx or .pt2.")] = None,
) -> None:
    """Write a network as one file, from images to features, that runs without this package."""
    from exemplarcnn.config.params import load
    from exemplarcnn.serving import export

    with _plain_errors():
        typer.echo(export.export_model(model, out or export.default_file(model, to.value), load()))


@app.command("store")
def store_address() -> None:
    """Print the address of the MLflow store that stages log to."""
    from exemplarcnn.tracking import store

    with _plain_errors():
        typer.echo(store.corrected_address())


@data.command("check")
def data_check() -> None:
    """Check the files in data/ and describe them."""
    from exemplarcnn.data import image_set

    with _plain_errors():
        _describe_data(image_set.check(paths.DATA))


@data.command("sample")
def data_sample(
    folder: Annotated[Path, typer.Argument(help="A folder that does not exist yet.")],
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Another seed draws other images.")] = 0,
) -> None:
    """Draw the embedded sample again, byte for byte; with another seed, a new one."""
    from exemplarcnn.sample import generate

    with _plain_errors():
        if folder.exists():
            raise PipelineError(f"{folder} already exists; name a new folder")
        generate.write_sample(folder, seed)
        typer.echo(f"{folder} written; `exemplarcnn data use {folder}` puts it in place of data/")


@data.command("stl10")
def data_stl10() -> None:
    """Download the real STL-10 (2.6 GB), check it, put it in place of data/ and track it with DVC."""
    from exemplarcnn.importing import stl10_archive

    with _plain_errors():
        _describe_data(stl10_archive.install_stl10(Path()))


@data.command("use")
def data_use(folder: Annotated[Path, typer.Argument(help="Holds STL-10's .bin files.")]) -> None:
    """Copy a folder with STL-10's binary files in place of data/, and track it with DVC."""
    from exemplarcnn.importing import install

    with _plain_errors():
        _describe_data(install.install_folder(Path(), folder))


@data.command("other")
def data_other(
    source: Annotated[Path, typer.Argument(help="A folder of images of any size, or a file in STL-10's format.")],
) -> None:
    """Copy other images in place of the second pool, data/other, and track them with DVC."""
    from exemplarcnn.importing import second_pool

    with _plain_errors():
        count, notes = second_pool.install_other(Path(), source)
        _tell(notes, "`dvc repro` names them")
        typer.echo(f"data/: {count:,} images in the pool `other`; `dvc repro` names those that cannot be used")


@data.command("import")
def data_import(
    source: Annotated[
        Path, typer.Argument(help="A folder of images of any size; if you have labels, a subfolder per class.")
    ],
    name: Annotated[str | None, typer.Option(help="Name of the set in reports; by default, the folder's.")] = None,
    test_share: Annotated[
        float, typer.Option(min=0.01, max=0.9, help="Share of each class to set aside for testing.")
    ] = 0.3,
    unlabelled: Annotated[bool, typer.Option("--unlabelled", help="Do not read folders as classes.")] = False,
    side: Annotated[int, typer.Option(help="Side of the set's images in pixels, from 32 to 256.")] = 96,
) -> None:
    """Turn a folder of your images into a set, put it in place of data/ and track it with DVC."""
    from exemplarcnn.config.params import load
    from exemplarcnn.importing import image_folder
    from exemplarcnn.importing.install import PROVENANCE

    with _plain_errors():
        called = name or source.resolve().name
        done = image_folder.import_folder(Path(), source, load(), called, test_share, unlabelled, side)
    for line in done.said:
        typer.echo(line)
    _tell(done.notes, f"see data/{PROVENANCE}")
    _describe_data(done.summary)
    profile = "own" if done.summary["fold_sizes"] else "own_unlabelled"
    typer.echo(f"data/{PROVENANCE} lists where each image came from. To run the pipeline on this set:")
    typer.echo(f"  exemplarcnn profile {profile} && make demo")


def _tell_if_outdated() -> None:
    """Say on stderr why the report does not match the parameters, code and data here."""
    from exemplarcnn.tracking import lineage

    if lineage.PIPELINE.exists() and (why := lineage.out_of_date("report", lineage.read_lock())):
        typer.echo(f"warning: these results are out of date: {why}; `dvc repro` renews them", err=True)


def _tell(notes: list[str], where: str) -> None:
    for line in notes[:NOTES]:
        typer.echo(f"  {line}")
    if len(notes) > NOTES:
        typer.echo(f"  and {len(notes) - NOTES:,} more, {where}")


def _describe_data(summary: "Summary") -> None:
    from exemplarcnn.data import stl10
    from exemplarcnn.reporting import numbers

    said = f"data/: {summary['dataset']}; {summary['unlabeled']:,} unlabelled"
    if summary["fold_sizes"]:
        said += f", {summary['train']:,} training and {summary['test']:,} test images; "
        said += f"{numbers.folds(summary['fold_sizes'])}, {numbers.official(summary['folds_official'])}"
    else:
        said += " images, none with a label"
    if (side := summary["side"]) != stl10.SIDE:
        said += f"; {side}×{side} pixels"
    typer.echo(said)


if __name__ == "__main__":
    app()
