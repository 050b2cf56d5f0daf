"""Images on disk, and what is wrong with them."""
