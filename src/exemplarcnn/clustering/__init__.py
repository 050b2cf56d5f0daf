"""Exact complete-linkage clustering, a part that can be used by itself: `cut` (docs/method.md, section 5.2)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exemplarcnn.clustering.dendrogram import Cut, cut
else:

    def __getattr__(name: str) -> object:
        # Late: who imports a module of this package gets, and depends on, that one alone. Our own code does.
        if name in __all__:
            from exemplarcnn.clustering import dendrogram

            return getattr(dendrogram, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["Cut", "cut"]
