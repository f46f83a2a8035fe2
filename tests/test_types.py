"""An editor knows the type of every public name: mypy reads code as a user writes it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import innerloop

ROOT = Path(__file__).resolve().parents[1]
CODE = ROOT / "tests/user_code.py"
pytestmark = pytest.mark.slow  # mypy reads torch, unless make lint has just done so


def mypy(path):
    """(what is revealed, line -> type; errors) of a file, by the project's settings."""
    words = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--no-error-summary", str(path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, 1), done.stderr
    lines = [line for line in done.stdout.splitlines() if Path(line.split(":")[0]).name == path.name]
    found = {int(n): told for n, told in re.findall(r':(\d+): note: Revealed type is "(.*)"$', "\n".join(lines), re.M)}
    return found, [line for line in lines if ": error: " in line]


def is_unknown(told):
    """Whether a revealed type says nothing: Any, or a name that mypy takes for no type."""
    return told in ("Any", "builtins.object") or "?" in told


def test_every_public_name_has_a_type_in_user_code():
    assert (ROOT / "innerloop/py.typed").is_file()
    text = CODE.read_text()
    unused = [name for name in innerloop.__all__ if not re.search(rf"\binnerloop\.{name}\b", text)]
    assert not unused, f"tests/user_code.py does not use {unused}"
    found, errors = mypy(CODE)
    assert not errors
    asked = {n for n, line in enumerate(text.splitlines(), 1) if line.strip().startswith("reveal_type(")}
    assert asked == set(found)
    unknown = {text.splitlines()[n - 1].strip(): told for n, told in found.items() if is_unknown(told)}
    assert not unknown
    told = {text.splitlines()[n - 1].strip(): told for n, told in found.items()}
    assert told["reveal_type(thought.answer.logits)"] == "torch._tensor.Tensor"
    assert told['reveal_type(innerloop.think(Dots(), "a", depth=3).answer)'].endswith("int")
    assert told['reveal_type(innerloop.list("systems"))'] == "list[str]"


def test_a_type_that_says_nothing_and_a_wrong_call_are_found(tmp_path):
    path = tmp_path / "wrong_user_code.py"
    path.write_text(
        "import json\n\nimport innerloop\n\nreveal_type(json.loads(''))\ninnerloop.think(3, 'a', depth=1)\n"
    )
    found, errors = mypy(path)
    assert is_unknown(found[5]) and len(errors) == 1 and '"think"' in errors[0]
    assert is_unknown("list?[str]") and not is_unknown("list[str]")
