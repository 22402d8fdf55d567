"""The figures of the pages that are no list, each one query of the views; who asks sees own rows only, by the database.

A sum never mixes currencies: whatever is summed is grouped by currency. Where the first few of many are shown, it is
found first which they are, by what they are sorted by alone, and then what is told of each.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from psycopg2.extensions import cursor as Cursor  # noqa: N812

from prm_es.api.lists import LEADS

Row = dict[str, Any]
STAGES: Final = ("prospect", "qualified", "technical_validation", "business_validation", "committed")
CARDS: Final = 25
ATTENTION: Final = 6
MONTHS: Final = 12


def rows(cursor: Cursor, query: str, given: Mapping[str, object] | None = None) -> list[Row]:
    """Run a query of ours over the views."""
    cursor.execute(query, given or {})
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]


def one(cursor: Cursor, query: str, given: Mapping[str, object] | None = None) -> Row | None:
    return next(iter(rows(cursor, query, given)), None)


def pipeline(cursor: Cursor) -> list[Row]:
    """Give the open pipeline by currency: deals, amount, weighted amount, how many are overdue and stalled."""
    return rows(
        cursor,
        """
        SELECT currency, count(*) AS deals, sum(amount) AS amount, sum(weighted_amount) AS weighted,
            count(*) FILTER (WHERE overdue) AS overdue, count(*) FILTER (WHERE stalled) AS stalled
        FROM opportunities WHERE status = 'open' GROUP BY currency ORDER BY currency
        """,
    )


def stages(cursor: Cursor, chosen: Mapping[str, object]) -> list[Row]:
    """Give the open pipeline by stage and currency."""
    return rows(
        cursor,
        """
        SELECT stage, currency, count(*) AS deals, sum(amount) AS amount, sum(weighted_amount) AS weighted,
            count(*) FILTER (WHERE overdue) AS overdue, count(*) FILTER (WHERE stalled) AS stalled
        FROM opportunities
        WHERE status = 'open' AND (%(currency)s::text IS NULL OR currency = %(currency)s)
        GROUP BY stage, currency
        ORDER BY array_position(%(stages)s, stage), currency
        """,
        {"stages": list(STAGES), **chosen},
    )


def board(cursor: Cursor, chosen: Mapping[str, object]) -> dict[str, list[Row]]:
    """Give the cards of each open stage: what is overdue first, then what is due next."""
    found = rows(
        cursor,
        """
        SELECT each.opportunity_id, name, customer, partner, stage, amount, currency, days_in_stage, overdue, stalled,
            next_action, next_action_due_on, expected_close_on, updated_position, place
        FROM (
            SELECT opportunity_id, row_number() OVER (
                PARTITION BY stage ORDER BY overdue DESC, next_action_due_on NULLS LAST, opportunity_id
            ) AS place
            FROM opportunities
            WHERE status = 'open' AND (%(currency)s::text IS NULL OR currency = %(currency)s)
        ) ranked
        CROSS JOIN LATERAL (
            SELECT * FROM opportunities one WHERE one.opportunity_id = ranked.opportunity_id OFFSET 0
        ) each
        WHERE place <= %(cards)s
        ORDER BY place
        """,
        {"cards": CARDS, **chosen},
    )
    return {stage: [row for row in found if row["stage"] == stage] for stage in STAGES}


def funnel(cursor: Cursor) -> list[Row]:
    """Give what became of the stays in each stage."""
    return rows(
        cursor,
        "SELECT * FROM funnel WHERE stage = ANY (%(stages)s) ORDER BY array_position(%(stages)s, stage)",
        {"stages": list(STAGES)},
    )


def won_by_month(cursor: Cursor, partner_id: UUID | None = None) -> list[Row]:
    """Give the amounts won in the last twelve months by month and currency, a row for each month."""
    return rows(
        cursor,
        """
        WITH months AS (
            SELECT (date_trunc('month', now()) - n * interval '1 month')::date AS month
            FROM generate_series(0, %(months)s - 1) n
        ),
        won AS (
            SELECT month, currency, sum(won_amount) AS amount, sum(won)::bigint AS deals
            FROM partner_performance
            WHERE won > 0 AND month >= (SELECT min(month) FROM months) AND currency IS NOT NULL
                AND (%(partner)s::uuid IS NULL OR partner_id = %(partner)s::uuid)
            GROUP BY 1, 2
        )
        SELECT months.month, money.currency, coalesce(won.amount, 0) AS amount, coalesce(won.deals, 0) AS deals
        FROM months CROSS JOIN (SELECT DISTINCT currency FROM won) money
        LEFT JOIN won ON won.month = months.month AND won.currency = money.currency
        ORDER BY money.currency, months.month
        """,
        {"months": MONTHS, "partner": partner_id and str(partner_id)},
    )


def running_goals(cursor: Cursor) -> list[Row]:
    """Give the running goals for amounts won, summed by currency, with what is reached and what should be by today."""
    return rows(
        cursor,
        """
        SELECT currency, count(*) AS goals, sum(target) AS target, sum(actual) AS actual,
            sum(target * elapsed_share) AS due
        FROM goals WHERE current AND metric = 'won_amount' AND product_line IS NULL
        GROUP BY currency ORDER BY currency
        """,
    )


def lead_counts(cursor: Cursor) -> list[Row]:
    """Count the leads that have not ended by status and colour of the decision's clock."""
    return rows(
        cursor,
        """
        SELECT status, sla_colour, count(*) AS leads, count(*) FILTER (WHERE in_conflict) AS in_conflict
        FROM leads
        WHERE status IN ('submitted', 'in_review', 'action_required', 'approved', 'new', 'qualified', 'offered',
            'accepted', 'contacted', 'working')
        GROUP BY status, sla_colour
        """,
    )


def to_decide(cursor: Cursor) -> list[Row]:
    return rows(
        cursor,
        """
        SELECT lead_id, customer, partner, status, amount, currency, sla_colour, sla_due_at, sla_left, in_conflict,
            updated_position
        FROM leads WHERE status IN ('submitted', 'in_review')
        ORDER BY sla_due_at NULLS LAST, lead_id LIMIT %(limit)s
        """,
        {"limit": ATTENTION},
    )


def deals_due(cursor: Cursor) -> list[Row]:
    return rows(
        cursor,
        """
        SELECT each.opportunity_id, name, customer, partner, stage, amount, currency, next_action, next_action_due_on,
            expected_close_on, overdue, stalled, days_in_stage, updated_position
        FROM (
            SELECT opportunity_id
            FROM opportunities WHERE status = 'open' AND (overdue OR next_action_due_on <= current_date + 3)
            ORDER BY array_position(%(stages)s, stage) DESC, next_action_due_on DESC NULLS LAST, opportunity_id
            LIMIT %(limit)s
        ) due
        CROSS JOIN LATERAL (
            SELECT * FROM opportunities one WHERE one.opportunity_id = due.opportunity_id OFFSET 0
        ) each
        ORDER BY array_position(%(stages)s, stage) DESC, next_action_due_on DESC NULLS LAST, each.opportunity_id
        """,
        {"limit": ATTENTION, "stages": list(STAGES)},
    )


def waiting_offers(cursor: Cursor) -> list[Row]:
    return rows(
        cursor,
        """
        SELECT lead_id, customer, partner, country, product_lines, amount, currency, respond_by, opened_at
        FROM offers WHERE answer = 'open' ORDER BY respond_by, lead_id LIMIT %(limit)s
        """,
        {"limit": ATTENTION},
    )


def asked_back(cursor: Cursor) -> list[Row]:
    """Give the registrations about which the partner was asked something."""
    return rows(
        cursor,
        """
        SELECT lead_id, customer, partner, asked_for, answer_by, amount, currency
        FROM registrations WHERE status = 'action_required' ORDER BY answer_by, lead_id LIMIT %(limit)s
        """,
        {"limit": ATTENTION},
    )


def ending_protections(cursor: Cursor) -> Row:
    found = one(
        cursor,
        """
        SELECT count(*) AS running, count(*) FILTER (WHERE days_left <= 30) AS ending
        FROM protected_customers
        """,
    )
    return found or {"running": 0, "ending": 0}


def open_conflicts(cursor: Cursor) -> Row:
    found = one(
        cursor,
        """
        SELECT count(*) AS open, count(*) FILTER (WHERE strength = 'hard') AS hard
        FROM lead_conflicts WHERE status = 'open' AND strength IN ('hard', 'probable')
        """,
    )
    return found or {"open": 0, "hard": 0}


def opportunity(cursor: Cursor, opportunity_id: UUID) -> Row | None:
    return one(cursor, "SELECT * FROM opportunities WHERE opportunity_id = %(id)s", {"id": str(opportunity_id)})


def lead(cursor: Cursor, lead_id: UUID) -> Row | None:
    """Give a lead with the offer that runs, if one does: before it is opened its partner does not see the customer."""
    found = one(
        cursor,
        """
        SELECT l.*, offer.opened_at IS NOT NULL AS opened, offer.offered_at
        FROM leads l
        LEFT JOIN offers offer ON offer.lead_id = l.lead_id AND offer.answer = 'open'
        WHERE l.lead_id = %(id)s
        """,
        {"id": str(lead_id)},
    )
    return found or _offered(cursor, lead_id)


def _offered(cursor: Cursor, lead_id: UUID) -> Row | None:
    """Give what a partner may know of a lead that it was offered and has not looked at: `came_in_at` is not of it."""
    found = one(
        cursor,
        """
        SELECT lead_id, 'captured' AS origin, 'offered' AS status, partner_id, partner, territory, country,
            product_lines, amount, currency, respond_by, overdue, offered_at, false AS opened
        FROM offers WHERE lead_id = %(id)s AND answer = 'open'
        """,
        {"id": str(lead_id)},
    )
    return found and {**dict.fromkeys(LEADS.columns), "contact_by": None, "recall_at": None, **found}


def conflicts(cursor: Cursor, status: str) -> list[Row]:
    return rows(
        cursor,
        """
        SELECT * FROM lead_conflicts WHERE status = %(status)s
        ORDER BY array_position(ARRAY['hard', 'probable', 'possible', 'related'], strength), found_position DESC
        LIMIT 200
        """,
        {"status": status},
    )


def sides(cursor: Cursor, lead_ids: Iterable[object]) -> dict[str, Row]:
    """Give what is known of the leads and opportunities of a conflict, by id."""
    found = rows(
        cursor,
        """
        SELECT lead_id AS id, customer, customer_keys, country, status, came_in_at, place_position, product_lines,
            deal_type, amount, currency, expected_close_on, protected_until, owner
        FROM leads WHERE lead_id = ANY (%(ids)s::uuid[])
        UNION ALL
        SELECT opportunity_id, customer, NULL, NULL, status, opened_at, NULL, product_lines, deal_type, amount,
            currency, expected_close_on, NULL, owner
        FROM opportunities WHERE opportunity_id = ANY (%(ids)s::uuid[])
        """,
        {"ids": [str(one) for one in lead_ids]},
    )
    return {str(row["id"]): row for row in found}


def partner(cursor: Cursor, partner_id: UUID) -> Row | None:
    return one(cursor, "SELECT * FROM partners WHERE partner_id = %(id)s", {"id": str(partner_id)})


def scorecard(cursor: Cursor, partner_id: UUID) -> list[Row]:
    """Give a partner's scorecard, a row for each currency."""
    return rows(
        cursor,
        "SELECT * FROM partner_scorecard WHERE partner_id = %(id)s ORDER BY currency NULLS LAST",
        {"id": str(partner_id)},
    )


def performance(cursor: Cursor, partner_id: UUID) -> list[Row]:
    """Give a partner's last twelve months."""
    return rows(
        cursor,
        """
        SELECT * FROM partner_performance
        WHERE partner_id = %(id)s AND month > (date_trunc('month', now()) - interval '12 months')::date
            AND month <= date_trunc('month', now())::date
        ORDER BY currency NULLS LAST, month
        """,
        {"id": str(partner_id)},
    )


def goals_of(cursor: Cursor, partner_id: UUID) -> list[Row]:
    """Give a partner's running goals."""
    return rows(
        cursor,
        """
        SELECT * FROM goals WHERE partner_id = %(id)s AND current
        ORDER BY metric = 'won_amount' DESC, metric, product_line NULLS FIRST, first_on
        """,
        {"id": str(partner_id)},
    )


def open_deals_of(cursor: Cursor, partner_id: UUID) -> list[Row]:
    return rows(
        cursor,
        """
        SELECT opportunity_id, name, customer, partner, stage, amount, currency, next_action, next_action_due_on,
            overdue, stalled, days_in_stage, updated_position
        FROM opportunities WHERE partner_id = %(id)s AND status = 'open'
        ORDER BY array_position(%(stages)s, stage) DESC, amount DESC NULLS LAST, opportunity_id LIMIT 8
        """,
        {"id": str(partner_id), "stages": list(STAGES)},
    )


def deadlines(cursor: Cursor, kinds: Sequence[str], days: int) -> list[Row]:
    """Give what is due within some days, the earliest first, with the customer or deal it is about."""
    return rows(
        cursor,
        """
        SELECT d.aggregate, d.aggregate_id, d.kind, d.due_at, d.overdue, d.partner,
            coalesce(o.name, l.customer) AS what, coalesce(o.amount, l.amount) AS amount,
            coalesce(o.currency, l.currency) AS currency
        FROM (
            SELECT * FROM deadlines
            WHERE (%(kinds)s::text[] = '{}' OR kind = ANY (%(kinds)s::text[]))
                AND due_at < now() + %(days)s * interval '1 day'
            ORDER BY due_at, aggregate_id, kind LIMIT 300
        ) d
        LEFT JOIN opportunities o ON o.opportunity_id = d.aggregate_id
        LEFT JOIN leads l ON l.lead_id = d.aggregate_id
        ORDER BY d.due_at, d.aggregate_id, d.kind
        """,
        {"kinds": list(kinds), "days": days},
    )


def active_partners(cursor: Cursor) -> list[Row]:
    return rows(
        cursor,
        "SELECT partner_id, partner FROM partners WHERE status = 'active' ORDER BY partner LIMIT 2000",
    )


def product_lines(cursor: Cursor) -> list[str]:
    """Give the product lines that a partner may sell, or that are in use."""
    found = rows(
        cursor,
        """
        SELECT DISTINCT unnest(product_lines) AS line FROM (
            SELECT product_lines FROM partners WHERE status = 'active'
            UNION ALL
            (SELECT product_lines FROM leads ORDER BY lead_id LIMIT 5000)
        ) used ORDER BY 1 LIMIT 60
        """,
    )
    return [str(row["line"]) for row in found]


def currencies(cursor: Cursor) -> list[str]:
    """Give the currencies of the open pipeline, the most used first."""
    found = rows(
        cursor,
        """
        SELECT currency FROM opportunities WHERE currency IS NOT NULL AND status = 'open'
        GROUP BY currency ORDER BY count(*) DESC, currency
        """,
    )
    return [str(row["currency"]) for row in found]
