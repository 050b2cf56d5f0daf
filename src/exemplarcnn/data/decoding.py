"""Read an image file of any origin as RGB pixels (docs/own-images.md, "How a file is read").

A file is read correctly, or refused with a reason. Pillow decodes it. This module does what Pillow leaves to its
callers: it limits the formats, scales grey levels, puts transparent parts on white, turns images upright, and catches
errors of every kind.
"""

import logging
import re
import struct
import textwrap
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import SEEK_CUR, SEEK_END, BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, IMAGELENGTH, IMAGEWIDTH, PHOTOMETRIC_INTERPRETATION, SAMPLEFORMAT
from PIL.TiffImagePlugin import TiffImageFile as Tiff

from exemplarcnn.errors import PipelineError, reason

IMAGE_SUFFIXES = frozenset({".avif", ".bmp", ".jfif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
# Pillow may try only these, whatever a file is called. EPS, for one, it would hand to Ghostscript, which executes it.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "PPM", "AVIF", "GIF")
TRANSPARENT = "transparent, put on white"

ORIENTATION = ExifTags.Base.Orientation
SIDEWAYS = frozenset({5, 6, 7, 8})  # orientations that exchange height and width
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
XMP_ORIENTATION = re.compile(rb"""tiff:Orientation\s*(?:=\s*["']|>)\s*([0-9]+)""")
# ImageMagick writes EXIF into the text of a PNG, under one of these names.
TEXT_PROFILES = ("Raw profile type exif", "Raw profile type APP1")
AVIF_BRANDS = frozenset({b"ftypavif", b"ftypavis", b"ftypmif1", b"ftypmsf1"})
PNG_TEXTS = frozenset({b"eXIf", b"tEXt", b"zTXt", b"iTXt"})
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
PNG_BITS = {"L;2": 2, "L;4": 4, "L": 8, "RGB": 8}  # bits of a sample, by Pillow's name for the packing
# Modes of up to 8 bits. The others are I and F, 32 bits, whose white may be 1, 255 or anything else.
KNOWN_RANGE = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB"})
SIGNED, WHITE_IS_ZERO = 2, 0  # in a TIFF: SampleFormat, PhotometricInterpretation

logging.getLogger("PIL").setLevel(logging.CRITICAL)  # callers that leave out a file say why


class DecodingError(PipelineError):
    """A file cannot be decoded. The message is the reason and does not name the file."""


def size(path: Path) -> tuple[int, int]:
    """Return the height and width in pixels of what `read` would return, from the file's header.

    Raises
    ------
    DecodingError
        If the file cannot be opened, or its header cannot be read.
    """
    with _open_file(path) as file:
        image = _open_image(file)
        width, height = image.size
        if isinstance(image, Tiff):  # Pillow may have exchanged height and width
            width, height = image.tag_v2[IMAGEWIDTH], image.tag_v2[IMAGELENGTH]
        return (width, height) if _orientation(image, file) in SIDEWAYS else (height, width)


def read(path: Path) -> tuple[npt.NDArray[np.uint8], str]:
    """Read one image file: its first frame, upright, transparent parts on white.

    Parameters
    ----------
    path
        A file in one of `FORMATS`, whatever its name.

    Returns
    -------
    pixels : (height, width, 3) uint8
        RGB, C-contiguous.
    note : str
        A remark on how it was read: `TRANSPARENT`, or an empty string.

    Raises
    ------
    DecodingError
        If the file cannot be opened or decoded, or the range of its values is not known.
    """
    with _open_file(path) as file:
        image = _open_image(file)
        orientation = _orientation(image, file)
        if isinstance(image, Tiff):
            _set_orientation(image, orientation)
        if isinstance(image, PngImageFile):
            _scale_transparency(image)
        with _pillow_errors():
            image.load()
        scaled = _in_8_bits(image)
        with _pillow_errors():
            upright, note = _on_white(scaled)
        if orientation in TURNS and not isinstance(image, Tiff):
            upright = upright.transpose(TURNS[orientation])
        return np.array(upright), note


def pixels_of(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Return what `read` returns for a file, of an image that Pillow has opened: (height, width, 3) uint8.

    If it is already loaded, a transparent colour of a PNG of 1, 2, 4 or 48 bits a pixel may not be found.

    Raises
    ------
    DecodingError
        If it cannot be decoded, or the range of its values is not known.
    """
    if isinstance(image, PngImageFile):
        _scale_transparency(image)
    with _pillow_errors():
        image.load()
        upright = ImageOps.exif_transpose(image)
    scaled = _in_8_bits(upright)
    with _pillow_errors():
        return np.array(_on_white(scaled)[0])


@contextmanager
def _open_file(path: Path) -> Iterator[IO[bytes]]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise DecodingError(reason(error)) from error
    with file:
        yield file


@contextmanager
def _pillow_errors() -> Iterator[None]:
    """Turn any error of Pillow's, which damaged files can make it raise, into a reason; silence its warnings."""
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except (MemoryError, DecodingError):
        raise
    except UnidentifiedImageError as error:
        raise DecodingError(f"no sound {', '.join(FORMATS[:-1])} or {FORMATS[-1]}") from error
    except Exception as error:
        raise DecodingError(textwrap.shorten(reason(error), 200, placeholder=" …")) from error


def _open_image(file: IO[bytes]) -> ImageFile:
    """Open an image and read its header."""
    with _pillow_errors():
        try:
            return Image.open(file, formats=FORMATS)
        except Exception:
            file.seek(0)
            start = file.read(12)
            if not start.startswith(b"\xff\xd8\xff") and start[4:] not in AVIF_BRANDS:
                raise
            # Some broken EXIF keeps Pillow from opening an intact JPEG or AVIF: rename EXIF, so that Pillow ignores it.
            file.seek(0)
            image = Image.open(BytesIO(file.read().replace(b"Exif", b"none", 1)), formats=["JPEG", "AVIF"])
            if isinstance(image, JpegImageFile):
                image.info["exif"] = image.app.get("APP1", b"")[6:]
            return image


# Which way is up


def _orientation(image: ImageFile, file: IO[bytes]) -> int:
    """Return the orientation, 1 to 8 as in EXIF, from the first carrier with a valid one; else 1, upright."""
    about = image.info
    if isinstance(image, PngImageFile):
        about = _info_after_pixels(file) | about
    questions: list[Callable[[], Any]] = [partial(_in_exif, about.get("exif", b""))]
    if isinstance(image, Tiff):
        questions = [partial(image.tag_v2.get, ORIENTATION)]
    questions += [partial(_in_text, about[name]) for name in TEXT_PROFILES if name in about]
    # AVIF has its own boxes for this, which Pillow presents as EXIF. Its standard forbids following other carriers.
    if image.format != "AVIF":
        questions.append(partial(_in_xmp, about.get("xmp", b"")))
    for question in questions:
        try:
            with _pillow_errors():
                if (said := question()) in range(1, 9):
                    return int(said)
        except DecodingError:  # this carrier is broken; the image may be intact
            continue
    return 1


def _in_exif(data: bytes) -> Any:
    exif = Image.Exif()
    exif.load(data)
    return exif.get(ORIENTATION)


def _in_text(profile: str) -> Any:
    # An empty line, the name, the length, and then hexadecimal digits.
    return _in_exif(bytes.fromhex("".join(profile.split("\n")[3:])))


def _in_xmp(packet: bytes) -> Any:
    found = XMP_ORIENTATION.search(packet)
    return int(found[1]) if found else None


def _info_after_pixels(file: IO[bytes]) -> dict[Any, Any]:
    """Return a PNG's metadata behind its pixels, which Pillow reads only after decoding them."""
    place, end = file.tell(), file.seek(0, SEEK_END)
    file.seek(0)
    kept, before = [file.read(33)], True  # the signature and the header chunk
    while len(start := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", start)
        if kind == b"IEND" or file.tell() + length + 4 > end:
            break
        before = before and kind != b"IDAT"
        if kind in PNG_TEXTS and not before:
            kept.append(start + file.read(length + 4))
        else:
            file.seek(length + 4, SEEK_CUR)
    file.seek(place)
    if len(kept) == 1:
        return {}
    try:
        with _pillow_errors(), Image.open(BytesIO(b"".join([*kept, PNG_END])), formats=["PNG"]) as image:
            return dict(image.info)
    except DecodingError:
        return {}


def _set_orientation(image: Tiff, orientation: int) -> None:
    """Set the orientation by which Pillow turns a TIFF as it decodes it; remove other tags, which may make it fail."""
    try:
        with _pillow_errors():
            image.getexif()
    except DecodingError:
        pass  # the second call returns what could be read
    exif = image.getexif()
    for tag in list(exif):
        del exif[tag]
    exif[ORIENTATION] = orientation
    image.info.pop("xmp", None)


# What the values mean


def _in_8_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey levels (TIFF: 12-bit, too) to their upper 8 bits, as Pillow does with 16-bit colours."""
    tags = image.tag_v2 if isinstance(image, Tiff) else {}
    # Pillow has scaled the values of a PGM to 16 bits, whatever their maximum was.
    if not image.mode.startswith("I;16") and (image.mode, image.format) != ("I", "PPM"):
        signed = SIGNED in tags.get(SAMPLEFORMAT, ())
        if signed or image.mode not in KNOWN_RANGE:
            raise DecodingError(
                f"values of {'signed ' if signed else ''}mode {image.mode} have no known range, 8 or 16 bits have"
            )
        return image
    values = np.asarray(image)
    grey = (values >> (tags.get(BITSPERSAMPLE, [16])[0] - 8)).astype(np.uint8)
    if tags.get(PHOTOMETRIC_INTERPRETATION) == WHITE_IS_ZERO:  # Pillow inverts these itself with 8 bits, not with 16
        grey = 255 - grey
    scaled = Image.fromarray(grey)
    if "transparency" in image.info:
        opaque = np.where(values == image.info["transparency"], 0, 255).astype(np.uint8)
        return Image.merge("LA", (scaled, Image.fromarray(opaque)))
    return scaled


def _scale_transparency(image: PngImageFile) -> None:
    """Scale a PNG's transparent colour to the range of its decoded pixels, as Pillow does not."""
    clear = image.info.get("transparency")
    packed = next((tile.args for tile in image.tile), None)
    if packed == "RGB;16B" and isinstance(clear, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    elif packed in PNG_BITS and isinstance(clear, (int, tuple)):
        most = 2 ** PNG_BITS[packed] - 1
        values = [(value & most) * 255 // most for value in np.atleast_1d(clear).tolist()]
        image.info["transparency"] = values[0] if isinstance(clear, int) else tuple(values)


def _on_white(image: Image.Image) -> tuple[Image.Image, str]:
    """Convert an image to RGB, transparent parts on white; return it with a remark, or an empty string."""
    if not image.has_transparency_data:
        return image.convert("RGB"), ""
    clear = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    opaque = clear.getchannel("A")
    least, most = opaque.getextrema()
    # Many programs leave the fourth byte of a BMP at 0, and do not mean transparency.
    if least == 255 or (image.format == "BMP" and most == 0):
        return clear.convert("RGB"), ""
    ground = Image.new("RGB", clear.size, "white")
    ground.paste(clear, mask=opaque)
    return ground, TRANSPARENT
