#!/usr/bin/env python3
"""Downloads pinned, hashed wheels and unpacks them side by side into a folder. A file that is there
already is replaced, never rewritten: a running program may have it mapped.

Usage: fetch_wheels.py REQUIREMENTS FOLDER [SKIPPED_GLOB ...]
Does nothing when the folder already holds what the requirements file names. Wheels are unpacked, not
installed: we want their headers and libraries, not a Python environment.
"""

import fnmatch
import hashlib
import pathlib
import subprocess
import sys
import tempfile
import zipfile

# The wheels are chosen for this one target, whatever Python runs this script.
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (12, 17, 25, 27, 28)]
PLATFORMS += ["manylinux2010_x86_64", "manylinux2014_x86_64"]


def download(requirements: pathlib.Path, into: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
               "--no-deps", "--require-hashes", "--only-binary=:all:", "--python-version=3.11",
               "--implementation=cp", "--abi=cp311", "--abi=none", "--dest", into,
               "--requirement", str(requirements)]
    for platform in PLATFORMS:
        command += ["--platform", platform]
    subprocess.run(command, check=True)


def unpack(wheel: pathlib.Path, folder: pathlib.Path, skipped: list[str]) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            if any(fnmatch.fnmatch(entry.filename, glob) for glob in skipped):
                continue
            if not entry.is_dir():
                (folder / entry.filename).unlink(missing_ok=True)
            path = pathlib.Path(archive.extract(entry, folder))
            if entry.external_attr >> 16 & 0o111 and path.is_file():
                path.chmod(0o755)


def main() -> None:
    requirements, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    skipped = sys.argv[3:]
    wanted = hashlib.sha256(requirements.read_bytes() + repr(skipped).encode()).hexdigest()
    stamp = folder / f".{requirements.stem}.stamp"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    folder.mkdir(parents=True, exist_ok=True)
    print(f"fetching {requirements.stem} (about a minute)", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=folder) as downloads:
        download(requirements, downloads)
        for wheel in sorted(pathlib.Path(downloads).glob("*.whl")):
            unpack(wheel, folder, skipped)
    stamp.write_text(wanted)


if __name__ == "__main__":
    main()
