"""Tests of features, and what features tell about images.

`SpanLinearSVC` and `SpanLinearSVCCV` are estimators of scikit-learn's, which can be used on their own.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exemplarcnn.evaluation.estimators import SpanLinearSVC, SpanLinearSVCCV
else:

    def __getattr__(name: str) -> object:
        # Lazy: code that imports one module of this package, as ours does, loads and depends on that module only.
        if name in __all__:
            from exemplarcnn.evaluation import estimators

            return getattr(estimators, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["SpanLinearSVC", "SpanLinearSVCCV"]
