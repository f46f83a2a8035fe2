"""Request, response and event types of the HTTP API (pydantic).

Puzzles and answers are text in the task's notation: S symbols, row by row; cells are numbered row by row from 0.
Outputs of heads that a model lacks are null.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from innerloop.errors import InputError

try:
    from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
except ImportError:
    raise InputError("serving needs FastAPI and its companions: pip install 'innerloop[serve]'") from None

__all__ = [
    "Begin",
    "Check",
    "CheckRequest",
    "Curves",
    "DepthPoint",
    "Detail",
    "Done",
    "Error",
    "Example",
    "Halted",
    "Limits",
    "Model",
    "Models",
    "Options",
    "Reloaded",
    "Score",
    "Slot",
    "SolutionBody",
    "Solutions",
    "SolveManyRequest",
    "SolveRequest",
    "Status",
    "StepBody",
    "TrustPoint",
]  # fmt: skip

PuzzleText = Annotated[str, Field(min_length=1)]
IdentifierName = Annotated[str, Field(min_length=1, max_length=1000)]
Rule = Literal["verified", "vote", "q", "value", "residual", "certainty", "first"]
# Not an enum: each model supports some of these, and its error message lists them.
Pick = Annotated[str, WithJsonSchema({"type": "string", "enum": ["auto", *get_args(Rule)]})]
Noise = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
# In JSON 64.0 is a whole number as well. MAX_INT keeps numbers within int32.
WholeNumber = Annotated[int, BeforeValidator(lambda v: int(v) if isinstance(v, float) and v.is_integer() else v)]
MAX_INT = 2**31 - 1
PICK_HELP = (
    "selection rule; auto: verified where the task's rules are known, else the rule of highest calibrated accuracy, "
    "else the halting head or a vote"
)


class ResponseModel(BaseModel):
    """Base of responses: NaN and infinity become null."""

    model_config = ConfigDict(ser_json_inf_nan="null")


class RequestModel(BaseModel):
    """Base of requests: unknown fields and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


# -- requests ---------------------------------------------------------------------------------------------------------


class Options(RequestModel):
    """Compute, selection rule and limits of one solve. `limits` of a model has the largest values accepted."""

    depth: WholeNumber = Field(64, ge=1, le=MAX_INT, description="steps of a trajectory, at most")
    width: WholeNumber = Field(1, ge=1, le=MAX_INT, description="trajectories of a puzzle")
    pick: Pick = Field("auto", description=PICK_HELP)
    noise: list[Noise] = Field(
        [0.0, 0.0], min_length=2, max_length=2, description="standard deviations: on the first state, on every step"
    )
    views: bool = Field(
        True,
        description="each trajectory after the first sees the puzzle under another symmetry; no effect with guess",
    )
    guess: bool | None = Field(
        None, description="each trajectory after the first tries a guessed cell; null: where a verifier decides"
    )
    halting: bool = Field(False, description="trajectories stop by the loop's halting rule")
    min_confidence: float = Field(0.5, ge=0, le=1, description="confidence below which `known` is false")
    seed: WholeNumber = Field(0, ge=0, le=MAX_INT, description="of views and noise")
    seconds: float | None = Field(None, gt=0, allow_inf_nan=False, description="time limit; null: the server's largest")
    exact: bool = Field(False, description="solve puzzles that the model does not know by the exact solver")
    priority: float = Field(0.0, ge=-1000, le=1000, description="higher goes first")
    identifier: IdentifierName | Annotated[WholeNumber, Field(ge=0, le=MAX_INT)] = Field(
        0, description="puzzle identifier, by name or by number, for models trained with identifiers; 0: none"
    )


class SolveRequest(Options):
    """One puzzle."""

    puzzle: PuzzleText


class SolveManyRequest(Options):
    """Many puzzles, with the same options."""

    puzzles: list[PuzzleText] = Field(min_length=1, fail_fast=True)
    nfe: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="block calls a puzzle, on average over all of them"
    )


class CheckRequest(RequestModel):
    """An answer to check by the task's rules."""

    puzzle: PuzzleText
    answer: PuzzleText


# -- responses --------------------------------------------------------------------------------------------------------


class Error(ResponseModel):
    error: str = Field(description="one sentence: what is wrong, and how to fix it")


class Status(ResponseModel):
    status: str


class Limits(ResponseModel):
    """The largest values that this server accepts."""

    depth: int
    width: int
    puzzles: int = Field(description="of one request")
    seconds: float = Field(description="of one request")
    stream_steps: int = Field(description="depth x width of one stream")


class Model(ResponseModel):
    name: str
    system: str = Field(description="name of the loop, such as orbit or trm")
    task: str
    about: str = Field(description="one line about the recipe")
    rows: int
    columns: int
    charset: str = Field(description="symbols of the tokens 1, 2, ...")
    pad: str = Field(description="symbol of padding")
    blank: str = Field(description="symbol of an empty cell of a question; empty: there is none")
    boxes: list[int] = Field(description="rows and columns of a box, drawn with thick lines; 0: no boxes")
    units: list[list[int]] | None = Field(description="cells that constrain each other")
    glyphs: dict[str, str] = Field(description="symbol -> text shown in its cell")
    colours: dict[str, str] = Field(description="symbol -> #rrggbb, or empty")
    verifies: bool = Field(description="the task's rules are known")
    parameters: int = Field(description="number of weights")
    trained_depth: int = Field(description="steps of training, which are the default depth")
    rules: list[Rule] = Field(description="selection rules that this model supports")
    stochastic: bool = Field(description="its own noise makes trajectories differ, without `noise` or `views`")
    views: bool = Field(description="the task has symmetries")
    exact: bool = Field(description="an exact solver is available")
    limits: Limits
    calibrated: bool = Field(description="confidences were measured on validation puzzles")
    fixed: list[int] | None = Field(description="cells that are the same in every puzzle; null: unknown")
    identifiers: int = Field(description="number of puzzle identifiers it was trained on, 0 included")


class Models(ResponseModel):
    models: list[Model]


class Example(ResponseModel):
    question: str
    answer: str = Field(description="may be empty")
    rating: float | None = Field(description="difficulty, higher is harder; null: unknown")
    identifier: int = Field(description="puzzle identifier; 0: none")


class DepthPoint(ResponseModel):
    """A row of the run's eval.json."""

    depth: int
    width: int
    halting: bool = Field(description="each puzzle stopped by the loop's halting rule")
    exact: float = Field(description="share of puzzles solved")
    low: float = Field(description="95 % interval of `exact`")
    high: float
    valid: float | None = Field(description="share of answers that follow the rules; null: rules unknown")
    steps: float = Field(description="mean steps")
    nfe: float = Field(description="mean block calls, over all trajectories")


class Halted(ResponseModel):
    """Step at which the loop's halting rule stopped on one held-out puzzle."""

    steps: int
    rating: float | None
    right: bool


class Slot(ResponseModel):
    """Dimension of one slot of the state, from the run's study.json."""

    slot: str
    participation_ratio: float | None
    low: float | None = Field(description="95 % interval of the participation ratio")
    high: float | None
    effective_rank: float | None


class TrustPoint(ResponseModel):
    """How well a rule's confidence is calibrated, from the run's calibration."""

    rule: str
    accuracy: float
    auroc: float | None
    ece: float | None


class Curves(ResponseModel):
    depth: list[DepthPoint]
    halting: list[Halted]
    modules: list[Slot]
    trust: list[TrustPoint]


class Detail(Model):
    examples: list[Example] = Field(description="held-out puzzles, by rating where they have one")
    start: int = Field(description="index of the example that takes the most steps of those that it solves")
    difficulty: str = Field(description="what the ratings of the examples count; empty: not known")
    source: str = Field(description="where the examples come from")
    curves: Curves
    measuring: bool = Field(description="curves.halting is still being measured: request it again later")
    born: dict[str, Any] = Field(description="commit, versions, seed, command and machine of the run")


class Reloaded(ResponseModel):
    name: str
    loaded: str = Field(description="ISO time")


class SolutionBody(ResponseModel):
    known: bool = Field(description='false: "I don\'t know"; the answer is then the best guess')
    answer: str
    valid: bool | None = Field(description="verdict of the verifier; null without one")
    confidence: float | None = Field(description="probability that the answer is right; null without a calibration")
    pick: str
    why: str
    source: Literal["model", "exact"]
    trajectory: int = Field(description="index of the chosen one, from 0")
    width: int = Field(description="trajectories that were run at least in part")
    steps: int = Field(description="of the chosen trajectory")
    nfe: int = Field(description="block calls, over all trajectories")
    seconds: float
    wrong: list[int] = Field(description="cells that violate a rule by themselves")
    certainty: list[float] = Field(description="probability of each cell's token")


class Solutions(ResponseModel):
    solutions: list[SolutionBody]
    seconds: float
    nfe: int


class Check(ResponseModel):
    valid: bool | None = Field(description="null: the rules are not known")
    wrong: list[int] = Field(description="cells that violate a rule by themselves")
    explanation: list[str] = Field(description="violated rules in words; empty if there are none")


# -- events of a stream -----------------------------------------------------------------------------------------------


class Begin(ResponseModel):
    width: int
    depth: int
    rule: Rule


class StepBody(ResponseModel):
    trajectory: int
    step: int = Field(description="from 1")
    answer: str
    certainty: list[float]
    changed: list[int] = Field(description="cells that differ from the step before; at first, from the puzzle")
    wrong: list[int]
    valid: bool | None
    confidence: float | None = Field(description="of the halting head")
    residual: float | None = Field(description="relative change of the state in this step")
    would_halt: bool = Field(description="the loop's halting rule holds here for the first time")


class Score(ResponseModel):
    trajectory: int
    score: float | None = Field(description="by the selection rule, higher is better; null: not met")
    steps: int
    valid: bool | None
    end: str = Field(description="verified, halted, depth, cancelled or late")


class Done(ResponseModel):
    solution: SolutionBody = Field(description="what /solve answers with these options")
    paths: list[list[list[float]]] = Field(
        description="for each trajectory and step, two principal components; of the change since the first step "
        "where trajectories see the puzzle under different symmetries"
    )
    explained: list[float] = Field(
        description="share of the variance after the first step that each of the two explains"
    )
    scores: list[Score]
    halts: list[int | None] = Field(description="step at which the loop's halting rule stops each trajectory")
