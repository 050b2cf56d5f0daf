"""Exact complete-linkage clustering, which can be used on its own (docs/clustering.md).

`CompleteLinkage` is an estimator of scikit-learn's; `cut` is the function behind it, for which more can be set.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exemplarcnn.clustering.dendrogram import Cut, cut
    from exemplarcnn.clustering.errors import NeighboursError
    from exemplarcnn.clustering.estimator import CompleteLinkage
else:

    def __getattr__(name: str) -> object:
        # Lazy: code that imports one module of this package, as ours does, loads and depends on that module only.
        if name == "CompleteLinkage":
            from exemplarcnn.clustering import estimator

            return estimator.CompleteLinkage
        if name == "NeighboursError":
            from exemplarcnn.clustering import errors

            return errors.NeighboursError
        if name in __all__:
            from exemplarcnn.clustering import dendrogram

            return getattr(dendrogram, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["CompleteLinkage", "Cut", "NeighboursError", "cut"]
