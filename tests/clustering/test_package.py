"""What the package itself gives."""

import subprocess
import sys

import pytest

from exemplarcnn import clustering
from exemplarcnn.clustering import dendrogram


def test_the_package_gives_the_cut() -> None:
    assert clustering.cut is dendrogram.cut
    assert clustering.Cut is dendrogram.Cut
    with pytest.raises(AttributeError, match=r"module 'exemplarcnn\.clustering' has no attribute 'merge'"):
        # It is not there, which is the point.
        clustering.merge  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.slow
def test_near_pairs_alone_do_not_import_the_linkage() -> None:
    code = (
        "import sys; import exemplarcnn.clustering.radius_graph; "
        "assert not {'exemplarcnn.clustering.linkage', 'exemplarcnn.clustering.dendrogram'} & set(sys.modules); "
        "from exemplarcnn.clustering import cut; print(cut.__module__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "exemplarcnn.clustering.dendrogram\n"
