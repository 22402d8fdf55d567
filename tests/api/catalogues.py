"""The catalogues of the pages: every text of the sources, none that is gone. `make catalogues` writes them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

PAGES: Final = Path(__file__).parents[2] / "src/prm_es/api/pages"
LANGUAGES: Final = ("pt_BR",)
_METHODS: Final = [("**.py", "python"), ("**/templates/**.html", "jinja2")]
_OPTIONS: Final = {"**/templates/**.html": {"trim_blocks": "true", "lstrip_blocks": "true"}}
_KEYWORDS: Final = {"_": None, "_n": None, "ngettext": (1, 2)}
HEADER: Final = """# The pages in another language than English. `make catalogues` brings it up to date.
msgid ""
msgstr ""
"Language: {language}\\n"
"Plural-Forms: nplurals=2; plural=(n > 1);\\n"
"Content-Type: text/plain; charset=utf-8\\n"
"Content-Transfer-Encoding: 8bit\\n"

"""
Text = str | tuple[str, str]


def texts() -> set[Text]:
    """Give every text that the pages mark for translation; a pair where there is a plural."""
    return set(_extracted())


def _extracted() -> Iterator[Text]:
    for _file, _line, found, _comments, _context in extract_from_dir(
        PAGES, method_map=_METHODS, options_map=_OPTIONS, keywords=_KEYWORDS
    ):
        parts = (found,) if isinstance(found, str) else tuple(part for part in found if part)
        yield (parts[0], parts[1]) if len(parts) > 1 else parts[0]


def path_of(language: str) -> Path:
    return PAGES / "locales" / language / "messages.po"


def catalogue(language: str) -> Catalog:
    with path_of(language).open("rb") as file:
        return read_po(file, locale=language)


def known(language: str) -> Iterator[tuple[Text, tuple[str, ...]]]:
    """Give every text of a catalogue with its translation, two where there is a plural."""
    for message in catalogue(language):
        if message.id:
            said = message.string or ""
            text = message.id if isinstance(message.id, str) else (message.id[0], message.id[1])
            yield text, (said,) if isinstance(said, str) else tuple(said)


def first(text: Text) -> str:
    return text if isinstance(text, str) else text[0]


def main() -> None:
    """Bring the catalogues up to date: new texts come without a translation, those that are gone go."""
    for language in LANGUAGES:
        old, new = catalogue(language), Catalog(locale=language, fuzzy=False)
        for text in sorted(texts(), key=first):
            known = old.get(first(text))
            new.add(text, known.string if known else "")
        with path_of(language).open("wb") as file:
            file.write(HEADER.format(language=language).encode())
            write_po(file, new, no_location=True, omit_header=True, width=0)


if __name__ == "__main__":
    main()
