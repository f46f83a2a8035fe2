"""Macros: what they are found by, that they mean what they stand for, and where they are used."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerloop import cli, tasks
from innerloop.errors import InputError
from innerloop.lm.scripted import Scripted
from innerloop.tokens.macros import Macro, compress, expand, mine
from innerloop.tokens.shorthand import Shorthand, read_macros
from innerloop.tokens.way import Item, answer
from innerloop.tokens.ways import way_of

NAMES = list("ABCDEFGH")
TRACES = st.lists(st.lists(st.sampled_from("abc"), max_size=12), min_size=1, max_size=8).filter(any)


def planted(rows, macro, seed=0):
    """Rows of random steps, each with the sequence `macro` in it twice."""
    draw = random.Random(seed)
    return [[*draw.choices("abcdefgh", k=6), *macro, *draw.choices("abcdefgh", k=6), *macro] for _ in range(rows)]


def test_a_planted_sequence_is_found_first_and_saves_bits():
    found = mine(planted(40, "pqrs"), NAMES)
    assert any("".join(m.steps) == "pqrs" for m in found.macros)
    assert found.bits_after < 0.8 * found.bits_before and found.symbols_after < found.symbols_before


def test_a_macro_may_hold_macros_and_is_named_in_steps():
    found = mine(planted(40, "pqrspqrspqrs"), NAMES, longest=4)
    assert "pqrspqrspqrs" in {"".join(m.steps) for m in found.macros}, "longer than 4 symbols, of which some are macros"


def test_steps_at_random_are_worth_no_name():
    draw = random.Random(0)
    found = mine([draw.choices("abcdefghijklmnop", k=10) for _ in range(40)], NAMES)
    assert found.macros == () and found.bits_after == found.bits_before


@given(TRACES)
def test_what_is_written_with_macros_is_shorter_and_means_the_same(traces):
    found = mine(traces, NAMES, longest=3)
    written = [compress(trace, found.macros) for trace in traces]
    assert [expand(symbols, found.macros) for symbols in written] == [list(trace) for trace in traces]
    assert sum(map(len, written)) == found.symbols_after <= found.symbols_before
    assert found.bits_after <= found.bits_before and all(m.times for m in found.macros)


def test_a_trace_is_written_with_the_fewest_symbols():
    macros = [Macro("A", tuple("ab"), 1), Macro("B", tuple("bcd"), 1)]
    assert compress("abcd", macros) == ["a", "B"], "and not A, c, d"


def test_what_it_cannot_take_is_said():
    for traces, names, longest in (([], NAMES, 8), ([[]], NAMES, 8), ([["a"]], NAMES, 1), ([["A", "b"]], NAMES, 8)):
        with pytest.raises(InputError):
            mine(traces, names, longest)


def test_a_task_learns_its_chains_with_macros_and_nothing_else():
    plain, task = tasks.get("chain"), tasks.get("compressed", task="chain", macros={"B": "0,", "A": ",0,0"})
    question = "5*0*7+0"
    assert plain.respond(question, "chain") == "0,0,0=0" and task.respond(question, "chain") == "0A=0"
    for mode in ("direct", "dots"):
        assert task.respond(question, mode) == plain.respond(question, mode)
    row = task.encode(f"{question}c>0A=0;".ljust(task.shape[1], task.pad_symbol))
    assert task.decode(row).startswith(f"{question}c>0A=0;") and task.response(row).tolist()[-1] == task.end
    assert tasks.get("compressed", **task.options).options == task.options, "a run can be opened again"
    for wrong in ({"a": "00"}, {"A": "0"}, {"AB": "00"}, {"A": "0ü"}):
        with pytest.raises(InputError, match="capital letter"):
            tasks.get("compressed", macros=wrong)
    with pytest.raises(InputError, match="no task whose chains"):
        tasks.get("compressed", task="sudoku")


def test_named_steps_are_told_and_spelled_out(tmp_path):
    macros = [Macro("[A]", ("carry the one", "add the next column"), 3)]
    seen = []

    def write(prompt, seed):
        seen.append(str(prompt))
        return " Now [A]. The answer is 42.\n\nQ:"

    said = answer(Shorthand(Scripted(write), macros), Item("q", "39 + 3?", "42"))
    assert "[A] = carry the one; add the next column" in seen[0]
    assert said.answer == "42" and "Now carry the one; add the next column." in said.text
    with pytest.raises(InputError, match="one or more macros"):
        Shorthand(Scripted(write), [])
    (tmp_path / "m.json").write_text('{"macros": [{"name": "", "steps": []}]}')
    with pytest.raises(InputError, match="holds no macros"):
        read_macros(tmp_path / "m.json")


def test_macros_of_a_file_are_found_kept_and_used(tmp_path, capsys):
    file, out = tmp_path / "traces.jsonl", tmp_path / "macros.json"
    rows = [{"steps": row} for row in planted(30, ["carry the one", "next column"])] + [{"text": "First.\nThen that."}]
    file.write_text("\n".join(map(json.dumps, rows)))
    assert cli.main(["macros", str(file), "--out", str(out)]) == 0
    assert "carry the one | next column" in capsys.readouterr().out
    found = read_macros(out)
    assert ("carry the one", "next column") in [m.steps for m in found] and found[0].name == "[A]"
    way = way_of(f"shorthand({str(out)!r}, tokens=16)", Scripted(lambda prompt, seed: "x"))
    assert way.macros == found and way.max_new_tokens == 16
    file.write_text('{"steps": [1]}')
    assert cli.main(["macros", str(file), "--out", str(out)]) == 2
    assert "`steps`, a list of texts" in capsys.readouterr().err and read_macros(out) == found
