"""
Cluster your own embeddings exactly
===================================

Complete linkage joins two clusters at the distance of their two farthest members. Cut at a distance *t*, it gives
clusters in which no two members are farther apart than *t*: good for finding small groups of things that are really
alike, among many that are like nothing else. The usual programs measure the distances of all pairs for that; of 50,000
samples, these take 10 GB. ``CompleteLinkage`` measures only those that matter below the cut, and finds the same
clusters.

This example clusters embeddings of handwritten digits, compares the result with SciPy's, and shows how to choose a cut.
It needs no images of the project, only ``pip install . matplotlib`` in a clone of it.
"""

# %%
# Make some embeddings
# --------------------
#
# Take your own instead, one row a sample: ``CompleteLinkage`` takes any numbers. These are 32 principal components of
# each digit's 64 pixels, scaled to length one, so that distances are those of angles.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.preprocessing import normalize

from exemplarcnn import CompleteLinkage

digits = load_digits()
embeddings = normalize(PCA(n_components=32, svd_solver="full").fit_transform(digits.data)).astype(np.float32)
print(embeddings.shape, embeddings.dtype)

# %%
# Cluster them
# ------------
#
# You seldom know which distance is small. ``merged_fraction`` asks for a fraction of the samples instead: the cut comes
# where as many as that are in clusters of two or more. Every other sample is a cluster by itself.

found = CompleteLinkage(merged_fraction=0.4).fit(embeddings)
sizes = np.bincount(found.labels_)
print(f"{found.n_clusters_} clusters, {np.count_nonzero(sizes > 1)} of them with two members or more")
print(f"no two members of a cluster are farther apart than {found.threshold_:.4f}")

# %%
# The largest clusters, one a row:

largest = np.argsort(-sizes, kind="stable")[:8]
figure, axes = plt.subplots(len(largest), sizes.max(), figsize=(0.6 * sizes.max(), 5.2), squeeze=False)
for ax in axes.ravel():
    ax.axis("off")
for row, cluster in zip(axes, largest, strict=True):
    for ax, member in zip(row, np.flatnonzero(found.labels_ == cluster), strict=False):
        ax.imshow(digits.images[member], cmap="gray_r")
figure.tight_layout(pad=0.3)

# %%
# Compare with SciPy
# ------------------
#
# SciPy builds the whole tree. Cut at the same distance, it has the same clusters; only their numbers differ, so both
# are numbered by their first member. The heights of the merges below the cut agree as well.

tree = linkage(embeddings.astype(np.float64), "complete")
theirs = pd.factorize(fcluster(tree, found.threshold_, "distance"))[0]
heights = tree[: len(found.distances_), 2]
assert np.array_equal(theirs, found.labels_)
print(f"largest difference of a height: {np.abs(heights - found.distances_).max():.0e}")

# %%
# Choose a cut
# ------------
#
# ``merged_fraction`` and ``distance_threshold`` are two ways to name the same cut: ``threshold_`` of the one is a value
# for the other. Take a fraction if a distance means nothing to you, or if results of several embeddings are to be
# compared. Take a distance if it means something, or if another set is to be cut in the same place.

table = []
for fraction in (0.1, 0.4, 0.7, 0.95):
    cut = CompleteLinkage(merged_fraction=fraction).fit(embeddings)
    same = CompleteLinkage(distance_threshold=cut.threshold_).fit(embeddings)
    assert np.array_equal(cut.labels_, same.labels_)
    digit_counts = pd.crosstab(cut.labels_, digits.target).to_numpy()
    groups = digit_counts[digit_counts.sum(axis=1) > 1]
    share = groups.max(axis=1).sum() / groups.sum()
    table.append((fraction, cut.threshold_, len(groups), groups.sum(axis=1).max(), share))
names = ["merged_fraction", "threshold_", "clusters of 2 or more", "largest", "most frequent digit's share"]
print(pd.DataFrame(table, columns=names).round(3).to_string(index=False))

# %%
# The last column is the fraction of the samples in clusters that show the most frequent digit of their cluster. It
# needs labels, so for your own embeddings you have to look at pictures instead.
#
# Where do these cuts lie in the tree? On the left are the heights of all merges; ``CompleteLinkage`` has found those in
# colour, and no others. On the right is the fraction of samples that are merged at each height.

merged = np.cumsum((tree[:, :2] < len(embeddings)).sum(axis=1)) / len(embeddings)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
bins = np.linspace(0, tree[-1, 2], 50)
left.hist(tree[:, 2], bins, color="#c8c8c8", label="all merges (SciPy)")
left.hist(found.distances_, bins, color="#0072b2", label="below the cut at 0.4")
left.set_xlabel("height of a merge")
left.set_ylabel("merges")
left.set_xlim(0, tree[-1, 2])
left.legend(frameon=False)
right.plot(tree[:, 2], merged, color="#0072b2")
for fraction, threshold, *_ in table:
    right.plot([0, threshold, threshold], [fraction, fraction, 0], color="#d55e00", linewidth=1, linestyle="--")
right.set_xlabel("distance_threshold")
right.set_ylabel("merged_fraction")
right.set_xlim(0, tree[-1, 2])
right.set_ylim(0, 1.02)
for ax in (left, right):
    ax.spines[["top", "right"]].set_visible(False)
figure.tight_layout()

# %%
# Cluster a file that is larger than memory
# -----------------------------------------
#
# Embeddings in float32 can stay in their file: a memory map is read block by block. Here are ten noisy copies of each
# digit. All distances between them would take more than a gigabyte, and a hundred times more for ten times as many.
# Only the pairs that are near enough are kept. ``memory_gib`` limits the memory for these; if they need more, ``fit``
# says how much. ``n_jobs=-1`` takes all processors, and changes no result.

noise = np.random.default_rng(0).normal(scale=0.1, size=(10, *embeddings.shape)).astype(np.float32)
with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "embeddings.npy"
    np.save(file, (embeddings + noise).reshape(-1, embeddings.shape[1]))
    mapped = np.load(file, mmap_mode="r")
    large = CompleteLinkage(merged_fraction=0.1, n_jobs=-1).fit(mapped)
pairs = len(mapped) * (len(mapped) - 1) // 2
print(f"{len(mapped):,} samples; all {pairs:,} distances would take {8 * pairs / 2**30:.2f} GiB")
print(f"{np.count_nonzero(np.bincount(large.labels_) > 1):,} clusters of two or more")

# %%
# What cannot be equal
# --------------------
#
# Where distances are equal, complete linkage has a choice, and a different choice may give different clusters.
# Embeddings seldom have equal distances, except where samples are copies. Whole numbers have many: here are the pixels
# themselves, with values from 0 to 16, so that squared distances are whole numbers, too.

pixels = digits.data.astype(np.float32)
distances = pdist(pixels)
print(f"{len(distances):,} pairs, {len(np.unique(distances)):,} different distances")

table = []
for threshold in (18.0, 24.0, 30.0):
    ours = CompleteLinkage(distance_threshold=threshold).fit_predict(pixels)
    theirs = fcluster(linkage(pixels.astype(np.float64), "complete"), threshold, "distance")
    table.append((threshold, len(np.unique(ours)), len(np.unique(theirs)), adjusted_rand_score(ours, theirs)))
names = ["distance_threshold", "clusters", "SciPy's clusters", "adjusted Rand index"]
print(pd.DataFrame(table, columns=names).round(4).to_string(index=False))
plt.show()

# %%
# Both are right: in either, no cluster is wider than the threshold, and no two clusters could be one within it.
# ``CompleteLinkage`` takes equal distances in a fixed order, so you get the same clusters each time.
