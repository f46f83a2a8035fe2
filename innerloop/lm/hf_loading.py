"""Loading models and tokenizers of Hugging Face transformers from this machine: folders, and GGUF files.

Nothing is fetched, code that a folder brings along is never run, and weights are read from safetensors or GGUF alone.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch

from innerloop import files
from innerloop.errors import InputError
from innerloop.text import printable

__all__ = ["check_ids", "is_folder", "load"]

CONFIG = "config.json"
SAFE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
TEXTS = (  # that two tokenizers of a model must read alike
    "Hello world 123", "3 * 4 =", " leading and  double spaces ", "line\nbreaks\n\n\tand tabs", "émigré, naïve, straße",
    "漢字とかな", "🙂 👩\u200d👧", "don't we're I'll", "x = [1, 2, 3]; print(f'{x}')", "1234567890 3.14159 -7",
    "ALLCAPS camelCase_snake",
)  # fmt: skip


def is_folder(path: Path | str) -> bool:
    """Whether a folder holds a model of transformers: a config.json that names its kind, and no run of ours."""
    config = Path(path) / CONFIG
    if (Path(path) / "run.json").exists() or not config.is_file():
        return False
    value = files.read_json(config)
    return isinstance(value, dict) and isinstance(value.get("model_type"), str)


def load(path: Path, dtype: torch.dtype | None) -> tuple[Any, Any]:
    """(model, tokenizer) of a folder, or of a GGUF file. dtype: of the weights; None: as they were saved, and float32
    of a GGUF file. Raises InputError where there is none, or a package is missing.
    """
    package()
    if path.suffix.lower() == ".gguf":
        return load_gguf(path, dtype)
    if not path.is_dir():
        raise InputError(f"there is no folder {files.shown(path)}: give the folder of a model, with config.json in it")
    if not is_folder(path):
        raise InputError(f"{files.shown(path)} is no model of transformers: it needs a config.json with a model_type")
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as KINDS

    kind = files.read_json(path / CONFIG)["model_type"]
    if kind not in KINDS:
        raise InputError(
            f'{files.shown(path)} is a model of the kind "{printable(kind, 60)}", which is no causal language model of '
            f"transformers {package().__version__}; code that a folder brings along is not run"
        )
    return loaded(path, path, dtype)


def load_gguf(path: Path, dtype: torch.dtype | None) -> tuple[Any, Any]:
    """(model, tokenizer) of a GGUF file, whose ids are those of llama.cpp."""
    files.check_regular(path)
    for name in ("gguf", "accelerate"):
        if importlib.util.find_spec(name) is None:
            raise InputError(
                f"a GGUF file by transformers needs {name}: pip install gguf accelerate, or open it by its path, which "
                "takes llama.cpp"
            )
    model, tokenizer = loaded(path, path.parent, dtype or torch.float32, gguf_file=path.name)
    check_ids(tokenizer, path)
    return model, tokenizer


def loaded(path: Path, folder: Path, dtype: torch.dtype | None, **how: Any) -> tuple[Any, Any]:
    """(model, tokenizer) by transformers. Raises InputError for whatever it says."""
    transformers = package()
    # GGUF files are no pickles, and transformers refuses the argument beside them.
    safe = SAFE if how else {**SAFE, "use_safetensors": True}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), **SAFE, **how)
        model, found = transformers.AutoModelForCausalLM.from_pretrained(
            str(folder), dtype="auto" if dtype is None else dtype, output_loading_info=True, **safe, **how
        )
    except Exception as error:  # of many kinds, for files that are missing, damaged or of no kind that it knows
        said = printable(" ".join(str(error).split()), 200)
        raise InputError(f"transformers cannot load {files.shown(path)}: {said}") from None
    if missing := sorted(found["missing_keys"]):
        raise InputError(f"{files.shown(path)} lacks {len(missing)} tensors of its model, such as {missing[0]}")
    return model, tokenizer


def package() -> Any:
    """The package transformers. Raises InputError where it is not installed."""
    try:
        import transformers
    except ImportError:
        raise InputError('a model of transformers needs the package: pip install "innerloop[transformers]"') from None
    return transformers


def check_ids(tokenizer: Any, path: Path) -> None:
    """Raise InputError unless a tokenizer gives the ids that llama.cpp gives with a GGUF file."""
    from innerloop.lm.local import Local  # needs a package of its own

    reference = Local(path, slots=1, context=256)
    try:
        for text in TEXTS:
            ids = tuple(tokenizer(text, add_special_tokens=False).input_ids)
            if ids != (wanted := reference.encode(text)):
                raise InputError(
                    f"transformers reads {text!r} in {files.shown(path)} as the ids {printable(str(list(ids)), 80)}, "
                    f"llama.cpp as {printable(str(list(wanted)), 80)}: open the file by its path, which takes llama.cpp"
                )
    finally:
        reference.close()
