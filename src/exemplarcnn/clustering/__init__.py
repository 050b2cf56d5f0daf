"""Exact complete-linkage clustering, which can be used on its own (docs/clustering.md).

`CompleteLinkage` is an estimator of scikit-learn's; `cut` is the function behind it, for which more can be set.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exemplarcnn.clustering.dendrogram import Cut, cut
    from exemplarcnn.clustering.errors import NeighboursError
    from exemplarcnn.clustering.estimator import CompleteLinkage
else:
    _PLACES = {"Cut": "dendrogram", "cut": "dendrogram", "CompleteLinkage": "estimator", "NeighboursError": "errors"}

    def __getattr__(name: str) -> object:
        # Lazy: code that imports one module of this package, as ours does, loads and depends on that module only.
        if name in _PLACES:
            from importlib import import_module

            return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["CompleteLinkage", "Cut", "NeighboursError", "cut"]
