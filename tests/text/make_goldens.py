#!/usr/bin/env python3
"""Makes tests/text/golden: small tokenizers and what Python `tokenizers` says of them.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install tokenizers==0.22.2 Jinja2==3.1.6
    /tmp/venv/bin/python tests/text/make_goldens.py

Each folder golden/NAME holds tokenizer.json and cases.json: texts with their ids (with and without
special tokens), and id lists with their decoded text. golden/templates.json holds chat templates,
conversations and what Jinja2, set up as transformers sets it up, renders. Training some of the
tokenizers depends on hash order, so a rerun makes other files, whose cases fit them again.
"""

import json
import pathlib
import random

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,
                        pre_tokenizers, processors, trainers)

HERE = pathlib.Path(__file__).parent
OUT = HERE / "golden"

CORPUS = [
    "The mole digs a tunnel under the garden, and the gardener does not know it.",
    "When the rain came down, the mole swam through the tunnels it had dug before.",
    "Numbers: 1 22 333 4444, 3.1415 and 2026-11-21; prices of 10% or $5.",
    "for (int i = 0; i < n; ++i) {\n    sum += values[i];\n}\n",
    "Der Maulwurf gräbt Gänge. Él cavó un túnel. Le café est déjà fermé.",
    "日本語のテキストと中文文本。Привет, мир! 🙂👩‍👩‍👧 naïve façade",
    "it's we've they'll I'd you're don't  two  spaces   three\ttab\n\nparagraph",
] * 4

TEXTS = [
    "", " ", "a", " a", "  a  ", "Hello, world!", "The mole digs.", "the\n\nmole\n", "\t\ttab",
    "it's we'll THEY'RE", "1234567 3.14", "naïve café", "e\u0301 combining", "日本語と中文", "Привет",
    "🙂👩‍👩‍👧 emoji", "\u200bzero width\u00a0nbsp", "<s>", "a<|end|>b", "<s>the mole</s>", "<pad> <unk>",
    "[INST] hi [/INST]", "<｜User｜>hi", "▁meta▁space", "Ġspelled", "<0x41><0x0A>", "x" * 300,
    "word " * 40, "\r\n mixed \x00 control \x7f", "\ufeffbom", "ﬁ ligature Ⅳ ½", "ÄÖÜ äöü ß",
]


def byte_level_bpe():
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=420, special_tokens=["<s>", "</s>", "<pad>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tok.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)])
    tok.add_special_tokens(["<|end|>"])
    return tok


def split_regex_bpe():
    """As DeepSeek-V3 and Llama 3: a Split by a regex with look-ahead, then bytes without a regex."""
    tok = Tokenizer(models.BPE(ignore_merges=True))
    tok.normalizer = normalizers.Sequence([])
    pattern = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
               r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=430, special_tokens=["<s>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    # DeepSeek declares these as not special.
    tok.add_tokens([AddedToken("<｜User｜>", normalized=False), AddedToken("[INST]", normalized=True)])
    tok.add_special_tokens(["<|end|>"])
    return tok


def byte_fallback_bpe():
    """As Llama 2 and Mixtral."""
    tok = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tok.normalizer = normalizers.Sequence([
        normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tok.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(content=" ", left=1)])
    words = [w for text in CORPUS for w in ("▁" + text.replace(" ", "▁")).replace(
        "▁", " ▁").split()]
    trainer = trainers.BpeTrainer(
        vocab_size=480, show_progress=False, limit_alphabet=70,
        special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)])
    plain = Tokenizer(models.BPE())
    plain.train_from_iterator(words, trainer)
    learnt = json.loads(plain.to_str())
    data = json.loads(tok.to_str())
    data["model"]["vocab"] = learnt["model"]["vocab"]
    data["model"]["merges"] = learnt["model"]["merges"]
    tok = Tokenizer.from_str(json.dumps(data))
    tok.add_special_tokens(["<unk>", "<s>", "</s>"])
    tok.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)])
    return tok


def metaspace_unigram():
    """As T5 and XLM-R: the decoder drops every ▁ of the first token."""
    tok = Tokenizer(models.Unigram())
    tok.normalizer = normalizers.Sequence([normalizers.NFKC()])
    tok.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tok.decoder = decoders.Metaspace(prepend_scheme="always")
    tok.train_from_iterator(CORPUS, trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<pad>", "</s>", "<unk>", "<s>"], unk_token="<unk>",
        show_progress=False))
    tok.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A $B </s>", special_tokens=[("</s>", 1)])
    return tok


def wordpiece():
    tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer(lowercase=True)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.decoder = decoders.WordPiece(prefix="##")
    tok.train_from_iterator(CORPUS, trainers.WordPieceTrainer(
        vocab_size=300, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False))
    tok.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tok.enable_truncation(8)
    tok.enable_padding(length=16)
    return tok


def word_level():
    """Without a decoder: tokens are joined by spaces."""
    tok = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tok.pre_tokenizer = pre_tokenizers.Whitespace()
    tok.train_from_iterator(CORPUS, trainers.WordLevelTrainer(
        vocab_size=80, special_tokens=["<unk>", "<s>"], show_progress=False))
    return tok


def ctc():
    """A decoder that looks at neighbours: nothing can be said before the end."""
    tok = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tok.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tok.decoder = decoders.CTC()
    tok.train_from_iterator(["hello|world", "abc"], trainers.WordLevelTrainer(
        special_tokens=["<pad>", "<unk>"], show_progress=False))
    return tok


def write(name, tok, rng):
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(
        json.dumps(json.loads(tok.to_str()), ensure_ascii=False, separators=(",", ":")) + "\n")
    tok.no_truncation()
    tok.no_padding()
    encode = [{"text": text, "ids": tok.encode(text).ids,
               "ids_without_special": tok.encode(text, add_special_tokens=False).ids}
              for text in TEXTS]
    size = max(tok.get_vocab(with_added_tokens=True).values()) + 1
    lists = [[rng.randrange(size) for _ in range(rng.randrange(1, 20))] for _ in range(25)]
    lists += [case["ids"] for case in encode[:12]]
    decode = [{"ids": ids, "text": tok.decode(ids, skip_special_tokens=False),
               "text_without_special": tok.decode(ids, skip_special_tokens=True)}
              for ids in lists]
    cases = {"vocab_size": size, "encode": encode, "decode": decode}
    (folder / "cases.json").write_text(
        json.dumps(cases, ensure_ascii=False, separators=(",", ":")) + "\n")


TEMPLATES = {
    "deepseek_like": (
        "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}"
        "{% endif %}{% set ns = namespace(is_first=false, system_prompt='') %}"
        "{%- for message in messages %}{%- if message['role'] == 'system' %}"
        "{% set ns.system_prompt = message['content'] %}{%- endif %}{%- endfor %}"
        "{{bos_token}}{{ns.system_prompt}}"
        "{%- for message in messages %}"
        "{%- if message['role'] == 'user' %}{{'<｜User｜>' + message['content']}}{%- endif %}"
        "{%- if message['role'] == 'assistant' %}"
        "{% set content = message['content'] %}"
        "{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}"
        "{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{%- endif %}{%- endfor -%}"
        "{% if add_generation_prompt %}{{'<｜Assistant｜>'}}{% endif %}"),
    "mistral_like": (
        "{{ bos_token }}{% for message in messages %}"
        "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate user/assistant') }}{% endif %}"
        "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
        "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}"
        "{% endif %}{% endfor %}"),
    "chatml": (
        "{% for message in messages %}\n"
        "    {% if loop.first and message.role != 'system' %}\n"
        "<|im_start|>system\nYou are helpful.<|im_end|>\n"
        "    {% endif %}\n"
        "<|im_start|>{{ message.role }}\n"
        "    {%- if message.role == 'assistant' %}{% generation %}\n"
        "{{ message.content | trim }}<|im_end|>{% endgeneration %}\n"
        "    {% else %}\n\n{{ message.content | trim }}<|im_end|>\n    {% endif %}\n"
        "{% endfor %}\n"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}\n"),
    "tools": (
        "{%- if tools %}{% for tool in tools %}{{ tool | tojson }}\n"
        "{{ tool | tojson(indent=2) }}\n{% endfor %}{% endif %}"
        "{% for m in messages %}{{ m.role.upper() }}: {{ m.content }}{{ ' ' ~ loop.index }}\n"
        "{% endfor %}{{ messages | tojson(ensure_ascii=true) }}"),
    "python_text": (
        "{{ none }} {{ true }} {{ false }} {{ 1.0 }} {{ 1e20 }} {{ 1.5e-7 }} {{ 0.1 }} {{ -3 }} "
        "{{ [1, 'a', none, \"it's\"] }} {{ {'k': [true, 2.5]} }} {{ missing }}|{{ missing is none }} "
        "{{ messages | length }} {{ messages[-1].role }} {{ messages[:1] }} "
        "{{ 'a,b'.split(',') }} {{ '  x '.strip() }}| {{ 'x'.startswith('x') }} "
        "{{ 'Title me'.title() }} {{ messages[0].get('name', 'nobody') }} "
        "{{ messages | map(attribute='role') | join('+') }} "
        "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}"),
    "loops": (
        "{% for n in range(10) %}{% if n == 2 %}{% continue %}{% endif %}"
        "{% if n == 5 %}{% break %}{% endif %}{{ n }}{{ ',' if not loop.last }}{% endfor %}"
        "{% macro show(m, prefix='>') %}{{ prefix }}{{ m.content }}{% endmacro %}"
        "{% for m in messages %}{{ show(m) }}{{ show(m, prefix='#') }}{% endfor %}"
        "{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}"
        "{% set text %}block {{ messages[0].role }}{% endset %}{{ text | upper }}"
        "{# comment #}\n  {% if true %}\n  indented\n  {% endif %}\n end\n"),
}

CONVERSATIONS = [
    [{"role": "user", "content": "Hello <b>world</b> & 'you'"}],
    [{"content": "Be brief.", "role": "system"}, {"content": "Hi  ", "role": "user"},
     {"content": "<think>hm</think>Hello\n", "role": "assistant"},
     {"content": "日本語 \"quoted\" \\ \t 🙂", "role": "user"}],
    [{"content": "a", "role": "user"}, {"content": "b", "role": "assistant"},
     {"content": "c", "role": "user"}],
]

TOOLS = [{"type": "function", "function": {
    "name": "weather", "description": "Gets <the> weather", "strict": True, "parameters": {
        "type": "object", "required": ["city"],
        "properties": {"city": {"type": "string"}, "days": {"minimum": 1, "maximum": 1.5}}}}}]


class Generation(jinja2.ext.Extension):
    """transformers' {% generation %}: here only its text counts."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_inside"), [], [], body).set_lineno(line)

    def _inside(self, caller):
        return caller()


def render(source, messages, tools, add_generation_prompt):
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                        extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    try:
        return {"text": env.from_string(source).render(
            messages=messages, tools=tools, add_generation_prompt=add_generation_prompt,
            bos_token="<s>", eos_token="</s>")}
    except jinja2.exceptions.TemplateError as error:
        return {"error": str(error)}


def write_templates():
    cases = []
    for name, source in TEMPLATES.items():
        for messages in CONVERSATIONS:
            for tools in (None, TOOLS):
                for prompt in (True, False):
                    # As text: the order of keys is part of what is tested.
                    cases.append({"name": name, "source": source,
                                  "messages": json.dumps(messages, ensure_ascii=False),
                                  "tools": json.dumps(tools), "add_generation_prompt": prompt,
                                  **render(source, messages, tools, prompt)})
    (OUT / "templates.json").write_text(
        json.dumps(cases, ensure_ascii=False, separators=(",", ":")) + "\n")


def main():
    rng = random.Random(7)
    for make in (byte_level_bpe, split_regex_bpe, byte_fallback_bpe, metaspace_unigram, wordpiece,
                 word_level, ctc):
        write(make.__name__, make(), rng)
    write_templates()


if __name__ == "__main__":
    main()
