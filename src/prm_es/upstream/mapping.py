"""How the CSV files of another system become commands: the mapping file, checked as a whole.

A mapping names its files, the translations of values, and a list of commands; each command is made from every row of
one file that fits its condition. mappings/crm_export.yaml shows every part, with comments.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from prm_es.aggregates import catalogue
from prm_es.errors import Usage

SUFFIX: Final = ".yaml"

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Column = Annotated[str, StringConstraints(min_length=1)]
Columns = Annotated[tuple[Column, ...], Field(min_length=1)]
Scalar = str | int | bool | date


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class File(_Part):
    """A CSV file: which columns tell its rows apart, which nobody needs, and which hold personal values."""

    file: str
    key: Columns
    ignored: tuple[Column, ...] = ()
    personal: tuple[Column, ...] = ()


class Translation(_Part):
    """What a value of the other system is called here, and what becomes of values that are not in the list."""

    values: Mapping[str, str]
    others: Literal["refuse", "keep", "leave_out"] = "refuse"


class Lookup(_Part):
    """A column of the row in another file whose key is the value; then translated, if so wished."""

    file: Name
    column: Column
    translate: Name | None = None


class Rule(_Part):
    """The id of an aggregate: of the mapping's source and the values of these columns, joined by a slash.

    With `file` there must be a row of that key in it.
    """

    aggregate: Literal["partner", "lead", "opportunity", "conflict"]
    columns: Columns
    file: Name | None = None


class Value(_Part):
    """Where one field comes from. A plain text is short for {column: text}.

    An empty value leaves its field out, unless it is required; so does an empty column named by `when`.
    """

    column: Column | None = None
    columns: Columns | None = None
    constant: Scalar | None = None
    id: Rule | None = None
    separator: str = " / "
    translate: Name | None = None
    lookup: Lookup | None = None
    kind: Annotated[Literal["text", "slug", "integer", "decimal", "date", "money"], Field(alias="as")] = "text"
    currency: str | None = None
    when: Column | None = None
    required: bool = False

    @model_validator(mode="before")
    @classmethod
    def _short(cls, given: object) -> object:
        return {"column": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if sum(origin is not None for origin in (self.column, self.columns, self.constant, self.id)) != 1:
            raise ValueError("needs one of column, columns, constant, id")
        if (self.kind == "money") != (self.currency is not None):
            raise ValueError("currency belongs to `as: money`, and must be given there")
        return self

    @property
    def read(self) -> tuple[str, ...]:
        """Name the columns of the row that the value is made from; the first is the one to blame."""
        own = (self.column,) if self.column else self.columns or (self.id.columns if self.id else ())
        return (*own, *((self.when,) if self.when else ()))


class Extreme(_Part):
    """The earliest or the latest date that stands in a column of a file."""

    file: Name
    earliest: Column | None = None
    latest: Column | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.earliest is None) == (self.latest is None):
            raise ValueError("needs one of earliest, latest")
        return self

    @property
    def column(self) -> str:
        """Name the column."""
        return self.earliest or self.latest or ""


class At(_Part):
    """When it happened: a column with a date, and what holds for rows without one.

    `assumed` names the field of the command that is then set to true, so that a stand-in can be told from a date.
    """

    column: Column | None = None
    default: date | Extreme | None = None
    assumed: Name | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.column is None and self.default is None:
            raise ValueError("needs a column or a default")
        return self


class Step(_Part):
    """One command for every row of a file that fits `when`; steps of one aggregate stand in their order in time."""

    step: Name
    file: Name
    type: str
    id: Columns
    when: Mapping[str, tuple[str, ...]] = {}
    at: At
    on_behalf_of: Value | None = None
    fields: Mapping[str, Value]

    @property
    def aggregate(self) -> str:
        """Name the aggregate that the command is for."""
        return catalogue.aggregate_of(self.type)

    @property
    def values(self) -> Sequence[Value]:
        """Give everything that is read from a row, but for the id, the condition and the time."""
        return (*self.fields.values(), *((self.on_behalf_of,) if self.on_behalf_of else ()))

    @property
    def read(self) -> set[str]:
        """Name all columns that the step reads from its own file."""
        columns = {column for value in self.values for column in value.read}
        return columns | set(self.id) | set(self.when) | ({self.at.column} if self.at.column else set())

    @model_validator(mode="after")
    def _known(self) -> Self:
        command = catalogue.COMMANDS.get(self.type)
        if command is None:
            raise ValueError(f"there is no command {self.type}")
        unknown = sorted({path.partition(".")[0] for path in self.fields} - set(command.model_fields))
        if unknown:
            raise ValueError(f"{self.type} has no field {', '.join(unknown)}")
        return self


class CsvMapping(_Part):
    """A mapping, whole. Name, version and source are part of every id: change the version to send everything anew."""

    name: Name
    version: Annotated[int, Field(ge=1)]
    source: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    actor: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    date_format: str = "%Y-%m-%d"
    files: Mapping[Name, File]
    translations: Mapping[Name, Translation] = {}
    commands: Annotated[tuple[Step, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        wrong = sorted({f"no file {name}" for name in self._files_named() if name not in self.files})
        wrong += sorted({f"no translation {n}" for n in self._translations_named() if n not in self.translations})
        places = [(step.file, step.step) for step in self.commands]
        wrong += sorted({f"{f} has two steps {s}" for f, s in places if places.count((f, s)) > 1})
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    def _files_named(self) -> Iterator[str]:
        for step in self.commands:
            yield step.file
            yield from (value.lookup.file for value in step.values if value.lookup)
            yield from (value.id.file for value in step.values if value.id and value.id.file)
            if isinstance(step.at.default, Extreme):
                yield step.at.default.file

    def _translations_named(self) -> Iterator[str]:
        for step in self.commands:
            for value in step.values:
                yield from (value.translate,) if value.translate else ()
                yield from (value.lookup.translate,) if value.lookup and value.lookup.translate else ()

    def read(self, name: str) -> set[str]:
        """Name the columns of a file that the mapping reads, by any of its parts."""
        columns = set(self.files[name].key)
        for step in self.commands:
            columns |= step.read if step.file == name else set()
            columns |= {value.lookup.column for value in step.values if value.lookup and value.lookup.file == name}
            if isinstance(step.at.default, Extreme) and step.at.default.file == name:
                columns.add(step.at.default.column)
        return columns


def resolve(name_or_path: str) -> CsvMapping:
    """Read a mapping: a file, or one that prm-es ships, by its name without ending; raises Usage."""
    path = Path(name_or_path)
    if path.suffix or path.exists() or len(path.parts) > 1:
        try:
            return parse(path.read_text(encoding="utf-8"), str(path))
        except OSError as error:
            raise Usage(f"{path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise Usage(f"{path}: not UTF-8") from None
    if name_or_path not in shipped():
        raise Usage(f"there is no mapping {name_or_path}; shipped are: {', '.join(shipped())}")
    return parse(_folder().joinpath(name_or_path + SUFFIX).read_text(encoding="utf-8"), name_or_path + SUFFIX)


def shipped() -> list[str]:
    """Name the mappings that prm-es ships."""
    return sorted(entry.name.removesuffix(SUFFIX) for entry in _folder().iterdir() if entry.name.endswith(SUFFIX))


def _folder() -> Any:  # noqa: ANN401
    return files(__package__).joinpath("mappings")


def parse(text: str, name: str) -> CsvMapping:
    """Read a mapping from YAML; raises Usage with one line a mistake."""
    try:
        return CsvMapping.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise Usage(f"{name} is not YAML: {error}") from None
    except ValidationError as error:
        lines = (f"{name}: {'.'.join(map(str, e['loc'])) or 'mapping'}: {e['msg']}" for e in error.errors())
        raise Usage("\n".join(lines)) from None
