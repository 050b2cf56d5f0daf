"""
Compare two runs of MLflow in pandas
====================================

The pipeline logs every training and every evaluation as a run in MLflow: parameters, accuracies, learning curves, where
the data came from. MLflow's pages show them, and ``exemplarcnn compare`` prints a table. For questions of your own,
``mlflow.search_runs`` gives a pandas data frame with one row a run.

This example asks how two runs differ in parameters, fold by fold, and while they trained. It needs a clone of the
project with its images (``dvc pull data.dvc``), and ``pip install '.[pipeline]'`` in the clone.
"""

# %%
# Fill a store
# ------------
#
# The repository has the results of the embedded sample, but no store. ``exemplarcnn log`` sends to a store what it
# lacks, so it makes the runs again from the results: nothing is computed. ``MLFLOW_TRACKING_URI`` says which store;
# here it is one in a temporary folder, so that yours stays as it is. ``CLONE`` is the folder of your clone.

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import mlflow
import pandas as pd

CLONE = Path()

folder = tempfile.TemporaryDirectory()
store = f"sqlite:///{folder.name}/mlflow.db"
command = [sys.executable, "-m", "exemplarcnn", "log"]
there = os.environ | {"MLFLOW_TRACKING_URI": store}
done = subprocess.run(command, cwd=CLONE, env=there, capture_output=True, text=True)
print(done.stdout)
if "evaluate@clustered: sent" not in done.stdout:
    raise RuntimeError(f"the results are not those of this code: run `dvc repro`. {done.stderr}")

# %%
# For your own runs, leave this out, and take the address that ``exemplarcnn store`` prints:
#
# .. code-block:: python
#
#     store = subprocess.check_output(["exemplarcnn", "store"], text=True).strip()
#
# Find the runs
# -------------
#
# A filter picks runs by their tags: ``kind`` is ``train``, ``evaluate`` or ``resnet``, ``variant`` the name in
# ``params.yaml``. Each metric, parameter and tag is a column.

mlflow.set_tracking_uri(store)
finished = "attributes.status = 'FINISHED'"
runs = mlflow.search_runs(search_all_experiments=True, filter_string=f"tags.kind = 'evaluate' and {finished}")
print(runs.columns.str.partition(".").get_level_values(0).value_counts().head(3).to_string())

# %%
# All accuracies are in percent: the mean and the standard deviation over the ten folds, and the accuracy with all
# labels.

runs = runs.set_index("tags.variant")
columns = ["metrics.accuracy_mean", "metrics.accuracy_std", "metrics.full_accuracy_mean", "tags.profile", "params.seed"]
print(runs[columns].sort_values("metrics.accuracy_mean", ascending=False).round(2).to_string())

# %%
# How do two of them differ?
# --------------------------
#
# ``baseline`` learns from classes of one image each, ``clustered`` from classes of similar images. A parameter of the
# variant itself begins with ``variant.``, whatever the variant is called, so that two variants have it in the same
# column. NaN means that the run does not have this parameter.

BEFORE, AFTER = "baseline", "clustered"
two = runs.loc[[BEFORE, AFTER]].T
parameters = two[two.index.str.startswith("params.")]
differing = parameters[parameters.nunique(axis=1, dropna=False) > 1]
own = differing.index.str.startswith("params.variant.")
print(differing[own].sort_index().to_string())

# %%
# A run has all parameters that its result depends on, through every stage before it. ``clustered`` groups images by the
# features of ``baseline``, so it depends on the parameters of that variant, too; in the column of ``baseline`` these
# begin with ``variant.``. So they are listed as differences, which they are not:

print(*sorted(differing.index[~own]), sep="\n")

# %%
# Fold by fold
# ------------

folds = two.loc[[f"metrics.fold_{fold}_accuracy" for fold in range(10)]].astype(float)
folds.index = pd.RangeIndex(10, name="fold")
folds["difference"] = folds[AFTER] - folds[BEFORE]
print(folds.round(2).to_string())
print(folds.mean().round(2).to_string())

# %%
# The picture has the folds on the left and the two trainings on the right. ``search_runs`` has only the last value of
# each metric; ``get_metric_history`` of MLflow's client has a learning curve.

client = mlflow.MlflowClient()
trainings = mlflow.search_runs(search_all_experiments=True, filter_string=f"tags.kind = 'train' and {finished}")
trainings = trainings.set_index("tags.variant")

COLOURS = {BEFORE: "#d55e00", AFTER: "#0072b2"}
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
left.vlines(folds.index, folds[BEFORE], folds[AFTER], color="#999999", linewidth=1)
for name, colour in COLOURS.items():
    left.plot(folds.index, folds[name], "o", color=colour, label=name)
    curve = client.get_metric_history(trainings.loc[name, "run_id"], "valid_accuracy")
    curve = pd.Series({point.step: 100 * point.value for point in curve}).sort_index()
    right.plot(curve.index, curve, "o-", color=colour, label=name)
left.set_xticks(folds.index)
left.set_xlabel("fold")
left.set_ylabel("accuracy on test images, %")
right.set_xticks(curve.index)
right.set_xlabel("epoch")
right.set_ylabel("accuracy on validation patches, %")
for ax in (left, right):
    ax.spines[["top", "right"]].set_visible(False)
right.legend(frameon=False, loc="lower right")
figure.tight_layout()
plt.show()
folder.cleanup()

# %%
# The curves cannot be compared with each other: each network tells other classes apart. The folds can, but they share
# their test images, so ten differences of one sign are not ten independent trials; an interval over test images says
# more: see the example "Judge features by ten folds, with an interval". The report of the pipeline,
# ``reports/results.md``, has such intervals.
