"""Archives of small files, for tests that serve or read them."""

import gzip
import io
import tarfile
from collections.abc import Mapping


def tarred(files: Mapping[str, bytes], zipped: bool = True) -> bytes:
    """A tar of the files; gzipped, without today's date, unless told not to."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    content = buffer.getvalue()
    return gzip.compress(content, mtime=0) if zipped else content
