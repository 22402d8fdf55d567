"""Writes a made-up CRM export with the shape and the traps of real ones: for `make check-main` without an export."""

import csv
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from pathlib import Path
from random import Random

PRICES = {"GTX Basic": 550, "GTX Pro": 4821, "MG Special": 55, "MG Advanced": 3393, "GTX Plus Pro": 5482}
OFFICES = ("Central", "East", "West")
PIPELINE = (
    "opportunity_id", "sales_agent", "product", "account", "deal_stage", "engage_date", "close_date", "close_value",
)  # fmt: skip


def write(folder: Path, rows: int = 8800, seed: int = 1) -> None:
    """Write accounts.csv, products.csv, sales_teams.csv and sales_pipeline.csv."""
    random = Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    accounts = [f"Account {number:03d}" for number in range(85)]
    agents = [(f"Agent {number:02d}", f"Manager {number % 6}", OFFICES[number % 3]) for number in range(30)]
    header = ("account", "sector", "year_established", "revenue", "employees", "office_location", "subsidiary_of")
    _file(folder / "accounts.csv", header, ((name, "retail", 1990, 10, 10, "United States", "") for name in accounts))
    products = ((name, name[:3].strip(), price) for name, price in PRICES.items())
    _file(folder / "products.csv", ("product", "series", "sales_price"), products)
    _file(folder / "sales_teams.csv", ("sales_agent", "manager", "regional_office"), agents)
    deals = (_deal(random, number, accounts, [agent[0] for agent in agents]) for number in range(rows))
    _file(folder / "sales_pipeline.csv", PIPELINE, deals)


def _deal(random: Random, number: int, accounts: Sequence[str], agents: Sequence[str]) -> Sequence[object]:
    stage = random.choices(("Won", "Lost", "Engaging", "Prospecting"), (48, 28, 18, 6))[0]
    product = random.choice(list(PRICES))
    engaged = date(2016, 10, 20) + timedelta(days=random.randrange(420))
    closed = engaged + timedelta(days=random.randrange(1, 138)) if stage in {"Won", "Lost"} else None
    value = {"Won": round(PRICES[product] * random.uniform(0.6, 1.4)), "Lost": 0}.get(stage, "")
    account = "" if stage in {"Engaging", "Prospecting"} and random.random() < 0.7 else random.choice(accounts)
    return (
        f"D{number:07d}",
        random.choice(agents),
        product.replace("GTX Pro", "GTXPro"),
        account,
        stage,
        "" if stage == "Prospecting" else engaged,
        closed or "",
        value,
    )


def _file(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
