"""The Hub's part of `pawprint publish`: what is there, what changed, and one commit with it.

A repository keeps in pawprint.json what was published last: model, test error, commit of the
project and the names of the files. So the next commit can say what changed, and files that are no
longer part of export/ go; those that somebody else put there stay.
"""

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pawprint.commands.publish.folder import About, Upload
from pawprint.judging.errors import NAMES, describe_error
from pawprint.params import StageError, listed
from pawprint.sources.hub import reason_of
from pawprint.sources.hub.options import INSTALL

RECORD = "pawprint.json"


@dataclass(frozen=True)
class Change:
    """What a publication does to one repository.

    repo: owner/name. is_new: it must be created. head: its last commit. was: its pawprint.json.
    """

    upload: Upload
    repo: str
    is_new: bool = False
    head: str = ""
    was: dict[str, Any] = field(default_factory=dict)
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be published."""
        return not (self.added or self.changed or self.deleted)


def open_hub() -> tuple[Any, str, str]:
    """Return the client, the user's name and the token, from HF_TOKEN or `hf auth login`.

    Raises StageError if there is no token, or the Hub does not take it.
    """
    try:
        from huggingface_hub import HfApi, get_token
    except ImportError:
        raise StageError(f"publish needs huggingface_hub: {INSTALL}") from None
    token = get_token()
    if not token:
        raise StageError("publish needs a token: set HF_TOKEN, or run `hf auth login`")
    api = HfApi(token=token, library_name="pawprint")
    with hub_errors("the Hub"):
        return api, str(api.whoami()["name"]), token


def check_name(repo: str) -> None:
    """Raise StageError if a name cannot be that of a repository."""
    try:
        from huggingface_hub.utils import HFValidationError, validate_repo_id
    except ImportError:
        raise StageError(f"publish needs huggingface_hub: {INSTALL}") from None
    try:
        validate_repo_id(repo)
    except HFValidationError:
        raise StageError(
            f"{repo!r} cannot be a repository's name; give one by --repo OWNER/NAME, of letters, "
            "digits, -, _ and single dots, 96 at most"
        ) from None


def compare(api: Any, upload: Upload, repo: str, is_public: bool) -> Change:
    """Return what differs between the files and a repository; nothing is written.

    Raises StageError if it is public though `is_public` is false, or cannot be read.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    names = sorted(upload.files)
    with hub_errors(repo):
        try:
            info = api.repo_info(repo, repo_type=upload.kind, files_metadata=True)
        except RepositoryNotFoundError:
            return Change(upload, repo, is_new=True, added=tuple(names))
    if not info.private and not is_public:
        raise StageError(
            f"the {upload.kind} {repo} is public: add --public to publish there, or name another "
            "by --repo"
        )
    there = {each.rfilename: each for each in info.siblings or []}
    was = read_record(api, upload, repo, info.sha) if RECORD in there else {}
    ours = was.get("files")
    old = set(ours) if isinstance(ours, list) else set()
    return Change(
        upload,
        repo,
        head=str(info.sha or ""),
        was=was,
        added=tuple(name for name in names if name not in there),
        changed=tuple(
            name for name in names if name in there and not is_same(upload.files[name], there[name])
        ),
        deleted=tuple(sorted((old & there.keys()) - {*names, RECORD})),
    )


def is_same(content: bytes, remote: Any) -> bool:
    """Return whether a file of a repository has this content, by the hash that the Hub gives."""
    if remote.lfs:
        return bool(hashlib.sha256(content).hexdigest() == remote.lfs.sha256)
    blob = b"blob %d\0" % len(content) + content
    return bool(hashlib.sha1(blob, usedforsecurity=False).hexdigest() == remote.blob_id)


def read_record(api: Any, upload: Upload, repo: str, head: str) -> dict[str, Any]:
    """Return the pawprint.json of a repository; nothing if it is not one of ours."""
    with tempfile.TemporaryDirectory() as folder, hub_errors(repo):
        path = api.hf_hub_download(
            repo, RECORD, repo_type=upload.kind, revision=head, local_dir=folder
        )
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    try:
        content = json.loads(text)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def publish(api: Any, change: Change, about: About, is_public: bool) -> str:
    """Create the repository if it is new, and make one commit; return its hash."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    upload = change.upload
    if change.is_new:
        with hub_errors(change.repo):
            api.create_repo(
                change.repo,
                repo_type=upload.kind,
                private=not is_public,
                space_sdk=upload.sdk or None,
            )
    record = {"model": about.model, "test": about.test, "commit": about.commit}
    text = json.dumps(record | {"files": sorted(upload.files)}, indent=2) + "\n"
    operations: list[Any] = [CommitOperationAdd(RECORD, text.encode("utf-8"))]
    for name in (*change.added, *change.changed):
        operations.append(CommitOperationAdd(name, upload.files[name]))
    operations += [CommitOperationDelete(name) for name in change.deleted]
    with hub_errors(change.repo):
        done = api.create_commit(
            change.repo,
            operations,
            commit_message=subject(change.was, about),
            commit_description=description(change, about),
            repo_type=upload.kind,
            parent_commit=change.head or None,
        )
    return str(done.oid)


def subject(was: dict[str, Any], about: About) -> str:
    """Return a commit's first line: the test error, before and now, and the model."""
    now, name = describe_error(about.test), NAMES.get(about.model, about.model)
    try:
        before, old = describe_error(was["test"]), str(was["model"])
    except (KeyError, TypeError):
        return f"{name}: test error {now}"
    text = f"test error {before} -> {now}" if before != now else f"test error as before, {now}"
    return f"{name}{'' if old == about.model else f' for the {NAMES.get(old, old)}'}: {text}"


def description(change: Change, about: About) -> str:
    """Return the rest of a commit's message: the files, and the commit of the project."""
    parts = [("Added", change.added), ("Changed", change.changed), ("Deleted", change.deleted)]
    lines = [f"{word}: {listed(names, 20)}" for word, names in parts if names]
    if about.commit:
        lines.append(f"Made at commit {about.commit} of the project.")
    return "\n".join(lines)


@contextlib.contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """Turn what huggingface_hub raises into a StageError of one line, without addresses."""
    from huggingface_hub import errors

    try:
        yield
    except (StageError, MemoryError):
        raise
    except errors.OfflineModeIsEnabled:
        raise StageError(f"{what}: HF_HUB_OFFLINE forbids to publish") from None
    except Exception as error:
        raise StageError(f"{what}: {explain(error)}") from None


NEW_TOKEN = "set HF_TOKEN to one that may write, or run `hf auth login`"


def explain(error: Exception) -> str:
    """Return in one line why the Hub refused, and what can be done."""
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if status == 401:
        return f"the Hub does not take the token: {NEW_TOKEN}"
    if status == 402:
        return "the Hub asks for a paid plan; use --space browser (static) or --space none"
    if status == 403:
        return f"the token may not write there: {NEW_TOKEN}, or name another owner by --repo"
    if status in (409, 412):
        return "it changed meanwhile; run `pawprint publish` again"
    if isinstance(error, ValueError) and not status:
        return " ".join(str(error).split())[:300]
    return f"not published ({reason_of(error)}); run `pawprint publish` again"
