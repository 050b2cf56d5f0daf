"""ExemplarCNN with clustered surrogate classes: the library behind the pipeline.

What is named here is for use in your own code, and stays: see docs/python.md. Importing this package imports none of
it, so that ``import exemplarcnn`` takes no time and each part needs only its own packages.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exemplarcnn.clustering.estimator import CompleteLinkage
    from exemplarcnn.data.stl10_folder import STL10, read_stl10
    from exemplarcnn.errors import PipelineError
    from exemplarcnn.evaluation.estimators import SpanLinearSVC, SpanLinearSVCCV
    from exemplarcnn.patches.patch_recipe import PatchRecipe
    from exemplarcnn.serving.encoder import Encoder
else:
    _HOMES = {
        "CompleteLinkage": "clustering.estimator",
        "Encoder": "serving.encoder",
        "PatchRecipe": "patches.patch_recipe",
        "PipelineError": "errors",
        "STL10": "data.stl10_folder",
        "SpanLinearSVC": "evaluation.estimators",
        "SpanLinearSVCCV": "evaluation.estimators",
        "read_stl10": "data.stl10_folder",
    }

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


__all__ = [
    "STL10",
    "CompleteLinkage",
    "Encoder",
    "PatchRecipe",
    "PipelineError",
    "SpanLinearSVC",
    "SpanLinearSVCCV",
    "read_stl10",
]


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
