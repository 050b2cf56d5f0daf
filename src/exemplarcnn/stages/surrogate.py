"""Stage ``surrogate``: draw the patches of a class table (docs/method.md, section 2)."""

from exemplarcnn import files, paths
from exemplarcnn.classes import tables
from exemplarcnn.config.params import Config
from exemplarcnn.data import colour_axes, pools, stl10
from exemplarcnn.launching.dependencies import code, identity, packages
from exemplarcnn.launching.launcher import main
from exemplarcnn.patches.surrogate_set import DrawingJob, SetDefinition, write_set

# Entries of a variant that say what is drawn; dvc.yaml lists them.
DRAWN = ("pool", "patch", "patches_per_image", "patches_per_class", "total_patches")
PACKAGES = ("albumentations", "numpy", "opencv-python-headless", "torch")


def run(variant: str, config: Config) -> None:
    """Write ``surrogates/VARIANT/``, continuing an unfinished set in ``work/surrogate/VARIANT/`` if it fits."""
    params = config.variants.train[variant]
    pool = pools.open_pool(paths.DATA, params.pool)
    table = tables.read(paths.class_table(params.table), len(pool))
    mode = params.mode or config.surrogate.mode
    # What the bytes of patches depend on, whether they are drawn here or during training.
    drawing = {
        "packages": packages(*PACKAGES),
        "data": stl10.data_digest(paths.DATA),
        "colours": files.digest(paths.colours(params.pool)),
        "surrogate": config.surrogate.model_dump(mode="json", exclude={"mode"}),
        "trained": params.model_dump(mode="json", include=set(DRAWN)),
        "seed": config.seed,
    }
    definition = SetDefinition(
        pool,
        table,
        config.surrogate,
        params,
        config.seed,
        mode,
        colour_axes.read(paths.colours(params.pool)),
        stl10.side_of(paths.DATA),
    )
    mark = identity(
        "stages.surrogate",
        (),
        drawing=drawing,
        pool=pools.fingerprint(pool),
        table=files.digest(paths.class_table(params.table)),
        mode=mode,
    )
    folder = paths.surrogate_set(variant)
    write_set(definition, DrawingJob(folder, paths.WORK / "surrogate" / variant, config.machine.workers, mark))
    if mode == "online":
        # Training draws patches from the data with this code. Recorded in the set, so that training runs again when
        # either changes. Imported here, because worker processes import this module and need no torch.
        from exemplarcnn.patches import online

        files.write_json(folder / "drawing.json", drawing | {"code": code(online)})


if __name__ == "__main__":
    main(run, audited=True)
