"""Source `search`: pictures that an image search finds, by `ddgs` (duckduckgo_search under its maintained name).

A search engine answers differently tomorrow; what was found today stands in data/gathered.csv. Results are kept a query
at a time in data/gather.partial until then, so a killed run searches again only for what it had not found yet.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.request import getproxies

from ddgs import DDGS
from ddgs.exceptions import DDGSException
from pydantic import Field
from tqdm import tqdm

from pawprint.params import Params
from pawprint.sources import PARTIAL, Found
from pawprint.tables import read_json, write_json


class SearchOptions(Params):
    """What data/sources/NAME.yaml may say for `kind: search`.

    classes: label -> what to search for. pause: seconds between two questions to the search engine; it doubles with
    each of the `retries` after a refusal. backend: search engines in the order in which they are tried.
    """

    kind: Literal["search"]
    classes: dict[str, list[str]] = Field(min_length=2)
    max_results: int = Field(150, ge=1, le=1000)
    region: str = Field("us-en", pattern="^[a-z]{2}-[a-z]{2}$")
    safesearch: Literal["on", "moderate", "off"] = "moderate"
    backend: str = "duckduckgo,bing"
    size: Literal["", "Small", "Medium", "Large", "Wallpaper"] = ""
    type_image: Literal["", "photo", "clipart", "gif", "transparent", "line"] = ""
    license_image: Literal[
        "", "any", "Public", "Share", "ShareCommercially", "Modify", "ModifyCommercially"
    ] = ""
    pause: float = Field(1.5, ge=0)
    retries: int = Field(3, ge=0, le=10)
    timeout: int = Field(15, ge=1)


def found(options: SearchOptions, root: Path) -> Iterator[Found]:
    """Yield the addresses found, in the order of the classes, queries and results, each once a label.

    A query that the engine refused, or cut off, ends in a Found that says so in `missing`. `root` is not used.
    """
    queries = [(label, query) for label, queries in options.classes.items() for query in queries]
    for label, query in tqdm(queries, desc="search", unit="query"):
        urls, missing = search(query, options)
        for url in urls:
            yield Found(url, label, query=query)
        if missing:
            logging.warning("search %r: %s", query, missing)
            yield Found(f"search:{query}", label, query=query, missing=missing)


def search(query: str, options: SearchOptions) -> tuple[list[str], str]:
    """Addresses of pictures for one query, at most `max_results`, and why they are fewer, or "".

    Full answers are remembered in data/gather.partial, so that the same question is not asked twice in one gathering.
    """
    asked = options.model_dump(exclude={"classes", "pause", "retries", "timeout"}) | {
        "query": query
    }
    memory = (
        PARTIAL / "search" / f"{hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]}.json"
    )
    if memory.is_file():
        return read_json(memory)["urls"], ""
    urls: list[str] = []
    engine = DDGS(
        proxy=os.environ.get("DDGS_PROXY") or getproxies().get("https"), timeout=options.timeout
    )
    page, missing = 1, ""
    while len(urls) < options.max_results:
        results, missing = ask(engine, query, page, options)
        fresh = [url for url in dict.fromkeys(str(each.get("image") or "") for each in results)]
        fresh = [url for url in fresh if url and url.isprintable() and url not in urls]
        if not fresh:
            break
        urls, page = urls + fresh, page + 1
    urls = urls[: options.max_results]
    if missing:
        return (
            urls,
            f"{len(urls)} of {options.max_results} found, then the search engine refused: {missing}",
        )
    write_json(memory, {"query": query, "urls": urls})
    return urls, ""


def ask(
    engine: DDGS, query: str, page: int, options: SearchOptions
) -> tuple[list[dict[str, Any]], str]:
    """One page of results, and why there are none, or "".

    ddgs tells a rate limit and the end of the results by the same error, "No results". The first page is therefore
    asked for again like after any refusal; a later page once more, and then it is taken for the end.
    """
    extra = {name: getattr(options, name) for name in ("size", "type_image", "license_image")}
    pause = options.pause
    for attempt in range(options.retries + 1):
        time.sleep(pause)
        try:
            return engine.images(
                query,
                region=options.region,
                safesearch=options.safesearch,
                max_results=None,
                page=page,
                backend=options.backend,
                **{name: value for name, value in extra.items() if value},
            ), ""
        except DDGSException as error:
            missing = " ".join(str(error).split())[:200]
            if page > 1 and "No results" in missing and attempt >= min(1, options.retries):
                return [], ""
            pause *= 2
    return [], missing
