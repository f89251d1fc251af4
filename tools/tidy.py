#!/usr/bin/env python3
"""The rules that a machine can check; run as ./dev tidy. Prints every violation, exits 1 if any.

Layers (who may include whom), where LibTorch may be seen and in how many files, sizes of files and
functions, words of unfinished work, calls that have a better way here, sources that no CMakeLists.txt
names, large files, and clang-format.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Folder -> folders of ours that its files may include.
LAYERS = {
    "base": {"base"},
    "model_loader": {"base", "model_loader"},
    "text": {"base", "text"},
    "kernels": {"base", "kernels"},
    "model": {"base", "kernels", "model_loader", "model"},
    "runtime": {"base", "kernels", "text", "model", "runtime"},
    "server": {"base", "text", "proto", "runtime", "model", "server"},
    "trainer": {"base", "text", "kernels", "model", "model_loader", "trainer"},
    "clients": {"base", "proto", "clients"},
    "load_tests": {"base", "proto", "kernels", "model_loader", "model", "runtime", "load_tests"},
}
# Of a folder below, only these headers may be included from the folder before the colon.
FACES = {
    "runtime": {"model": {"model/model.h", "model/kv_cache.h", "model/registry.h"},
                "kernels": {"kernels/cpu/thread_team.h", "kernels/cross_entropy/cross_entropy.h",
                            "kernels/sampling/sampling.h"}},
    "server": {"model": {"model/model.h", "model/registry.h", "model/workspace.h"}},
    "load_tests": {"model": {"model/model.h", "model/kv_cache.h", "model/registry.h"}},
}
TORCH_FOLDERS = ("kernels/torch/", "model/layers/", "model/deepseek/", "model/mixtral/", "model/weights",
                 "model/trainable", "model/registry.cc", "runtime/model_runner", "trainer/",
                 "tests/model/", "tests/parity/", "tests/trainer/")
TORCH_UNITS_MAX = 28        # .cc files outside tests that include LibTorch: each costs 4 to 15 s
TORCH_ALL_UNITS_MAX = 3     # of these, files that include torch/torch.h
LINES_MAX = {".h": 300, ".cc": 500, ".cu": 600, ".cuh": 600, ".rs": 500, ".py": 500}
TEST_LINES_MAX = 600
FUNCTION_LINES_MAX = 60
KERNEL_FUNCTION_LINES_MAX = 150
FILE_BYTES_MAX = 1 << 20
LARGE_FILES = ("models/demo/",)

INCLUDE = re.compile(r'^\s*#include\s+(["<])([^">]+)[">]', re.M)
FUNCTION_OPENS = re.compile(r"\)( const| noexcept| override| final| ->.*|\s*:.*)* \{$")
CONTROL = re.compile(r"\s*(if|for|while|switch|do|else|catch|namespace|class|struct|enum|return|case)\b|\s*\}")
TORCH_INCLUDE = re.compile(r"^(torch|ATen|c10)/")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|#if 0\b")
BANNED = [
    (re.compile(r"\bstd::rand\b|\bsrand\("), "use base/philox.h", ()),
    (re.compile(r"\bsleep_for\b|\busleep\(|\bsleep\("), "wait for the event, not for time",
     ("kernels/cpu/", "clients/", "load_tests/")),
    (re.compile(r"\bsystem_clock\b"), "use base/clock.h (steady) or name why wall time",
     ("base/log.cc", "server/", "trainer/")),
    (re.compile(r"(?<![\w:])printf\("), "use base/log.h or std::cout in programs", ("kernels/", "load_tests/")),
    (re.compile(r"\bstd::regex\b"), "std::regex hangs on hostile input", ()),
]


def tracked(*patterns: str) -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns],
                            cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return sorted(name for name in listed.split("\0") if name and (ROOT / name).is_file())


def code_of(text: str) -> str:
    """The text without comments and string contents, line structure kept."""
    text = re.sub(r"/\*.*?\*/", lambda m: "\n" * m.group().count("\n"), text, flags=re.S)
    text = re.sub(r'R"(\w*)\(.*?\)\1"', lambda m: '""' + "\n" * m.group().count("\n"), text, flags=re.S)
    return re.sub(r'"(?:\\.|[^"\\\n])*"|//[^\n]*', lambda m: '""' if m.group()[0] == '"' else "", text)


def check_includes(name: str, text: str) -> list[str]:
    folder = name.split("/")[0]
    allowed = LAYERS.get(folder)
    problems = []
    for quote, target in INCLUDE.findall(text):
        if TORCH_INCLUDE.match(target) and not name.startswith(TORCH_FOLDERS):
            problems.append(f"{name}: includes {target}: LibTorch may be seen only by {', '.join(TORCH_FOLDERS)}")
        if allowed is None or quote == "<":
            continue
        owner = target.split("/")[0]
        if owner in LAYERS and owner not in allowed:
            problems.append(f"{name}: {folder} must not include {target}")
        faces = FACES.get(folder, {}).get(owner)
        if faces is not None and target not in faces:
            problems.append(f"{name}: of {owner}, {folder} may include only {', '.join(sorted(faces))}; not {target}")
    return problems


def functions_of(lines: list[str]) -> list[tuple[int, int]]:
    """(first line, line after the last), from 1, of each function body that starts a line of its own."""
    found, index = [], 0
    while index < len(lines):
        if not FUNCTION_OPENS.search(lines[index]):
            index += 1
            continue
        first = index  # parameters may be wrapped: go up to where the declaration begins
        while first > 0 and lines[first - 1].strip() and not lines[first - 1].rstrip().endswith((";", "{", "}", ":")):
            first -= 1
        indent = len(lines[first]) - len(lines[first].lstrip())
        if CONTROL.match(lines[first]) or indent > 2:
            index += 1
            continue
        last = index + 1
        while last < len(lines) and not re.match(rf"^ {{{indent}}}\}}", lines[last]):
            last += 1
        found.append((first + 1, last + 2))
        index = last + 1
    return found


def check_sizes(name: str, text: str) -> list[str]:
    problems = []
    lines = text.splitlines()
    limit = TEST_LINES_MAX if name.startswith("tests/") else LINES_MAX.get(pathlib.Path(name).suffix, 10**9)
    if len(lines) > limit:
        problems.append(f"{name}: {len(lines)} lines; at most {limit}")
    if pathlib.Path(name).suffix not in (".cc", ".h", ".cu", ".cuh"):
        return problems
    limit = KERNEL_FUNCTION_LINES_MAX if name.startswith("kernels/") else FUNCTION_LINES_MAX
    for start, end in functions_of(code_of(text).splitlines()):
        if end - start > limit:
            problems.append(f"{name}:{start}: function of {end - start} lines; at most {limit}")
    return problems


def check_words(name: str, text: str) -> list[str]:
    problems = []
    if name == "tools/tidy.py":
        return problems
    for number, line in enumerate(text.splitlines(), 1):
        if UNFINISHED.search(line):
            problems.append(f"{name}:{number}: unfinished work: {line.strip()[:80]}")
    if name.startswith("tests/"):
        return problems
    for number, line in enumerate(code_of(text).splitlines(), 1):
        for pattern, better, allowed in BANNED:
            if pattern.search(line) and not name.startswith(allowed):
                problems.append(f"{name}:{number}: {pattern.search(line).group()}: {better}")
    return problems


def check_torch_budget(sources: dict[str, str]) -> list[str]:
    units = [n for n, t in sources.items() if n.endswith(".cc") and not n.startswith("tests/")
             and any(TORCH_INCLUDE.match(i) for _, i in INCLUDE.findall(t))]
    whole = [n for n, t in sources.items() if any(i == "torch/torch.h" for _, i in INCLUDE.findall(t))]
    problems = []
    if len(units) > TORCH_UNITS_MAX:
        problems.append(f"{len(units)} files include LibTorch directly; at most {TORCH_UNITS_MAX}: {units}")
    if len(whole) > TORCH_ALL_UNITS_MAX:
        problems.append(f"{len(whole)} files include torch/torch.h; at most {TORCH_ALL_UNITS_MAX}: {whole}")
    return problems


def check_dead_sources(names: list[str]) -> list[str]:
    lists = "\n".join((ROOT / n).read_text() for n in tracked("*CMakeLists.txt", "*.cmake"))
    problems = []
    for name in names:
        path = pathlib.Path(name)
        # Lists may name a source in full, by its stem, or a test by the stem before "_test" in a loop.
        words = {re.escape(path.name), re.escape(path.stem) + r"\b", re.escape(path.stem.removesuffix("_test")) + r"\b"}
        if path.suffix in (".cc", ".cu") and not re.search(rf"(?<!\w)({'|'.join(sorted(words))})", lists):
            problems.append(f"{name}: no CMakeLists.txt names it")
    return problems


def check_large_files() -> list[str]:
    return [f"{n}: {(ROOT / n).stat().st_size} bytes; at most {FILE_BYTES_MAX}" for n in tracked()
            if (ROOT / n).stat().st_size > FILE_BYTES_MAX and not n.startswith(LARGE_FILES)]


def check_format(names: list[str]) -> list[str]:
    done = subprocess.run(["clang-format-14", "--dry-run", "--Werror", *names], cwd=ROOT, capture_output=True, text=True)
    bad = sorted({line.split(":")[0] for line in done.stderr.splitlines() if "error:" in line})
    return [f"{n}: not formatted; run ./dev fmt" for n in bad]


def main() -> int:
    names = tracked("*.h", "*.cc", "*.cu", "*.cuh", "*.rs", "*.py")
    sources = {name: (ROOT / name).read_text() for name in names}
    cpp = [n for n in names if n.endswith((".h", ".cc", ".cu", ".cuh"))]
    problems = []
    for name, text in sources.items():
        if name in cpp:
            problems += check_includes(name, text)
        problems += check_sizes(name, text) + check_words(name, text)
    problems += check_torch_budget(sources) + check_dead_sources(names) + check_large_files() + check_format(cpp)
    for problem in problems:
        print(problem)
    print(f"tidy: {len(names)} files, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
