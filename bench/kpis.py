"""Every figure of the demo's summary, worked out a second time by plain SQL over the log's rows.

Nothing of the product's folds is used: the log is read as JSON, and each figure follows from what the events say. Views
and log are asked in one transaction, so that they have the same rows and the same clock.
"""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql

from prm_es.local.connect import settings_for
from prm_es.local.summary import SECTIONS, TOP
from prm_es.settings import Settings

Row = tuple[Any, ...]

_LOG: Final = """
CREATE TEMP TABLE log ON COMMIT DROP AS
SELECT
    e.notification_id AS position,
    e.originator_id AS id,
    e.originator_version AS version,
    split_part(e.topic, '.', 2) AS aggregate,
    split_part(e.topic, '.', 3) AS event,
    (s.state ->> 'time')::timestamptz AS at,
    (s.state ->> 'recordedtime')::timestamptz AS recorded_at,
    s.state -> 'data' AS data
FROM {store}.events e
CROSS JOIN LATERAL (SELECT convert_from(e.state, 'UTF8')::jsonb AS state) s
"""
_INDEXES: Final = ("CREATE INDEX ON log (aggregate, event)", "CREATE INDEX ON log (id, version)", "ANALYZE log")

# What stands of each aggregate: temporary views on the log.
_STANDS: Final[Sequence[LiteralString]] = (
    """
CREATE TEMP VIEW deal AS
SELECT
    opened.id,
    coalesce(record.partner, opened.data ->> 'partner_id')::uuid AS partner_id,
    stage.stage,
    stage.probability,
    money.amount,
    money.currency,
    stage.closed_on
FROM log opened
CROSS JOIN LATERAL (
    SELECT l.data ->> 'stage' AS stage, (l.data ->> 'probability')::int AS probability,
        (l.data ->> 'closed_on')::date AS closed_on
    FROM log l
    WHERE l.id = opened.id AND l.event IN ('opened', 'stage_changed', 'won', 'lost', 'reopened')
    ORDER BY l.version DESC LIMIT 1
) stage
LEFT JOIN LATERAL (
    SELECT (l.data #>> '{amount,amount}')::numeric AS amount, l.data #>> '{amount,currency}' AS currency
    FROM log l
    WHERE l.id = opened.id
        AND (
            l.event IN ('opened', 'amount_changed')
            OR l.event = 'won' AND l.data #>> '{amount,amount}' IS NOT NULL
        )
    ORDER BY l.version DESC LIMIT 1
) money ON true
LEFT JOIN LATERAL (
    SELECT l.data ->> 'partner_id' AS partner FROM log l
    WHERE l.id = opened.id AND l.event = 'partner_of_record_changed'
    ORDER BY l.version DESC LIMIT 1
) record ON true
WHERE opened.aggregate = 'opportunity' AND opened.event = 'opened'
""",
    # The status of a lead after each of its events.
    """
CREATE TEMP VIEW lead_course AS
SELECT
    l.*,
    coalesce((
        SELECT CASE m.event
            WHEN 'registered' THEN 'submitted'
            WHEN 'resubmitted' THEN 'submitted'
            WHEN 'review_started' THEN 'in_review'
            WHEN 'decision_reverted' THEN 'in_review'
            WHEN 'information_requested' THEN 'action_required'
            WHEN 'captured' THEN 'new'
            WHEN 'declined' THEN 'qualified'
            WHEN 'offer_expired' THEN 'qualified'
            WHEN 'recalled' THEN 'qualified'
            WHEN 'work_started' THEN 'working'
            WHEN 'protection_expired' THEN m.data ->> 'status'
            WHEN 'protection_revoked' THEN m.data ->> 'status'
            ELSE m.event
        END
        FROM log m
        WHERE m.id = l.id AND m.version <= l.version AND m.event IN (
            'registered', 'resubmitted', 'review_started', 'decision_reverted', 'information_requested', 'captured',
            'declined', 'offer_expired', 'recalled', 'work_started', 'protection_expired', 'protection_revoked',
            'approved', 'rejected', 'withdrawn', 'lapsed', 'converted', 'qualified', 'offered', 'accepted', 'contacted',
            'disqualified'
        )
        ORDER BY m.version DESC LIMIT 1
    ), '') AS status
FROM log l
WHERE l.aggregate = 'lead'
""",
    "CREATE TEMP TABLE course ON COMMIT DROP AS SELECT * FROM lead_course",
    "CREATE INDEX ON course (id, version)",
    """
CREATE TEMP TABLE stands ON COMMIT DROP AS
SELECT DISTINCT ON (id) id, status FROM course ORDER BY id, version DESC
""",
    "ANALYZE course",
    # The protection that stands: the last one that was given, if nothing has ended it since.
    """
CREATE TEMP VIEW protection AS
SELECT given.id, given.version, given.event, (given.data ->> 'protected_until')::timestamptz AS until
FROM (
    SELECT DISTINCT ON (id) * FROM course
    WHERE event IN ('approved', 'accepted', 'protection_extended')
    ORDER BY id, version DESC
) given
WHERE NOT EXISTS (
    SELECT FROM course c WHERE c.id = given.id AND c.version > given.version AND c.event IN (
        'protection_ended', 'protection_expired', 'protection_revoked', 'decision_reverted', 'recalled', 'disqualified'
    )
)
""",
)

FIGURES: Final[Mapping[str, LiteralString]] = {
    "pipeline": """
SELECT stage, currency, count(*), sum(amount), round(sum(amount * probability / 100), 2)
FROM deal GROUP BY stage, currency
""",
    "leads": """
WITH coloured AS (
    SELECT s.status, CASE
        WHEN s.status = 'action_required' THEN 'grey'
        WHEN s.status NOT IN ('submitted', 'in_review') THEN NULL
        WHEN breached OR (clock.data ->> 'sla_due_at')::timestamptz <= now() THEN 'red'
        WHEN warned OR (clock.data ->> 'sla_warn_at')::timestamptz <= now() THEN 'amber'
        WHEN clock.data ->> 'sla_due_at' IS NOT NULL THEN 'green'
    END AS colour
    FROM stands s
    LEFT JOIN LATERAL (
        SELECT c.data FROM course c
        WHERE c.id = s.id AND c.event IN ('registered', 'resubmitted', 'decision_reverted')
        ORDER BY c.version DESC LIMIT 1
    ) clock ON true
    CROSS JOIN LATERAL (
        SELECT
            coalesce(bool_or(c.event = 'sla_breached'), false) AS breached,
            coalesce(bool_or(c.event = 'sla_warned'), false) AS warned
        FROM course c
        WHERE c.id = s.id AND c.version >= (
            SELECT max(b.version) FROM course b WHERE b.id = s.id AND b.event IN ('registered', 'decision_reverted')
        )
    ) noted
)
SELECT
    status,
    count(*),
    count(*) FILTER (WHERE colour = 'green'),
    count(*) FILTER (WHERE colour = 'amber'),
    count(*) FILTER (WHERE colour = 'red'),
    count(*) FILTER (WHERE colour = 'grey')
FROM coloured GROUP BY status
""",
    "registrations": """
WITH decided AS (
    SELECT r.id, r.at AS came_at, d.event, d.at
    FROM course r
    LEFT JOIN LATERAL (
        SELECT c.event, c.at FROM course c
        WHERE c.id = r.id AND c.event IN ('approved', 'rejected', 'decision_reverted')
        ORDER BY c.version DESC LIMIT 1
    ) d ON d.event <> 'decision_reverted'
    WHERE r.event = 'registered'
)
SELECT
    count(*),
    count(event),
    count(*) FILTER (WHERE event = 'approved'),
    round(100.0 * count(*) FILTER (WHERE event = 'approved') / nullif(count(event), 0), 1),
    round(extract(epoch FROM percentile_cont(0.5) WITHIN GROUP (ORDER BY at - came_at)) / 3600, 1)
FROM decided
""",
    # Two leads are in conflict over the positions at which both live and both say so.
    "conflicts": """
WITH told AS (
    SELECT
        c.id,
        c.position,
        lead(c.position) OVER (PARTITION BY c.id ORDER BY c.version) AS next,
        c.status,
        (
            SELECT p.event IN ('approved', 'accepted', 'protection_extended') FROM course p
            WHERE p.id = c.id AND p.version <= c.version AND p.event IN (
                'approved', 'accepted', 'protection_extended', 'protection_ended', 'protection_expired',
                'protection_revoked', 'decision_reverted', 'recalled', 'disqualified', 'declined', 'offer_expired'
            )
            ORDER BY p.version DESC LIMIT 1
        ) AS protected,
        (
            SELECT CASE
                WHEN h.event IN ('registered', 'offered', 'transferred') THEN h.data ->> 'partner_id'
                WHEN h.event IN ('protection_expired', 'protection_revoked') AND h.data ->> 'status' <> 'qualified'
                    THEN (
                        SELECT b.data ->> 'partner_id' FROM course b
                        WHERE b.id = h.id AND b.version < h.version
                            AND b.event IN ('registered', 'offered', 'transferred')
                        ORDER BY b.version DESC LIMIT 1
                    )
            END
            FROM course h
            WHERE h.id = c.id AND h.version <= c.version AND h.event IN (
                'registered', 'offered', 'transferred', 'declined', 'offer_expired', 'recalled', 'protection_expired',
                'protection_revoked'
            )
            ORDER BY h.version DESC LIMIT 1
        ) AS holder,
        (
            SELECT d.version FROM course d
            WHERE d.id = c.id AND d.version <= c.version AND (
                d.event IN ('registered', 'captured')
                OR d.event IN ('resubmitted', 'corrected') AND d.data -> 'changed' ? 'customer'
            )
            ORDER BY d.version DESC LIMIT 1
        ) AS customer_version,
        (
            SELECT d.version FROM course d
            WHERE d.id = c.id AND d.version <= c.version AND (
                d.event IN ('registered', 'captured')
                OR d.event IN ('resubmitted', 'corrected') AND d.data -> 'changed' ? 'product_lines'
            )
            ORDER BY d.version DESC LIMIT 1
        ) AS lines_version
    FROM course c
),
piece AS (
    SELECT
        t.id,
        coalesce(t.holder, '') AS holder,
        ARRAY(SELECT jsonb_array_elements_text(k.data -> 'customer_keys')) AS keys,
        ARRAY(SELECT jsonb_array_elements_text(p.data -> 'product_lines')) AS lines,
        int8range(t.position, t.next) AS during
    FROM told t
    JOIN course k ON k.id = t.id AND k.version = t.customer_version
    JOIN course p ON p.id = t.id AND p.version = t.lines_version
    WHERE t.status NOT IN ('rejected', 'withdrawn', 'lapsed', 'expired', 'revoked', 'disqualified')
        AND NOT (t.status = 'converted' AND NOT coalesce(t.protected, false))
),
whole AS (
    SELECT id, holder, keys, lines, unnest(range_agg(during)) AS during
    FROM piece GROUP BY id, holder, keys, lines
),
pair AS (
    SELECT a.id AS low, b.id AS high, a.during * b.during AS during
    FROM (SELECT *, unnest(keys) AS key FROM whole) a
    JOIN (SELECT *, unnest(keys) AS key FROM whole) b
        ON a.key = b.key AND a.id < b.id AND a.holder <> b.holder AND a.during && b.during
        AND (a.lines = '{}' OR b.lines = '{}' OR a.lines && b.lines)
),
conflict AS (
    SELECT low, high, unnest(range_agg(during)) AS during FROM pair GROUP BY low, high
),
known AS (
    SELECT
        c.*,
        EXISTS (
            SELECT FROM course r
            WHERE r.event = 'match_resolved' AND c.during @> r.position
                AND (r.id, r.data ->> 'other_lead') IN ((c.low, c.high::text), (c.high, c.low::text))
                AND NOT EXISTS (
                    SELECT FROM course d
                    WHERE d.id = r.id AND d.version > r.version AND c.during @> d.position
                        AND d.event IN ('resubmitted', 'corrected')
                        AND d.data -> 'changed' ?| ARRAY['customer', 'product_lines']
                )
        ) AS decided
    FROM conflict c
)
SELECT
    'hard',
    count(*) FILTER (WHERE upper_inf(during) AND NOT decided),
    count(*) FILTER (WHERE upper_inf(during) AND decided),
    count(*) FILTER (WHERE NOT upper_inf(during))
FROM known HAVING count(*) > 0
""",
    "protected": """
SELECT
    count(*),
    count(DISTINCT holder.partner),
    count(*) FILTER (WHERE until <= now() + interval '30 days'),
    count(*) FILTER (WHERE p.event = 'protection_extended')
FROM protection p
LEFT JOIN LATERAL (
    SELECT c.data ->> 'partner_id' AS partner FROM course c
    WHERE c.id = p.id AND c.event IN ('registered', 'offered', 'transferred')
    ORDER BY c.version DESC LIMIT 1
) holder ON true
WHERE until > now()
""",
    # Of each kind, the last event that sets or ends it; what is to warn of a time that was over is never set.
    "deadlines": """
WITH does (kind, event, field) AS (
    VALUES
        ('lead.warn_sla', 'registered', 'sla_warn_at'),
        ('lead.warn_sla', 'resubmitted', 'sla_warn_at'),
        ('lead.warn_sla', 'decision_reverted', 'sla_warn_at'),
        ('lead.warn_sla', 'sla_warned', NULL),
        ('lead.warn_sla', 'sla_breached', NULL),
        ('lead.breach_sla', 'registered', 'sla_due_at'),
        ('lead.breach_sla', 'resubmitted', 'sla_due_at'),
        ('lead.breach_sla', 'decision_reverted', 'sla_due_at'),
        ('lead.breach_sla', 'sla_breached', NULL),
        ('lead.lapse', 'information_requested', 'lapse_at'),
        ('lead.lapse', 'resubmitted', NULL),
        ('lead.expire', 'approved', 'protected_until'),
        ('lead.expire', 'accepted', 'protected_until'),
        ('lead.expire', 'protection_extended', 'protected_until'),
        ('lead.expire', 'protection_ended', NULL),
        ('lead.remind_protection', 'approved', 'remind_at'),
        ('lead.remind_protection', 'accepted', 'remind_at'),
        ('lead.remind_protection', 'protection_extended', 'remind_at'),
        ('lead.remind_protection', 'protection_ended', NULL),
        ('lead.expire_offer', 'offered', 'respond_by'),
        ('lead.expire_offer', 'accepted', NULL),
        ('lead.expire_offer', 'converted', NULL),
        ('lead.remind_contact', 'accepted', 'contact_by'),
        ('lead.remind_contact', 'contacted', NULL),
        ('lead.remind_contact', 'contact_overdue', NULL),
        ('lead.remind_contact', 'converted', NULL),
        ('lead.recall', 'accepted', 'recall_at'),
        ('lead.recall', 'contacted', 'recall_at'),
        ('lead.recall', 'work_started', 'recall_at'),
        ('lead.recall', 'converted', NULL)
    UNION ALL
    SELECT review.kind, gone.event, NULL
    FROM (VALUES ('lead.warn_sla'), ('lead.breach_sla'), ('lead.lapse')) review (kind)
    CROSS JOIN (VALUES ('approved')) gone (event)
    UNION ALL
    SELECT review.kind, 'information_requested', NULL
    FROM (VALUES ('lead.warn_sla'), ('lead.breach_sla')) review (kind)
    UNION ALL
    SELECT every.kind, gone.event, NULL
    FROM (
        VALUES ('lead.warn_sla'), ('lead.breach_sla'), ('lead.lapse'), ('lead.expire'), ('lead.remind_protection'),
            ('lead.expire_offer'), ('lead.remind_contact'), ('lead.recall')
    ) every (kind)
    CROSS JOIN (
        VALUES ('rejected'), ('withdrawn'), ('lapsed'), ('declined'), ('offer_expired'), ('recalled'), ('disqualified'),
            ('protection_expired'), ('protection_revoked')
    ) gone (event)
    UNION ALL
    SELECT every.kind, 'decision_reverted', NULL
    FROM (
        VALUES ('lead.lapse'), ('lead.expire'), ('lead.remind_protection'), ('lead.expire_offer'),
            ('lead.remind_contact'), ('lead.recall')
    ) every (kind)
),
last AS (
    SELECT DISTINCT ON (c.id, kind) c.id, kind, does.field, c.version, c.recorded_at, c.data
    FROM course c
    JOIN LATERAL (
        SELECT kind, field FROM does WHERE does.event = c.event
        UNION ALL
        SELECT 'lead.recall', 'recall_at' WHERE c.event = 'activity_logged' AND c.data ->> 'recall_at' IS NOT NULL
    ) does ON true
    ORDER BY c.id, kind, c.version DESC
),
due AS (
    SELECT l.id, l.kind, at.at::timestamptz AS at, l.recorded_at
    FROM last l
    CROSS JOIN LATERAL (
        SELECT l.data ->> l.field AS at WHERE l.field <> 'remind_at'
        UNION ALL
        SELECT jsonb_array_elements_text(l.data -> 'remind_at') WHERE l.field = 'remind_at'
    ) at
    WHERE at.at IS NOT NULL AND NOT EXISTS (
        SELECT FROM course r
        WHERE l.kind = 'lead.remind_protection' AND r.id = l.id AND r.version > l.version
            AND r.event = 'protection_expiring' AND at.at::timestamptz <= (r.data ->> 'remind_at')::timestamptz
    )
    UNION ALL
    SELECT d.id, 'opportunity.mark_stalled', stalls.at, NULL
    FROM deal d
    CROSS JOIN LATERAL (
        SELECT max((l.data ->> 'stalls_at')::timestamptz) AS at FROM log l
        WHERE l.id = d.id AND l.event IN ('opened', 'stage_changed', 'activity_logged', 'reopened')
    ) stalls
    WHERE d.stage NOT IN ('won', 'lost') AND stalls.at > now()
)
SELECT
    kind,
    count(*) FILTER (WHERE at <= now() + interval '1 day'),
    count(*) FILTER (WHERE at <= now() + interval '7 days'),
    count(*)
FROM due WHERE at > now() GROUP BY kind
""",
    "partners": """
SELECT status, count(*) FROM (
    SELECT DISTINCT ON (id) CASE event
        WHEN 'application_submitted' THEN 'applied'
        WHEN 'invitation_declined' THEN 'declined'
        WHEN 'review_started' THEN 'under_review'
        WHEN 'onboarding_started' THEN 'onboarding'
        WHEN 'activated' THEN 'active'
        WHEN 'reinstated' THEN 'active'
        WHEN 'imported' THEN data ->> 'status'
        ELSE event
    END AS status
    FROM log
    WHERE aggregate = 'partner' AND event IN (
        'invited', 'application_submitted', 'invitation_declined', 'review_started', 'approved', 'rejected',
        'onboarding_started', 'activated', 'suspended', 'reinstated', 'terminated', 'imported'
    )
    ORDER BY id, version DESC
) one GROUP BY status
""",
    "top": """
WITH year AS (
    SELECT date_trunc('year', max(closed_on))::date AS first FROM deal WHERE stage = 'won'
),
closed AS (
    SELECT
        partner_id,
        currency,
        count(*) FILTER (WHERE stage = 'won') AS won,
        count(*) FILTER (WHERE stage = 'lost') AS lost,
        sum(amount) FILTER (WHERE stage = 'won') AS won_amount
    FROM deal, year
    WHERE stage IN ('won', 'lost') AND currency IS NOT NULL
        AND closed_on >= first AND closed_on < first + interval '1 year'
    GROUP BY partner_id, currency
),
set_goal AS (
    SELECT DISTINCT ON (s.id, s.data ->> 'goal_id')
        s.id,
        s.data ->> 'currency' AS currency,
        s.data ->> 'period' AS period,
        (s.data ->> 'target')::numeric AS target,
        coalesce(s.data -> 'distribution', '[]') AS distribution
    FROM log s
    WHERE s.event = 'goal_set' AND s.data ->> 'metric' = 'won_amount' AND s.data ->> 'product_line' IS NULL
        AND NOT EXISTS (
            SELECT FROM log w WHERE w.id = s.id AND w.version > s.version AND w.event = 'goal_withdrawn'
                AND w.data ->> 'goal_id' = s.data ->> 'goal_id'
        )
    ORDER BY s.id, s.data ->> 'goal_id', s.version DESC
),
month AS (
    SELECT
        g.id,
        g.currency,
        g.period,
        g.target,
        g.target * coalesce(
            (g.distribution ->> (extract(month FROM start)::int - 1))::numeric / 100, 1 / span.months::numeric
        ) AS part,
        start::date AS first,
        least(1, greatest(0, (now()::date - start::date + 1)::numeric
            / ((start + interval '1 month')::date - start::date))) AS over
    FROM set_goal g
    CROSS JOIN LATERAL (
        SELECT
            CASE WHEN period ~ '-Q' THEN 3 WHEN period ~ '-' THEN 1 ELSE 12 END AS months,
            CASE
                WHEN period ~ '-Q' THEN make_date(left(period, 4)::int, 3 * right(period, 1)::int - 2, 1)
                WHEN period ~ '-' THEN (period || '-01')::date
                ELSE make_date(period::int, 1, 1)
            END AS begins
    ) span
    CROSS JOIN year
    CROSS JOIN LATERAL generate_series(begins, begins + (months - 1) * interval '1 month', interval '1 month') start
    WHERE begins >= year.first AND begins < year.first + interval '1 year'
),
goal AS (
    SELECT
        m.id,
        m.currency,
        (
            SELECT sum(one.target) FROM (
                SELECT DISTINCT t.period, t.target FROM month t WHERE t.id = m.id AND t.currency = m.currency
            ) one
        ) AS target,
        sum(m.part * m.over) AS due,
        sum(won.amount) AS actual
    FROM month m
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(d.amount), 0) AS amount FROM deal d
        WHERE d.partner_id = m.id AND d.currency = m.currency AND d.stage = 'won'
            AND d.closed_on >= m.first AND d.closed_on < m.first + interval '1 month'
    ) won
    GROUP BY m.id, m.currency
)
SELECT
    c.currency,
    (
        SELECT coalesce(named.trade_name[1], named.legal_name[1]) FROM (
            SELECT
                array_agg(l.data ->> 'trade_name' ORDER BY l.version DESC)
                    FILTER (WHERE l.data ? 'trade_name') AS trade_name,
                array_agg(l.data ->> 'legal_name' ORDER BY l.version DESC)
                    FILTER (WHERE l.data ->> 'legal_name' IS NOT NULL) AS legal_name
            FROM log l WHERE l.id = c.partner_id
        ) named
    ),
    c.won,
    c.lost,
    c.won_amount,
    g.target,
    round(100 * g.actual / g.target, 1),
    round(100 * g.actual / nullif(g.due, 0), 1)
FROM (
    SELECT *, row_number() OVER (PARTITION BY currency ORDER BY won_amount DESC, partner_id) AS place
    FROM closed WHERE won_amount > 0
) c
LEFT JOIN goal g ON g.id = c.partner_id AND g.currency = c.currency
WHERE c.place <= %(top)s
""",
}


def kpis_differ(settings: Settings) -> list[str]:
    """Give the names of the summary's figures, `section.column`, that differ from what the log says."""
    if FIGURES.keys() != SECTIONS.keys():
        return sorted(FIGURES.keys() ^ SECTIONS.keys())
    differ: list[str] = []
    with psycopg.connect(settings.admin_dsn) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SET LOCAL timezone TO 'UTC'")
        path = sql.SQL("SET LOCAL search_path TO {}, pg_temp").format(sql.Identifier(settings.read_schema))
        connection.execute(path)
        connection.execute(sql.SQL(_LOG).format(store=sql.Identifier(settings.store_schema)))
        for statement in (*_INDEXES, *_STANDS):
            connection.execute(statement)
        for name, query in FIGURES.items():
            cursor = connection.execute(SECTIONS[name].query.encode())
            columns = [column.name for column in cursor.description or ()]
            shown = cursor.fetchall()
            follows = connection.execute(query, {"top": TOP} if "%(top)s" in query else None).fetchall()
            differ += [f"{name}.{columns[place]}" for place in _differing(shown, follows, len(columns))]
        connection.rollback()
    return differ


def _differing(shown: Sequence[Row], follows: Sequence[Row], width: int) -> list[int]:
    """Give the columns in which the two differ, whatever the order of the rows; all of them if the rows are others."""
    if Counter(shown) == Counter(follows):
        return []
    if len(shown) != len(follows):
        return list(range(width))
    pairs = list(zip(sorted(shown, key=str), sorted(follows, key=str), strict=True))
    return [place for place in range(width) if any(one[place] != other[place] for one, other in pairs)]


def main() -> int:
    """Compare on what runs in a data folder, and name what differs."""
    base = Settings(data=Path(sys.argv[1])) if len(sys.argv) > 1 else Settings()
    differ = kpis_differ(settings_for(base.data, base))
    print(f"kpis_differ={len(differ)}", *differ)
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
