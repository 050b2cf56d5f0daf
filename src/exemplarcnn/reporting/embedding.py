"""Put pictures into a page: as data URLs, made small enough for it."""

import base64
import io
from pathlib import Path

from PIL import Image

QUALITY = 82  # of WebP, from 0 to 100


def picture(path: Path, widest: int) -> str:
    """Return a picture as a data URL, at most ``widest`` pixels wide."""
    with Image.open(path) as image:
        image.thumbnail((widest, 10 * widest))
        return data_url(image)


def data_url(image: Image.Image, quality: int = QUALITY) -> str:
    """Return an image as a data URL in WebP."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "WEBP", quality=quality)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
