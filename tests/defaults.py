"""The recipe's parameters as docs/method.md, section 2, has them, for tests that change some."""

from typing import Any

from exemplarcnn.config.sections import Surrogate

SURROGATE: dict[str, Any] = {
    "mode": "materialised",
    "recipe": "arazo",
    "anchors_per_image": 1,
    "valid_patches_per_image": 10,
    "scale": [0.7, 1.4],
    "translate": {"distribution": "normal", "amount": 0.2},
    "pca_factor": [0.5, 2.0],
    "flip": 0.5,
    "rotate": 20.0,
    "hsv": {"power": [0.25, 4.0], "factor": [0.7, 1.4], "shift": [-0.1, 0.1]},
    "hue": [-0.1, 0.1],
    "range_policy": "rescale",
    "dosovitskiy": {
        "scale": [-0.5, 0.5],
        "power": [-2.0, 2.0],
        "factor": [-0.5, 0.5],
        "pca_deviation": [1.0, 1.0, 0.5],
        "translate": 0.25,
        "tries": 20,
    },
}


def surrogate(**changed: Any) -> Surrogate:
    return Surrogate.model_validate(SURROGATE | changed)
