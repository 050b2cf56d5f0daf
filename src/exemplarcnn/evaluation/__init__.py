"""Tests of features, and what features tell about images.

`SpanLinearSVC` and `SpanLinearSVCCV` are estimators of scikit-learn's; `gain` and `bootstrap` compare two ways to
predict the same images. All can be used on their own.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exemplarcnn.evaluation.estimators import SpanLinearSVC, SpanLinearSVCCV
    from exemplarcnn.evaluation.intervals import bootstrap, gain
else:

    def __getattr__(name: str) -> object:
        # Lazy: code that imports one module of this package, as ours does, loads and depends on that module only.
        if name in ("SpanLinearSVC", "SpanLinearSVCCV"):
            from exemplarcnn.evaluation import estimators

            return getattr(estimators, name)
        if name in __all__:
            from exemplarcnn.evaluation import intervals

            return getattr(intervals, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["SpanLinearSVC", "SpanLinearSVCCV", "bootstrap", "gain"]
