"""Figures of many runs: a band over seeds, names in the legend, axes that hold them."""

from innerloop.show.figures import COLOURS, depth_curve, draw, learning_curve


def judged(*exact):
    rows = [
        {"depth": 2**i, "width": 1, "halting": False, "exact": e, "low": e, "high": e, "valid": e, "steps": 1}
        for i, e in enumerate(exact)
    ]
    return {"rows": rows, "test_puzzles": 100, "trained_depth": 2}


def names(figure):
    return [t.get_text() for t in figure.axes[0].get_legend().get_texts()]


def test_seeds_are_one_line_in_the_band_of_all():
    figure = depth_curve({"a": [judged(0.2, 0.4), judged(0.4, 0.8)], "b": [judged(0.1, 0.1)]})
    axes = figure.axes[0]
    assert names(figure) == ["a (2 seeds)", "b"]
    assert [round(float(y)) for y in axes.lines[0].get_ydata()] == [30, 60]
    corners = {tuple(round(float(v)) for v in point) for point in axes.collections[0].get_paths()[0].vertices}
    assert {(1, 20), (1, 40), (2, 40), (2, 80)} <= corners and "range over seeds" in axes.get_xlabel()


def test_the_axes_hold_many_runs(tmp_path):
    runs = {f"a run with a rather long name {i}": [judged(*[0.1 * i] * 14)] for i in range(7)}
    figure = depth_curve(runs)
    lines = figure.axes[0].lines[:7]
    assert len({(line.get_color(), str(line.get_linestyle())) for line in lines}) == 7 > len(COLOURS)
    ticks = [t.get_text() for t in figure.axes[0].get_xticklabels()]
    assert len(ticks) == 14  # powers of two alone
    figure.draw_without_rendering()
    box, legend = (x.get_window_extent() for x in (figure.axes[0], figure.axes[0].get_legend()))
    inches = box.height / figure.dpi
    assert inches > 1.4, "the legend took the room of the axes"
    assert legend.y0 >= box.y1 - 1 and legend.x1 <= figure.bbox.x1 and legend.y1 <= figure.bbox.y1 + 1


def test_two_long_names_and_the_word_trained_stay_inside():
    figure = depth_curve({"trm-sudoku4 of mine": [judged(0.1, 0.2)] * 2, "damped-sudoku4 of mine": [judged(0.3, 0.4)]})
    figure.draw_without_rendering()
    axes = figure.axes[0]
    inside = [axes.get_legend().get_window_extent(), *(t.get_window_extent() for t in axes.texts)]
    assert axes.texts and all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in inside)
    assert axes.get_window_extent().width > 0.6 * figure.bbox.width


def test_learning_over_seeds():
    rows = [[{"step": s, "valid/exact@4": v * s / 20, "train/exact_accuracy": 0.5} for s in (10, 20)] for v in (0.5, 1)]
    figure = learning_curve({"a": rows})
    assert [round(float(y), 1) for y in figure.axes[0].lines[0].get_ydata()] == [37.5, 75]
    assert names(figure) == ["validation, 4 steps (2 seeds)"]


def test_every_format_is_written(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "valid/exact@4": 0.5}\n')
    written = draw({"a": [tmp_path]}, tmp_path / "out")
    assert [p.name for p in written] == ["learning.png", "learning.svg", "learning.pdf"]
    first = [p.read_bytes() for p in written]
    assert b"/Type3" not in first[2], "fonts that some journals refuse"
    assert [b[:4] for b in first[::2]] == [b"\x89PNG", b"%PDF"]
