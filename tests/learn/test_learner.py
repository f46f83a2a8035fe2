"""A Learner with an objective of its own: what it does not repeat works as in supervised training."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from innerloop.errors import InputError
from innerloop.learn import checkpoint
from innerloop.learn import log as log_module
from innerloop.learn.distributed import Distributed
from innerloop.learn.learner import Learner
from innerloop.learn.plan import Plan
from innerloop.learn.tracker import BestTracker

PLAN = Plan(steps=24, batch=8, optimizer="adamw", lr=0.05, weight_decay=0.0, warmup=2, clip=1.0, ema=0.5, save_every=6)


class Bandit(Learner):
    """REINFORCE on a policy over five arms of which number 3 pays: no task, no examples, no validation."""

    def train_step(self):
        p = self.loop.weight[0].log_softmax(0)
        arms = torch.multinomial(p.detach().exp(), self.plan.batch, True, generator=self.draws)
        reward = (arms == 3).float()
        loss = -((reward - reward.mean()) * p[arms]).sum()
        self.zero_grad()
        (loss / self.plan.batch).backward()
        self.position += self.plan.batch
        return self.apply({"policy_loss": loss.detach().double(), "reward": reward.sum().double()})


def bandit(folder, plan=PLAN, **how):
    torch.manual_seed(0)
    return Bandit(nn.Linear(5, 1, bias=False), plan, folder, live=False, **how)


def test_it_learns_and_keeps_the_averaged_weights(tmp_path):
    learner = bandit(tmp_path)
    result = learner.run()
    assert result.steps == 24 and not result.stopped
    assert learner.answer_loss({"policy_loss": 16.0, "loss": 2.0}) == 2.0, "without answers the whole loss is shown"
    assert learner.loop.weight[0].argmax() == 3
    kept = bandit(tmp_path / "other").loop
    checkpoint.load_weights(tmp_path / checkpoint.MODEL, kept)
    assert torch.equal(kept.weight, learner.average.shadow["weight"]) and not torch.equal(
        kept.weight, learner.loop.weight
    )


def test_gradients_are_cut_to_the_plan_and_their_norm_before_that_is_told(tmp_path):
    for clip, left in ((1.0, [0.6, 0.8, 0, 0, 0]), (0.0, [3, 4, 0, 0, 0]), (9.0, [3, 4, 0, 0, 0])):
        learner = bandit(tmp_path, replace(PLAN, clip=clip))
        learner.loop.weight.grad = torch.tensor([[3.0, 4, 0, 0, 0]])
        assert learner.clip().item() == pytest.approx(5)
        assert learner.loop.weight.grad[0].tolist() == pytest.approx(left, rel=1e-5), clip


def test_a_resumed_run_is_the_same_bit_for_bit(tmp_path):
    whole = bandit(tmp_path / "whole")
    whole.run()
    cut = bandit(tmp_path / "cut")
    for _ in range(12):
        cut.train_step()
    cut.save()
    resumed = bandit(tmp_path / "cut")
    resumed.restore(checkpoint.load_state(tmp_path / "cut"))
    assert (resumed.step, resumed.position) == (12, 96)
    resumed.run()
    for a, b in ((whole.loop.state_dict(), resumed.loop.state_dict()), (whole.average.shadow, resumed.average.shadow)):
        assert all(torch.equal(a[k], b[k]) for k in a)


def test_the_first_line_after_a_resume_is_the_mean_over_the_steps_since(tmp_path):
    cut = bandit(tmp_path)
    for _ in range(7):
        cut.train_step()
    cut.save()
    resumed, seen = bandit(tmp_path), []
    resumed.restore(checkpoint.load_state(tmp_path))
    step = resumed.train_step
    resumed.train_step = lambda: seen.append(step()) or seen[-1]
    resumed.run(until=10)
    (line,) = [json.loads(text) for text in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert line["step"] == 10 and len(seen) == 3
    assert line["train/grad_norm"] == pytest.approx(sum(metrics["grad_norm"] for metrics, _ in seen) / 3)


def test_overfitting_is_noticed_over_an_interruption():
    tracker = BestTracker()
    for step in range(4):
        tracker.observe(step, 0.9 if step == 0 else 0.85, None)
    tracker = BestTracker(tracker.state())
    tracker.observe(4, 0.85, None)
    assert not tracker.warnings
    tracker.observe(5, 0.85, None)
    assert tracker.warnings and tracker.warnings[0].startswith("overfitting")


def test_an_infinite_loss_is_named_and_no_gradient_is():
    for loss, said in ((float("inf"), "the loss"), (float("nan"), "the loss"), (1.0, "the gradient")):
        assert f"step 3: {said} is not finite" in BestTracker().divergence_message(3, {"loss": loss})


def test_a_batch_splits_over_processes_and_micro_batches_or_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    split = Distributed(torch.device("cpu"))
    assert split.local_batch(16, 2) == 2 and split.local_batch(12) == 3
    with pytest.raises(InputError, match="4 processes, 2 micro-batches each: give a multiple of 8"):
        split.local_batch(12, 2)


def test_a_state_of_another_model_is_refused_and_changes_nothing(tmp_path):
    bandit(tmp_path).save()
    state = checkpoint.load_state(tmp_path)
    other = Bandit(nn.Linear(6, 1, bias=False), PLAN, tmp_path, live=False)
    before = other.loop.weight.detach().clone()
    with pytest.raises(InputError, match="not a training state of this run"):
        other.restore(state)
    assert torch.equal(other.loop.weight, before)


def test_a_step_that_is_not_finite_changes_nothing_and_ends_the_run(tmp_path):
    class Broken(Bandit):
        def train_step(self):
            self.zero_grad()
            (self.loop.weight.sum() * (float("nan") if self.step == 3 else 0.0)).backward()
            return self.apply({"policy_loss": torch.zeros((), dtype=torch.float64)})

    torch.manual_seed(0)
    learner = Broken(nn.Linear(5, 1, bias=False), PLAN, tmp_path, live=False)
    result = learner.run()
    assert result.steps == 3 and "step 4: the gradient is not finite" in result.stopped
    assert learner.loop.weight.isfinite().all() and (tmp_path / checkpoint.MODEL).exists()


@pytest.mark.parametrize(("seconds", "lines"), [(0.0, 24), (1e9, 0)])
def test_without_a_terminal_progress_is_a_plain_line_now_and_then(seconds, lines, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(log_module, "TELL_SECONDS", seconds)
    torch.manual_seed(0)
    Bandit(nn.Linear(5, 1, bias=False), PLAN, tmp_path, live=True).run()
    said = capsys.readouterr().out
    assert said.count(" of 24: loss ") == lines and "\x1b" not in said and "\r" not in said
