"""Parts of a Grafana dashboard as JSON: panels that differ in what they ask, and agree in all else."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

Json = dict[str, Any]

SQL: Final = {"type": "grafana-postgresql-datasource", "uid": "prm-es"}
METRICS: Final = {"type": "prometheus", "uid": "prm-es-metrics"}
WIDTH: Final = 24
GOOD, WARN, BAD, IDLE = "green", "orange", "red", "#8e8e8e"


@dataclass(frozen=True)
class Panel:
    """A panel without its place; `width` of 24, `height` in units of 30 pixels."""

    kind: str
    title: str
    source: Mapping[str, str]
    targets: Sequence[Json]
    width: int
    height: int
    options: Json
    defaults: Json = field(default_factory=dict)
    overrides: Sequence[Json] = ()
    about: str = ""
    transformations: Sequence[Json] = ()


def _sql(query: str) -> list[Json]:
    target = {"refId": "A", "datasource": SQL, "format": "table", "rawQuery": True, "editorMode": "code"}
    return [{**target, "rawSql": " ".join(query.split())}]


def _promql(queries: Mapping[str, str], *, instant: bool) -> list[Json]:
    return [
        {
            "refId": chr(ord("A") + number),
            "datasource": METRICS,
            "editorMode": "code",
            "expr": " ".join(query.split()),
            "legendFormat": legend,
            "instant": instant,
            "range": not instant,
        }
        for number, (legend, query) in enumerate(queries.items())
    ]


def steps(*limits: float, colours: Sequence[str] = (GOOD, WARN, BAD)) -> Json:
    """Colour by value: the first colour up to the first limit, and so on."""
    from_ = [None, *limits]
    found = [{"color": colour, "value": value} for colour, value in zip(colours, from_, strict=False)]
    return {"mode": "absolute", "steps": found}


PLAIN: Final = steps(colours=["text"])
NONE_IS_GOOD: Final = steps(1, colours=[GOOD, BAD])
FEW_IS_GOOD: Final = steps(1, colours=[GOOD, WARN])
BEHIND: Final = steps(10, 60)


def stat(
    title: str,
    query: str,
    *,
    unit: str = "none",
    limits: Json = PLAIN,
    width: int = 3,
    metrics: bool = False,
    about: str = "",
) -> Panel:
    """One figure, coloured if it says whether something is to be done."""
    coloured = limits is not PLAIN
    return Panel(
        "stat",
        title,
        METRICS if metrics else SQL,
        _promql({"": query}, instant=True) if metrics else _sql(query),
        width,
        4,
        {
            "colorMode": "value" if coloured else "none",
            "graphMode": "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": "value",
            "wideLayout": True,
        },
        {
            "unit": unit,
            "noValue": "–",
            "color": {"mode": "thresholds" if coloured else "fixed", **({} if coloured else {"fixedColor": "text"})},
            "thresholds": limits,
        },
        about=about,
    )


def bars(
    title: str,
    query: str,
    *,
    x: str,
    unit: str = "short",
    width: int = 12,
    height: int = 9,
    across: bool = False,
    stacked: bool = False,
    colours: Mapping[str, str] | None = None,
    about: str = "",
) -> Panel:
    """Bars by the column `x`, one for each other column; `across` lays them down."""
    return Panel(
        "barchart",
        title,
        SQL,
        _sql(query),
        width,
        height,
        {
            "barRadius": 0.1,
            "barWidth": 0.9,
            "fullHighlight": False,
            "groupWidth": 0.7,
            "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
            "orientation": "horizontal" if across else "vertical",
            "showValue": "auto" if across else "never",
            "stacking": "normal" if stacked else "none",
            "tooltip": {"mode": "multi", "sort": "none"},
            "xField": x,
            "xTickLabelRotation": 0,
            "xTickLabelSpacing": 0 if across else 100,
        },
        {
            "unit": unit,
            "min": 0,
            "color": {"mode": "palette-classic"},
            "custom": {"fillOpacity": 85, "gradientMode": "none", "lineWidth": 0, "axisBorderShow": False},
        },
        [_fixed(name, colour) for name, colour in (colours or {}).items()],
        about=about,
    )


def series(
    title: str,
    queries: Mapping[str, str],
    *,
    unit: str = "short",
    width: int = 8,
    height: int = 8,
    stacked: bool = False,
    limits: Json | None = None,
    about: str = "",
) -> Panel:
    """Lines over time, a query for each legend."""
    return Panel(
        "timeseries",
        title,
        METRICS,
        _promql(queries, instant=False),
        width,
        height,
        {
            "legend": {
                "calcs": ["lastNotNull", "max"],
                "displayMode": "table",
                "placement": "bottom",
                "showLegend": True,
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        {
            "unit": unit,
            "min": 0,
            "color": {"mode": "palette-classic"},
            "custom": {
                "drawStyle": "line",
                "fillOpacity": 30 if stacked else 8,
                "lineWidth": 1,
                "showPoints": "never",
                "spanNulls": False,
                "stacking": {"group": "A", "mode": "normal" if stacked else "none"},
                "thresholdsStyle": {"mode": "line" if limits else "off"},
            },
            **({"thresholds": limits} if limits else {}),
        },
        about=about,
    )


_LABELS_ALONE: Final = {
    "id": "organize",
    "options": {"excludeByName": {"Time": True, "Value": True}, "indexByName": {}, "renameByName": {}},
}


def table(
    title: str, query: str, *columns: Json, width: int = 24, height: int = 9, metrics: bool = False, about: str = ""
) -> Panel:
    """Rows as they come; `columns` say what is special about some."""
    targets = _promql({"": query}, instant=True) if metrics else _sql(query)
    for target in targets:
        target["format"] = "table"
    return Panel(
        "table",
        title,
        METRICS if metrics else SQL,
        targets,
        width,
        height,
        {"cellHeight": "sm", "footer": {"show": False}, "showHeader": True},
        {"custom": {"align": "auto", "cellOptions": {"type": "auto"}, "filterable": not metrics}, "noValue": ""},
        columns,
        about=about,
        transformations=[_LABELS_ALONE] if metrics else [],
    )


# Columns of tables


def _column(name: str, **properties: Any) -> Json:  # noqa: ANN401
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": key.replace("__", "."), "value": value} for key, value in properties.items()],
    }


def _fixed(name: str, colour: str) -> Json:
    return _column(name, color={"mode": "fixed", "fixedColor": colour})


def number(name: str, unit: str = "locale", width: int = 110) -> Json:
    """Figures with a unit, to the right."""
    return _column(name, unit=unit, custom__width=width, custom__align="right")


def wide(name: str, width: int) -> Json:
    """Give a column this many pixels."""
    return _column(name, custom__width=width)


def day(name: str) -> Json:
    """Say the day alone."""
    return _column(name, unit="time:YYYY-MM-DD", custom__width=110)


def moment(name: str) -> Json:
    """Say day and time."""
    return _column(name, unit="time:YYYY-MM-DD HH:mm", custom__width=150)


def percent(name: str, limits: Json, width: int = 120) -> Json:
    """Hundredths, coloured by how good they are."""
    return _column(
        name,
        unit="percent",
        decimals=0,
        custom__width=width,
        custom__cellOptions={"type": "color-text"},
        color={"mode": "thresholds"},
        thresholds=limits,
    )


def marks(name: str, width: int, **colours: str) -> Json:
    """Words with a colour each."""
    mapped = {word: {"color": colour, "index": place} for place, (word, colour) in enumerate(colours.items())}
    return _column(
        name,
        mappings=[{"type": "value", "options": mapped}],
        custom__cellOptions={"type": "color-text"},
        custom__width=width,
    )


# Variables


def choice(name: str, label: str, query: str) -> Json:
    """One of what the query gives, the first unless chosen."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": SQL,
        "query": query,
        "definition": query,
        "refresh": 1,
        "sort": 0,
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "options": [],
        "current": {},
    }


def several(name: str, label: str, query: str) -> Json:
    """Any of what the query gives, all unless chosen; among asks for it."""
    return {
        **choice(name, label, query),
        "includeAll": True,
        "multi": True,
        "allValue": "'*'",  # put in as it stands
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def among(column: str, name: str) -> str:
    """Give the condition that a column is among the chosen, or all are."""
    return f"('*' IN (${{{name}:sqlstring}}) OR {column} IN (${{{name}:sqlstring}}))"


# The whole


def dashboard(
    uid: str,
    title: str,
    about: str,
    rows: Mapping[str, Sequence[Panel]],
    *,
    variables: Sequence[Json] = (),
    since: str,
    until: str = "now",
    refresh: str,
) -> Json:
    """Lay the panels out, row by row from left to right."""
    return {
        "uid": uid,
        "title": title,
        "description": about,
        "tags": ["prm-es"],
        "editable": True,
        "graphTooltip": 1,
        "links": [
            {
                "type": "dashboards",
                "title": "prm-es",
                "tags": ["prm-es"],
                "asDropdown": False,
                "includeVars": False,
                "keepTime": False,
                "targetBlank": False,
                "icon": "external link",
            }
        ],
        "schemaVersion": 41,
        "version": 1,
        "time": {"from": since, "to": until},
        "timezone": "",
        "refresh": refresh,
        "annotations": {"list": []},
        "templating": {"list": list(variables)},
        "panels": list(_laid_out(rows)),
    }


def _laid_out(rows: Mapping[str, Sequence[Panel]]) -> Iterator[Json]:
    number, y = 0, 0
    for title, panels in rows.items():
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1},
            "panels": [],
        }
        x, tallest, y = 0, 0, y + 1
        for panel in panels:
            if x + panel.width > WIDTH:
                x, y, tallest = 0, y + tallest, 0
            number += 1
            yield _placed(panel, number, x, y)
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest


def _placed(panel: Panel, number: int, x: int, y: int) -> Json:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        **({"description": panel.about} if panel.about else {}),
        "datasource": dict(panel.source),
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
        "fieldConfig": {"defaults": panel.defaults, "overrides": list(panel.overrides)},
        "options": panel.options,
        "targets": list(panel.targets),
        **({"transformations": list(panel.transformations)} if panel.transformations else {}),
    }
