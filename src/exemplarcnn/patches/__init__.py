"""From images to patches: anchors, transformations, surrogate sets."""
