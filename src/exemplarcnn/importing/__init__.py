"""Put an image set in place of ``data/``."""
