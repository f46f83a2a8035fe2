"""Puzzle sets by their Hugging Face name, such as `sapientinc/sudoku-extreme` (optional, online only)."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from innerloop.errors import InputError
from innerloop.text import printable

__all__ = ["fetch", "is_hub_name"]

NAME = re.compile(r"([\w][\w.-]*/[\w][\w.-]*?)(?:/(train|test))?")
DATA_SUFFIXES = (
    ".csv",
    ".tsv",
    ".txt",
    ".json",
    ".jsonl",
    ".npy",
    ".npz",
    ".gz",
    ".zip",
    ".parquet",
    ".pt",
    ".safetensors",
)
ENDINGS = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", "/dataset.json")


def is_hub_name(name: str) -> bool:
    """Could this be `owner/dataset` or `owner/dataset/split`? A name that ends as a data file does never is."""
    match = NAME.fullmatch(name)
    return match is not None and not match[1].lower().endswith(DATA_SUFFIXES)


def fetch(name: str, split: str | None = None) -> Path:
    """Download one split (default train) of a data set and return its local path: SPLIT.csv, .jsonl, or an official
    folder.

    Raises InputError where huggingface_hub is missing, the network or the data set cannot be reached, or it has no such
    file.
    """
    match = NAME.fullmatch(name)
    if match is None or not is_hub_name(name):
        raise InputError(f"{name!r} is neither a file here nor a Hugging Face name; write owner/dataset.")
    repo, part = match[1], match[2] or split or "train"
    try:
        import huggingface_hub as hub
        from huggingface_hub.constants import ENDPOINT
    except ImportError:
        raise InputError(
            f"{name!r} is no file here, and reading it from Hugging Face needs huggingface_hub; "
            "pip install 'innerloop[hub]', or give a local path."
        ) from None
    # The client raises a dozen kinds of error (its own, requests', the system's), and none of them is the user's to
    # debug.
    try:
        if not _reachable(ENDPOINT):
            for ending in ENDINGS[:-1]:
                cached = hub.try_to_load_from_cache(repo, part + ending, repo_type="dataset")
                if isinstance(cached, str):
                    return Path(cached)
            raise InputError(
                f"{name!r} is no file here, and {ENDPOINT} cannot be reached; go online, or give a local path."
            )
        held = set(hub.list_repo_files(repo, repo_type="dataset"))
        for ending in ENDINGS:
            if part + ending not in held:
                continue
            if ending != "/dataset.json":
                return Path(hub.hf_hub_download(repo, part + ending, repo_type="dataset"))
            patterns = [f"{part}/*", "*.json"]
            return Path(hub.snapshot_download(repo, repo_type="dataset", allow_patterns=patterns)) / part
    except InputError:
        raise
    except Exception as error:
        reason = printable(str(error).split("\n")[0].split(". ")[0], 160)
        raise InputError(
            f"{name!r} is no file here, and Hugging Face could not deliver it ({type(error).__name__}: {reason}); "
            "check the name and the network, or give a local path."
        ) from None
    raise InputError(
        f"{name!r} has no {part}.csv, {part}.jsonl or {part}/dataset.json; name another data set or split."
    )


def _reachable(endpoint: str) -> bool:
    """Can the server's name be resolved? Asked first, because the client retries for half a minute before it gives
    up.
    """
    if getproxies():
        return True
    try:
        socket.getaddrinfo(urlsplit(endpoint).hostname, 443)
    except OSError:
        return False
    return True
