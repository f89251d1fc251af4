"""Fails if an object file that was compiled for one instruction set holds a function that the linker may
merge with another file's copy: an AVX-512 copy would then run on machines without AVX-512.

Usage: isa_symbols.py OBJECT…
"""

import subprocess
import sys

# Functions in these namespaces exist once per instruction set, so merging them is harmless.
OWN_NAMESPACES = ("mole::kernels::avx2::", "mole::kernels::avx512::")


def mergeable(path):
    """Names of the weak functions and objects defined in one object file."""
    listing = subprocess.run(["nm", "-C", "--defined-only", path], check=True, capture_output=True,
                             text=True).stdout
    for line in listing.splitlines():
        kind, _, name = line[17:].partition(" ")
        # DW.ref.…: the address of the exception handler, the same in every copy.
        if kind in "WVu" and not name.startswith("DW.ref."):
            if not any(own in name for own in OWN_NAMESPACES):
                yield name


def main(paths):
    if not paths:
        print("isa_symbols.py: no object files given", file=sys.stderr)
        return 2
    found = [(path, name) for path in paths for name in mergeable(path)]
    for path, name in found:
        print(f"{path}: {name}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
