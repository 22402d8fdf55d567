"""A large installation, made up: rows of every read model, written straight into the live tables.

The distributions are those of a sales channel: a few partners have most of the deals, most deals are closed, old ones
are lost or won, the open ones are young; one customer in twelve is a person. The same seed gives the same rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from prm_es.projections.registry import READ_MODELS
from prm_es.projections.runner import schema_of
from prm_es.settings import Settings


@dataclass(frozen=True, slots=True)
class Size:
    """How many rows."""

    opportunities: int = 1_000_000
    leads: int = 200_000
    partners: int = 2_000


_ID: Final = "md5({kind} || {n})::uuid"
# Rank of a partner: the square makes the first few own most.
_PARTNER: Final = "md5('partner' || (1 + floor({partners} * power(random(), 2.2)))::int)::uuid"
_LINES: Final = "ARRAY['scales','printers','software','payments','services','displays','sensors','cables']"
_CURRENCIES: Final = "ARRAY['BRL','BRL','BRL','BRL','USD','USD','EUR','MXN','GBP','CLP']"
_PICK: Final = "({array})[1 + floor(random() * cardinality({array}))::int]"
_CUSTOMER: Final = "initcap(substr(md5('c' || c), 1, 6)) || ' ' || " + _PICK.format(
    array="ARRAY['Ltda','SA','GmbH','Inc','Comércio']"
)
_TOKEN: Final = "'~1.' || md5('key' || n) || '.' || encode(decode(md5('t' || n), 'hex'), 'base64')"

PARTNERS: Final = """
INSERT INTO {model}.partner
SELECT md5('partner' || n)::uuid, 'P-' || n,
    initcap(substr(md5('name' || n), 1, 7)) || ' ' || (ARRAY['Sistemas','Partners','Digital','Soluções','Systems'])[1 + n % 5],
    'Legal ' || n || ' Ltda',
    CASE WHEN n % 50 = 0 THEN 'terminated' WHEN n % 23 = 0 THEN 'suspended' WHEN n % 17 = 0 THEN 'onboarding' ELSE 'active' END,
    ARRAY[(ARRAY['reseller','integrator','consultant','isv','distributor'])[1 + n % 5]],
    (ARRAY['BR','BR','BR','US','DE','MX','GB','CL'])[1 + n % 8],
    ARRAY[(ARRAY['South','North','Coast','Andes','Plains','Capital','Islands','Gulf','East','West'])[1 + n % 10],
          (ARRAY['South','North','Coast','Andes','Plains','Capital','Islands','Gulf','East','West'])[1 + (n / 7) % 10]],
    (ARRAY['gold','silver','bronze','bronze'])[1 + n % 4], 'cm-' || n % 40,
    CASE WHEN n % 40 = 7 THEN md5('partner' || n - 1)::uuid END, n % 61 = 0,
    now() - (n % 1500) * interval '1 day', '{{}}', n
FROM generate_series(1, {partners}) n
"""
AUTHORISATIONS: Final = f"""
INSERT INTO {{model}}.authorisation
SELECT md5('partner' || n)::uuid, line, CASE WHEN n % 9 = 0 THEN current_date + (n % 500) - 30 END
FROM generate_series(1, {{partners}}) n, unnest({_LINES}) line WHERE hashtext(line || n) % 3 <> 0
"""

_OPPORTUNITY: Final = f"""
CREATE TEMP TABLE made ON COMMIT DROP AS
SELECT d.*, a.*, c.*,
    CASE WHEN stage IN ('won','lost') THEN stage ELSE 'open' END AS status,
    CASE stage WHEN 'prospect' THEN 10 WHEN 'qualified' THEN 25 WHEN 'technical_validation' THEN 50
        WHEN 'business_validation' THEN 75 WHEN 'committed' THEN 90 WHEN 'won' THEN 100 ELSE 0 END AS probability,
    CASE WHEN stage IN ('won','lost') THEN (opened_at + days * interval '1 day')::date END AS closed_on
FROM (
    SELECT n, md5('opportunity' || n)::uuid AS id, {_PARTNER} AS partner_id,
        now() - interval '1 minute' * floor(2 * 365 * 1440 * random()) AS opened_at,
        5 + floor(random() * 90)::int AS days,
        round((exp(random() * 6 + 5))::numeric, 2) AS amount,
        {_PICK.format(array=_CURRENCIES)} AS currency,
        {_PICK.format(array=_LINES)} AS line, {_PICK.format(array=_LINES)} AS line2,
        (ARRAY['new','new','new','expansion','renewal'])[1 + floor(random() * 5)::int] AS deal_type,
        'rep-' || floor(random() * 4000)::int AS owner,
        floor(random() * 300000)::int AS c,
        random() AS luck, random() AS touched, random() AS action, random() AS forecast
    FROM generate_series(1, {{opportunities}}) n
) d
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN d.opened_at > now() - d.days * interval '1 day' OR d.luck < 0.05 THEN
            (ARRAY['prospect','prospect','qualified','qualified','technical_validation','business_validation','committed'])
            [1 + floor(d.luck * 20)::int % 7]
        WHEN d.luck < 0.4 THEN 'won' ELSE 'lost' END AS stage
) a
CROSS JOIN LATERAL (
    SELECT least(now(), d.opened_at + d.touched * least(d.days, 60) * interval '1 day') AS touched_at
) c
"""
_OPPORTUNITIES: Final[Sequence[str]] = (
    _OPPORTUNITY,
    f"""
INSERT INTO {{model}}.opportunity (
    opportunity_id, external_id, name, partner_id, lead_id, customer, product_lines, deal_type, stage, status,
    probability, category, forecast_override, amount, currency, owner, opened_at, engaged_at, expected_close_on,
    closed_on, lost_reason, stage_entered_at, touched_at, stalls_at, stalled_at, next_action, next_action_due_on,
    next_action_owner, data_gaps, updated_position
)
SELECT id, 'O-' || n, initcap(substr(md5('deal' || n), 1, 8)) || ' ' || line, partner_id,
    CASE WHEN n % 5 = 0 THEN md5('lead' || n / 5)::uuid END,
    CASE WHEN n % 12 = 0 THEN {_TOKEN} ELSE {_CUSTOMER} END,
    CASE WHEN line = line2 THEN ARRAY[line] ELSE ARRAY[line, line2] END, deal_type, stage, status, probability,
    CASE stage WHEN 'won' THEN 'closed' WHEN 'lost' THEN 'omitted' WHEN 'committed' THEN 'commit'
        WHEN 'prospect' THEN 'pipeline' WHEN 'qualified' THEN 'pipeline' ELSE 'best_case' END,
    CASE WHEN status = 'open' AND forecast < 0.05 THEN 'commit' END,
    CASE WHEN n % 97 <> 0 THEN amount END, CASE WHEN n % 97 <> 0 THEN currency END, owner, opened_at,
    CASE WHEN stage <> 'prospect' THEN opened_at + interval '3 days' END,
    (opened_at + (days + floor(forecast * 40)::int - 10) * interval '1 day')::date, closed_on,
    CASE WHEN stage = 'lost' THEN (ARRAY['competitor','price','no_decision','budget_lost','other'])[1 + n % 5] END,
    touched_at, touched_at, NULL, CASE WHEN status = 'open' AND touched_at < now() - interval '30 days' THEN touched_at + interval '30 days' END,
    CASE WHEN status = 'open' AND action < 0.8 THEN 'Call ' || substr(md5('a' || n), 1, 6) END,
    CASE WHEN status = 'open' AND action < 0.8 THEN (now() + (floor(action * 50)::int - 10) * interval '1 day')::date END,
    owner, CASE WHEN n % 97 = 0 THEN ARRAY['amount'] ELSE '{{{{}}}}' END, 10 * n
FROM made
""",
    """
INSERT INTO {model}.stage_visit
SELECT id, number, (ARRAY['prospect','qualified','technical_validation','business_validation'])[number],
    opened_at + (number - 1) * (1 + n % 90) * interval '1 day',
    CASE WHEN status <> 'open' OR number < 2 THEN opened_at + number * (1 + n % 90) * interval '1 day' END,
    CASE WHEN status <> 'open' AND number = 2 THEN status WHEN number < 2 THEN 'forward' END
FROM made CROSS JOIN generate_series(1, 2) number
""",
    """
INSERT INTO {model}.stay
SELECT hashtext(opportunity_id::text) & 7, stage, coalesce(left_for, ''),
    coalesce(floor(extract(epoch FROM left_at - entered_at) / 86400), 0), count(*)
FROM {model}.stage_visit GROUP BY 1, 2, 3, 4
""",
    """
INSERT INTO {model}.personal
SELECT md5('key' || n)::uuid, id, 'customer', initcap(substr(md5('first' || n), 1, 5)) || ' ' || initcap(substr(md5('last' || c), 1, 7))
FROM made WHERE n % 12 = 0
""",
)
_DEALS: Final[Sequence[str]] = (
    _OPPORTUNITY,
    """
INSERT INTO {model}.deal
SELECT id, partner_id, '{{}}', NULL, opened_at, CASE WHEN stage <> 'prospect' THEN opened_at + interval '3 days' END, status,
    probability, CASE WHEN n % 97 <> 0 THEN amount END, CASE WHEN n % 97 <> 0 THEN currency END,
    CASE WHEN line = line2 THEN ARRAY[line] ELSE ARRAY[line, line2] END, ARRAY['id:C' || c],
    (opened_at + days * interval '1 day')::date, NULL, touched_at, closed_on, CASE WHEN closed_on IS NOT NULL THEN 10 * n END
FROM made
""",
    "INSERT INTO {model}.act SELECT id, partner_id, touched_at FROM made",
    """
INSERT INTO {model}.activity
SELECT id, partner_id, (opened_at + day * interval '9 days')::date, 1, CASE WHEN n % 97 <> 0 THEN currency END
FROM made CROSS JOIN generate_series(1, 2) day
""",
    "INSERT INTO {model}.won_customer SELECT id, 'id:C' || c, closed_on, 10 * n FROM made WHERE stage = 'won'",
    """
INSERT INTO {model}.goal
SELECT md5('partner' || n)::uuid, md5('goal' || n || metric)::uuid, metric, 'year',
    date_trunc('year', now())::date, (date_trunc('year', now()) + interval '1 year' - interval '1 day')::date, NULL,
    1000 * (1 + n % 90), CASE WHEN metric LIKE '%amount' THEN 'BRL' END, '{{}}', 'cm-' || n % 40, 'active'
FROM generate_series(1, {partners}) n
CROSS JOIN unnest(ARRAY['won_amount','won_count','registered_count']) metric
WHERE n % 3 > 0 OR metric = 'won_amount'
""",
)

_LEAD: Final = f"""
CREATE TEMP TABLE made ON COMMIT DROP AS
SELECT d.*, a.*, NOT status IN ('submitted','in_review','action_required','approved','new','qualified','offered','accepted','contacted','working','converted') AS ended
FROM (
    SELECT n, md5('lead' || n)::uuid AS id, n % 4 > 0 AS registered,
        {_PARTNER} AS partner_id,
        now() - interval '1 minute' * floor(2 * 365 * 1440 * power(random(), 1.3)) AS came_in_at,
        round((exp(random() * 6 + 5))::numeric, 2) AS amount, {_PICK.format(array=_CURRENCIES)} AS currency,
        {_PICK.format(array=_LINES)} AS line,
        (ARRAY['new','new','new','expansion','renewal'])[1 + floor(random() * 5)::int] AS deal_type,
        'rep-' || floor(random() * 4000)::int AS owner, floor(random() * 60000)::int AS c,
        random() AS luck, random() AS speed
    FROM generate_series(1, {{leads}}) n
) d
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN d.registered AND d.came_in_at > now() - interval '7 days' THEN
            (ARRAY['submitted','submitted','in_review','action_required'])[1 + floor(d.luck * 4)::int]
        WHEN d.registered AND d.came_in_at > now() - interval '80 days' AND d.luck < 0.6 THEN
            CASE WHEN d.luck < 0.35 THEN 'approved' ELSE 'converted' END
        WHEN d.registered THEN (ARRAY['converted','converted','converted','rejected','rejected','withdrawn','expired','lapsed'])[1 + floor(d.luck * 8)::int]
        WHEN d.came_in_at > now() - interval '30 days' THEN
            (ARRAY['new','qualified','offered','offered','accepted','contacted','working'])[1 + floor(d.luck * 7)::int]
        ELSE (ARRAY['converted','disqualified','disqualified','qualified'])[1 + floor(d.luck * 4)::int] END AS status
) a
"""
_HELD: Final = "status IN ('approved','accepted','contacted','working') OR (status = 'converted' AND came_in_at > now() - interval '80 days')"
_LEADS: Final[Sequence[str]] = (
    _LEAD,
    f"""
INSERT INTO {{model}}.lead (
    lead_id, external_id, origin, status, partner_id, submitted_by, owner, source, customer, customer_keys,
    country, product_lines, deal_type, amount, currency, expected_close_on, score, came_in_at, place_position,
    identity_version, screened_version, held_until, sla_warn_at, sla_due_at, sla_stopped_at, sla_warn_left,
    sla_left, sla_warned_at, sla_breached_at, asked_for, place_until, lapse_at, decided_at, decision,
    reject_reason, disqualify_reason, protected_from, protected_until, remind_at, extensions,
    extension_requested_at, unprotected_at, unprotected_by, respond_by, contact_by, contact_overdue_at, recall_at,
    opportunity_id, converted_at, ended, ended_at, data_gaps, touched_at, updated_position
)
SELECT id, 'L-' || n, CASE WHEN registered THEN 'registered' ELSE 'captured' END, status,
    CASE WHEN NOT status IN ('new','qualified') OR registered THEN partner_id END, 'rep-' || n % 4000, owner,
    CASE WHEN NOT registered THEN 'web' END, CASE WHEN n % 12 = 0 THEN {_TOKEN} ELSE {_CUSTOMER} END, ARRAY['id:C' || c],
    (ARRAY['BR','BR','BR','US','DE','MX','GB','CL'])[1 + c % 8], ARRAY[line], deal_type,
    CASE WHEN n % 97 <> 0 THEN amount END, CASE WHEN n % 97 <> 0 THEN currency END,
    (came_in_at + interval '60 days')::date, n % 100, came_in_at, 10 * n, 1, CASE WHEN n % 30 = 0 THEN 0 ELSE 1 END,
    CASE WHEN n % 40 = 0 THEN came_in_at + interval '60 days' END,
    CASE WHEN status IN ('submitted','in_review') THEN came_in_at + interval '1 day' END,
    CASE WHEN status IN ('submitted','in_review') THEN came_in_at + interval '2 days' END, NULL, NULL,
    CASE WHEN status = 'action_required' THEN interval '8 hours' END, NULL,
    CASE WHEN n % 15 = 0 AND registered THEN came_in_at + interval '2 days' END,
    CASE WHEN status = 'action_required' THEN ARRAY['amount'] ELSE '{{{{}}}}' END,
    CASE WHEN status = 'action_required' THEN came_in_at + interval '5 days' END,
    CASE WHEN status = 'action_required' THEN came_in_at + interval '30 days' END,
    CASE WHEN status IN ('approved','converted','expired','rejected') AND registered THEN came_in_at + speed * interval '4 days' END,
    CASE WHEN NOT registered THEN NULL WHEN status IN ('approved','converted','expired') THEN 'approved' WHEN status = 'rejected' THEN 'rejected' END,
    CASE WHEN status = 'rejected' THEN (ARRAY['existing_customer','not_qualified','named_account','other'])[1 + n % 4] END,
    CASE WHEN status = 'disqualified' THEN (ARRAY['no_need','no_budget','spam'])[1 + n % 3] END,
    CASE WHEN {_HELD} THEN came_in_at + interval '2 days' END, CASE WHEN {_HELD} THEN came_in_at + interval '92 days' END,
    CASE WHEN {_HELD} THEN ARRAY[came_in_at + interval '62 days', came_in_at + interval '78 days'] ELSE '{{{{}}}}' END,
    0, NULL, NULL, NULL,
    CASE WHEN status = 'offered' THEN came_in_at + interval '1 day' END,
    CASE WHEN status = 'accepted' THEN came_in_at + interval '3 days' END, NULL,
    CASE WHEN status IN ('contacted','working') THEN came_in_at + interval '20 days' END,
    CASE WHEN status = 'converted' THEN md5('opportunity' || n * 5)::uuid END,
    CASE WHEN status = 'converted' THEN came_in_at + interval '9 days' END, ended,
    CASE WHEN ended THEN came_in_at + interval '9 days' END,
    CASE WHEN n % 97 = 0 THEN ARRAY['amount'] ELSE '{{{{}}}}' END, came_in_at + speed * interval '9 days', 10 * n
FROM made
""",
    """
INSERT INTO {model}.offer
SELECT id, number, partner_id, 'manual', came_in_at + number * interval '1 day', came_in_at + (number + 1) * interval '1 day',
    CASE WHEN number = 2 AND luck > 0.3 THEN came_in_at + interval '50 hours' END,
    CASE WHEN number = 1 OR status <> 'offered' THEN came_in_at + (number * 24 + 10) * interval '1 hour' END,
    CASE WHEN number = 1 THEN 'declined' WHEN status = 'offered' THEN 'open' ELSE 'accepted' END,
    CASE WHEN number = 1 THEN (ARRAY['no_capacity','outside_territory','other'])[1 + n % 3] END,
    (ARRAY['BR','BR','BR','US','DE','MX','GB','CL'])[1 + c % 8], ARRAY[line],
    CASE WHEN n % 97 <> 0 THEN amount END, CASE WHEN n % 97 <> 0 THEN currency END
FROM made CROSS JOIN generate_series(1, 2) number WHERE NOT registered AND status NOT IN ('new','qualified','disqualified')
""",
    """
INSERT INTO {model}.lead_match
SELECT id, md5('lead' || n - 7)::uuid, NULL, CASE WHEN n % 2 = 0 THEN 'probable' ELSE 'hard' END, ARRAY['domain:x' || c], 'same domain', true,
    CASE WHEN n % 3 > 0 THEN 'not_a_conflict' END, CASE WHEN n % 3 > 0 THEN came_in_at + interval '1 day' END
FROM made WHERE n % 25 = 0 AND n > 7
""",
    """
INSERT INTO {model}.personal
SELECT md5('key' || n)::uuid, id, 'customer', initcap(substr(md5('first' || n), 1, 5)) || ' ' || initcap(substr(md5('last' || c), 1, 7))
FROM made WHERE n % 12 = 0
""",
)
_COUNTED: Final[Sequence[str]] = (
    _LEAD,
    f"""
INSERT INTO {{model}}.lead
SELECT id, CASE WHEN registered THEN 'registered' ELSE 'captured' END, status, partner_id, {_HELD}, amount, currency, ARRAY[line],
    CASE WHEN registered THEN partner_id END, CASE WHEN registered THEN came_in_at END, NULL,
    floor(speed * 300000)::bigint, NULL,
    CASE WHEN registered AND status IN ('approved','converted','expired','rejected') THEN partner_id END,
    CASE WHEN registered AND status IN ('approved','converted','expired','rejected') THEN came_in_at + speed * interval '4 days' END,
    CASE WHEN NOT registered THEN NULL WHEN status IN ('approved','converted','expired') THEN 'approved' WHEN status = 'rejected' THEN 'rejected' END,
    CASE WHEN status = 'rejected' THEN 'other' END, n % 15 > 0, CASE WHEN status = 'expired' THEN came_in_at + interval '92 days' END,
    CASE WHEN status = 'converted' THEN partner_id END, CASE WHEN status = 'converted' THEN came_in_at + interval '9 days' END,
    CASE WHEN status = 'converted' THEN md5('opportunity' || n * 5)::uuid END
FROM made
""",
    """
INSERT INTO {model}.offer
SELECT id, number, partner_id, came_in_at + number * interval '1 day', CASE WHEN number = 1 THEN 'declined' ELSE 'accepted' END,
    came_in_at + (number * 24 + 10) * interval '1 hour', currency
FROM made CROSS JOIN generate_series(1, 2) number WHERE NOT registered AND status NOT IN ('new','qualified','disqualified')
""",
)
_SUMMED: Final = """
INSERT INTO {model}.month
SELECT partner_id, coalesce(month, '-infinity'), coalesce(currency, ''),
    count(*) FILTER (WHERE kind = 'registered'), count(amount) FILTER (WHERE kind = 'registered'),
    coalesce(sum(amount) FILTER (WHERE kind = 'registered'), 0), count(*) FILTER (WHERE kind = 'approved'),
    count(*) FILTER (WHERE kind = 'rejected'), count(*) FILTER (WHERE kind IN ('approved','rejected') AND yes),
    count(*) FILTER (WHERE kind = 'approved' AND converted), count(*) FILTER (WHERE kind = 'approved' AND expired),
    count(*) FILTER (WHERE kind = 'offer'), count(*) FILTER (WHERE kind = 'offer' AND yes),
    count(*) FILTER (WHERE kind = 'converted'),
    count(*) FILTER (WHERE kind = 'won'), count(amount) FILTER (WHERE kind = 'won'),
    coalesce(sum(amount) FILTER (WHERE kind = 'won'), 0),
    count(*) FILTER (WHERE kind = 'lost'), count(amount) FILTER (WHERE kind = 'lost'),
    coalesce(sum(amount) FILTER (WHERE kind = 'lost'), 0),
    count(number) FILTER (WHERE kind IN ('won','lost')), coalesce(sum(number) FILTER (WHERE kind IN ('won','lost')), 0),
    coalesce(sum(number) FILTER (WHERE kind = 'activity'), 0),
    count(*) FILTER (WHERE kind = 'goal'), coalesce(sum(amount) FILTER (WHERE kind = 'goal'), 0),
    count(*) FILTER (WHERE kind = 'open'), count(amount) FILTER (WHERE kind = 'open'),
    coalesce(sum(amount) FILTER (WHERE kind = 'open'), 0), coalesce(sum(amount * number) FILTER (WHERE kind = 'open'), 0)
FROM (
    SELECT 'registered' AS kind, registered_for AS partner_id, {model}.month_of(registered_at) AS month, currency, amount,
        NULL::int AS number, NULL::boolean AS yes, NULL::boolean AS converted, NULL::boolean AS expired
    FROM {model}.lead WHERE registered_for IS NOT NULL
    UNION ALL
    SELECT decision, decided_for, decided_month, currency, amount, NULL, within_sla, converted_at IS NOT NULL, expired_at IS NOT NULL
    FROM {model}.lead WHERE decided_for IS NOT NULL
    UNION ALL
    SELECT 'converted', converted_for, {model}.month_of(converted_at), currency, amount, NULL, NULL, NULL, NULL
    FROM {model}.lead WHERE converted_for IS NOT NULL
    UNION ALL
    SELECT 'offer', partner_id, offered_month, currency, NULL, NULL, answer = 'accepted', NULL, NULL FROM {model}.offer
    UNION ALL
    SELECT status, partner_id, closed_month, currency, amount, closed_on - {model}.day_of(engaged_at), NULL, NULL, NULL
    FROM {model}.deal WHERE closed_on IS NOT NULL
    UNION ALL
    SELECT status, partner_id, date_trunc('month', expected_close_on::timestamp)::date, currency, amount, probability, NULL, NULL, NULL
    FROM {model}.deal WHERE closed_on IS NULL
    UNION ALL
    SELECT 'activity', partner_id, date_trunc('month', happened_on::timestamp)::date, currency, NULL, activities, NULL, NULL, NULL
    FROM {model}.activity
    UNION ALL
    SELECT 'goal', partner_id, start::date, currency, round(target / 12, 10), NULL, NULL, NULL, NULL
    FROM {model}.goal, generate_series(first_on::timestamp, last_on::timestamp, interval '1 month') start
    WHERE metric = 'won_amount'
) one
GROUP BY 1, 2, 3
"""
_MET: Final[Sequence[str]] = (
    _LEAD,
    f"""
INSERT INTO {{model}}.lead
SELECT id, 'lead', CASE WHEN registered THEN 'registered' ELSE 'captured' END, status, partner_id, NULL, 1, 10 * n, came_in_at,
    CASE WHEN {_HELD} THEN came_in_at + interval '92 days' END, 'Customer ' || c, ARRAY['id:C' || c], ARRAY[line], '{{{{}}}}',
    NULL, ARRAY[c]::bigint[]
FROM made
""",
    "INSERT INTO {model}.lead_key SELECT id, c FROM made",
    """
INSERT INTO {model}.conflict
SELECT least(id, other), greatest(id, other), 1, other, CASE WHEN n % 2 = 0 THEN 'probable' ELSE 'hard' END, 0.5 + luck::numeric(4, 3) / 2,
    ARRAY['domain:x' || c], 'same web domain', 10 * n, came_in_at,
    CASE WHEN n % 4 = 0 THEN 'not_a_conflict' END, NULL, NULL, CASE WHEN n % 5 > 0 THEN 10 * n + 5 END,
    CASE WHEN n % 5 > 0 THEN came_in_at + interval '3 days' END, CASE WHEN n % 5 > 0 THEN 'rejected' END
FROM (SELECT *, md5('lead' || n - 7)::uuid AS other FROM made WHERE n % 25 = 0 AND n > 7) found
""",
)
_DUE: Final[Sequence[str]] = (
    _LEAD,
    "INSERT INTO {model}.holder SELECT id, partner_id, false FROM made WHERE NOT ended",
    """
INSERT INTO {model}.deadline
SELECT id, kind, came_in_at + days * interval '1 day', 10 * n, false, false
FROM made CROSS JOIN (VALUES ('lead.remind_protection', 85), ('lead.expire', 92)) due (kind, days)
WHERE status IN ('approved','converted') AND came_in_at > now() - interval '92 days'
UNION ALL
SELECT id, 'lead.breach_sla', came_in_at + interval '2 days', 10 * n, false, false FROM made WHERE status IN ('submitted','in_review')
""",
)
_ROWS: Final = {
    "pipeline": (AUTHORISATIONS, *_OPPORTUNITIES),
    "leads": _LEADS,
    "performance": (*_DEALS, "DROP TABLE made", *_COUNTED, _SUMMED),
    "conflicts": _MET,
    "deadlines": _DUE,
}


def fill(settings: Settings, size: Size, seed: float = 0.5) -> None:
    """Write the rows; the read models must be there and empty."""
    with psycopg.connect(settings.dsn("owner"), autocommit=True) as connection:
        for name, statements in _ROWS.items():
            with connection.transaction():
                _fill(connection, settings, name, (PARTNERS, *statements), size, seed)
            for table in READ_MODELS[name].keys:
                place = sql.Identifier(schema_of(settings, name, 1), table)
                connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(place))


def _fill(
    connection: psycopg.Connection[Any],
    settings: Settings,
    name: str,
    statements: Sequence[str],
    size: Size,
    seed: float,
) -> None:
    for statement in statements:
        connection.execute("SELECT setseed(%s)", (seed,))  # the same rows in every read model
        connection.execute(
            sql.SQL(statement).format(
                model=sql.Identifier(schema_of(settings, name, 1)),
                opportunities=sql.Literal(size.opportunities),
                leads=sql.Literal(size.leads),
                partners=sql.Literal(size.partners),
            )
        )
