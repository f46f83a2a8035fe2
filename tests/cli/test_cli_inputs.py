"""What the verbs print to be typed next."""

import sys

from innerloop.cli.inputs import next_command
from innerloop.cli.trouble import exit_code


def test_a_next_command_names_the_program_that_a_shell_finds(monkeypatch, tmp_path):
    here = tmp_path / "my env" / "bin" / "innerloop"
    here.parent.mkdir(parents=True)
    here.write_text("#!/bin/sh\n")
    here.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(here), "train"])
    monkeypatch.setenv("PATH", "")
    assert next_command("eval", "runs/a b", 3) == f"'{here}' eval 'runs/a b' 3"
    monkeypatch.setenv("PATH", str(here.parent))
    assert next_command("eval", "runs/demo") == "innerloop eval runs/demo"
    monkeypatch.setattr(sys, "argv", ["pytest"])
    assert next_command("serve") == "innerloop serve"


def test_a_missing_package_is_no_fault_of_ours(capsys):
    for module, extra in (("pydantic", "serve"), ("ortools.sat", "solve"), ("matplotlib.pyplot", "study")):
        assert exit_code(ModuleNotFoundError(f"No module named {module!r}", name=module)) == 2
        said = f"error: this needs {module}, which is not installed: pip install 'innerloop[{extra}]'"
        assert capsys.readouterr().err.strip() == said
    assert exit_code(ModuleNotFoundError("No module named 'nothing'", name="nothing")) == 1
    assert "a fault of innerloop" in capsys.readouterr().err
