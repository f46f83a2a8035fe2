"""Maze-Hard 30x30 from 1,000 mazes: one command from the data to the result, in slices if need be.

    python benchmarks/maze_hard.py DATA --minutes 9 --out results/maze_hard.json                  # until it is done
    python benchmarks/maze_hard.py DATA --smoke --out runs/smoke.json                             # minutes on a CPU

DATA holds maze30_hard_train.csv.gz (the 1,000 training mazes of sapientinc/maze-30x30-hard-1k) and
maze30_hard_test.csv.gz (300 of its test mazes), or is the name of that data set on the hub: the test is then its
official one, of 1,000. `valid` accepts every shortest path; `exact` only the labelled one. What chooses the weights is
a hundred of the training mazes, held out.
"""

import records

SMOKE = ["plan.steps=20", "plan.batch=4", "plan.check_every=10", "plan.save_every=10", "plan.depths=4"]

if __name__ == "__main__":
    files = ("maze30_hard_train.csv.gz", "maze30_hard_test.csv.gz")
    records.known_set("maze_hard.py", __doc__, "maze_hard", files, "sapientinc/maze-30x30-hard-1k", SMOKE)
