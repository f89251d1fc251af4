"""Kills the real trainer at random points and checks that nothing is lost.

    kill_resume_test.py TRAINER_BINARY [--seed N] [--kills N]

A run that was killed with SIGKILL and resumed must end with the same bits (weights and moments) as
one that nobody disturbed. Also: a corrupt newest checkpoint, a full disk, SIGTERM, numbers that are
not finite. MOLE_KILL_SEED and MOLE_KILL_COUNT stand for the flags. Needs Python's library only.
"""

import argparse
import json
import os
import pathlib
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time

STEPS = 240  # long enough that a kill finds the run unfinished
CONFIG = """
run: {{output: unset, seed: 5, threads: 1, dtype: bfloat16}}
data: {{folder: {root}/tokens, tokenizer: {root}/tokenizer, sequence_length: 32}}
train: {{steps: {steps}, batch_sequences: 8, micro_batch_sequences: 4}}
optimizer: {{learning_rate: 5.0e-3, warmup_steps: 4}}
eval: {{every: 60, sequences: 8}}
checkpoint: {{every: 2, keep: 2}}
model:
  model_type: deepseek_v3
  architectures: [DeepseekV3ForCausalLM]
  vocab_size: 300
  hidden_size: 32
  num_hidden_layers: 2
  num_attention_heads: 2
  num_key_value_heads: 2
  q_lora_rank: 16
  kv_lora_rank: 16
  qk_nope_head_dim: 16
  qk_rope_head_dim: 8
  v_head_dim: 16
  intermediate_size: 64
  moe_intermediate_size: 32
  n_routed_experts: 4
  n_shared_experts: 1
  num_experts_per_tok: 2
  n_group: 1
  topk_group: 1
  first_k_dense_replace: 1
  moe_layer_freq: 1
  norm_topk_prob: true
  routed_scaling_factor: 1.0
  scoring_func: sigmoid
  topk_method: noaux_tc
  max_position_embeddings: 64
  rope_theta: 10000.0
  rope_scaling: null
  rms_norm_eps: 1.0e-6
  hidden_act: silu
  attention_bias: false
  tie_word_embeddings: false
  initializer_range: 0.05
"""


class Fixture:
    def __init__(self, trainer, root, seed):
        self.trainer, self.root, self.random = trainer, root, random.Random(seed)
        words = ["the", "mole", "dug", "a", "tunnel", "under", "garden", "wall", "and", "slept"]
        text = " ".join(self.random.choice(words) for _ in range(20_000))
        (root / "corpus.txt").write_text(text, encoding="utf-8")
        (root / "heldout.txt").write_text(text[:2000], encoding="utf-8")
        self.call("tokenizer", "train", "--input", root / "corpus.txt", "--vocab-size", "300",
                  "--output", root / "tokenizer")
        self.call("data", "tokenize", "--input", root / "corpus.txt", "--heldout-input",
                  root / "heldout.txt", "--tokenizer", root / "tokenizer", "--output",
                  root / "tokens")
        (root / "config.yaml").write_text(CONFIG.format(root=root, steps=STEPS), encoding="utf-8")

    def call(self, *arguments, expect=0, **options):
        done = subprocess.run([self.trainer, *map(str, arguments)], capture_output=True, text=True,
                              check=False, **options)
        assert done.returncode == expect, f"{arguments}: exit {done.returncode}\n{done.stderr}"
        return done

    def train_command(self, name, *settings):
        command = ["train", "--config", self.root / "config.yaml", "--set",
                   f"run.output={self.root / name}"]
        for setting in settings:
            command += ["--set", setting]
        return command

    def train(self, name, *settings, **options):
        return self.call(*self.train_command(name, *settings), **options)

    def checkpoints(self, name):
        return sorted((self.root / name / "checkpoints").glob("step-?????????"))

    def digests(self, name):
        """SHA-256 of weights and moments of the last checkpoint, which must be the last step's."""
        last = self.checkpoints(name)[-1]
        assert last.name.endswith(f"{STEPS:09d}"), f"{name} ended at {last.name}"
        return json.loads((last / "MANIFEST.json").read_text(encoding="utf-8"))["files"]

    def logged_steps(self, name):
        log = self.root / name / "log.jsonl"
        if not log.exists():
            return []
        lines = log.read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["step"] for line in lines if line.endswith("}") and "grad_norm" in line]

    def kill_once(self, name):
        """Starts the run and kills it some random time after a random further step was logged.
        Returns that step, or None if the run was quicker."""
        done = max(self.logged_steps(name), default=0)
        target = done + self.random.randint(0, 30)
        delay_s = self.random.random() * 0.05
        process = subprocess.Popen(
            [self.trainer, *map(str, self.train_command(name))], stderr=subprocess.DEVNULL)
        began = time.monotonic()
        while process.poll() is None and time.monotonic() - began < 300:
            if max(self.logged_steps(name), default=0) >= target:
                break
            time.sleep(0.002)
        time.sleep(delay_s)  # only spreads the points; nothing waits for it
        process.kill()
        return target if process.wait() == -signal.SIGKILL else None


def check_kills(fixture, kills):
    fixture.train("whole")
    wanted = fixture.digests("whole")
    points = []
    for _ in range(kills):
        points.append(fixture.kill_once("killed"))
        if fixture.random.random() < 0.5:  # and again before it got anywhere
            points.append(fixture.kill_once("killed"))
    assert sum(point is not None for point in points) >= 2, f"kills came too late: {points}"
    fixture.train("killed")
    assert fixture.digests("killed") == wanted, f"bits differ after kills at steps {points}"
    steps = fixture.logged_steps("killed")
    assert steps == sorted(set(steps)) and steps[-1] == STEPS, f"log has {steps}"
    assert not list((fixture.root / "killed" / "checkpoints").glob("*.tmp-*"))


def check_corrupt_newest(fixture):
    fixture.train("corrupt", "train.stop_after=12")
    newest = fixture.checkpoints("corrupt")[-1] / "parameters.safetensors"
    contents = bytearray(newest.read_bytes())
    contents[len(contents) // 2] ^= 1
    newest.write_bytes(contents)
    said = fixture.train("corrupt").stderr
    assert "checkpoint rejected" in said and "SHA-256 differs" in said, said
    assert fixture.digests("corrupt") == fixture.digests("whole")


def check_full_disk(fixture):
    fixture.train("full", "train.stop_after=4")
    before = [path.name for path in fixture.checkpoints("full")]

    def no_large_files():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails instead
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    said = fixture.train("full", expect=1, preexec_fn=no_large_files).stderr
    assert "3 checkpoints in a row failed" in said, said
    assert [path.name for path in fixture.checkpoints("full")] == before
    fixture.train("full")
    assert fixture.digests("full") == fixture.digests("whole")


def check_terminate(fixture):
    process = subprocess.Popen([fixture.trainer, *map(str, fixture.train_command("term"))],
                               stderr=subprocess.DEVNULL)
    while process.poll() is None and not fixture.logged_steps("term"):
        time.sleep(0.002)
    process.terminate()
    assert process.wait() == 0
    step = int(fixture.checkpoints("term")[-1].name[5:])
    assert step == fixture.logged_steps("term")[-1], "SIGTERM must leave a checkpoint of its step"
    fixture.train("term")
    assert fixture.digests("term") == fixture.digests("whole")


def check_errors(fixture):
    said = fixture.train("nan", "optimizer.eps=0", expect=1).stderr
    assert "not finite" in said and ": step " in said, said
    fixture.train("whole", "run.seed=6", expect=3)
    fixture.train("typo", "train.stepz=6", expect=3)
    fixture.train("nodata", "data.folder=/nowhere", expect=4)
    fixture.call("train", expect=2)
    fixture.call("frain", expect=2)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("trainer")
    arguments.add_argument("--seed", type=int, default=os.environ.get("MOLE_KILL_SEED", "1"))
    arguments.add_argument("--kills", type=int, default=os.environ.get("MOLE_KILL_COUNT", "4"))
    given = arguments.parse_args()
    print(f"seed {given.seed}, kills {given.kills}", flush=True)
    with tempfile.TemporaryDirectory(prefix="mole-kill-") as folder:
        fixture = Fixture(given.trainer, pathlib.Path(folder), given.seed)
        check_kills(fixture, given.kills)
        for check in (check_corrupt_newest, check_full_disk, check_terminate, check_errors):
            check(fixture)
            print(check.__name__, "passed", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
