"""What a run's description says."""

from pathlib import Path

from exemplarcnn import paths
from exemplarcnn.config.params import Config
from exemplarcnn.files import write_json
from exemplarcnn.tracking import descriptions
from tests.conftest import SUMMARY, Pipeline, profile_values

RUN = ("7", "0" * 32)


def test_of_an_evaluation(pipeline: Pipeline, config: Config) -> None:
    record = pipeline.evaluate("clustered")
    write_json(paths.cluster_statistics("clustered"), {"clusters": 5, "images_in_clusters": 1100})
    pictures = [Path("confusion/clustered.png"), Path("mistakes/clustered.png")]
    assert descriptions.of(record, config, ["train.epochs=7"], RUN, pictures) == (
        "Clustering: **60.00 ± 1.50 %** accuracy, mean and standard deviation over 2 folds.\n\n"
        "Evaluation: variant `clustered`, profile tiny_bench, seed 0. Unlike `baseline`: `table=clustered`. "
        "Changed from the profile: `train.epochs=7`.\n\n"
        "| | |\n|:---|---:|\n"
        "| accuracy in % | **60.00 ± 1.50** |\n"
        "| best and worst fold | 61.50, 58.50 |\n"
        "| best and worst class | cat 70.00, dog 50.00 |\n"
        "| protocol full | 70.00 |\n"
        "| C chosen on the test images | 62.00 ± 1.00 |\n"
        "| clusters, images in them | 5, 1,100 |\n\n"
        "C chosen for each fold: 0.1, 10.\n\n"
        f"![confusion](get-artifact?path=confusion%2Fclustered.png&run_uuid={RUN[1]})\n\n"
        f"Picture: [mistakes](#/experiments/7/runs/{RUN[1]}/artifacts/mistakes/clustered.png)"
    )


def test_of_a_training(pipeline: Pipeline, config: Config) -> None:
    text = descriptions.of(pipeline.train(), config, [], RUN)
    assert text.startswith("**18.00 %** of the validation patches in the right surrogate class after 2 epochs.\n\n")
    assert "| epoch | 1 → 2 |\n| training loss | 3 → 1.5 |\n| validation loss | 3.5 → 1.75 |\n" in text
    assert "Unlike" not in text
    assert "Changed" not in text


def test_of_another_objective(pipeline: Pipeline) -> None:
    for objective, said in {
        "rotation": "with their turn told right",
        "simclr": "nearest to their partner in a batch",
    }.items():
        values = profile_values("tiny_bench")
        values["variants"]["train"]["baseline"]["objective"] = objective
        text = descriptions.of(pipeline.train(), Config.model_validate(values), [], RUN)
        assert text.startswith(f"**18.00 %** of the validation patches {said} after 2 epochs.")


def test_of_a_network_that_learns_from_labels(pipeline: Pipeline, config: Config) -> None:
    record = pipeline.resnet("supervised")
    one = {"accuracy_std": 0.0, "fold_accuracies": [60.0], "chosen": [], "leaky": None, "others": {}}
    write_json(paths.evaluation("supervised"), SUMMARY | one)
    text = descriptions.of(record, config, [], RUN)
    assert text.startswith("The same ResNet on the fold's labels: **60.00 %** accuracy, of one fold.\n\n")
    assert "| best and worst class | cat 70.00, dog 50.00 |\n| epoch | 1 → 2 |" in text
    assert "fold |" not in text
    assert "C chosen" not in text


def test_names_of_classes_are_no_markup_and_the_text_fits(pipeline: Pipeline, config: Config) -> None:
    record = pipeline.evaluate("baseline")
    classes = {"a|b *c*": 70.0, "long " * 500: 50.0}
    write_json(paths.evaluation("baseline"), SUMMARY | {"class_accuracies": classes, "chosen": [1e-10] * 10})
    text = descriptions.of(record, config, [f"{'x' * 900}{i}=1" for i in range(200)], RUN)
    assert r"a\|b \*c\* 70.00" in text
    assert "and 190 more." in text
    assert len(text) < 5000


def test_of_all_variants_the_best_comes_first(pipeline: Pipeline, config: Config) -> None:
    for name, mean in (("baseline", 50.0), ("clustered", 60.0)):
        pipeline.evaluate(name)
        write_json(paths.evaluation(name), SUMMARY | {"accuracy_mean": mean})
    text = descriptions.of_all(["baseline", "clustered"], config)
    assert text.endswith("| Clustering | 60.00 ± 1.50 |\n| ExemplarCNN | 50.00 ± 1.50 |")
