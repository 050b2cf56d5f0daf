"""
What a surrogate class is
=========================

ExemplarCNN learns features without labels. It cuts patches from an image, transforms each of them at random, and calls
all patches of this image one class: a *surrogate class*. A network that learns to tell thousands of such classes apart
has to ignore what the transformations change, and to keep what they leave.

So the transformations decide what is learned. This example draws the patches of one image, shows where they come from,
and then turns each parameter of the recipe by itself.

It needs a clone of the project with its images (``dvc pull data.dvc``), and ``pip install . matplotlib`` in the clone.
"""

# %%
# Read the images
# ---------------
#
# ``DATA`` is the folder ``data`` of your clone. The images are views of files: nothing is read before it is used.

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.patches import Rectangle
from PIL import Image, ImageOps

from exemplarcnn import PatchRecipe, read_stl10

DATA = Path("data")

images = read_stl10(DATA)
image = np.ascontiguousarray(images.unlabeled_images[8])
print(image.shape, image.dtype)

# %%
# Draw the patches of one image
# -----------------------------
#
# ``PatchRecipe`` draws patches as the pipeline does. The random numbers come from a seed and from the image itself, so
# the same image always gives the same patches. All eight below are of one surrogate class.


def show(rows: dict[str, np.ndarray], zoom: float = 1.0) -> None:
    """Draw rows of patches, (n, side, side, 3) uint8 each, under their titles."""
    count, side = max(len(patches) for patches in rows.values()), 32
    figure, axes = plt.subplots(len(rows), figsize=(zoom * count, zoom * 1.3 * len(rows)), squeeze=False)
    for ax, (title, patches) in zip(axes.ravel(), rows.items(), strict=True):
        strip = np.full((side, count * (side + 2), 3), 255, np.uint8)
        for place, patch in enumerate(patches):
            strip[:, place * (side + 2) : place * (side + 2) + side] = patch
        ax.imshow(strip)
        ax.set_title(title, loc="left", fontsize=9, pad=3)
        ax.axis("off")
    figure.tight_layout()


paper = PatchRecipe.from_profile("paper")
show({"eight patches of one image": paper(image, n=8)})

# %%
# Where they come from
# --------------------
#
# A patch of sky says little about an image. So patches are cut around an *anchor*: a pixel that is drawn with a
# probability proportional to the strength of the edge there. In the paper, an image has one anchor, and all of its
# patches are cut around it. With 300 anchors you see where an anchor may lie.

many = PatchRecipe.from_profile("paper", anchors_per_image=300)
((row, column),) = paper.anchors(image)

figure, axes = plt.subplots(1, 3, figsize=(8, 3))
for ax, title in zip(axes, ("the image", "300 anchors lie at edges", "the image's one anchor"), strict=True):
    ax.imshow(image)
    ax.set_title(title, fontsize=10)
    ax.axis("off")
axes[1].scatter(*many.anchors(image).T[::-1], s=9, color="white", edgecolor="black", linewidth=0.6)
axes[2].scatter(column, row, s=60, color="white", edgecolor="black")
axes[2].add_patch(Rectangle((column - 16, row - 16), 32, 32, fill=False, edgecolor="white", linewidth=2))
figure.tight_layout()

# %%
# The square is the patch before anything is changed. If it left the image, it would be pushed back inside.
#
# Turn one parameter at a time
# ----------------------------
#
# ``from_profile`` takes other values for the parameters of section ``surrogate`` in ``params.yaml``. ``OFF`` switches
# every transformation off. Then each row switches one of them on, with the range that the paper's profile has. The same
# random numbers are drawn in each row, so that rows differ by this parameter alone.

OFF = {
    "scale": (1, 1),
    "translate": {"amount": 0},
    "pca_factor": (1, 1),
    "flip": 0,
    "rotate": 0,
    "hsv": {"power": (1, 1), "factor": (1, 1), "shift": (0, 0)},
    "hue": (0, 0),
    "range_policy": "clip",
}
hsv = paper.params.hsv
KNOBS = {
    "scale": paper.params.scale,
    "translate.amount": paper.params.translate.amount,
    "pca_factor": paper.params.pca_factor,
    "flip": paper.params.flip,
    "rotate": paper.params.rotate,
    "hsv.power": hsv.power,
    "hsv.factor": hsv.factor,
    "hsv.shift": hsv.shift,
    "hue": paper.params.hue,
    "range_policy": paper.params.range_policy,
}


def draw(values: dict[str, object]) -> np.ndarray:
    """Draw ten patches with these parameters switched on, and all others off."""
    changed = dict(OFF)
    for name, value in values.items():
        section, _, key = name.partition(".")
        changed[section] = {**OFF[section], key: value} if key else value
    return PatchRecipe.from_profile("paper", **changed)(image, n=10)


rows = {"everything off": draw({})}
rows |= {f"{name}: {value}": draw({name: value}) for name, value in KNOBS.items()}
rows["everything on"] = paper(image, n=10)
show(rows, zoom=0.75)

# %%
# ``scale`` resizes the image before the cut, ``translate.amount`` is how far the anchor moves (the standard deviation,
# in sides of a patch), ``rotate`` is in degrees. ``pca_factor`` multiplies the patch's three principal colours. The
# parameters of ``hsv`` change saturation and value to ``factor * x ** power + shift``, and ``hue`` turns the colour
# circle, 1 being all of it. Under ``rescale`` the patch is stretched to the full range of values, under ``clip`` values
# outside of it are cut off.
#
# How much each of them changes the pixels:

off = rows["everything off"].astype(float)
table = pd.DataFrame(
    [(title.partition(":")[0], np.abs(patches - off).mean()) for title, patches in rows.items()],
    columns=["switched on", "mean change of a pixel (0-255)"],
)
print(table.round(1).to_string(index=False))

# %%
# Large numbers are not better: a transformation helps if it leaves what tells objects apart. With a hue that turns all
# around, a network cannot learn that bananas are yellow; with patches far from the anchor, a class has little in
# common.

show(
    {
        "hue: (-0.5, 0.5)": PatchRecipe.from_profile("paper", hue=(-0.5, 0.5))(image, n=10),
        "rotate: 180": PatchRecipe.from_profile("paper", rotate=180)(image, n=10),
        "translate.amount: 1": PatchRecipe.from_profile("paper", translate={"amount": 1})(image, n=10),
        "anchors_per_image: 10": PatchRecipe.from_profile("paper", anchors_per_image=10)(image, n=10),
    },
    zoom=0.75,
)

# %%
# Use your own image
# ------------------
#
# The recipe takes any array (height, width, 3) of ``uint8``. Pillow reads files into such arrays: ``exif_transpose``
# turns photographs upright, ``convert`` makes three channels of grey or transparent pictures. Put your file's path
# here.

OWN = DATA / "other" / "000.png"

own = np.asarray(ImageOps.exif_transpose(Image.open(OWN)).convert("RGB"))
print(own.shape)

# %%
# A class may also have several images, such as a cluster of similar ones: its patches are simply those of all of them.
# Here is a class of your image and the one from above.

show({"your image": paper(own, n=8), "a class of two images": np.concatenate([paper(own, n=4), paper(image, n=4)])})
plt.show()

# %%
# A patch is 32 pixels wide, whatever the size of the image: shrink a large photograph first, if its patches are to show
# more than a few leaves. In the pipeline, ``exemplarcnn data import`` does this for whole folders of images.
