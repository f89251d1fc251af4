"""Where the text of the corpus comes from, and how each package's form becomes plain documents.

A document is a chapter (of a book of the Bible, a novel, a manual): (id, text), paragraphs separated
by an empty line, no headings, tables, code or links.
"""

import html.parser
import re
import struct
import subprocess
import unicodedata

import r_data

PARAGRAPH_CHARACTERS_MIN = 40  # of manuals: shorter ones are captions and labels
DOCUMENT_CHARACTERS_MIN = 400  # shorter ones are tables of contents and stubs
CHAPTER = re.compile(r"(?:CHAPTER|Chapter) (?:[IVXLC]+|\d+)\b")
TYPOGRAPHY = str.maketrans({
    "“": '"', "”": '"', "‘": "'", "’": "'", "—": "--", "–": "-", "…": "...", "\u00a0": " ",
    "\u200b": "", "\ufeff": ""})


def clean(text):
    """One paragraph: NFC, plain quotes and dashes, single spaces."""
    text = unicodedata.normalize("NFC", text).translate(TYPOGRAPHY)
    return " ".join(text.split())


def chapters(work, lines):
    """Documents of a plain-text novel: cut at chapter headings, lines joined to paragraphs."""
    found, paragraphs, lines_open = [], None, []
    for line in list(lines) + ["", "CHAPTER 0"]:
        text = line.strip()
        if text and not (CHAPTER.match(text) and not lines_open):
            lines_open.append(text)
            continue
        if lines_open and paragraphs is not None:
            paragraph = clean(" ".join(lines_open).replace("_", ""))  # marks of _emphasis_
            shout = paragraph.upper() == paragraph and len(paragraph) < 60  # VOLUME II, THE END
            if not shout and paragraph != "Finis":
                paragraphs.append(paragraph)
        lines_open = []
        if text:  # a chapter's heading
            if paragraphs:
                found.append("\n\n".join(paragraphs))
            paragraphs = []
    kept = [text for text in found if len(text) >= DOCUMENT_CHARACTERS_MIN]
    return [(f"{work}/{i:03d}", text) for i, text in enumerate(kept, 1)]


def austen(root):
    objects = r_data.read_database(root / "usr/lib/R/site-library/janeaustenr/data")
    documents = []
    for name, lines in sorted(objects.items()):
        if "A NOTE ON THE TEXT" in lines:  # an editor's, after Northanger Abbey
            lines = lines[:lines.index("A NOTE ON THE TEXT")]
        documents += chapters(f"austen/{name}", lines)
    return documents


def moby_dick(root):
    objects = r_data.read_database(root / "usr/lib/R/site-library/tokenizers/data")
    return chapters("melville/mobydick", "\n".join(objects["mobydick"]).split("\n"))


def bible(root):
    """bible.data: a 0x54-byte signature; big-endian window size, count and count + 1 offsets; then the
    windows, each an LZW stream of compress(1) with its three magic bytes only before the first."""
    data = (root / "usr/lib/bible.data").read_bytes()
    window, count = struct.unpack_from(">II", data, 0x54)
    offsets = struct.unpack_from(f">{count + 1}I", data, 0x5C)
    plain = b""
    for begin, end in zip(offsets, offsets[1:]):
        stream = b"\x1f\x9d\x90" + data[begin:end]
        plain += subprocess.run(["gzip", "-dc"], input=stream, check=True, stdout=-1).stdout
    if len(plain) <= window * (count - 1):
        raise ValueError("bible.data: a window is short")
    books = {}
    for line in plain.decode("ascii").splitlines()[1:]:
        verse = re.fullmatch(r"(\w+?)(\d+):(\d+) (.*)", line)
        if verse is None:
            raise ValueError(f"bible.data: not a verse: {line!r}")
        book, chapter, _, text = verse.groups()
        books.setdefault((book, int(chapter)), []).append(clean(text))
    return [(f"bible/{book}/{chapter:03d}", " ".join(verses))
            for (book, chapter), verses in books.items()]


class ParagraphParser(html.parser.HTMLParser):
    """The running text of DocBook and Sphinx pages: <p> and <div class="para">."""

    SKIPPED = {"pre", "table", "script", "style", "head", "footer", "nav", "h1", "h2", "h3", "h4"}
    VOID = {"br", "img", "meta", "link", "hr", "input", "col"}

    def __init__(self):
        super().__init__()
        self.open, self.paragraphs, self.parts = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag in self.VOID:
            return
        classes = (dict(attributes).get("class") or "").split()
        skip = tag in self.SKIPPED or "title" in classes or "docnav" in classes
        skip = skip or "sphinxsidebar" in classes or "toc" in classes
        block = tag == "p" or "para" in classes
        if block:
            self.end_paragraph()
        self.open.append((tag, skip, block))

    def handle_endtag(self, tag):
        if tag not in [name for name, _, _ in self.open]:
            return
        while True:
            name, _, block = self.open.pop()
            if block:
                self.end_paragraph()
            if name == tag:
                return

    def handle_data(self, data):
        inside = any(block for _, _, block in self.open)
        if inside and not any(skip for _, skip, _ in self.open):
            self.parts.append(data)

    def end_paragraph(self):
        text = clean("".join(self.parts)).replace("¶", "")
        self.parts = []
        ends = text.endswith((".", "!", "?", '."', ".)"))
        if ends and len(text) >= PARAGRAPH_CHARACTERS_MIN and "://" not in text:
            self.paragraphs.append(text)


def pages(name, paths):
    documents = []
    for path in sorted(paths):
        parser = ParagraphParser()
        parser.feed(path.read_text(encoding="utf-8"))
        parser.close()
        text = "\n\n".join(parser.paragraphs)
        if len(text) >= DOCUMENT_CHARACTERS_MIN:
            documents.append((f"{name}/{path.name.split('.html')[0]}", text))
    return documents


def handbook(root):
    return pages("debian-handbook",
                 (root / "usr/share/doc/debian-handbook/html/en-US").glob("*.html"))


def reference(root):
    return pages("debian-reference", (root / "usr/share/debian-reference").glob("ch*.en.html"))


def developers(root):
    single = {"developers-reference.html", "index.html", "search.html", "genindex.html"}
    folder = root / "usr/share/developers-reference"
    return pages("developers-reference",
                 [path for path in folder.glob("*.html") if path.name not in single])
