"""One image file: its right pixels, or the reason why there are none."""

import struct
import subprocess
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import EpsImagePlugin, Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from exemplarcnn.data import decoding
from exemplarcnn.data.decoding import TRANSPARENT, DecodingError
from exemplarcnn.data.pools import ImageFolder
from exemplarcnn.data.types import DataError
from tests.picture_files import (
    ORIENTATION,
    ByteOrder,
    chunk,
    cut,
    deep,
    encoded,
    exif,
    flipped,
    foreign,
    noise,
    png,
    smooth,
    sound,
    spliced,
    tiff,
    xmp,
)

WHOLE, FOREIGN = sound(), foreign()
# The EXIF of the first report: a tag of a wrong type beside the orientation, which is 6.
ODD = (
    b"Exif\0\0II*\0\x08\0\0\0\x02\0"
    + struct.pack("<HHI", 256, 2, 4) + b"abc\0"
    + struct.pack("<HHI", 274, 3, 1) + b"\6\0\0\0"
    + bytes(4)
)  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "image.jpg"  # whatever is in it


def read(file: Path, content: bytes) -> tuple[NDArray[np.uint8], str]:
    """Read a file with warnings as errors; its head must say the size of its pixels."""
    file.write_bytes(content)
    with warnings.catch_warnings(action="error"):
        size = decoding.size(file)
        pixels, note = decoding.read(file)
    assert pixels.shape == (*size, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    return pixels, note


def refused(file: Path, content: bytes) -> str:
    file.write_bytes(content)
    with warnings.catch_warnings(action="error"), pytest.raises(DecodingError) as caught:
        decoding.read(file)
    reason = str(caught.value)
    assert str(file) not in reason, "the caller names the file"
    assert reason == " ".join(reason.split())
    assert 3 < len(reason) <= 200
    return reason


# Whole files


def test_what_was_read_right_stays_the_same_bytes(file: Path) -> None:
    for name in ("JPEG", "JPEG grey", "JPEG CMYK", "PNG", "PNG of 1 bit", "BMP", "PPM", "TIFF LZW"):
        pixels, note = read(file, WHOLE[name])
        with Image.open(file) as image:
            assert np.array_equal(pixels, np.asarray(ImageOps.exif_transpose(image).convert("RGB"))), name
        assert note == ""


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "BMP", "PPM", "JPEG", "AVIF", "GIF"])
def test_pixels_of_every_format(file: Path, kind: str) -> None:
    lossless = kind not in ("JPEG", "AVIF", "GIF")
    pixels = noise(41, 53) if lossless else smooth(41, 53)
    options: dict[str, Any] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}, "AVIF": {"quality": 95}}
    found, note = read(file, encoded(pixels, kind, **options.get(kind, {})))
    difference = np.abs(found.astype(int) - pixels)
    assert difference.max() == 0 if lossless else difference.mean() < 5
    assert note == ""


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd"])
@pytest.mark.parametrize("orientation", [1, 5])
def test_compressed_tiffs(file: Path, compression: str, orientation: int) -> None:
    content = encoded(noise(41, 53), "TIFF", compression=compression, exif=exif(orientation))
    upright = noise(41, 53) if orientation == 1 else noise(41, 53).transpose(1, 0, 2)
    assert np.array_equal(read(file, content)[0], upright)


@pytest.mark.parametrize(("mode", "most"), [("CMYK", 0), ("YCbCr", 4), ("LAB", 8)])
def test_colours_that_are_not_rgb(file: Path, mode: str, most: int) -> None:
    pixels = smooth(40, 40) // 2 + 60
    found = read(file, encoded(Image.fromarray(pixels).convert(mode), "TIFF"))[0]
    assert np.abs(found.astype(int) - pixels).max() <= most


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "AVIF", "MPO"])
def test_of_several_frames_the_first_is_taken(file: Path, kind: str) -> None:
    frames = [Image.new("RGB", (40, 36), colour) for colour in ((250, 20, 20), (20, 20, 250), (20, 250, 20))]
    pixels = read(file, encoded(frames[0], kind, save_all=True, append_images=frames[1:]))[0]
    assert np.abs(pixels.astype(int) - (250, 20, 20)).max() < 12


def test_suffixes_and_formats() -> None:
    assert {".avif", ".jfif", ".jpg", ".png"} <= decoding.IMAGE_SUFFIXES
    assert not {".eps", ".ps", ".svg", ".pdf", ".gif"} & decoding.IMAGE_SUFFIXES
    assert set(decoding.FORMATS) == {"AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"}


def test_a_folder_has_avif_and_jfif(tmp_path: Path) -> None:
    (tmp_path / "a.avif").write_bytes(WHOLE["AVIF RGBA"])
    (tmp_path / "b.JFIF").write_bytes(WHOLE["JPEG"])
    folder = ImageFolder(tmp_path)
    assert [folder[index].shape for index in range(2)] == [(36, 48, 3), (48, 36, 3)]
    assert [folder.read(index)[1] for index in range(2)] == [TRANSPARENT, ""]


# Range: 16 bits and more

RAMP = (np.arange(4096).reshape(64, 64) * 16).astype(np.uint16)
TWELVE = (np.arange(4096).reshape(64, 64)).astype(np.uint16)
PACKED = np.stack([TWELVE[:, ::2] >> 4, (TWELVE[:, ::2] & 15) << 4 | TWELVE[:, 1::2] >> 8, TWELVE[:, 1::2] & 255], 2)


@pytest.mark.parametrize(
    "content",
    [
        encoded(RAMP, "PNG"),
        encoded(RAMP, "TIFF"),
        encoded(RAMP, "TIFF", compression="tiff_lzw"),
        encoded(RAMP, "PPM"),
        tiff(RAMP, 16, 1, order="<"),
        tiff(RAMP, 16, 1, order=">"),
        tiff(65535 - RAMP, 16, 0),
        tiff(PACKED.reshape(64, 96).astype(np.uint8), 12, 1, width=64),
        b"P5 64 64 4095\n" + TWELVE.astype(">u2").tobytes(),
        b"P2 64 64 65535\n" + b" ".join(b"%d" % value for value in RAMP.ravel()),
        deep(np.repeat(RAMP[..., None], 3, 2), ".png"),
        deep(np.repeat(RAMP[..., None], 3, 2), ".tiff"),
        deep(np.repeat(RAMP[..., None], 3, 2), ".ppm"),
    ],
    ids=[
        "png",
        "tiff",
        "lzw",
        "pgm",
        "II",
        "MM",
        "white is 0",
        "12 bits",
        "pgm 4095",
        "plain",
        "RGB",
        "tiff RGB",
        "ppm",
    ],
)
def test_values_of_16_bits_are_scaled_by_their_full_range(file: Path, content: bytes) -> None:
    pixels, note = read(file, content)
    exact = RAMP / 65535 * 255
    assert np.abs(pixels - exact[..., None]).max() <= 1
    assert (pixels[0, 0].tolist(), pixels[-1, -1].tolist()) == ([0] * 3, [255] * 3)
    assert len(np.unique(pixels)) == 256
    assert note == ""


def test_a_grey_image_is_the_same_in_all_ways_to_write_it(file: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (50, 50)).astype(np.uint16)
    colours = np.repeat(values[..., None], 3, 2)
    ways = [encoded(values, "PNG"), tiff(values, 16, 1, order=">"), tiff(colours, 16, 2), deep(colours, ".png")]
    first, *others = (read(file, content)[0] for content in ways)
    for other in others:
        assert np.array_equal(first, other)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (encoded(Image.new("I", (40, 40), 70_000), "TIFF"), "signed mode I"),
        (tiff(np.zeros((40, 40), np.uint32), 32, 1), "mode I"),
        (encoded(Image.new("F", (40, 40), 0.5), "TIFF"), "mode F"),
        (encoded(Image.new("F", (40, 40), 0.5), "PPM"), "mode F"),
        (tiff(np.zeros((40, 40), np.int16), 16, 1, tags=[(339, 3, [2])]), "signed mode I"),
        (tiff(np.zeros((40, 40), np.int8), 8, 1, tags=[(339, 3, [2])]), "signed mode L"),
    ],
    ids=["int32", "uint32", "float", "pfm", "int16", "int8"],
)
def test_values_without_a_known_range_are_refused_by_name(file: Path, content: bytes, named: str) -> None:
    assert refused(file, content) == f"values of {named} have no known range, 8 or 16 bits have"
    assert decoding.size(file) == (40, 40)


# Transparency

LOGO = np.zeros((40, 50, 4), np.uint8)  # black on a clear ground, with an edge that is half clear
LOGO[10:30, 10:40, 3] = 255
LOGO[10:30, 10, 3] = 128
ON_WHITE = np.full((40, 50, 3), 255, np.uint8)
ON_WHITE[10:30, 10:40] = 0
ON_WHITE[10:30, 10] = 127
HARD = np.where(LOGO[..., 3:] == 0, 255, 0).repeat(3, 2).astype(np.uint8)  # without the half
CLEAR = LOGO[..., 3] == 0
INDEX = np.where(CLEAR, 0, np.where(LOGO[..., 3] == 128, 1, 2)).astype(np.uint8)
CODES = chunk(b"PLTE", bytes(9)) + chunk(b"tRNS", bytes([0, 128, 255]))
SIMPLE = chunk(b"PLTE", bytes(9)) + chunk(b"tRNS", b"\0")


def grey_png(bits: int, clear: int) -> bytes:
    """Black on a ground of a grey that tRNS makes clear, packed in `bits`."""
    values = np.where(CLEAR, clear, 0)
    if bits == 16:
        return png(values.astype(">u2").view(np.uint8), 50, 16, 0, chunk(b"tRNS", struct.pack(">H", clear)))
    digits = (values[..., None] >> np.arange(bits)[::-1]) & 1
    return png(np.packbits(digits.reshape(40, -1), axis=1), 50, bits, 0, chunk(b"tRNS", struct.pack(">H", clear)))


def colour_png(bits: int, clear: tuple[int, int, int]) -> bytes:
    values = np.where(CLEAR[..., None], clear, 0).astype(">u2" if bits == 16 else np.uint8)
    rows = np.ascontiguousarray(values.reshape(40, -1)).view(np.uint8)
    return png(rows, 50, bits, 2, chunk(b"tRNS", struct.pack(">HHH", *clear)))


@pytest.mark.parametrize(
    ("content", "expected"),
    {
        "png RGBA": (encoded(LOGO, "PNG"), ON_WHITE),
        "png LA": (encoded(LOGO[..., 2:], "PNG"), ON_WHITE),
        "png palette": (png(INDEX, 50, 8, 3, CODES), ON_WHITE),
        "png palette, one clear": (png(INDEX, 50, 8, 3, SIMPLE), HARD),
        "png RGBA of 16 bits": (deep(LOGO.astype(np.uint16) * 257, ".png"), ON_WHITE),
        **{f"png grey, {bits} bits": (grey_png(bits, 1), HARD) for bits in (1, 2, 4, 8, 16)},
        "png grey, white clear": (grey_png(4, 15), HARD),
        "png colour": (colour_png(8, (1, 2, 3)), HARD),
        "png colour of 16 bits": (colour_png(16, (770, 3000, 65000)), HARD),
        "webp": (encoded(LOGO, "WEBP", lossless=True, exact=True), ON_WHITE),
        "tiff RGBA": (encoded(LOGO, "TIFF"), ON_WHITE),
        "tiff RGBA, compressed": (encoded(LOGO, "TIFF", compression="tiff_lzw"), ON_WHITE),
        "tiff LA": (tiff(LOGO[..., 2:], 8, 1, extra=[2]), ON_WHITE),
        "tiff RGBA of 16 bits": (tiff(LOGO.astype(np.uint16) * 257, 16, 2, extra=[2]), ON_WHITE),
        "tiff multiplied": (tiff(LOGO, 8, 2, extra=[1]), ON_WHITE),
        "tiff grey multiplied": (tiff(LOGO[..., 2:], 8, 1, extra=[1]), ON_WHITE),
        "tiff palette": (encoded(Image.fromarray(LOGO).convert("PA"), "TIFF"), ON_WHITE),
        "avif": (encoded(LOGO, "AVIF", quality=100, subsampling="4:4:4"), ON_WHITE),
        "gif": (encoded(Image.fromarray(INDEX), "GIF", transparency=0), HARD),
    }.values(),
)
def test_a_logo_on_a_clear_ground_is_put_on_white(file: Path, content: bytes, expected: NDArray[np.uint8]) -> None:
    pixels, note = read(file, content)
    assert note == TRANSPARENT
    difference = np.abs(pixels.astype(int) - expected)
    assert difference[CLEAR].max() == 0
    assert difference.max() <= 2
    with Image.open(file) as image:
        for _ in range(2):  # the second time it is loaded
            assert np.array_equal(decoding.pixels_of(image), pixels)


def test_colours_are_mixed_with_white(file: Path) -> None:
    pixels = noise(40, 50, 4)
    exact = (pixels[..., :3] * (pixels[..., 3:] / 255.0)) + 255.0 - pixels[..., 3:]
    for content in (
        encoded(pixels, "PNG"),
        encoded(pixels, "WEBP", lossless=True, exact=True),
        tiff(pixels, 8, 2, [2]),
    ):
        found, _ = read(file, content)
        assert np.abs(found - exact).max() <= 0.51


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_an_opaque_image_keeps_its_colours_and_has_no_note(file: Path, kind: str) -> None:
    pixels = noise(40, 50, 4)
    pixels[..., 3] = 255
    found, note = read(file, encoded(pixels, kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert np.array_equal(found, pixels[..., :3])
    assert note == ""


def test_the_fourth_byte_of_a_bitmap_is_not_taken_for_alpha_where_it_is_0_throughout(file: Path) -> None:
    pixels = noise(40, 50, 4)
    for alpha, expected in ((0, ""), (128, TRANSPARENT)):
        pixels[..., 3] = alpha
        rows = pixels[::-1, :, [2, 1, 0, 3]].tobytes()
        masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
        head = struct.pack("<IiiHHIIiiII", 56, 50, 40, 1, 32, 3, len(rows), 0, 0, 0, 0) + masks
        content = b"BM" + struct.pack("<IHHI", 14 + len(head) + len(rows), 0, 0, 14 + len(head)) + head + rows
        found, note = read(file, content)
        assert note == expected
        if not alpha:
            assert np.array_equal(found, pixels[..., :3])


# Which way is up

UPRIGHT = smooth(60, 40)
HELD: dict[int, Callable[[Any], Any]] = {  # what the camera stores, by its orientation
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: np.rot90(x, -1),
}


def text_exif(orientation: int, name: bytes, packed: bool = False) -> bytes:
    """EXIF as ImageMagick writes it into a PNG."""
    data = exif(orientation)
    digits = data.hex().encode()
    lines = b"\n".join(digits[start : start + 72] for start in range(0, len(digits), 72))
    text = b"\nexif\n%8d\n%s\n" % (len(data), lines)
    return chunk(b"zTXt", name + b"\0\0" + zlib.compress(text)) if packed else chunk(b"tEXt", name + b"\0" + text)


def in_png(stored: NDArray[np.uint8], before: bytes = b"", after: bytes = b"") -> bytes:
    return png(np.ascontiguousarray(stored).reshape(len(stored), -1), stored.shape[1], 8, 2, before, after)


def xmp_chunk(packet: bytes) -> bytes:
    return chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)


CARRIERS: dict[str, Callable[[NDArray[np.uint8], int], bytes]] = {
    "JPEG EXIF": lambda stored, held: encoded(stored, "JPEG", quality=95, exif=exif(held)),
    "JPEG XMP": lambda stored, held: encoded(stored, "JPEG", quality=95, xmp=xmp(held)),
    "JPEG XMP element": lambda stored, held: encoded(stored, "JPEG", quality=95, xmp=xmp(held, element=True)),
    "PNG eXIf": lambda stored, held: encoded(stored, "PNG", exif=exif(held)),
    "PNG eXIf behind": lambda stored, held: in_png(stored, after=chunk(b"eXIf", exif(held)[6:])),
    "PNG text": lambda stored, held: in_png(stored, text_exif(held, b"Raw profile type exif")),
    "PNG packed text": lambda stored, held: in_png(stored, text_exif(held, b"Raw profile type exif", packed=True)),
    "PNG text APP1": lambda stored, held: in_png(stored, text_exif(held, b"Raw profile type APP1")),
    "PNG text behind": lambda stored, held: in_png(stored, after=text_exif(held, b"Raw profile type exif")),
    "PNG XMP": lambda stored, held: in_png(stored, xmp_chunk(xmp(held))),
    "PNG XMP behind": lambda stored, held: in_png(stored, after=xmp_chunk(xmp(held))),
    "WebP EXIF": lambda stored, held: encoded(stored, "WEBP", quality=95, exif=exif(held)),
    "WebP XMP": lambda stored, held: encoded(stored, "WEBP", quality=95, xmp=xmp(held)),
    "TIFF tag": lambda stored, held: encoded(stored, "TIFF", exif=exif(held)),
    "TIFF tag, compressed": lambda stored, held: encoded(stored, "TIFF", exif=exif(held), compression="tiff_lzw"),
    "TIFF XMP": lambda stored, held: tiff(stored, 8, 2, tags=[(700, 1, xmp(held))]),
    "AVIF irot": lambda stored, held: encoded(stored, "AVIF", quality=95, exif=exif(held)),
}


@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("carrier", CARRIERS)
def test_an_image_is_turned_upright_by_each_carrier(file: Path, carrier: str, held: int) -> None:
    found, _ = read(file, CARRIERS[carrier](np.ascontiguousarray(HELD[held](UPRIGHT)), held))
    assert found.shape == UPRIGHT.shape
    assert np.abs(found.astype(int) - UPRIGHT).mean() < 4


def test_16_bits_and_transparency_are_turned_too(file: Path) -> None:
    lying = np.ascontiguousarray(np.rot90(RAMP[:, :32]))
    assert np.array_equal(read(file, encoded(lying, "PNG", exif=exif(6)))[0][..., 0], RAMP[:, :32] >> 8)
    logo = np.ascontiguousarray(np.rot90(LOGO))
    assert np.array_equal(read(file, encoded(logo, "PNG", exif=exif(6)))[0], ON_WHITE)
    orders: tuple[ByteOrder, ...] = ("<", ">")
    for order in orders:
        assert np.array_equal(
            read(file, tiff(lying, 16, 1, order=order, tags=[(274, 3, [6])]))[0][..., 0], RAMP[:, :32] >> 8
        )


@pytest.mark.parametrize(
    "content",
    [
        encoded(np.rot90(UPRIGHT).copy(), "JPEG", quality=95, exif=exif(6), xmp=xmp(8)),
        encoded(np.rot90(UPRIGHT).copy(), "WEBP", quality=95, exif=exif(6), xmp=xmp(1)),
        in_png(np.rot90(UPRIGHT), xmp_chunk(xmp(3)), chunk(b"eXIf", exif(6)[6:])),
        tiff(np.rot90(UPRIGHT), 8, 2, tags=[(274, 3, [6]), (700, 1, xmp(8))]),
        encoded(np.rot90(UPRIGHT).copy(), "AVIF", quality=95, exif=exif(6), xmp=xmp(8)),
    ],
    ids=["jpeg", "webp", "png", "tiff", "avif"],
)
def test_where_exif_and_xmp_disagree_exif_wins(file: Path, content: bytes) -> None:
    assert np.abs(read(file, content)[0].astype(int) - UPRIGHT).mean() < 4


@pytest.mark.parametrize("value", [0, 9, 255, 65535])
@pytest.mark.parametrize("carrier", [name for name in CARRIERS if name not in ("AVIF irot", "TIFF tag, compressed")])
def test_an_orientation_that_is_none_leaves_an_image_as_it_is(file: Path, carrier: str, value: int) -> None:
    assert np.abs(read(file, CARRIERS[carrier](UPRIGHT, value))[0].astype(int) - UPRIGHT).mean() < 4


def test_of_an_avif_only_its_own_turn_counts(file: Path) -> None:
    """Its standard says so: whoever turned the pixels may have left EXIF and XMP as they were."""
    content = encoded(UPRIGHT, "AVIF", quality=95, exif=exif(1, ResolutionUnit=6), xmp=xmp(6))
    there = struct.pack("<HH", 0x0128, 3)
    swapped = content.replace(there, struct.pack("<HH", ORIENTATION, 3))
    if swapped == content:  # EXIF in the other byte order
        swapped = content.replace(struct.pack(">HH", 0x0128, 3), struct.pack(">HH", ORIENTATION, 3))
    assert swapped != content
    assert np.abs(read(file, swapped)[0].astype(int) - UPRIGHT).mean() < 4


# Broken EXIF in sound photographs


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF"])
def test_broken_exif_is_ignored(file: Path, kind: str) -> None:
    long = exif(6, Make="Maker", Software="a program " * 5, XResolution=72.0, ResolutionUnit=2)
    stored = np.rot90(UPRIGHT).copy()
    content = encoded(stored, kind, quality=95, exif=long)
    start = content.find(b"MM\0*" if b"MM\0*" in content else b"II*\0")
    for junk in (b"JUNK", bytes(20), b"\xff" * 40):
        found, _ = read(file, content[:start] + junk + content[start + len(junk) :])
        assert np.abs(found.astype(int) - (UPRIGHT if kind == "AVIF" else stored)).mean() < 4


def test_one_odd_tag_beside_an_orientation(file: Path) -> None:
    stored = np.rot90(UPRIGHT).copy()
    for content in (
        encoded(stored, "JPEG", quality=95, exif=ODD),
        encoded(stored, "WEBP", quality=95, exif=ODD),
        in_png(stored, chunk(b"eXIf", ODD[6:])),
        tiff(stored, 8, 2, tags=[(274, 3, [6]), (34665, 4, [3]), (271, 3, [7]), (700, 3, [1, 2, 3])]),
    ):
        assert np.abs(read(file, content)[0].astype(int) - UPRIGHT).mean() < 4


def test_a_resolution_that_pillow_stumbles_over_does_not_hide_the_orientation(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rare bytes in EXIF make Pillow's search for a resolution raise what it does not expect."""

    def stumble(image: JpegImageFile) -> None:
        if "exif" in image.info:
            raise IndexError("tuple index out of range")

    monkeypatch.setattr(JpegImageFile, "_read_dpi_from_exif", stumble)
    content = encoded(np.rot90(UPRIGHT).copy(), "JPEG", quality=95, exif=exif(6))
    assert np.abs(read(file, content)[0].astype(int) - UPRIGHT).mean() < 4


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(["JPEG", "PNG", "WEBP", "AVIF"]),
    places=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_no_damage_within_exif_keeps_a_photograph_from_being_read(
    kind: str, places: list[tuple[float, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("exif") / "a.jpg"
    whole = exif(1, Make="Maker", Software="program", XResolution=72.0, ResolutionUnit=2)
    damaged = whole[:6] + flipped(whole[6:], places)
    if kind == "PNG":
        content = in_png(UPRIGHT, chunk(b"eXIf", damaged[6:]))
    else:
        content = encoded(UPRIGHT, kind, exif=whole)
        # Pillow leaves the orientation out of an AVIF's EXIF, which changes its bytes: there any tag may be hit.
        start = max(content.find(b"MM\0*"), content.find(b"II*\0"))
        end = start + len(whole) - 6 - (24 if kind == "AVIF" else 0)
        content = content[:start] + flipped(content[start:end], places) + content[end:]
    assert read(file, content)[0].size == UPRIGHT.size


# Files that are none


@pytest.mark.parametrize("kind", FOREIGN)
def test_other_formats_are_not_tried_whatever_a_file_is_called(
    file: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        pytest.fail("something is executed")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", forbidden)
    monkeypatch.setattr(subprocess, "Popen", forbidden)
    assert refused(file, FOREIGN[kind]) == "no sound JPEG, PNG, WEBP, TIFF, BMP, PPM, AVIF or GIF"
    with pytest.raises(DecodingError):
        decoding.size(file)


@pytest.mark.parametrize("name", [name for name in WHOLE if name != "PPM float"])
def test_a_truncated_file_is_refused_unless_nothing_of_its_image_is_missing(file: Path, name: str) -> None:
    whole, _ = read(file, WHOLE[name])
    kept = 0
    for share in np.linspace(0, 0.99, 25):
        file.write_bytes(cut(WHOLE[name], share))
        try:
            pixels, _ = decoding.read(file)
        except DecodingError:
            continue
        assert np.array_equal(pixels, whole)
        kept += 1
    # Of an animation, the later frames may be missing; of others, what stands behind the pixels.
    assert kept <= (16 if "animated" in name or "several" in name else 3)


def test_files_that_made_pillow_raise_what_nobody_expects(file: Path) -> None:
    """RuntimeError, of an AVIF whose pixels are damaged; TypeError, of a TIFF without a size."""
    avif = WHOLE["AVIF"]
    place = avif.rfind(b"mdat")
    refused(file, avif[: place + 4] + bytes(len(avif) - place - 4))
    refused(file, tiff(noise(40, 40), 8, 2).replace(struct.pack("<HH", 257, 3), struct.pack("<HH", 40_257, 3)))


def test_pillow_itself_says_nothing(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    refused(
        file,
        tiff(noise(40, 40), 8, 2).replace(struct.pack("<HHIH", 277, 3, 1, 3), struct.pack("<HHIH", 277, 3, 1, 2048)),
    )
    assert not caplog.records


def test_a_decompression_bomb_is_refused(file: Path) -> None:
    assert "exceeds limit" in refused(file, b"P5 60000 60000 255\n")


def test_what_the_system_says_of_a_file_is_told(tmp_path: Path) -> None:
    for question in (decoding.size, decoding.read):
        with pytest.raises(DecodingError, match=r"^No such file or directory$"):
            question(tmp_path / "gone.png")
        with pytest.raises(DecodingError, match=r"^Is a directory$"):
            question(tmp_path)


def test_a_folder_names_the_file_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff no image")
    folder = ImageFolder(tmp_path)
    for question in (folder.size, folder.__getitem__, folder.read):
        with pytest.raises(DataError, match=r"a\.jpg: expected a readable image, .*\(no sound JPEG.*replace the file"):
            question(0)


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_what_is_not_the_files_fault_passes_through(
    file: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    file.write_bytes(WHOLE["PNG RGBA"])

    def fail(*_: object, **__: object) -> None:
        raise error

    for owner, name in ((Image, "open"), (Image.Image, "convert")):
        with monkeypatch.context() as patch, pytest.raises(error):
            patch.setattr(owner, name, fail)
            decoding.read(file)


# Damage

SHARES = st.floats(0, 1)
ALL = {**WHOLE, **FOREIGN}


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    content = ALL[draw(st.sampled_from(sorted(ALL)))]
    for kind in draw(st.lists(st.sampled_from(["cut", "flipped", "spliced"]), min_size=1, max_size=3)):
        if kind == "cut":
            content = cut(content, draw(SHARES))
        elif kind == "flipped":
            # The first tenth of a file says what the rest is.
            near = draw(st.sampled_from([0.1, 1.0]))
            places = draw(st.lists(st.tuples(SHARES, st.integers(0, 255)), min_size=1, max_size=10))
            content = flipped(content, [(near * share, byte) for share, byte in places])
        else:
            content = spliced(content, ALL[draw(st.sampled_from(sorted(ALL)))], draw(SHARES), draw(SHARES))
    return content


@settings(max_examples=400, deadline=None, derandomize=True)
@given(content=damaged())
@example(content=b"")
def test_a_damaged_file_is_read_or_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Beside `benchmarks/fuzz_images.py`, which takes 20,000."""
    file = tmp_path_factory.mktemp("damaged") / "a.jpg"
    file.write_bytes(content)
    with warnings.catch_warnings(action="error"):
        try:
            size = decoding.size(file)
            pixels, note = decoding.read(file)
        except DecodingError:
            return
    assert pixels.shape == (*size, 3)
    assert note in ("", TRANSPARENT)
