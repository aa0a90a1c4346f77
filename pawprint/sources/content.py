"""What a file is, by its first bytes: its name, or what a server calls it, may be wrong."""

import hashlib
import re
from typing import IO

HEAD = 512  # bytes that are enough to tell

MAGIC = [
    (rb"\xff\xd8\xff", "image/jpeg", ".jpg"),
    (rb"\x89PNG\r\n\x1a\n", "image/png", ".png"),
    (rb"GIF8[79]a", "image/gif", ".gif"),
    (rb"RIFF....WEBP", "image/webp", ".webp"),
    (rb"BM", "image/bmp", ".bmp"),
    (rb"II\*\0|MM\0\*", "image/tiff", ".tif"),
    (rb"....ftyp(avif|avis|(mif1|msf1|miaf)....(....){,8}avi[fs])", "image/avif", ".avif"),
    (rb"....ftyp(hei[cxms]|hev[cxms]|mif1|msf1)", "image/heic", ".heic"),
    (rb"....ftypqt  |....(moov|mdat|wide|pnot)", "video/quicktime", ".mov"),
    (rb"....ftyp(iso[m2-9]|mp4[12]|M4V|avc1|3g[2gp]|mmp4|MSNV|dash|f4v)", "video/mp4", ".mp4"),
    (rb"\x1aE\xdf\xa3", "video/x-matroska", ".mkv"),
    (rb"RIFF....AVI ", "video/x-msvideo", ".avi"),
    (rb"\x00\x00\x01\x00", "image/x-icon", ".ico"),
    (rb"P[1-7]\s", "image/x-portable-anymap", ".pnm"),
    (rb"%PDF", "application/pdf", ".pdf"),
    (rb"PK\x03\x04", "application/zip", ".zip"),
    (rb"\x1f\x8b", "application/gzip", ".gz"),
]
SUFFIXES = {kind: suffix for _, kind, suffix in MAGIC}
# Text in the place of a picture: a page that says "not found", an answer of some API, an SVG.
TEXT = re.compile(
    rb"(\xef\xbb\xbf)?\s*(<!doctype|<html|<head|<body|<script|<\?xml|<svg|<!--|\{|\[)",
    re.IGNORECASE,
)


def content_type_of(head: bytes) -> str:
    """Return the content type that the first HEAD bytes of a file call for.

    Text that is sent in the place of a picture is `text/html`, `image/svg+xml` or `text/plain`.
    What is not recognised is `application/octet-stream`; verify tries to decode it all the same.
    """
    for pattern, kind, _ in MAGIC:
        if re.match(pattern, head, re.DOTALL):
            return kind
    text = TEXT.match(head)
    if text and b"<svg" in head.lower():
        return "image/svg+xml"
    if text:
        return "text/plain" if text[2] in (b"{", b"[") else "text/html"
    return "application/octet-stream"


def is_page(kind: str) -> bool:
    """Return whether a content type of `content_type_of` is text in the place of a picture."""
    return kind.startswith("text/") or kind == "image/svg+xml"


def is_video(kind: str) -> bool:
    """Return whether a content type of `content_type_of` is a video's."""
    return kind.startswith("video/")


def file_hash(file: IO[bytes], algorithm: str) -> str:
    """Return the hash of an open file, in hex digits; it is read a mebibyte at a time."""
    state = hashlib.new(algorithm)
    while block := file.read(1 << 20):
        state.update(block)
    return state.hexdigest()
