"""What recipes need besides an image. Kept apart from the recipes, so that asking imports none of them."""

# Recipes, by the names of `surrogate.recipe`, that need the principal axes of the pool's colours.
COLOUR_AXES = frozenset({"dosovitskiy"})
