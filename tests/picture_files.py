"""Image files as bytes: whole ones of every format, ones that no library writes, and damage."""

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

Array = NDArray[Any]
ByteOrder = Literal["<", ">"]

ORIENTATION = ExifTags.Base.Orientation
XMP = """<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
 xmlns:tiff="http://ns.adobe.com/tiff/1.0/" {}</rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def smooth(height: int, width: int) -> NDArray[np.uint8]:
    """Colours that lossy formats keep, different in all four corners."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    colours = np.rint(np.stack([230 * y + 10, 230 * x + 10, 120 + 60 * y - 60 * x], axis=2))
    return np.asarray(colours, np.uint8)


def encoded(pixels: Array | Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    # A copy, since an image keeps what it was written with.
    (pixels.copy() if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(file, kind, **options)
    return file.getvalue()


def exif(orientation: int, **tags: Any) -> bytes:
    made = Image.Exif()
    made[ORIENTATION] = orientation
    for name, value in tags.items():
        made[ExifTags.Base[name]] = value
    return made.tobytes()


def xmp(orientation: object, element: bool = False) -> bytes:
    """A packet with the orientation as an attribute or as an element."""
    said = f"><tiff:Orientation>{orientation}</tiff:Orientation></rdf:Description>"
    return XMP.format(said if element else f'tiff:Orientation="{orientation}"/>').encode()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(rows: NDArray[np.uint8], width: int, bits: int, colour: int, before: bytes = b"", after: bytes = b"") -> bytes:
    """A PNG of packed rows, (height, bytes), with chunks before and after the pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(rows), bits, colour, 0, 0, 0))
    pixels = zlib.compress(np.insert(rows, 0, 0, axis=1).tobytes())
    return b"\x89PNG\r\n\x1a\n" + head + before + chunk(b"IDAT", pixels) + after + chunk(b"IEND", b"")


def tiff(
    samples: Array,
    bits: int,
    photometric: int,
    extra: Sequence[int] = (),
    order: ByteOrder = "<",
    width: int = 0,
    tags: Sequence[tuple[int, int, Sequence[int]]] = (),
) -> bytes:
    """An uncompressed TIFF of one strip; further tags as (number, type, values)."""
    channels = samples.shape[2] if samples.ndim == 3 else 1
    pixels = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    entries: list[tuple[int, int, Sequence[int]]] = [
        (256, 3, [width or samples.shape[1]]),
        (257, 3, [len(samples)]),
        (258, 3, [bits] * channels),
    ]
    entries += [(259, 3, [1]), (262, 3, [photometric]), (273, 4, [8]), (277, 3, [channels]), (278, 3, [len(samples)])]
    entries += [(279, 4, [len(pixels)]), *([(338, 3, extra)] if extra else []), *tags]
    place = 8 + len(pixels) + len(pixels) % 2
    listed, behind = b"", b""
    for number, kind, values in sorted(entries):
        value = b"".join(struct.pack(order + {1: "B", 2: "B", 3: "H", 4: "I"}[kind], each) for each in values)
        listed += struct.pack(order + "HHI", number, kind, len(values))
        if len(value) > 4:
            listed += struct.pack(order + "I", place + 6 + 12 * len(entries) + len(behind))
            behind += value + bytes(len(value) % 2)
        else:
            listed += value.ljust(4, b"\0")
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", place)
    return start + pixels.ljust(place - 8, b"\0") + struct.pack(order + "H", len(entries)) + listed + bytes(4) + behind


def deep(pixels: NDArray[np.uint16], suffix: str) -> bytes:
    """Pixels of 16 bits, RGB or RGBA, as OpenCV writes them."""
    order = [2, 1, 0, 3][: pixels.shape[2]]
    return bytes(cv2.imencode(suffix, np.ascontiguousarray(pixels[..., order]))[1])


def sound() -> dict[str, bytes]:
    """Whole files of every format and of most ways to use it; the format is the first word of a name."""
    rgb, rgba = Image.fromarray(noise(36, 48)), Image.fromarray(noise(36, 48, 4))
    palette = rgb.quantize(32)
    lying = exif(6, Make="Maker", Software="a program " * 3)
    with_xmp = xmp(8)
    return {
        "JPEG": encoded(rgb, "JPEG", exif=lying, dpi=(72, 72)),
        "JPEG progressive": encoded(rgb, "JPEG", progressive=True, xmp=with_xmp),
        "JPEG grey": encoded(rgb.convert("L"), "JPEG"),
        "JPEG CMYK": encoded(rgb.convert("CMYK"), "JPEG"),
        "JPEG of several": encoded(rgb, "MPO", exif=lying, **_others()),
        "PNG": encoded(rgb, "PNG", exif=lying),
        "PNG RGBA": encoded(rgba, "PNG"),
        "PNG palette": encoded(palette, "PNG", transparency=bytes(range(0, 256, 8))),
        "PNG of 16 bits": encoded(np.arange(36 * 48, dtype=np.uint16).reshape(36, 48) * 37, "PNG"),
        "PNG of 1 bit": encoded(rgb.convert("1"), "PNG"),
        "PNG animated": encoded(rgb, "PNG", **_others()),
        "WEBP": encoded(rgb, "WEBP", exif=lying),
        "WEBP lossless": encoded(rgba, "WEBP", lossless=True, xmp=with_xmp),
        "WEBP animated": encoded(rgb, "WEBP", **_others()),
        "TIFF": encoded(rgb, "TIFF", exif=lying),
        "TIFF LZW": encoded(rgb, "TIFF", compression="tiff_lzw"),
        "TIFF deflate": encoded(palette, "TIFF", compression="tiff_adobe_deflate"),
        "TIFF JPEG": encoded(rgb, "TIFF", compression="jpeg"),
        "TIFF fax": encoded(rgb.convert("1"), "TIFF", compression="group4"),
        "TIFF of 16 bits": tiff(np.arange(36 * 48, dtype=np.uint16).reshape(36, 48) * 37, 16, 1, order=">"),
        "TIFF of several": encoded(rgba, "TIFF", **_others()),
        "BMP": encoded(rgb, "BMP"),
        "BMP palette": encoded(palette, "BMP"),
        "BMP RGBA": encoded(rgba, "BMP"),
        "PPM": encoded(rgb, "PPM"),
        "PPM grey": encoded(np.arange(36 * 48, dtype=np.uint16).reshape(36, 48) * 37, "PPM"),
        "PPM plain": b"P3 # a comment\n4 33\n255\n" + b" ".join(b"%d" % value for value in noise(33, 4).ravel()),
        "PPM float": encoded(rgb.convert("F"), "PPM"),
        "AVIF": encoded(rgb, "AVIF", exif=lying, speed=10),
        "AVIF RGBA": encoded(rgba, "AVIF", speed=10),
        "AVIF animated": encoded(rgb, "AVIF", speed=10, **_others()),
        "GIF": encoded(palette, "GIF", transparency=3),
        "GIF animated": encoded(palette, "GIF", **_others()),
    }


def _others() -> dict[str, Any]:
    return {"save_all": True, "append_images": [Image.fromarray(noise(36, 48, seed=1))]}


def foreign() -> dict[str, bytes]:
    """Whole files of formats that are not read, whatever the file is called."""
    rgb = Image.fromarray(noise(36, 48))
    return {kind: encoded(rgb, kind) for kind in ("EPS", "DDS", "ICO", "JPEG2000", "TGA", "PDF", "SGI", "PCX")}


def cut(whole: bytes, share: float) -> bytes:
    return whole[: int(share * len(whole))]


def flipped(whole: bytes, places: Sequence[tuple[float, int]]) -> bytes:
    """Exchange single bytes, each at a share of the file."""
    changed = bytearray(whole)
    for share, byte in places:
        if changed:
            changed[min(int(share * len(changed)), len(changed) - 1)] = byte
    return bytes(changed)


def spliced(whole: bytes, other: bytes, share: float, other_share: float) -> bytes:
    return cut(whole, share) + other[int(other_share * len(other)) :]
