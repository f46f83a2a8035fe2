"""Sudoku-Extreme from 1,000 puzzles: one command from the data to the result, in slices if need be.

    python benchmarks/sudoku_extreme.py DATA --minutes 9 --out results/sudoku_extreme.json        # until it is done
    python benchmarks/sudoku_extreme.py DATA --smoke --out runs/smoke.json                        # minutes on a CPU

DATA holds sudoku9_extreme_hf1k_train.csv (the 1,000 training rows of sapientinc/sudoku-extreme) and
sudoku9_hfmatched_test.csv (1,000 others of its distribution), or is the name of that data set on the hub: the test is
then its official one, of 422,786 rows. What chooses the weights is a hundred of the training puzzles, held out.
"""

import records

SMOKE = ["plan.steps=8", "plan.batch=8", "plan.check_every=4", "plan.save_every=4", "plan.depths=4", "data.holdout=20"]

if __name__ == "__main__":
    files = ("sudoku9_extreme_hf1k_train.csv", "sudoku9_hfmatched_test.csv")
    records.known_set("sudoku_extreme.py", __doc__, "orbit_extreme", files, "sapientinc/sudoku-extreme", SMOKE)
