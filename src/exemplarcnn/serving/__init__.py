"""Use trained networks elsewhere: pack, register and serve them."""
