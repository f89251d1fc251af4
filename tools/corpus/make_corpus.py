"""Assembles the demo model's training text from Debian packages that carry free English text.

    python3 tools/corpus/make_corpus.py [--output .cache/corpus]

Downloads the packages below (apt-get download; nothing is installed), checks their hashes, and writes
OUTPUT/train.jsonl and OUTPUT/heldout.jsonl: one document a line, {"id": …, "text": …}, where a document
is a chapter. Of each work (a novel, the Bible, a manual) every 50th document is held out, from the
20th on, so that each of the longer works is in both parts and no chapter is in two.
The output is a function of the packages alone; SOURCES.md records its hash. Needs Python, apt, dpkg
and gzip only.
"""

import argparse
import hashlib
import json
import pathlib
import subprocess
import sys

import sources

HELDOUT_EVERY, HELDOUT_FIRST = 50, 20
REPOSITORY = pathlib.Path(__file__).resolve().parent.parent.parent

# "sha256" is that of the .deb (r-cran-tokenizers: the amd64 one); "read" makes documents of its tree.
PACKAGES = [
    {"name": "r-cran-janeaustenr", "version": "1.0.0-1", "read": sources.austen,
     "sha256": "df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95"},
    {"name": "r-cran-tokenizers", "version": "0.3.0-1", "read": sources.moby_dick,
     "sha256": "6312f013ebfde5650235bfd7ba5c44d9e4cf9f2da9855337c9483fe778f0d8c7"},
    {"name": "bible-kjv-text", "version": "4.38", "read": sources.bible,
     "sha256": "d61b6aad4c51ba9e2800b825325fa6a09e99a0d02a9bb6dc4724fcc4995a1b7a"},
    {"name": "debian-handbook", "version": "11.20220922", "read": sources.handbook,
     "sha256": "3d5dbeac1f1afc9c094eab9d0f701f6ecff99c4927d5a4794cf6c85678134faa"},
    {"name": "debian-reference-en", "version": "2.100", "read": sources.reference,
     "sha256": "9f31d3a17df505de09689ca255512ea58c1fc47c59bb1b0c7bf1c23362e9743f"},
    {"name": "developers-reference", "version": "12.18", "read": sources.developers,
     "sha256": "0dba82f6fa16e373f2a84ad07e7971aa9264ad2e7d2ae46b37edbc9c5fd57e2e"},
]
# sha256 of the files written.
EXPECTED = {
    "train": "2c1d54a3042c6d03e97ea310586b1fee8ef121008233cb7341ac948e480982a1",
    "heldout": "d4865f59e3c7091c56c6a244bf9cb7305a596266cf1a8f356655c3c7032a1270",
}


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def fetch(package, folder):
    """The unpacked tree of one package."""
    name, version, digest = package["name"], package["version"], package["sha256"]
    tree = folder / f"{name}_{version}"
    if tree.exists():
        return tree
    downloads = folder / "deb"
    downloads.mkdir(parents=True, exist_ok=True)
    pattern = f"{name}_{version.replace(':', '%3a')}_*.deb"
    if not list(downloads.glob(pattern)):
        command = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download",
                   f"{name}={version}"]
        if subprocess.run(command, cwd=downloads, check=False).returncode != 0:
            sys.exit(f"{name} {version} can't be downloaded; try apt-get update (Debian 12)")
    (deb,) = downloads.glob(pattern)
    if sha256(deb.read_bytes()) != digest:
        sys.exit(f"{deb}: sha256 differs from {digest}")
    partial = folder / f"{tree.name}.partial"
    subprocess.run(["rm", "-rf", str(partial)], check=True)
    subprocess.run(["dpkg-deb", "-x", str(deb), str(partial)], check=True)
    partial.rename(tree)
    return tree


def held_out_ids(documents):
    """The ids that training must not see."""
    seen, chosen = {}, set()
    for identity, _ in documents:
        parts = identity.split("/")
        work = parts[0] if parts[0] == "bible" else "/".join(parts[:-1])
        seen[work] = seen.get(work, 0) + 1
        if seen[work] % HELDOUT_EVERY == HELDOUT_FIRST:
            chosen.add(identity)
    return chosen


def write_documents(path, documents):
    """Returns (documents, bytes of text, sha256 of the file)."""
    lines = [json.dumps({"id": identity, "text": text}, ensure_ascii=False) + "\n"
             for identity, text in documents]
    contents = "".join(lines).encode()
    temporary = path.with_suffix(".partial")
    temporary.write_bytes(contents)
    temporary.rename(path)
    return len(documents), sum(len(text.encode()) for _, text in documents), sha256(contents)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=pathlib.Path, default=REPOSITORY / ".cache/corpus")
    parser.add_argument("--packages", type=pathlib.Path,
                        default=REPOSITORY / ".cache/corpus-packages",
                        help="folder of the downloads, kept for the next time")
    parser.add_argument("--no-check", action="store_true",
                        help="do not compare the output with the recorded hashes")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    documents = []
    for package in PACKAGES:
        own = package["read"](fetch(package, options.packages))
        print(f"{package['name']} {package['version']}: {len(own)} documents, "
              f"{sum(len(text.encode()) for _, text in own)} bytes, "
              f"{len(held_out_ids(own))} held out")
        documents += own
    assert len({identity for identity, _ in documents}) == len(documents), "ids repeat"
    held_out = held_out_ids(documents)
    for part in ("train", "heldout"):
        chosen = [pair for pair in documents if (pair[0] in held_out) == (part == "heldout")]
        count, size, digest = write_documents(options.output / f"{part}.jsonl", chosen)
        print(f"{part}.jsonl: {count} documents, {size} bytes of text, sha256 {digest}")
        if not options.no_check and digest != EXPECTED[part]:
            sys.exit(f"{part}.jsonl differs from the recorded sha256 {EXPECTED[part]}")


if __name__ == "__main__":
    main()
