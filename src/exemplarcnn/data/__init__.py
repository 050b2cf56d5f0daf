"""Images on disk, and the audit that finds what is wrong with them."""
