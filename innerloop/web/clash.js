// Givens that contradict each other: which cells, and in words, before anything thinks.

/** What a unit of cells is called: a row, a column, or the box that begins somewhere. */
function called(model, unit) {
  const rows = new Set(unit.map((i) => Math.floor(i / model.columns) + 1));
  const columns = new Set(unit.map((i) => (i % model.columns) + 1));
  if (rows.size === 1) return `row ${[...rows][0]}`;
  if (columns.size === 1) return `column ${[...columns][0]}`;
  return `the box from row ${Math.min(...rows)}, column ${Math.min(...columns)}`;
}

/** {cells, said} of a puzzle; wrong: the cells that break a rule where the puzzle is taken for its own answer. */
export function clashOf(model, puzzle, wrong) {
  const filled = (i) => puzzle[i] !== model.blank && puzzle[i] !== model.pad;
  const cells = wrong.filter(filled);
  const said = (model.units ?? []).flatMap((unit) => {
    const here = unit.filter((i) => cells.includes(i)).map((i) => puzzle[i]);
    const counts = [...new Set(here)].map((c) => [c, here.filter((d) => d === c).length]).filter(([, n]) => n > 1);
    const times = (n) => (n === 2 ? "twice" : `${n} times`);
    return counts.map(([c, n]) => `${model.glyphs[c] || c} stands ${times(n)} in ${called(model, unit)}`);
  });
  if (said.length || !cells.length) return { cells, said };
  const all = puzzle.filter((_, i) => filled(i)).length;
  if (cells.length === all && 4 * all > puzzle.length) return { cells: [], said: ["no answer fits what is given"] };
  return { cells, said: ["the marked cells contradict each other"] };
}
