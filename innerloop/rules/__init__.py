"""Rules and exact searches of tasks, without a model: Sudoku, rosters, timetables, symmetries."""
