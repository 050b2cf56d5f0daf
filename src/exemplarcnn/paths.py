"""Where everything is, relative to the repository's root, in which every stage runs.

The functions return paths and touch no file.
"""

from pathlib import Path

PARAMS = Path("params.yaml")
CONF = Path("conf")
DATA = Path("data")
WORK = Path("work")
METRICS = Path("metrics")
REPORTS = Path("reports")
AUDIT = Path("audit")
AUDIT_JSON = METRICS / "audit.json"
DUPLICATES = AUDIT / "duplicates.csv"
OUTLIERS = Path("outliers")
OUTLIERS_JSON = METRICS / "outliers.json"
TEST_LABELS = DATA / "test_y.bin"
TRAIN_LABELS = DATA / "train_y.bin"
TRUTH = DATA / "truth.csv"
FOLDS = DATA / "fold_indices.txt"
CLASS_NAMES = DATA / "class_names.txt"
RESULTS_JSON = REPORTS / "results.json"
ACCURACY_JSON = REPORTS / "accuracy.json"
RESULTS_MD = REPORTS / "results.md"
PAGE = REPORTS / "index.html"
# Everything that the stage `draw` makes.
PICTURES = REPORTS / "pictures"
PICTURE_SOURCES = PICTURES / "sources.json"
AUDIT_PICTURES = PICTURES / "audit"
OUTLIERS_PICTURES = PICTURES / "outliers"
NEIGHBOURS_PICTURE = PICTURES / "neighbours.png"
RESULTS_PICTURE = PICTURES / "results.png"
DIFFERENCES_PICTURE = PICTURES / "differences.png"


def class_table(variant: str) -> Path:
    """Return the class table of a variant."""
    return Path("classes") / f"{variant}.csv"


def audit(pool: str) -> Path:
    """Return the audit's table of a pool, one row per image."""
    return AUDIT / f"{pool}.csv"


def colours(pool: str) -> Path:
    """Return the principal axes of a pool's colours."""
    return Path("colours") / f"{pool}.json"


def surrogate_set(variant: str) -> Path:
    """Return the folder of a surrogate set."""
    return Path("surrogates") / variant


def model(variant: str) -> Path:
    """Return the folder of a trained network."""
    return Path("models") / variant


def features(variant: str) -> Path:
    """Return the folder of a variant's features."""
    return Path("features") / variant


def eval_features(variant: str, split: str) -> Path:
    """Return the classifier's features of ``train`` or ``test`` images."""
    return features(variant) / "eval" / f"{split}.npy"


def cluster_features(variant: str) -> Path:
    """Return the features that are clustered."""
    return features(variant) / "cluster.npy"


def labels(name: str) -> Path:
    """Return the table of images and labels that a network learns from."""
    return Path("labels") / f"{name}.csv"


def label_statistics(name: str) -> Path:
    """Return the statistics of a table of labels."""
    return METRICS / name / "labels.json"


def labels_picture(name: str) -> Path:
    """Return the picture of some images and their labels."""
    return PICTURES / "labels" / f"{name}.png"


def classifiers(variant: str) -> Path:
    """Return the folder of the folds' classifiers and predictions."""
    return Path("classifiers") / variant


def learning_curve(variant: str) -> Path:
    """Return the learning curve of a training, one row per epoch."""
    return METRICS / variant / "train.csv"


def evaluation(variant: str) -> Path:
    """Return the accuracies of a variant."""
    return METRICS / variant / "eval.json"


def confusion(variant: str) -> Path:
    """Return the confusion matrix, one row per cell."""
    return METRICS / variant / "confusion.csv"


def mistakes(variant: str) -> Path:
    """Return the table of the most confident mistakes."""
    return METRICS / variant / "mistakes.csv"


def cluster_statistics(variant: str) -> Path:
    """Return the statistics of a grouping."""
    return METRICS / variant / "clusters.json"


def patches_picture(variant: str) -> Path:
    """Return the picture of some images and their patches."""
    return PICTURES / "patches" / f"{variant}.png"


def filters_picture(variant: str) -> Path:
    """Return the picture of the first layer's filters."""
    return PICTURES / "filters" / f"{variant}.png"


def clusters_picture(variant: str) -> Path:
    """Return the gallery of clusters."""
    return PICTURES / "clusters" / f"{variant}.png"


def confusion_picture(variant: str) -> Path:
    """Return the picture of a confusion matrix."""
    return PICTURES / "confusion" / f"{variant}.png"


def mistakes_picture(variant: str) -> Path:
    """Return the picture of the most confident mistakes."""
    return PICTURES / "mistakes" / f"{variant}.png"
