"""Trains the tokenizer: a byte-level BPE in DeepSeek-V3's form, and writes tokenizer.json and tokenizer_config.json.

The patterns, the special tokens and the decoder are DeepSeek-V3's. Two things differ: the vocabulary is small, and a
digit is always a token of its own (pattern 1 is `\\p{N}`, not `\\p{N}{1,3}`), so that arithmetic can work on digits.
"""

import json
import random
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from config import CONFIG, TEMPLATE_FILE
from data import mixture
from data.sample import TRAIN

PAD = "<｜▁pad▁｜>"
PATTERNS = (
    r"\p{N}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
    "|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
)
# In the order of DeepSeek's ids; only <|EOT|> is `special`, which decides what skip_special_tokens drops.
ADDED = (
    "<｜search▁begin｜>", "<｜search▁end｜>", "<think>", "</think>", "<｜fim▁hole｜>", "<｜fim▁begin｜>", "<｜fim▁end｜>",
    "<｜User｜>", "<｜Assistant｜>", "<|EOT|>", "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>", "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>", "<｜tool▁output▁begin｜>",
    "<｜tool▁output▁end｜>", "<｜tool▁sep｜>",
)  # fmt: skip
CORPUS_SAMPLES = 60_000
MIN_FREQUENCY = 4


def corpus(seed):
    """Plain text of the mixture, without markers."""
    rng = random.Random(seed)
    for _ in range(CORPUS_SAMPLES):
        sample = mixture.draw(rng, TRAIN)
        yield from (text for text, _ in mixture.render(sample, False) if text not in mixture.MARKERS)


def train_tokenizer(seed=0):
    tokenizer = Tokenizer(models.BPE())
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in PATTERNS]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=True, trim_offsets=False, use_regex=True)
    trainer = trainers.BpeTrainer(
        vocab_size=CONFIG.vocab_size - len(ADDED),
        min_frequency=MIN_FREQUENCY,
        special_tokens=[AddedToken(text, special=True, normalized=False) for text in (mixture.BOS, mixture.EOS, PAD)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(seed), trainer)
    for text in ADDED:
        special = text == "<|EOT|>"
        token = AddedToken(text, special=special, normalized=False)
        (tokenizer.add_special_tokens if special else tokenizer.add_tokens)([token])
    return tokenizer


def token_entry(text):
    """How tokenizer_config.json spells a special token."""
    flags = dict.fromkeys(("lstrip", "rstrip", "single_word"), False)
    return {"__type": "AddedToken", "content": text, "normalized": True, **flags}


def tokenizer_config():
    return {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": token_entry(mixture.BOS),
        "clean_up_tokenization_spaces": False,
        "eos_token": token_entry(mixture.EOS),
        "legacy": True,
        "model_max_length": CONFIG.max_position_embeddings,
        "pad_token": token_entry(mixture.EOS),
        "sp_model_kwargs": {},
        "unk_token": None,
        "tokenizer_class": "LlamaTokenizerFast",
        "chat_template": TEMPLATE_FILE.read_text(),
    }


def write_tokenizer(directory):
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    train_tokenizer().save(str(directory / "tokenizer.json"))
    text = json.dumps(tokenizer_config(), ensure_ascii=False, indent=2)
    (directory / "tokenizer_config.json").write_text(text + "\n")


class Encoder:
    """Rendered samples to ids. Markers are ids of their own, and text never becomes one."""

    def __init__(self, directory):
        self.library = Tokenizer.from_file(str(Path(directory) / "tokenizer.json"))
        self.library.encode_special_tokens = True
        self.marker = {text: self.library.token_to_id(text) for text in mixture.MARKERS}
        self.bos, self.eos = self.marker[mixture.BOS], self.marker[mixture.EOS]

    def encode_text(self, text):
        return self.library.encode(text, add_special_tokens=False).ids

    def encode(self, pieces):
        """(ids, trained): one flag for each id."""
        ids, trained = [], []
        for text, is_trained in pieces:
            new = [self.marker[text]] if text in self.marker else self.encode_text(text)
            ids += new
            trained += [is_trained] * len(new)
        return ids, trained

    def decode(self, ids):
        return self.library.decode(ids, skip_special_tokens=False)
