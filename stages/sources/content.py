"""What a file is, by its first bytes: neither its name nor what a server calls it says so."""

import re

HEAD = 512  # bytes that are enough to tell

MAGIC = [
    (rb"\xff\xd8\xff", "image/jpeg", ".jpg"),
    (rb"\x89PNG\r\n\x1a\n", "image/png", ".png"),
    (rb"GIF8[79]a", "image/gif", ".gif"),
    (rb"RIFF....WEBP", "image/webp", ".webp"),
    (rb"BM", "image/bmp", ".bmp"),
    (rb"II\*\0|MM\0\*", "image/tiff", ".tif"),
    (rb"....ftyp(avif|avis)", "image/avif", ".avif"),
    (rb"....ftyp(heic|heix|mif1|msf1)", "image/heic", ".heic"),
    (rb"\0\0\1\0", "image/x-icon", ".ico"),
    (rb"P[1-7]\s", "image/x-portable-anymap", ".pnm"),
    (rb"%PDF", "application/pdf", ".pdf"),
    (rb"PK\x03\x04", "application/zip", ".zip"),
    (rb"\x1f\x8b", "application/gzip", ".gz"),
]
# Text that stands where a picture was: a page that says "not found", an answer of some API, a drawing in SVG.
TEXT = re.compile(rb"(\xef\xbb\xbf)?\s*(<!doctype|<html|<head|<body|<script|<\?xml|<svg|<!--|\{|\[)", re.IGNORECASE)


def kind_of(head: bytes) -> tuple[str, str]:
    """The content type and the file name's suffix that the first HEAD bytes of a file call for.

    Text of the kinds that stand in for a picture is `text/html`, `image/svg+xml` or `text/plain`; what is not
    recognised is `application/octet-stream` with the suffix `.bin`, and verify looks at it as it looks at all.
    """
    for pattern, kind, suffix in MAGIC:
        if re.match(pattern, head, re.DOTALL):
            return kind, suffix
    text = TEXT.match(head)
    if text and b"<svg" in head.lower():
        return "image/svg+xml", ".svg"
    if text:
        return ("text/plain", ".txt") if text[2] in (b"{", b"[") else ("text/html", ".html")
    return "application/octet-stream", ".bin"


def is_page(kind: str) -> bool:
    """Whether a content type of `kind_of` is text that stands where a picture was expected."""
    return kind.startswith("text/") or kind == "image/svg+xml"
