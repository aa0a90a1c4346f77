"""Source `search`: pictures that an image search finds, by `ddgs` (duckduckgo_search, renamed).

A search engine answers differently tomorrow, so what was found today is kept in data/gathered.csv.
Until that is written, the results of each query are kept in data/gather.partial, so a killed run
searches again only for what it had not found yet.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.request import getproxies

from ddgs import DDGS
from pydantic import Field
from tqdm import tqdm

from pawprint.params import Params
from pawprint.sources import PARTIAL, Found
from pawprint.sources.licences import credit_of
from pawprint.sources.proxies import split_proxy
from pawprint.tables import read_json, write_json


class SearchOptions(Params):
    """What data/sources/NAME.yaml may say for `kind: search`.

    classes: label -> what to search for. max_results: of one query. backend: search engines, in the
    order in which they are tried. pause: seconds between two questions to the search engine; it
    doubles with each of the `retries` after a refusal. timeout: seconds.
    """

    kind: Literal["search"]
    classes: dict[str, Annotated[list[str], Field(min_length=1)]] = Field(min_length=2)
    max_results: int = Field(default=150, ge=1, le=1000)
    region: str = Field(default="us-en", pattern="^[a-z]{2}-[a-z]{2}$")
    safesearch: Literal["on", "moderate", "off"] = "moderate"
    backend: str = "duckduckgo,bing"
    size: Literal["", "Small", "Medium", "Large", "Wallpaper"] = ""
    type_image: Literal["", "photo", "clipart", "gif", "transparent", "line"] = ""
    license_image: Literal[
        "", "any", "Public", "Share", "ShareCommercially", "Modify", "ModifyCommercially"
    ] = ""
    pause: float = Field(default=1.5, ge=0, le=3600)
    retries: int = Field(default=3, ge=0, le=10)
    timeout: int = Field(default=15, ge=1, le=3600)


def find_pictures(options: SearchOptions, root: Path) -> Iterator[Found]:
    """Yield the addresses found, in the order of the classes, queries and results.

    A query that the engine refused, or cut off, ends in a Found that says so in `missing`.
    root: not used.
    """
    queries = [(label, query) for label, queries in options.classes.items() for query in queries]
    for label, query in tqdm(queries, desc="search", unit="query"):
        pages, missing = search_query(query, options)
        for url, page in pages.items():
            yield Found(url, label, query=query, credit=credit_of(page=page))
        if missing:
            logging.warning("search %r: %s", query, missing)
            yield Found(f"search:{query}", label, query=query, missing=missing, status="incomplete")


def search_query(query: str, options: SearchOptions) -> tuple[dict[str, str], str]:
    """Return the addresses found for one query, at most `max_results`, and why they are fewer.

    Each comes with the address of the page that shows the picture, or "".

    Full answers are kept in data/gather.partial, so that a question is asked once per gathering.
    """
    told = {"classes", "pause", "retries", "timeout"}
    asked = options.model_dump(exclude=told) | {"query": query}
    name = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
    memory = PARTIAL / "search" / f"{name}.json"
    if memory.is_file():
        found = read_json(memory)["urls"]  # a list, if an older version wrote it
        return (dict.fromkeys(found, "") if isinstance(found, list) else found), ""
    pages: dict[str, str] = {}
    engine = DDGS(proxy=_proxy(), timeout=options.timeout)
    page, missing = 1, ""
    while len(pages) < options.max_results:
        results, missing = _search_page(engine, query, page, options)
        before = len(pages)
        for each in results:
            url = str(each.get("image") or "")
            if url and url.isprintable():
                pages.setdefault(url, str(each.get("url") or ""))
        if len(pages) == before:
            break
        page += 1
    pages = dict(islice(pages.items(), options.max_results))
    if missing:
        said = f"{len(pages)} of {options.max_results} found"
        return pages, f"{said}, then the search engine refused: {missing}"
    if not pages:
        return pages, "the search engine finds nothing"
    write_json(memory, {"query": query, "urls": pages})
    return pages, ""


def _search_page(
    engine: DDGS, query: str, page: int, options: SearchOptions
) -> tuple[list[dict[str, Any]], str]:
    """Return one page of results, and why there are none, or "".

    ddgs uses one error, "No results", for a rate limit and for the end of the results. So the first
    page is asked for again as after any refusal; a later page once more, and then it is the end.
    """
    extra = {name: getattr(options, name) for name in ("size", "type_image", "license_image")}
    pause, missing = options.pause, ""
    for attempt in range(options.retries + 1):
        time.sleep(pause)
        try:
            results = engine.images(
                query,
                region=options.region,
                safesearch=options.safesearch,
                max_results=None,
                page=page,
                backend=options.backend,
                **{name: value for name, value in extra.items() if value},
            )
            return results, ""
        except Exception as error:  # the engines' answers can break their parsers in many ways
            missing = " ".join(str(error).split())[:200] or type(error).__name__
            if page > 1 and "No results" in missing and attempt >= min(1, options.retries):
                return [], ""
            pause *= 2
    return [], missing


def _proxy() -> str | None:
    """Return the proxy for searches. Raises StageError if the environment names an odd one."""
    proxy = os.environ.get("DDGS_PROXY") or getproxies().get("https")
    if not proxy or proxy == "tb":  # ddgs's own name for the Tor browser
        return proxy
    split_proxy(proxy, ("http", "https", "socks5", "socks5h"))
    return proxy if "://" in proxy else f"http://{proxy}"
