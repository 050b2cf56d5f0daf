"""Exact complete-linkage clustering, which can be used on its own: `cut` (docs/method.md, section 5.2)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exemplarcnn.clustering.dendrogram import Cut, cut
else:

    def __getattr__(name: str) -> object:
        # Lazy: code that imports one module of this package, as ours does, loads and depends on that module only.
        if name in __all__:
            from exemplarcnn.clustering import dendrogram

            return getattr(dendrogram, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["Cut", "cut"]
