-- Counts facts, given as a JSON array of objects: those that came with sign 1, those that are no more with sign -1. Exact
-- numbers without trailing zeros, so that no order of adding shows. Gives each key, and whether nothing is left there.
-- Rows are locked in the order of their keys, whoever writes.
INSERT INTO {model}.month AS known (
    partner_id, month, currency,
    registered, registered_valued, registered_amount, approved, rejected, decided_in_time, approved_converted,
    approved_expired, offers, offers_accepted, converted, won, won_valued, won_amount, lost, lost_valued,
    lost_amount, engaged, engaged_days, activities, goals, goal, open, open_valued, open_amount, open_weighted
)
SELECT
    partner_id,
    coalesce({model}.month_of(at), date_trunc('month', day::timestamp)::date, '-infinity'),
    coalesce(currency, ''),
    sum(sign * (kind = 'registered')::int),
    sum(sign * (kind = 'registered' AND amount IS NOT NULL)::int),
    trim_scale(coalesce(sum(sign * amount) FILTER (WHERE kind = 'registered'), 0)),
    sum(sign * (kind = 'approved')::int),
    sum(sign * (kind = 'rejected')::int),
    sum(sign * (kind IN ('approved', 'rejected') AND in_time)::int),
    sum(sign * (kind = 'approved' AND converted)::int),
    sum(sign * (kind = 'approved' AND expired)::int),
    sum(sign * (kind = 'offer')::int),
    sum(sign * (kind = 'offer' AND accepted)::int),
    sum(sign * (kind = 'converted')::int),
    sum(sign * (kind = 'won')::int),
    sum(sign * (kind = 'won' AND amount IS NOT NULL)::int),
    trim_scale(coalesce(sum(sign * amount) FILTER (WHERE kind = 'won'), 0)),
    sum(sign * (kind = 'lost')::int),
    sum(sign * (kind = 'lost' AND amount IS NOT NULL)::int),
    trim_scale(coalesce(sum(sign * amount) FILTER (WHERE kind = 'lost'), 0)),
    sum(sign * (kind IN ('won', 'lost') AND engaged_at IS NOT NULL)::int),
    coalesce(sum(sign * (day - {model}.day_of(engaged_at))) FILTER (WHERE kind IN ('won', 'lost')), 0),
    coalesce(sum(sign * activities), 0),
    sum(sign * (kind = 'goal')::int),
    trim_scale(coalesce(sum(sign * amount) FILTER (WHERE kind = 'goal'), 0)),
    sum(sign * (kind = 'open')::int),
    sum(sign * (kind = 'open' AND amount IS NOT NULL)::int),
    trim_scale(coalesce(sum(sign * amount) FILTER (WHERE kind = 'open'), 0)),
    trim_scale(coalesce(sum(sign * amount * probability) FILTER (WHERE kind = 'open'), 0))
FROM json_to_recordset(%s) AS fact (
    sign int, kind text, partner_id uuid, at timestamptz, day date, currency text, amount numeric, in_time boolean,
    converted boolean, expired boolean, accepted boolean, engaged_at timestamptz, activities int, probability int
)
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3
ON CONFLICT (partner_id, month, currency) DO UPDATE SET
    registered = known.registered + excluded.registered,
    registered_valued = known.registered_valued + excluded.registered_valued,
    registered_amount = trim_scale(known.registered_amount + excluded.registered_amount),
    approved = known.approved + excluded.approved,
    rejected = known.rejected + excluded.rejected,
    decided_in_time = known.decided_in_time + excluded.decided_in_time,
    approved_converted = known.approved_converted + excluded.approved_converted,
    approved_expired = known.approved_expired + excluded.approved_expired,
    offers = known.offers + excluded.offers,
    offers_accepted = known.offers_accepted + excluded.offers_accepted,
    converted = known.converted + excluded.converted,
    won = known.won + excluded.won,
    won_valued = known.won_valued + excluded.won_valued,
    won_amount = trim_scale(known.won_amount + excluded.won_amount),
    lost = known.lost + excluded.lost,
    lost_valued = known.lost_valued + excluded.lost_valued,
    lost_amount = trim_scale(known.lost_amount + excluded.lost_amount),
    engaged = known.engaged + excluded.engaged,
    engaged_days = known.engaged_days + excluded.engaged_days,
    activities = known.activities + excluded.activities,
    goals = known.goals + excluded.goals,
    goal = trim_scale(known.goal + excluded.goal),
    open = known.open + excluded.open,
    open_valued = known.open_valued + excluded.open_valued,
    open_amount = trim_scale(known.open_amount + excluded.open_amount),
    open_weighted = trim_scale(known.open_weighted + excluded.open_weighted)
RETURNING partner_id, month::text, currency, happened + open = 0
