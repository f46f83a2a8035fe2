"""What does a model that sees only Othello's moves know of the board, and does it use it? Plain and looped.

    python benchmarks/othello.py --minutes 3 --out results/othello.json

Trains two causal transformers on random legal 6x6 games, four blocks once and one block four times, for half of
--minutes each; a later call goes on where the last one stopped or was killed. Then, on games that neither saw:

    legal     share of places at which the likeliest next move is legal
    board     accuracy of probes after every update, mine/theirs and black/white, against shuffled labels, against the
              same net untrained, and split by game
    errors    likeliest moves that are illegal, or legal ones missed, on a board with one disc turned over: unsteered
              (null), steered by the mine/theirs probes at every update, and steered as hard in random directions
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from innerloop import files
from innerloop.core import Question
from innerloop.interval import Proportion, cluster_bootstrap, proportion
from innerloop.learn import checkpoint
from innerloop.runs.certificate import birth_certificate
from innerloop.study import othello, probes
from innerloop.study.player import (
    Player,
    legal_rate,
    loss,
    player_config,
    question,
    steering_interventions,
    wrong_moves,
)
from innerloop.study.record import record_updates

ARMS = {"plain": (4, 1), "looped": (1, 4)}  # blocks, and how often they are run
TEST, PROBE, PUSHED = (5_000_000, 500), (6_000_000, 600), (7_000_000, 1000)  # first game and count of other lists
TIMES = (1.0, 2.0, 3.0, 4.0)  # strengths of the push; the best is chosen on one half of the games, told for the other


def fresh(args: argparse.Namespace, arm: str) -> Player:
    torch.manual_seed(args.seed)
    return Player(player_config(args.board, args.width, args.heads), ARMS[arm][0])


def train(args: argparse.Namespace, arm: str) -> tuple[Player, dict[str, Any]]:
    """The averaged weights after half of the minutes, counted over all calls."""
    folder, depth = args.runs / f"{args.board}x{args.width}-seed{args.seed}" / arm, ARMS[arm][1]
    player, budget = fresh(args, arm), 60 * args.minutes / len(ARMS)
    optimizer = torch.optim.AdamW(player.parameters(), lr=args.lr, weight_decay=0.01, betas=(0.9, 0.95))
    mean = copy.deepcopy(player)
    told: dict[str, Any] = {"step": 0, "seconds": 0.0, "loss": float("nan")}
    if saved := checkpoint.load_state(folder):
        player.load_state_dict(saved["player"])
        mean.load_state_dict(saved["mean"])
        optimizer.load_state_dict(saved["optimizer"])
        told = saved["told"]

    def save() -> None:
        state = {"player": player.state_dict(), "mean": mean.state_dict(), "optimizer": optimizer.state_dict()}
        checkpoint.save_state(folder, state | {"told": told})

    moves = torch.from_numpy(othello.tokens(othello.games(args.games, args.board, args.seed)))
    began, before = time.perf_counter(), told["seconds"]
    while told["seconds"] < budget:
        for group in optimizer.param_groups:
            group["lr"] = args.lr * min(1.0, (told["step"] + 1) / 100)
        rows = np.random.default_rng([args.seed, told["step"]]).integers(len(moves), size=args.batch)
        value = loss(player, question(moves[rows].numpy()), depth)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(player.parameters(), 1.0)
        optimizer.step()
        decay = min(0.998, told["step"] / (told["step"] + 10))
        with torch.no_grad():
            for slow, now in zip(mean.parameters(), player.parameters(), strict=True):
                slow.lerp_(now, 1 - decay)
        told = {"step": told["step"] + 1, "seconds": before + time.perf_counter() - began, "loss": value.item()}
        if told["step"] % 500 == 0:
            print(f"{arm} step {told['step']} loss {told['loss']:.3f} {told['seconds']:.0f} s", flush=True)
            save()
    save()
    return mean.eval(), told


def world(args: argparse.Namespace, which: tuple[int, int]) -> tuple[Question, othello.GameRecord]:
    moves = othello.games(which[1], args.board, args.seed, which[0])
    return question(othello.tokens(moves)), othello.replay(moves, args.board)


def row(arm: str, what: str, where: str, value: Proportion, control: float | None = None) -> dict[str, Any]:
    rounded = {k: round(v, 4) for k, v in zip(("value", "low", "high"), value[:3], strict=True)}
    shown = {"control": "" if control is None else round(control, 4), "n": value.n}
    found = {"arm": arm, "measure": what, "where": where} | rounded | shown
    print("  ".join(str(v) for v in found.values()), flush=True)
    return found


def board(args: argparse.Namespace, arm: str, player: Player) -> tuple[list[dict[str, Any]], dict[Any, Any]]:
    """Probes after every update; returns rows and the mine/theirs probes."""
    x, played = world(args, PROBE)
    live = torch.from_numpy(played.side != 0)
    groups = np.repeat(np.arange(len(live))[:, None], live.shape[1], 1)[live.numpy()]
    labels = {"mine/theirs": othello.relative(played), "black/white": othello.absolute(played)}
    moments = {
        who: record_updates(p, x, ARMS[arm][1])[1] for who, p in (("", player), (" untrained", fresh(args, arm)))
    }
    rows, kept = [], {}
    for who, seen in moments.items():
        for name, classes in labels.items():
            y = torch.from_numpy(classes)[live]
            for i, m in enumerate(seen):
                # the MLP is slow, and is asked of the deepest state alone
                for kind in ("ridge", "mlp")[: 2 if m is seen[-1] and not who else 1]:
                    found, probe = probes.measure(kind, m.kept.z[live], y, groups, 3, seed=args.seed)
                    value = Proportion(found.accuracy, found.low, found.high, found.test)
                    rows.append(row(arm, f"{name} {kind}{who}", f"update {i + 1}", value, found.control))
                    if (who, name, kind) == ("", "mine/theirs", "ridge"):
                        kept[m.step, m.update] = probe
    return rows, kept


def errors(args: argparse.Namespace, arm: str, player: Player, kept: dict[Any, Any]) -> list[dict[str, Any]]:
    """Wrong moves on boards with one disc turned over."""
    x, played = world(args, PUSHED)
    aim = othello.flips(played, args.board, args.seed)
    asked = Question(x.inputs[aim.game], x.puzzle[aim.game])
    ply, cell, target = (torch.from_numpy(a) for a in (aim.ply, aim.cell, aim.target))
    second, depth = np.arange(len(ply)) % 2 == 1, ARMS[arm][1]

    def mean(wrong: Any) -> Proportion:
        return cluster_bootstrap(wrong[second], np.flatnonzero(second))

    steered = {
        t: wrong_moves(player, asked, ply, aim.then, depth, steering_interventions(kept, ply, cell, target, t))
        for t in TIMES
    }
    best = min(TIMES, key=lambda t: steered[t][~second].mean())
    control = steering_interventions(kept, ply, cell, target, best, torch.Generator().manual_seed(args.seed))
    return [
        row(arm, "errors on the true board", "", mean(wrong_moves(player, asked, ply, aim.now, depth))),
        row(arm, "errors on the turned board, null", "", mean(wrong_moves(player, asked, ply, aim.then, depth))),
        row(arm, "errors, steered", f"x {best:g}", mean(steered[best])),
        row(arm, "errors, random push", f"x {best:g}", mean(wrong_moves(player, asked, ply, aim.then, depth, control))),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3.0, help="of training, both models together, over all calls")
    parser.add_argument("--board", type=int, default=6)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--games", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--runs", type=Path, default=Path("runs/othello"))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows, trained = [], {}
    for arm in ARMS:
        player, told = train(args, arm)
        trained[arm] = told | {"parameters": sum(p.numel() for p in player.parameters())}
        x, played = world(args, TEST)
        right, places = legal_rate(player, x, played.legal, ARMS[arm][1])
        rows.append(row(arm, "legal", "", proportion(np.arange(places) < right)))
        found, kept = board(args, arm, player)
        rows += found + errors(args, arm, player, kept)
    if args.out:
        value = {"born": birth_certificate([args.seed]), "rows": rows, "trained": trained}
        files.write_json(args.out, value | {"train_games": args.games, "test_games": TEST[1]})


if __name__ == "__main__":
    main()
