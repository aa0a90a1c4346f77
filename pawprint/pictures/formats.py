"""The one list of picture formats: which decoders are tried, and which file names look like one.

HEIF, which phones write as .heic, needs the package pi-heif. pawprint installs it; an exported
folder does without, and says what to install when it meets such a file.
"""

import contextlib
from pathlib import PurePosixPath

from PIL import Image, features

with contextlib.suppress(ImportError):
    import pi_heif

    pi_heif.register_heif_opener()

# Pillow's name of each format, and the suffixes of its files; the first one names files we write.
# Other formats that Pillow knows start programs (EPS), or are not used for pictures.
SUFFIXES_OF = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png",),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif", ".avifs"),  # before HEIF, which opens AVIF without being able to decode it
    "HEIF": (".heic", ".heif", ".hif", ".heics", ".heifs"),
    "JPEG2000": (".jp2", ".j2k"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "ICO": (".ico",),
    "TGA": (".tga",),
    "PCX": (".pcx",),
}
SUFFIXES = frozenset(suffix for suffixes in SUFFIXES_OF.values() for suffix in suffixes)

Image.init()
FORMATS = tuple(form for form in SUFFIXES_OF if form in Image.OPEN)  # AVIF came late to Pillow
HEIF_BRANDS = (
    *(b"mif1", b"msf1", b"heic", b"heix", b"heim", b"heis"),
    *(b"hevc", b"hevx", b"hevm", b"hevs"),
)
AVIF_BRANDS = (b"avif", b"avis")


def looks_like_picture(name: str) -> bool:
    """Return whether a file's name looks like a picture's.

    Hidden files do not, nor those in hidden folders, such as macOS's `._` twins.
    name: with slashes.
    """
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") for part in path.parts)
    return path.suffix.lower() in SUFFIXES and not hidden


def brand_of(head: bytes) -> bytes:
    """Return the brand of a HEIF or AVIF file, by its first 12 bytes; b"" for any other file."""
    brand = head[8:12] if head[4:8] == b"ftyp" else b""
    return brand if brand in HEIF_BRANDS + AVIF_BRANDS else b""


def missing_decoder(head: bytes) -> str:
    """Return what to install for a file whose decoder is not here; "" for any other file.

    head: the first 12 bytes of the file, or more.
    """
    brand = brand_of(head)
    if brand in HEIF_BRANDS and "HEIF" not in FORMATS:
        return "a HEIC picture; `pip install pi-heif` adds what reads it"
    has_avif = "avif" in features.modules and features.check("avif")
    if brand in AVIF_BRANDS and not has_avif:
        return "an AVIF picture; `pip install --upgrade pillow` adds what reads it"
    return ""
