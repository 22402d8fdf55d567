CREATE VIEW {read}.goals WITH (security_invoker) AS
SELECT
    g.partner_id,
    p.name AS partner,
    g.goal_id,
    g.metric,
    g.period,
    g.first_on,
    g.last_on,
    g.product_line,
    g.currency,
    g.target,
    g.distribution,
    g.owner,
    g.status,
    g.status = 'active' AND today.day BETWEEN g.first_on AND g.last_on AS current,
    actual.value AS actual,
    round(elapsed.share, 6) AS elapsed_share,
    round(100 * actual.value / g.target, 2) AS attainment_percent,
    round(100 * actual.value / nullif(g.target * elapsed.share, 0), 2) AS pace_percent,
    g.target - actual.value AS gap,
    CASE WHEN today.day <= g.last_on AND actual.value < g.target
        THEN round(expected.value / (g.target - actual.value), 4)
    END AS coverage
FROM {model}.goal g
CROSS JOIN (SELECT (now() AT TIME ZONE {tz})::date AS day) today -- no WITH: it would keep indexes away
LEFT JOIN {model}.partner p USING (partner_id)
LEFT JOIN LATERAL (
    SELECT
        CASE WHEN cardinality(g.distribution) = 0 THEN avg(month.part)
            ELSE sum(month.part * g.distribution[month.number]) / 100
        END AS share
    FROM (
        SELECT
            extract(month FROM start)::int AS number,
            least(1, greatest(0, (today.day - start::date + 1)::numeric
                / extract(day FROM start + interval '1 month' - interval '1 day'))) AS part
        FROM generate_series(g.first_on::timestamp, g.last_on::timestamp, interval '1 month') start
    ) month
) elapsed ON true
LEFT JOIN LATERAL ( -- made once for all that is told of it, and not at all for who does not ask
    SELECT CASE g.metric
        WHEN 'won_amount' THEN (
            SELECT coalesce(sum(d.amount), 0) FROM {model}.deal d
            WHERE d.partner_id = g.partner_id AND d.status = 'won' AND d.closed_on BETWEEN g.first_on AND g.last_on
                AND d.currency = g.currency AND (g.product_line IS NULL OR g.product_line = ANY (d.product_lines))
        )
        WHEN 'won_count' THEN (
            SELECT count(*)::numeric FROM {model}.deal d
            WHERE d.partner_id = g.partner_id AND d.status = 'won' AND d.closed_on BETWEEN g.first_on AND g.last_on
                AND (g.product_line IS NULL OR g.product_line = ANY (d.product_lines))
        )
        WHEN 'registered_amount' THEN (
            SELECT coalesce(sum(l.amount), 0) FROM {model}.lead l
            WHERE l.registered_for = g.partner_id
                AND l.registered_at >= g.first_on::timestamp AT TIME ZONE {tz}
                AND l.registered_at < (g.last_on + 1)::timestamp AT TIME ZONE {tz}
                AND l.currency = g.currency AND (g.product_line IS NULL OR g.product_line = ANY (l.product_lines))
        )
        WHEN 'registered_count' THEN (
            SELECT count(*)::numeric FROM {model}.lead l
            WHERE l.registered_for = g.partner_id
                AND l.registered_at >= g.first_on::timestamp AT TIME ZONE {tz}
                AND l.registered_at < (g.last_on + 1)::timestamp AT TIME ZONE {tz}
                AND (g.product_line IS NULL OR g.product_line = ANY (l.product_lines))
        )
        WHEN 'new_customers' THEN (
            SELECT count(*)::numeric FROM {model}.deal d
            WHERE d.partner_id = g.partner_id AND d.status = 'won' AND d.closed_on BETWEEN g.first_on AND g.last_on
                AND (g.product_line IS NULL OR g.product_line = ANY (d.product_lines))
                AND d.customer_keys <> '{{}}'
                AND CASE WHEN {vendor} THEN (
                    SELECT true FROM {model}.won_customer mine
                    WHERE mine.opportunity_id = d.opportunity_id AND (mine.won_on, mine.position) > (
                        SELECT earlier.won_on, earlier.position FROM {model}.won_customer earlier
                        WHERE earlier.customer_key = mine.customer_key
                        ORDER BY earlier.won_on, earlier.position
                        LIMIT 1
                    )
                    LIMIT 1
                ) IS NULL -- not NOT EXISTS, which reads all of won_customer for each goal
                ELSE NOT {model}.won_before(d.opportunity_id) END
        )
        WHEN 'activities' THEN (
            SELECT coalesce(sum(a.activities), 0)::numeric FROM {model}.activity a
            WHERE a.partner_id = g.partner_id AND a.happened_on BETWEEN g.first_on AND g.last_on
                AND (g.product_line IS NULL OR g.product_line = ANY (coalesce(
                    (SELECT d.product_lines FROM {model}.deal d WHERE d.opportunity_id = a.aggregate_id),
                    (SELECT l.product_lines FROM {model}.lead l WHERE l.lead_id = a.aggregate_id)
                )))
        )
    END AS value
) actual ON true
LEFT JOIN LATERAL (
    SELECT CASE g.metric
        WHEN 'won_amount' THEN coalesce(sum(d.amount) FILTER (WHERE d.currency = g.currency), 0)
        WHEN 'won_count' THEN count(*)::numeric
    END AS value
    FROM {model}.deal d
    WHERE g.metric IN ('won_amount', 'won_count') AND d.partner_id = g.partner_id AND d.status = 'open'
        AND d.closed_on IS NULL AND d.expected_close_on BETWEEN g.first_on AND g.last_on
        AND (g.product_line IS NULL OR g.product_line = ANY (d.product_lines))
) expected ON true;

COMMENT ON VIEW {read}.goals IS 'Each goal of each partner, with what was reached by today.';
COMMENT ON COLUMN {read}.goals.partner_id IS 'The partner whose goal it is.';
COMMENT ON COLUMN {read}.goals.partner IS 'Its name.';
COMMENT ON COLUMN {read}.goals.goal_id IS 'Id of the goal.';
COMMENT ON COLUMN {read}.goals.metric IS 'won_amount, won_count, registered_amount, registered_count, new_customers or activities; see actual.';
COMMENT ON COLUMN {read}.goals.period IS 'Month (2026-03), quarter (2026-Q1) or year (2026).';
COMMENT ON COLUMN {read}.goals.first_on IS 'First day of the period, in the report time zone.';
COMMENT ON COLUMN {read}.goals.last_on IS 'Last day of the period, in the report time zone.';
COMMENT ON COLUMN {read}.goals.product_line IS 'Only what has this product line counts, whole, as amounts are not split by line; null for all.';
COMMENT ON COLUMN {read}.goals.currency IS 'ISO 4217 code; only amounts in it count. Null for metrics that are counts.';
COMMENT ON COLUMN {read}.goals.target IS 'What is to be reached by the last day; from goal_set.';
COMMENT ON COLUMN {read}.goals.distribution IS 'Percent of a year''s target for each of its 12 months; empty: evenly by months.';
COMMENT ON COLUMN {read}.goals.owner IS 'Who answers for it, an opaque id.';
COMMENT ON COLUMN {read}.goals.status IS 'active, or withdrawn (goal_withdrawn).';
COMMENT ON COLUMN {read}.goals.current IS 'Active, and today lies in the period.';
COMMENT ON COLUMN {read}.goals.actual IS 'In the period: won_amount and won_count: final amounts and number of the deals won, by the partner of record and closed_on of opportunity.won; registered_amount and registered_count: leads that the partner registered, by the time of lead.registered, amounts as they are now, whatever was decided; new_customers: deals won by the partner that are the first won by any partner for their customer (no customer key in common with a deal won earlier by closed_on, then by position of opportunity.won; deals without a customer key are left out); activities: activity_logged by the partner''s side on leads and opportunities, by happened_on. What was reopened counts no more.';
COMMENT ON COLUMN {read}.goals.elapsed_share IS 'Share of the period that is over, today included: months that are over count whole, the running one by its days; months weigh by the distribution, else evenly.';
COMMENT ON COLUMN {read}.goals.attainment_percent IS '100 x actual / target.';
COMMENT ON COLUMN {read}.goals.pace_percent IS '100 x actual / (target x elapsed_share): 100 is on schedule. Null before the period and while nothing was due.';
COMMENT ON COLUMN {read}.goals.gap IS 'target - actual; negative once it is exceeded.';
COMMENT ON COLUMN {read}.goals.coverage IS 'For won_amount and won_count: open deals expected to close in the period (amount or number, unweighted) / (target - actual). Null once the target is reached or the period is over, and for other metrics.';

CREATE VIEW {read}.partner_performance WITH (security_invoker) AS
WITH facts AS (
    SELECT
        registered_for AS partner_id,
        date_trunc('month', registered_at AT TIME ZONE {tz})::date AS month,
        currency,
        'registered' AS kind,
        NULL AS detail,
        amount,
        NULL::boolean AS in_time,
        NULL::boolean AS converted,
        NULL::boolean AS expired,
        NULL::int AS engaged_days,
        1 AS number
    FROM {model}.lead WHERE registered_for IS NOT NULL
    UNION ALL
    SELECT
        decided_for, date_trunc('month', decided_at AT TIME ZONE {tz})::date, currency, decision, reason, amount,
        within_sla, converted_at IS NOT NULL, expired_at IS NOT NULL, NULL, 1
    FROM {model}.lead WHERE decided_for IS NOT NULL
    UNION ALL
    SELECT
        converted_for, date_trunc('month', converted_at AT TIME ZONE {tz})::date, currency, 'converted', NULL, amount,
        NULL, NULL, NULL, NULL, 1
    FROM {model}.lead WHERE converted_for IS NOT NULL
    UNION ALL
    SELECT
        partner_id, date_trunc('month', offered_at AT TIME ZONE {tz})::date, currency, 'offer', answer, NULL,
        NULL, NULL, NULL, NULL, 1
    FROM {model}.offer
    UNION ALL
    SELECT
        partner_id, closed_month, currency, status, NULL, amount, NULL, NULL, NULL,
        closed_on - (engaged_at AT TIME ZONE {tz})::date, 1
    FROM {model}.deal WHERE closed_on IS NOT NULL
    UNION ALL
    SELECT partner_id, happened_month, currency, 'activity', NULL, NULL, NULL, NULL, NULL, NULL, activities
    FROM {model}.activity
    UNION ALL
    SELECT
        g.partner_id, start::date, g.currency, 'goal', NULL,
        CASE WHEN cardinality(g.distribution) = 0
            THEN g.target / (1 + extract(month FROM g.last_on) - extract(month FROM g.first_on))
            ELSE g.target * g.distribution[extract(month FROM start)::int] / 100
        END,
        NULL, NULL, NULL, NULL, 1
    FROM {model}.goal g
    CROSS JOIN LATERAL generate_series(g.first_on::timestamp, g.last_on::timestamp, interval '1 month') start
    WHERE g.status = 'active' AND g.metric = 'won_amount' AND g.product_line IS NULL
    UNION ALL
    SELECT partner_id, expected_month, currency, 'open', NULL, amount, NULL, NULL, NULL, NULL, 1
    FROM {model}.deal
    WHERE closed_on IS NULL AND expected_month >= date_trunc('month', now() AT TIME ZONE {tz})::date
),
figures AS (
    SELECT
        partner_id,
        month,
        currency,
        count(*) FILTER (WHERE kind = 'registered') AS registered,
        sum(amount) FILTER (WHERE kind = 'registered') AS registered_amount,
        count(*) FILTER (WHERE kind = 'approved') AS approved,
        count(*) FILTER (WHERE kind = 'rejected') AS rejected,
        array_agg(detail ORDER BY detail) FILTER (WHERE kind = 'rejected') AS reasons,
        count(*) FILTER (WHERE kind IN ('approved', 'rejected')) AS decided,
        count(*) FILTER (WHERE kind IN ('approved', 'rejected') AND in_time) AS decided_in_time,
        count(*) FILTER (WHERE kind = 'approved' AND converted) AS approved_converted,
        count(*) FILTER (WHERE kind = 'approved' AND expired) AS approved_expired,
        count(*) FILTER (WHERE kind = 'offer') AS offers,
        count(*) FILTER (WHERE kind = 'offer' AND detail = 'accepted') AS offers_accepted,
        count(*) FILTER (WHERE kind = 'converted') AS converted,
        count(*) FILTER (WHERE kind = 'won') AS won,
        sum(amount) FILTER (WHERE kind = 'won') AS won_amount,
        count(amount) FILTER (WHERE kind = 'won') AS won_valued,
        count(*) FILTER (WHERE kind = 'lost') AS lost,
        sum(amount) FILTER (WHERE kind = 'lost') AS lost_amount,
        avg(engaged_days) FILTER (WHERE kind IN ('won', 'lost')) AS cycle_days_mean_closed,
        coalesce(sum(number) FILTER (WHERE kind = 'activity'), 0) AS activities,
        sum(amount) FILTER (WHERE kind = 'goal') AS goal,
        coalesce(sum(amount) FILTER (WHERE kind = 'open'), 0) AS expected_amount
    FROM facts
    GROUP BY partner_id, month, currency
    HAVING count(*) FILTER (WHERE kind <> 'open') > 0
),
-- Medians want their rows sorted; each is made apart, so that whoever does not ask for one sorts nothing.
decided AS (
    SELECT
        decided_for AS partner_id,
        date_trunc('month', decided_at AT TIME ZONE {tz})::date AS month,
        coalesce(currency, '') AS money,
        (percentile_disc(0.5) WITHIN GROUP (ORDER BY waited_seconds)
            + percentile_disc(0.5) WITHIN GROUP (ORDER BY waited_seconds DESC)) / 2.0 AS seconds_median,
        percentile_disc(0.9) WITHIN GROUP (ORDER BY waited_seconds) AS seconds_p90
    FROM {model}.lead WHERE decided_for IS NOT NULL
    GROUP BY 1, 2, 3
),
accepted AS (
    SELECT
        partner_id,
        date_trunc('month', offered_at AT TIME ZONE {tz})::date AS month,
        coalesce(currency, '') AS money,
        (percentile_disc(0.5) WITHIN GROUP (ORDER BY floor(extract(epoch FROM answered_at - offered_at))::bigint)
            + percentile_disc(0.5) WITHIN GROUP (ORDER BY floor(extract(epoch FROM answered_at - offered_at))::bigint DESC)) / 2.0 AS seconds_median
    FROM {model}.offer WHERE answer = 'accepted'
    GROUP BY 1, 2, 3
),
cycles AS (
    SELECT
        partner_id,
        closed_month AS month,
        coalesce(currency, '') AS money,
        (percentile_disc(0.5) WITHIN GROUP (ORDER BY closed_on - (opened_at AT TIME ZONE {tz})::date)
            + percentile_disc(0.5) WITHIN GROUP (ORDER BY closed_on - (opened_at AT TIME ZONE {tz})::date DESC)) / 2.0 AS days_median
    FROM {model}.deal WHERE status = 'won' AND closed_on IS NOT NULL
    GROUP BY 1, 2, 3
)
SELECT
    f.partner_id,
    p.name AS partner,
    f.month,
    f.currency,
    f.registered,
    f.registered_amount,
    f.approved,
    f.rejected,
    (
        SELECT coalesce(jsonb_object_agg(counted.reason, counted.number), '{{}}')
        FROM (SELECT reason, count(*) AS number FROM unnest(f.reasons) reason GROUP BY reason) counted
    ) AS rejected_by_reason,
    f.decided,
    round(f.approved::numeric / nullif(f.decided, 0), 5) AS approval_rate,
    round(decided.seconds_median / 3600, 2) AS decision_hours_median,
    round(decided.seconds_p90 / 3600.0, 2) AS decision_hours_p90,
    round(f.decided_in_time::numeric / nullif(f.decided, 0), 5) AS within_sla_share,
    f.approved_converted,
    round(f.approved_converted::numeric / nullif(f.approved, 0), 5) AS converted_share,
    f.approved_expired,
    round(f.approved_expired::numeric / nullif(f.approved, 0), 5) AS expired_share,
    f.offers,
    f.offers_accepted,
    round(f.offers_accepted::numeric / nullif(f.offers, 0), 5) AS accept_rate,
    round(accepted.seconds_median / 3600, 2) AS accept_hours_median,
    f.converted,
    f.won,
    f.lost,
    round(f.won::numeric / nullif(f.won + f.lost, 0), 5) AS win_rate,
    f.won_amount,
    f.lost_amount,
    round(f.won_amount / nullif(f.won_amount + coalesce(f.lost_amount, 0), 0), 5) AS win_rate_by_value,
    round(f.won_amount / nullif(f.won_valued, 0), 2) AS average_deal,
    round(cycles.days_median, 1) AS cycle_days_median_won,
    round(f.cycle_days_mean_closed, 3) AS cycle_days_mean_closed,
    f.activities,
    round(f.goal, 4) AS goal,
    round(100 * coalesce(f.won_amount, 0) / nullif(f.goal, 0), 2) AS attainment_percent,
    round(100 * coalesce(f.won_amount, 0) / nullif(f.goal * elapsed.share, 0), 2) AS pace_percent,
    round(f.goal - coalesce(f.won_amount, 0), 4) AS gap,
    CASE WHEN f.month >= date_trunc('month', today.day::timestamp)::date AND f.goal > coalesce(f.won_amount, 0)
        THEN round(f.expected_amount / (f.goal - coalesce(f.won_amount, 0)), 4)
    END AS coverage
FROM figures f
CROSS JOIN (SELECT (now() AT TIME ZONE {tz})::date AS day) today
CROSS JOIN LATERAL (
    SELECT least(1, greatest(0, (today.day - f.month + 1)::numeric
        / extract(day FROM f.month::timestamp + interval '1 month' - interval '1 day'))) AS share
) elapsed
LEFT JOIN {model}.partner p ON p.partner_id = f.partner_id
LEFT JOIN decided
    ON decided.partner_id = f.partner_id AND decided.month = f.month AND decided.money = coalesce(f.currency, '')
LEFT JOIN accepted
    ON accepted.partner_id = f.partner_id AND accepted.month = f.month AND accepted.money = coalesce(f.currency, '')
LEFT JOIN cycles
    ON cycles.partner_id = f.partner_id AND cycles.month = f.month AND cycles.money = coalesce(f.currency, '')
-- A lead that was handed on has facts of others too.
WHERE {vendor} OR f.partner_id = ANY ({seen});

COMMENT ON VIEW {read}.partner_performance IS 'Each partner''s work by month and currency. Everything counts in exactly one row, so that counts and amounts can be summed over rows: in that of the currency of the amount of its lead or deal, as it is now; the row whose currency is null collects what has no amount. Rates are of the row: over several rows divide the sums. Months are cut in the report time zone. The open pipeline is as at now only: see partner_scorecard.';
COMMENT ON COLUMN {read}.partner_performance.partner_id IS 'The partner that had the lead or deal when it happened: who registered, who was decided upon, who converted, who was of record at closing. A later transfer changes nothing here.';
COMMENT ON COLUMN {read}.partner_performance.partner IS 'Its name, as it is now.';
COMMENT ON COLUMN {read}.partner_performance.month IS 'First day of the month.';
COMMENT ON COLUMN {read}.partner_performance.currency IS 'ISO 4217 code of the amount of the lead or deal; null for what has no amount.';
COMMENT ON COLUMN {read}.partner_performance.registered IS 'Leads registered, by the time of lead.registered.';
COMMENT ON COLUMN {read}.partner_performance.registered_amount IS 'Sum of their amounts as they are now; null without any.';
COMMENT ON COLUMN {read}.partner_performance.approved IS 'Registrations approved, by the time of lead.approved; what was reverted (decision_reverted) does not count.';
COMMENT ON COLUMN {read}.partner_performance.rejected IS 'Registrations rejected, by the time of lead.rejected; what was reverted does not count.';
COMMENT ON COLUMN {read}.partner_performance.rejected_by_reason IS 'The rejected by reason code, as a JSON object of counts.';
COMMENT ON COLUMN {read}.partner_performance.decided IS 'approved + rejected. Withdrawn and lapsed registrations are not decided.';
COMMENT ON COLUMN {read}.partner_performance.approval_rate IS 'approved / decided.';
COMMENT ON COLUMN {read}.partner_performance.decision_hours_median IS 'Median of the hours from lead.registered to the decision in the month, in elapsed time, without the time from information_requested to resubmitted (or to the decision) and without that from an earlier decision to its revert.';
COMMENT ON COLUMN {read}.partner_performance.decision_hours_p90 IS 'Its 90th percentile: the least time within which nine in ten were decided.';
COMMENT ON COLUMN {read}.partner_performance.within_sla_share IS 'Decided at or before the due time of the working-time clock, as the events say it (sla_due_at of registered, resubmitted, decision_reverted) / decided. It stands still while the partner is asked for information.';
COMMENT ON COLUMN {read}.partner_performance.approved_converted IS 'Of the approved in this month, those converted by now.';
COMMENT ON COLUMN {read}.partner_performance.converted_share IS 'approved_converted / approved.';
COMMENT ON COLUMN {read}.partner_performance.approved_expired IS 'Of the approved in this month, those whose protection has expired by now without a conversion (protection_expired).';
COMMENT ON COLUMN {read}.partner_performance.expired_share IS 'approved_expired / approved.';
COMMENT ON COLUMN {read}.partner_performance.offers IS 'Captured leads offered to the partner, by the time of lead.offered; one transferred to it before the answer is an offer from then on.';
COMMENT ON COLUMN {read}.partner_performance.offers_accepted IS 'Of these offers, those accepted by now (lead.accepted).';
COMMENT ON COLUMN {read}.partner_performance.accept_rate IS 'offers_accepted / offers; those still open are in the denominator.';
COMMENT ON COLUMN {read}.partner_performance.accept_hours_median IS 'Median of the hours from offered to accepted, of the offers made in the month.';
COMMENT ON COLUMN {read}.partner_performance.converted IS 'Leads of either origin converted into opportunities, by the time of lead.converted.';
COMMENT ON COLUMN {read}.partner_performance.won IS 'Deals won, by closed_on of opportunity.won; what was reopened does not count.';
COMMENT ON COLUMN {read}.partner_performance.lost IS 'Deals lost, by closed_on of opportunity.lost; what was reopened does not count.';
COMMENT ON COLUMN {read}.partner_performance.win_rate IS 'won / (won + lost).';
COMMENT ON COLUMN {read}.partner_performance.won_amount IS 'Sum of the final amounts of the deals won; null without any.';
COMMENT ON COLUMN {read}.partner_performance.lost_amount IS 'Sum of the amounts of the deals lost; null without any.';
COMMENT ON COLUMN {read}.partner_performance.win_rate_by_value IS 'won_amount / (won_amount + lost_amount).';
COMMENT ON COLUMN {read}.partner_performance.average_deal IS 'won_amount / number of deals won with a known amount.';
COMMENT ON COLUMN {read}.partner_performance.cycle_days_median_won IS 'Median over the deals won of the days from the day of opportunity.opened to closed_on; those whose day of opening an import did not know are left out.';
COMMENT ON COLUMN {read}.partner_performance.cycle_days_mean_closed IS 'Mean over the deals won and lost of the days from the day they were engaged (first stood in qualified or a later stage) to closed_on; those never engaged are left out.';
COMMENT ON COLUMN {read}.partner_performance.activities IS 'activity_logged on leads and opportunities by the partner''s side, by happened_on: an actor of a partner role (for the attached organisation it speaks for, else for the partner that has the lead or deal), or an import.';
COMMENT ON COLUMN {read}.partner_performance.goal IS 'What the active goal for won_amount of all product lines asks of this month: a month''s target, a third of a quarter''s, of a year''s the share of its distribution or a twelfth. Null where there is none; other goals: see goals.';
COMMENT ON COLUMN {read}.partner_performance.attainment_percent IS '100 x won_amount / goal.';
COMMENT ON COLUMN {read}.partner_performance.pace_percent IS '100 x won_amount / (goal x share of the month that is over, today included). Null for months to come.';
COMMENT ON COLUMN {read}.partner_performance.gap IS 'goal - won_amount; negative once it is exceeded.';
COMMENT ON COLUMN {read}.partner_performance.coverage IS 'Amount of the open deals expected to close in the month, as at now, / gap. Null for past months and once the goal is reached.';

CREATE VIEW {read}.partner_scorecard WITH (security_invoker) AS
-- A day that is asked for by a SELECT of its own is made once, by whoever sums side by side as well.
SELECT
    p.partner_id,
    p.name AS partner,
    money.currency,
    p.status,
    p.tier,
    p.channel_manager,
    p.territories,
    coalesce(live.registrations, 0) AS live_registrations,
    coalesce(deals.open, 0) AS open_deals,
    coalesce(deals.stalled, 0) AS stalled,
    coalesce(deals.overdue, 0) AS overdue,
    money.open_amount,
    money.weighted_amount,
    coalesce(deals.won_month, 0) AS won_month,
    money.won_amount_month,
    coalesce(deals.lost_month, 0) AS lost_month,
    money.lost_amount_month,
    coalesce(deals.won_quarter, 0) AS won_quarter,
    money.won_amount_quarter,
    coalesce(deals.lost_quarter, 0) AS lost_quarter,
    money.lost_amount_quarter,
    coalesce(deals.won_year, 0) AS won_12_months,
    money.won_amount_year AS won_amount_12_months,
    coalesce(deals.lost_year, 0) AS lost_12_months,
    money.lost_amount_year AS lost_amount_12_months,
    round(deals.won_year::numeric / nullif(deals.won_year + deals.lost_year, 0), 5) AS win_rate,
    round(money.won_amount_year / nullif(money.won_amount_year + coalesce(money.lost_amount_year, 0), 0), 5)
        AS win_rate_by_value,
    round(money.won_amount_year / nullif(money.won_valued_year, 0), 2) AS average_deal,
    round(deals.cycle_days_median_won, 1) AS cycle_days_median_won,
    round(deals.cycle_days_mean_closed, 3) AS cycle_days_mean_closed,
    coalesce(decisions.decided, 0) AS decided_12_months,
    round(decisions.approved::numeric / nullif(decisions.decided, 0), 5) AS approval_rate,
    acts.last_at AS last_act_at,
    p.status = 'active' AND coalesce(acts.last_at, p.since) < now() - interval '90 days' AS at_risk,
    p.status = 'active' AND coalesce(acts.last_at, p.since) < now() - interval '180 days' AS dormant,
    CASE WHEN goals.currency = money.currency THEN goals.period END AS goal_period,
    CASE WHEN goals.currency = money.currency THEN goals.target END AS goal,
    CASE WHEN goals.currency = money.currency THEN goals.actual END AS goal_actual,
    CASE WHEN goals.currency = money.currency THEN goals.attainment_percent END AS attainment_percent,
    CASE WHEN goals.currency = money.currency THEN goals.pace_percent END AS pace_percent,
    CASE WHEN goals.currency = money.currency THEN goals.gap END AS gap,
    CASE WHEN goals.currency = money.currency THEN goals.coverage END AS coverage,
    coalesce(goals.goals, '[]') AS goals,
    -- Made once for all who look their place up.
    CASE WHEN {vendor} THEN ((
        SELECT jsonb_object_agg(partner_id || currency, place)
        FROM (
            SELECT partner_id, currency, rank() OVER (PARTITION BY currency ORDER BY sum(amount) DESC) AS place
            FROM {model}.deal
            WHERE status = 'won' AND currency IS NOT NULL
                AND closed_on > (SELECT ((now() AT TIME ZONE {tz})::date - interval '1 year')::date)
            GROUP BY partner_id, currency
        ) placed
    ) ->> (p.partner_id || money.currency))::bigint END AS won_rank
FROM {model}.partner p
LEFT JOIN (
    SELECT
        partner_id,
        currency,
        sum(amount) FILTER (WHERE status = 'open') AS open_amount,
        sum(amount * probability * 0.01) FILTER (WHERE status = 'open') AS weighted_amount,
        sum(amount) FILTER (WHERE status = 'won' AND closed_on >= (SELECT date_trunc('month', now() AT TIME ZONE {tz})::date)) AS won_amount_month,
        sum(amount) FILTER (WHERE status = 'lost' AND closed_on >= (SELECT date_trunc('month', now() AT TIME ZONE {tz})::date)) AS lost_amount_month,
        sum(amount) FILTER (WHERE status = 'won' AND closed_on >= (SELECT date_trunc('quarter', now() AT TIME ZONE {tz})::date)) AS won_amount_quarter,
        sum(amount) FILTER (WHERE status = 'lost' AND closed_on >= (SELECT date_trunc('quarter', now() AT TIME ZONE {tz})::date)) AS lost_amount_quarter,
        sum(amount) FILTER (WHERE status = 'won') AS won_amount_year,
        count(amount) FILTER (WHERE status = 'won') AS won_valued_year,
        sum(amount) FILTER (WHERE status = 'lost') AS lost_amount_year
    FROM (
        SELECT partner_id, currency, status, amount, NULL::int AS probability, closed_on FROM {model}.deal
        WHERE currency IS NOT NULL
            AND closed_on > (SELECT ((now() AT TIME ZONE {tz})::date - interval '1 year')::date)
        UNION ALL
        SELECT partner_id, currency, status, amount, probability, NULL FROM {model}.deal
        WHERE currency IS NOT NULL AND closed_on IS NULL
        UNION ALL
        SELECT partner_id, currency, NULL, NULL, NULL, NULL FROM {model}.goal
        WHERE status = 'active' AND metric = 'won_amount' AND product_line IS NULL
    ) one
    GROUP BY partner_id, currency
) money ON money.partner_id = p.partner_id
LEFT JOIN (
    SELECT
        partner_id,
        count(*) FILTER (WHERE status = 'open') AS open,
        count(*) FILTER (WHERE status = 'open' AND touched_at < now() - interval '30 days') AS stalled,
        count(*) FILTER (WHERE status = 'open' AND (next_action_due_on < (SELECT (now() AT TIME ZONE {tz})::date) OR expected_close_on < (SELECT (now() AT TIME ZONE {tz})::date)))
            AS overdue,
        count(*) FILTER (WHERE status = 'won' AND closed_on >= (SELECT date_trunc('month', now() AT TIME ZONE {tz})::date)) AS won_month,
        count(*) FILTER (WHERE status = 'lost' AND closed_on >= (SELECT date_trunc('month', now() AT TIME ZONE {tz})::date)) AS lost_month,
        count(*) FILTER (WHERE status = 'won' AND closed_on >= (SELECT date_trunc('quarter', now() AT TIME ZONE {tz})::date)) AS won_quarter,
        count(*) FILTER (WHERE status = 'lost' AND closed_on >= (SELECT date_trunc('quarter', now() AT TIME ZONE {tz})::date)) AS lost_quarter,
        count(*) FILTER (WHERE status = 'won' AND closed_on > (SELECT ((now() AT TIME ZONE {tz})::date - interval '1 year')::date)) AS won_year,
        count(*) FILTER (WHERE status = 'lost' AND closed_on > (SELECT ((now() AT TIME ZONE {tz})::date - interval '1 year')::date)) AS lost_year,
        (percentile_disc(0.5) WITHIN GROUP (ORDER BY closed_on - (opened_at AT TIME ZONE {tz})::date) FILTER (WHERE status = 'won' AND closed_on > (SELECT ((now() AT TIME ZONE {tz})::date - interval '1 year')::date))
            + percentile_disc(0.5) WITHIN GROUP (ORDER BY closed_on - (opened_at AT TIME ZONE {tz})::date DESC) FILTER (WHERE status = 'won' AND closed_on > (SELECT ((now() AT TIME ZONE {tz})::date - interval '1 year')::date))) / 2.0 AS cycle_days_median_won,
        avg(closed_on - (engaged_at AT TIME ZONE {tz})::date) FILTER (WHERE closed_on > (SELECT ((now() AT TIME ZONE {tz})::date - interval '1 year')::date))
            AS cycle_days_mean_closed
    FROM (
        SELECT partner_id, status, closed_on, opened_at, engaged_at, NULL::timestamptz AS touched_at,
            NULL::date AS next_action_due_on, NULL::date AS expected_close_on
        FROM {model}.deal WHERE closed_on > (SELECT ((now() AT TIME ZONE {tz})::date - interval '1 year')::date)
        UNION ALL
        SELECT partner_id, status, NULL, NULL, NULL, touched_at, next_action_due_on, expected_close_on
        FROM {model}.deal WHERE closed_on IS NULL
    ) one
    GROUP BY partner_id
) deals ON deals.partner_id = p.partner_id
LEFT JOIN (
    SELECT partner_id, count(*) AS registrations FROM {model}.lead
    WHERE origin = 'registered'
        AND (status IN ('submitted', 'in_review', 'action_required') OR (status = 'approved' AND protected))
    GROUP BY partner_id
) live ON live.partner_id = p.partner_id
LEFT JOIN (
    SELECT decided_for AS partner_id, count(*) AS decided, count(*) FILTER (WHERE decision = 'approved') AS approved
    FROM {model}.lead
    WHERE (decided_at AT TIME ZONE {tz})::date > (SELECT ((now() AT TIME ZONE {tz})::date - interval '1 year')::date)
    GROUP BY decided_for
) decisions ON decisions.partner_id = p.partner_id
LEFT JOIN LATERAL ( -- the last one by the index: to sum them all up would read them all
    SELECT act.last_at FROM {model}.act WHERE act.partner_id = p.partner_id ORDER BY act.last_at DESC LIMIT 1
) acts ON true
LEFT JOIN (
    SELECT
        partner_id,
        jsonb_agg(jsonb_build_object(
            'metric', metric, 'period', period, 'product_line', product_line, 'currency', currency, 'target', target,
            'actual', actual, 'attainment_percent', attainment_percent, 'pace_percent', pace_percent, 'gap', gap
        ) ORDER BY metric, product_line NULLS FIRST, first_on) AS goals,
        max(period) FILTER (WHERE metric = 'won_amount' AND product_line IS NULL) AS period,
        max(currency) FILTER (WHERE metric = 'won_amount' AND product_line IS NULL) AS currency,
        max(target) FILTER (WHERE metric = 'won_amount' AND product_line IS NULL) AS target,
        max(actual) FILTER (WHERE metric = 'won_amount' AND product_line IS NULL) AS actual,
        max(attainment_percent) FILTER (WHERE metric = 'won_amount' AND product_line IS NULL) AS attainment_percent,
        max(pace_percent) FILTER (WHERE metric = 'won_amount' AND product_line IS NULL) AS pace_percent,
        max(gap) FILTER (WHERE metric = 'won_amount' AND product_line IS NULL) AS gap,
        max(coverage) FILTER (WHERE metric = 'won_amount' AND product_line IS NULL) AS coverage
    FROM {read}.goals WHERE current
    GROUP BY partner_id
) goals ON goals.partner_id = p.partner_id;

COMMENT ON VIEW {read}.partner_scorecard IS 'Each partner as of today, a row for each currency in which it has open deals, deals closed in the last 12 months, or an active goal for won_amount of all product lines; one with a null currency if there is none. Amounts are those of the row''s currency; what is no amount is the partner''s, the same on each of its rows. Running periods end today and are cut in the report time zone; 12 months are the last ones, to the same day a year ago, which is left out.';
COMMENT ON COLUMN {read}.partner_scorecard.partner_id IS 'The partner, of record for its deals.';
COMMENT ON COLUMN {read}.partner_scorecard.partner IS 'Trade name, else legal name.';
COMMENT ON COLUMN {read}.partner_scorecard.currency IS 'ISO 4217 code of the row''s amounts.';
COMMENT ON COLUMN {read}.partner_scorecard.status IS 'invited, applied, under_review, approved, onboarding, active, suspended, declined, rejected or terminated.';
COMMENT ON COLUMN {read}.partner_scorecard.tier IS 'Level in the partner programme.';
COMMENT ON COLUMN {read}.partner_scorecard.channel_manager IS 'Who looks after the partner, an opaque id.';
COMMENT ON COLUMN {read}.partner_scorecard.territories IS 'Where the partner may sell.';
COMMENT ON COLUMN {read}.partner_scorecard.live_registrations IS 'Registered leads that it has now, submitted, in review, waiting for its answer, or approved and still protected.';
COMMENT ON COLUMN {read}.partner_scorecard.open_deals IS 'Open opportunities of which it is the partner of record.';
COMMENT ON COLUMN {read}.partner_scorecard.stalled IS 'Of these, those without activity or stage change for 30 days.';
COMMENT ON COLUMN {read}.partner_scorecard.overdue IS 'Of these, those whose next action or expected close lies in the past.';
COMMENT ON COLUMN {read}.partner_scorecard.open_amount IS 'Sum of the amounts of the open deals; null without any.';
COMMENT ON COLUMN {read}.partner_scorecard.weighted_amount IS 'Sum of amount x probability / 100 of the open deals.';
COMMENT ON COLUMN {read}.partner_scorecard.won_month IS 'Deals won in the running month, by closed_on of opportunity.won; what was reopened does not count, here and below.';
COMMENT ON COLUMN {read}.partner_scorecard.won_amount_month IS 'Sum of their final amounts.';
COMMENT ON COLUMN {read}.partner_scorecard.lost_month IS 'Deals lost in the running month, by closed_on of opportunity.lost.';
COMMENT ON COLUMN {read}.partner_scorecard.lost_amount_month IS 'Sum of their amounts.';
COMMENT ON COLUMN {read}.partner_scorecard.won_quarter IS 'Deals won in the running quarter.';
COMMENT ON COLUMN {read}.partner_scorecard.won_amount_quarter IS 'Sum of their final amounts.';
COMMENT ON COLUMN {read}.partner_scorecard.lost_quarter IS 'Deals lost in the running quarter.';
COMMENT ON COLUMN {read}.partner_scorecard.lost_amount_quarter IS 'Sum of their amounts.';
COMMENT ON COLUMN {read}.partner_scorecard.won_12_months IS 'Deals won in the last 12 months.';
COMMENT ON COLUMN {read}.partner_scorecard.won_amount_12_months IS 'Sum of their final amounts.';
COMMENT ON COLUMN {read}.partner_scorecard.lost_12_months IS 'Deals lost in the last 12 months.';
COMMENT ON COLUMN {read}.partner_scorecard.lost_amount_12_months IS 'Sum of their amounts.';
COMMENT ON COLUMN {read}.partner_scorecard.win_rate IS 'won_12_months / (won_12_months + lost_12_months).';
COMMENT ON COLUMN {read}.partner_scorecard.win_rate_by_value IS 'won_amount_12_months / (won_amount_12_months + lost_amount_12_months).';
COMMENT ON COLUMN {read}.partner_scorecard.average_deal IS 'won_amount_12_months / number of these deals, those with an amount in this currency.';
COMMENT ON COLUMN {read}.partner_scorecard.cycle_days_median_won IS 'Median over the deals won in the last 12 months of the days from the day of opportunity.opened to closed_on; those whose day of opening an import did not know are left out.';
COMMENT ON COLUMN {read}.partner_scorecard.cycle_days_mean_closed IS 'Mean over the deals won and lost in the last 12 months of the days from the day they were engaged (first stood in qualified or a later stage) to closed_on; those never engaged are left out.';
COMMENT ON COLUMN {read}.partner_scorecard.decided_12_months IS 'Its registrations approved or rejected in the last 12 months, by the time of lead.approved or lead.rejected; what was reverted does not count.';
COMMENT ON COLUMN {read}.partner_scorecard.approval_rate IS 'Of these, approved / decided.';
COMMENT ON COLUMN {read}.partner_scorecard.last_act_at IS 'Business time of its last own act: any event on its leads and deals or in its own affairs by an actor of a partner role (for the attached organisation it speaks for, else for the partner that has the lead or deal), and what an import tells of a partner''s work there (registering, answering, working, moving, closing, not deciding); an activity at the time it happened.';
COMMENT ON COLUMN {read}.partner_scorecard.at_risk IS 'Active, and no act for 90 days (since its first event if it never had one); the dormant are at risk too.';
COMMENT ON COLUMN {read}.partner_scorecard.dormant IS 'Active, and no act for 180 days.';
COMMENT ON COLUMN {read}.partner_scorecard.goal_period IS 'Period of the goal for won_amount of all product lines that runs today and is in this currency; null without one, and so the columns after it.';
COMMENT ON COLUMN {read}.partner_scorecard.goal IS 'Its target.';
COMMENT ON COLUMN {read}.partner_scorecard.goal_actual IS 'Final amounts of the deals won in the period.';
COMMENT ON COLUMN {read}.partner_scorecard.attainment_percent IS '100 x goal_actual / goal.';
COMMENT ON COLUMN {read}.partner_scorecard.pace_percent IS '100 x goal_actual / (goal x share of the period that is over), see goals.';
COMMENT ON COLUMN {read}.partner_scorecard.gap IS 'goal - goal_actual; negative once it is exceeded.';
COMMENT ON COLUMN {read}.partner_scorecard.coverage IS 'Amount of the open deals expected to close in the period / gap. Null once the goal is reached.';
COMMENT ON COLUMN {read}.partner_scorecard.goals IS 'All goals that run today, of every metric, as a JSON array with target, actual, attainment_percent, pace_percent and gap.';
COMMENT ON COLUMN {read}.partner_scorecard.won_rank IS 'Place by won_amount_12_months among all partners with a deal won in this currency, 1 the highest; equals share a place. A partner''s people are not told.';
