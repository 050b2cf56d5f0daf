"""The transformations that turn one image into many patches."""
