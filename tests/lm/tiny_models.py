"""Tiny models of transformers with random weights, and a tokenizer trained on a few lines, all made on this machine."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

LINES = [f"{a} + {b} = {a + b}\nso the answer is {a + b}" for a in range(12) for b in range(12)]
TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}<|assistant|>"


def tokenizer(template=TEMPLATE, begin=False):
    """Byte-level BPE of 400 tokens. begin: it puts <s> in front of every text."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = ["</s>", "<s>", "<|user|>", "<|assistant|>", "<|system|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        LINES, trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
    )
    if begin:
        from tokenizers.processors import TemplateProcessing

        made.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", bos_token="<s>", chat_template=template)


# kind: what differs in its config
KINDS = {
    "llama": {},
    "mistral": {"sliding_window": 8},
    "qwen3": {
        "head_dim": 16, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1,
        "layer_types": ["full_attention", "sliding_attention"],
    },
    "gemma2": {"head_dim": 16, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]},
    "gemma3_text": {"head_dim": 16, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]},
    "phi3": {"sliding_window": 8, "pad_token_id": 0},
    "gpt_neox": {},
    "gpt2": {"n_embd": 32, "n_head": 2, "n_layer": 2, "n_positions": 512},
    "bloom": {"n_head": 2, "n_layer": 2},
    "mamba": {"state_size": 8},
}  # fmt: skip
SIZES = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 512,
}  # fmt: skip


def model(kind="llama", vocab=400, seed=0, scale=1.6):
    """A causal model with random weights, large enough that its texts differ."""
    from transformers import AutoConfig, AutoModelForCausalLM

    own = {"gpt2": (), "bloom": ("hidden_size",), "mamba": ("hidden_size", "num_hidden_layers")}.get(kind, SIZES)
    config = AutoConfig.for_model(
        kind, vocab_size=vocab, bos_token_id=1, eos_token_id=0, **{k: SIZES[k] for k in own}, **KINDS[kind]
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = AutoModelForCausalLM.from_config(config)
        for p in made.parameters():
            if p.ndim > 1:
                torch.nn.init.normal_(p, std=scale * p.shape[-1] ** -0.5)
    return made.eval()
