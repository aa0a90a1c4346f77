"""Turn what a source found into rows of data/gathered.csv, its pictures into files of data/raw.

Nothing is judged here: broken files are kept as they came, for verify to refuse by name.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from pawprint.sources import Found
from pawprint.sources.content import HEAD, content_type_of, is_video
from pawprint.sources.download import Downloader, Result
from pawprint.sources.journal import Journal, part_of
from pawprint.sources.licences import WITHHELD, why_withheld, withhold
from pawprint.sources.lock import Row, update_row
from pawprint.sources.names import A_VIDEO
from pawprint.sources.opening import Source
from pawprint.sources.store import (
    has_content,
    install,
    stored_path,
    suffix_of_name,
    suffix_of_type,
)
from pawprint.tables import write_bytes

Places = dict[tuple[str, str], Path]  # (label, sha256) -> path in data/raw


def fetch_found(
    source: Source,
    lock: list[Row],
    downloader: Downloader,
    journal: Journal,
    licences: Sequence[str] = (),
) -> list[Row]:
    """Ask the source and fetch all that it finds; return one row per picture, in its order.

    lock: the rows of an older lock, whose pictures are not downloaded twice. licences: of the
    pictures to fetch; none: all.
    """
    found = withhold(source.find_pictures(downloader), licences)
    if source.is_remote:
        return download_pictures(list(found), lock, downloader, journal)
    items = tqdm(found, desc="gather", unit="picture", delay=1)
    return [store_picture(item) for item in items]


def fetch_locked(
    lock: list[Row],
    source: Source,
    downloader: Downloader,
    journal: Journal,
    licences: Sequence[str] = (),
) -> list[Row]:
    """Fetch what the lock lists and data/raw lacks; return the lock's rows with updated status.

    Rows without a hash never had a picture. They stay as they are: the lock says what belongs to
    the data. Only those that an earlier `gather.licences` left out are fetched, once `licences`
    allows them.
    """
    kept = [row for row in lock if not _why_left_out(row, licences)]
    wanted = [row for row in kept if row.sha256 and not has_content(Path(row.path), row.sha256)]
    freed = [row for row in kept if row.status == WITHHELD and not row.sha256]
    now = _fetch_rows(wanted, freed, lock, source, downloader, journal)
    asked = {(row.url, row.label) for row in (*wanted, *freed)}
    rows = []
    for row in lock:
        key = (row.url, row.label)
        if reason := _why_left_out(row, licences):
            rows.append(replace(row, status=WITHHELD, reason=reason))
        elif key in asked:
            rows.append(update_row(row, now.get(key)))
        else:
            rows.append(replace(row, status="ok", reason="") if row.sha256 else row)
    return rows


def _why_left_out(row: Row, licences: Sequence[str]) -> str:
    """Return why `gather.licences` leaves out a row; "" if it does not, or never had a picture."""
    has_picture = row.sha256 or row.status == WITHHELD
    return why_withheld(row.licence, licences) if has_picture else ""


def _fetch_rows(
    wanted: list[Row],
    freed: list[Row],
    lock: list[Row],
    source: Source,
    downloader: Downloader,
    journal: Journal,
) -> dict[tuple[str, str], Row]:
    """Fetch pictures of the lock; return the rows of these fetches by address and label.

    wanted: rows whose hash is known, so that another content is not kept. freed: rows whose
    pictures were left out until now.
    """
    places = {(row.label, row.sha256): Path(row.path) for row in wanted}
    keys = {(row.url, row.label): places for row in wanted} | {
        (row.url, row.label): None for row in freed
    }
    fetched: list[Row] = []
    if source.is_remote:
        for rows, where in ((wanted, places), (freed, None)):
            items = [Found(row.url, row.label) for row in rows]
            fetched += download_pictures(items, lock, downloader, journal, where)
    elif keys:
        for item in source.find_pictures(downloader, {url for url, _ in keys}):
            if (item.url, item.label) in keys:
                fetched.append(store_picture(item, keys[item.url, item.label]))
    return {(row.url, row.label): row for row in fetched}


def download_pictures(
    items: list[Found],
    lock: list[Row],
    downloader: Downloader,
    journal: Journal,
    places: Places | None = None,
) -> list[Row]:
    """Download the items' addresses into data/raw; return one row per item, in their order.

    Each address is fetched once, whatever its labels. places: where the lock keeps each label and
    SHA-256; other pictures are not kept. None if there is no lock: then all are.
    """
    labels: dict[str, list[str]] = {}
    for item in items:
        if not item.missing:
            labels.setdefault(item.url, []).append(item.label)
    results = _known_results(labels, lock, journal, places)
    for url, result in results.items():
        _install_download(url, result, labels[url], places)

    def done(url: str, result: Result) -> None:
        journal.add(url, result)
        results[url] = result
        _install_download(url, result, labels[url], places)
        bar.update()

    parts = {url: part_of(url) for url in labels if url not in results}
    with tqdm(
        desc="gather", unit="picture", total=len(labels), initial=len(results), delay=1
    ) as bar:
        downloader.fetch_all(parts, done)
    return [
        _missing_row(item) if item.missing else _downloaded_row(item, results[item.url])
        for item in items
    ]


def store_picture(item: Found, places: Places | None = None) -> Row:
    """Store one picture's bytes under the name of its content; return its row.

    A file that cannot be read becomes a row with status `failed`, a video one with status `not a
    picture`. places: as for `download_pictures`.
    """
    if item.missing or item.read is None:
        return _missing_row(item)
    try:
        content = item.read()
    except OSError as error:
        return _row(item, "failed", error.strerror or str(error))
    sha256, kind = hashlib.sha256(content).hexdigest(), content_type_of(content[:HEAD])
    if is_video(kind):
        return _row(item, "not a picture", A_VIDEO)
    path = stored_path(item.label, sha256, suffix_of_name(item.url, kind))
    place = path if places is None else places.get((item.label, sha256))
    if place and not has_content(place, sha256):
        write_bytes(place, content)
    row = _row(item, "ok")
    return replace(row, path=path.as_posix(), sha256=sha256, bytes=len(content), type=kind)


def _known_results(
    labels: dict[str, list[str]], lock: list[Row], journal: Journal, places: Places | None
) -> dict[str, Result]:
    """Return the results of addresses that need not be asked for, by address.

    These are addresses that an interrupted run is done with, and pictures of an older lock that
    are still in data/raw.
    """
    results = {}
    for url in labels:
        result = journal.results.get(url)
        if result is None:
            continue
        if result.status != "ok" or _is_here(url, result, _paths_of(result, labels[url], places)):
            results[url] = result
    for row in lock:
        if row.sha256 and row.label in labels.get(row.url, []) and row.url not in results:
            result = Result("ok", "", row.sha256, row.bytes, row.type)
            if _is_here(row.url, result, _paths_of(result, labels[row.url], places)):
                results[row.url] = result
    return results


def _is_here(url: str, result: Result, paths: list[Path]) -> bool:
    """Return whether a download is whole, as a part or at all its paths in data/raw."""
    if has_content(part_of(url), result.sha256):
        return True
    return all(has_content(path, result.sha256) for path in paths)


def _install_download(url: str, result: Result, labels: list[str], places: Places | None) -> None:
    """Move a download that ended well from its part to data/raw."""
    part = part_of(url)
    if result.status == "ok" and part.is_file():
        install(part, _paths_of(result, labels, places))


def _paths_of(result: Result, labels: list[str], places: Places | None) -> list[Path]:
    """Return where a download belongs in data/raw; nowhere if the lock has another SHA-256."""
    if places is None:
        suffix = suffix_of_type(result.type)
        return [stored_path(label, result.sha256, suffix) for label in labels]
    keys = [(label, result.sha256) for label in labels]
    return [places[key] for key in keys if key in places]


def _downloaded_row(item: Found, result: Result) -> Row:
    row = _row(item, result.status, result.reason)
    if result.status != "ok":
        return row
    (path,) = _paths_of(result, [item.label], None)
    return replace(
        row, path=path.as_posix(), sha256=result.sha256, bytes=result.bytes, type=result.type
    )


def _missing_row(item: Found) -> Row:
    return _row(item, item.status, item.missing)


def _row(item: Found, status: str, reason: str = "") -> Row:
    """Return the row of an item without its picture."""
    return Row(
        label=item.label,
        url=item.url,
        query=item.query,
        status=status,
        reason=reason,
        split=item.split,
        group=item.group,
        licence=item.credit.licence,
        author=item.credit.author,
        page=item.credit.page,
    )
