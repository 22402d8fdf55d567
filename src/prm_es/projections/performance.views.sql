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
CROSS JOIN (SELECT {model}.today() AS day) today -- no WITH: it would keep indexes away
LEFT JOIN {model}.partner p USING (partner_id)
-- Each is made once for all that is told of it, and not at all for who does not ask.
LEFT JOIN LATERAL (
    SELECT (
        SELECT
            CASE WHEN cardinality(g.distribution) = 0 THEN avg(month.part)
                ELSE sum(month.part * g.distribution[month.number]) / 100
            END
        FROM (
            SELECT
                extract(month FROM start)::int AS number,
                least(1, greatest(0, (today.day - start::date + 1)::numeric
                    / extract(day FROM start + interval '1 month' - interval '1 day'))) AS part
            FROM generate_series(g.first_on::timestamp, g.last_on::timestamp, interval '1 month') start
        ) month
    ) AS share
) elapsed ON true
LEFT JOIN LATERAL (
    SELECT CASE WHEN g.product_line IS NULL AND g.metric <> 'new_customers' THEN (
        SELECT coalesce(sum(CASE g.metric -- one sum: each costs as much as reading the row
            WHEN 'won_amount' THEN m.won_amount
            WHEN 'won_count' THEN m.won
            WHEN 'registered_amount' THEN m.registered_amount
            WHEN 'registered_count' THEN m.registered
            WHEN 'activities' THEN m.activities
        END), 0)
        FROM {model}.month m
        WHERE m.partner_id = g.partner_id AND m.month BETWEEN g.first_on AND g.last_on
            AND m.currency BETWEEN coalesce(g.currency, '') AND coalesce(g.currency, 'ZZZ') -- which the index knows
    ) ELSE {model}.actual_of(g) END AS value
) actual ON true
LEFT JOIN LATERAL (
    SELECT CASE WHEN g.metric NOT IN ('won_amount', 'won_count') THEN NULL WHEN g.product_line IS NULL THEN (
        SELECT coalesce(sum(CASE g.metric WHEN 'won_amount' THEN m.open_amount WHEN 'won_count' THEN m.open END), 0)
        FROM {model}.month m
        WHERE m.partner_id = g.partner_id AND m.month BETWEEN g.first_on AND g.last_on
            AND m.currency BETWEEN coalesce(g.currency, '') AND coalesce(g.currency, 'ZZZ') -- which the index knows
    ) ELSE {model}.open_for(g) END AS value
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
-- Medians want their rows sorted, reasons each by itself: each is made apart, so that who does not ask for it has it not.
WITH decided AS (
    SELECT
        decided_for AS partner_id,
        decided_month AS month,
        coalesce(currency, '') AS currency,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY waited_seconds::float8)::numeric AS seconds_median,
        percentile_disc(0.9) WITHIN GROUP (ORDER BY waited_seconds::float8)::numeric AS seconds_p90
    FROM {model}.lead WHERE decided_for IS NOT NULL
    GROUP BY 1, 2, 3
),
rejections AS (
    SELECT partner_id, month, currency, jsonb_object_agg(reason, number) AS by_reason
    FROM (
        SELECT
            decided_for AS partner_id, decided_month AS month, coalesce(currency, '') AS currency, reason,
            count(*) AS number
        FROM {model}.lead WHERE decided_for IS NOT NULL AND decision = 'rejected'
        GROUP BY 1, 2, 3, 4
    ) counted
    GROUP BY 1, 2, 3
),
accepted AS (
    SELECT
        partner_id,
        offered_month AS month,
        coalesce(currency, '') AS currency,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY floor(extract(epoch FROM answered_at - offered_at))::float8)::numeric
            AS seconds_median
    FROM {model}.offer WHERE answer = 'accepted'
    GROUP BY 1, 2, 3
),
cycles AS (
    SELECT
        partner_id,
        closed_month AS month,
        coalesce(currency, '') AS currency,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY (closed_on - {model}.day_of(opened_at))::float8)::numeric AS days_median
    FROM {model}.deal WHERE status = 'won'
    GROUP BY 1, 2, 3
)
SELECT
    m.partner_id,
    p.name AS partner,
    m.month,
    nullif(m.currency, '') AS currency,
    m.registered::bigint AS registered,
    CASE WHEN m.registered_valued > 0 THEN m.registered_amount END AS registered_amount,
    m.approved::bigint AS approved,
    m.rejected::bigint AS rejected,
    coalesce(rejections.by_reason, '{{}}') AS rejected_by_reason,
    (m.approved + m.rejected)::bigint AS decided,
    round(m.approved::numeric / nullif(m.approved + m.rejected, 0), 5) AS approval_rate,
    round(decided.seconds_median / 3600, 2) AS decision_hours_median,
    round(decided.seconds_p90 / 3600, 2) AS decision_hours_p90,
    round(m.decided_in_time::numeric / nullif(m.approved + m.rejected, 0), 5) AS within_sla_share,
    m.approved_converted::bigint AS approved_converted,
    round(m.approved_converted::numeric / nullif(m.approved, 0), 5) AS converted_share,
    m.approved_expired::bigint AS approved_expired,
    round(m.approved_expired::numeric / nullif(m.approved, 0), 5) AS expired_share,
    m.offers::bigint AS offers,
    m.offers_accepted::bigint AS offers_accepted,
    round(m.offers_accepted::numeric / nullif(m.offers, 0), 5) AS accept_rate,
    round(accepted.seconds_median / 3600, 2) AS accept_hours_median,
    m.converted::bigint AS converted,
    m.won::bigint AS won,
    m.lost::bigint AS lost,
    round(m.won::numeric / nullif(m.won + m.lost, 0), 5) AS win_rate,
    CASE WHEN m.won_valued > 0 THEN m.won_amount END AS won_amount,
    CASE WHEN m.lost_valued > 0 THEN m.lost_amount END AS lost_amount,
    CASE WHEN m.won_valued > 0 THEN round(m.won_amount / nullif(m.won_amount + m.lost_amount, 0), 5) END
        AS win_rate_by_value,
    round(m.won_amount / nullif(m.won_valued, 0), 2) AS average_deal,
    round(cycles.days_median, 1) AS cycle_days_median_won,
    round(m.engaged_days::numeric / nullif(m.engaged, 0), 3) AS cycle_days_mean_closed,
    m.activities::bigint AS activities,
    goal.asked AS goal,
    round(100 * m.won_amount / nullif(goal.asked, 0), 2) AS attainment_percent,
    round(100 * m.won_amount / nullif(m.goal * elapsed.share, 0), 2) AS pace_percent,
    goal.asked - m.won_amount AS gap,
    CASE WHEN m.month >= (SELECT {model}.this_month()) AND m.goal > m.won_amount
        THEN round(m.open_amount / (m.goal - m.won_amount), 4)
    END AS coverage
FROM {model}.month m
CROSS JOIN LATERAL (SELECT CASE WHEN m.goals > 0 THEN round(m.goal, 4) END AS asked) goal
CROSS JOIN (SELECT {model}.today() AS day) today
CROSS JOIN LATERAL (
    SELECT CASE WHEN m.goals > 0 THEN least(1, greatest(0, (today.day - m.month + 1)::numeric
        / extract(day FROM m.month::timestamp + interval '1 month' - interval '1 day'))) END AS share
) elapsed
LEFT JOIN {model}.partner p ON p.partner_id = m.partner_id
LEFT JOIN decided
    ON decided.partner_id = m.partner_id AND decided.month = m.month AND decided.currency = m.currency
LEFT JOIN rejections
    ON rejections.partner_id = m.partner_id AND rejections.month = m.month AND rejections.currency = m.currency
LEFT JOIN accepted
    ON accepted.partner_id = m.partner_id AND accepted.month = m.month AND accepted.currency = m.currency
LEFT JOIN cycles
    ON cycles.partner_id = m.partner_id AND cycles.month = m.month AND cycles.currency = m.currency
WHERE m.happened > 0;

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
    coalesce(counts.open, 0) AS open_deals,
    coalesce(late.stalled, 0) AS stalled,
    coalesce(late.overdue, 0) AS overdue,
    money.open_amount,
    money.weighted_amount,
    coalesce(counts.won_month, 0) AS won_month,
    money.won_amount_month,
    coalesce(counts.lost_month, 0) AS lost_month,
    money.lost_amount_month,
    coalesce(counts.won_quarter, 0) AS won_quarter,
    money.won_amount_quarter,
    coalesce(counts.lost_quarter, 0) AS lost_quarter,
    money.lost_amount_quarter,
    coalesce(counts.won_year, 0) AS won_12_months,
    money.won_amount_year AS won_amount_12_months,
    coalesce(counts.lost_year, 0) AS lost_12_months,
    money.lost_amount_year AS lost_amount_12_months,
    round(counts.won_year::numeric / nullif(counts.won_year + counts.lost_year, 0), 5) AS win_rate,
    round(money.won_amount_year / nullif(money.won_amount_year + coalesce(money.lost_amount_year, 0), 0), 5)
        AS win_rate_by_value,
    round(money.won_amount_year / nullif(money.won_valued_year, 0), 2) AS average_deal,
    round(cycles.days_median, 1) AS cycle_days_median_won,
    round(counts.cycle_days_mean_closed, 3) AS cycle_days_mean_closed,
    coalesce(counts.decided, 0) AS decided_12_months,
    round(counts.approved::numeric / nullif(counts.decided, 0), 5) AS approval_rate,
    acts.last_at AS last_act_at,
    p.status = 'active' AND coalesce(acts.last_at, p.since) < now() - interval '90 days' AS at_risk,
    p.status = 'active' AND coalesce(acts.last_at, p.since) < now() - interval '180 days' AS dormant,
    CASE WHEN goal.currency = money.currency THEN goal.period END AS goal_period,
    CASE WHEN goal.currency = money.currency THEN goal.target END AS goal,
    CASE WHEN goal.currency = money.currency THEN goal.actual END AS goal_actual,
    CASE WHEN goal.currency = money.currency THEN goal.attainment_percent END AS attainment_percent,
    CASE WHEN goal.currency = money.currency THEN goal.pace_percent END AS pace_percent,
    CASE WHEN goal.currency = money.currency THEN goal.gap END AS gap,
    CASE WHEN goal.currency = money.currency THEN goal.coverage END AS coverage,
    coalesce(goals.goals, '[]') AS goals,
    -- Made once for all who look their place up.
    CASE WHEN {vendor} THEN ((
        SELECT jsonb_object_agg(partner_id || currency, place)
        FROM (
            SELECT partner_id, currency, rank() OVER (PARTITION BY currency ORDER BY sum(amount) DESC) AS place
            FROM (
                SELECT partner_id, currency, won_amount AS amount
                FROM {model}.month
                WHERE won > 0 AND currency <> '' AND month > (SELECT {model}.year_ago_month())
                UNION ALL
                SELECT partner_id, currency, amount
                FROM {model}.deal
                WHERE status = 'won' AND currency IS NOT NULL
                    AND closed_month = (SELECT {model}.year_ago_month()) AND closed_on > (SELECT {model}.year_ago())
            ) one
            GROUP BY partner_id, currency
        ) placed
    ) ->> (p.partner_id || money.currency))::bigint END AS won_rank
FROM {model}.partner p
LEFT JOIN ( -- of the month in which the 12 begin, what of it is in them is looked up
    SELECT
        partner_id,
        currency,
        sum(open_amount) FILTER (WHERE open_valued > 0) AS open_amount,
        sum(open_weighted * 0.01) FILTER (WHERE open_valued > 0) AS weighted_amount,
        sum(won_amount) FILTER (WHERE won > 0 AND month >= (SELECT {model}.this_month())) AS won_amount_month,
        sum(lost_amount) FILTER (WHERE lost > 0 AND month >= (SELECT {model}.this_month())) AS lost_amount_month,
        sum(won_amount) FILTER (WHERE won > 0 AND month >= (SELECT {model}.this_quarter())) AS won_amount_quarter,
        sum(lost_amount) FILTER (WHERE lost > 0 AND month >= (SELECT {model}.this_quarter())) AS lost_amount_quarter,
        sum(won_amount) FILTER (WHERE won > 0 AND month > (SELECT {model}.year_ago_month())) AS won_amount_year,
        sum(won) FILTER (WHERE month > (SELECT {model}.year_ago_month())) AS won_valued_year,
        sum(lost_amount) FILTER (WHERE lost > 0 AND month > (SELECT {model}.year_ago_month())) AS lost_amount_year
    FROM (
        SELECT partner_id, currency, month, open_valued, open_amount, open_weighted, won, won_amount, lost, lost_amount
        FROM {model}.month
        WHERE currency <> '' AND (open > 0 OR month > (SELECT {model}.year_ago_month()) AND won + lost > 0)
        UNION ALL
        SELECT partner_id, currency, closed_on, 0, 0, 0, (status = 'won')::int, amount, (status = 'lost')::int, amount
        FROM {model}.deal
        WHERE currency IS NOT NULL AND closed_month = (SELECT {model}.year_ago_month()) AND closed_on > (SELECT {model}.year_ago())
        UNION ALL
        SELECT partner_id, currency, NULL, 0, 0, 0, 0, 0, 0, 0 FROM {model}.goal
        WHERE status = 'active' AND metric = 'won_amount' AND product_line IS NULL
    ) one
    GROUP BY partner_id, currency
) money ON money.partner_id = p.partner_id
LEFT JOIN (
    SELECT
        partner_id,
        sum(open) AS open,
        coalesce(sum(won) FILTER (WHERE month >= (SELECT {model}.this_month())), 0) AS won_month,
        coalesce(sum(lost) FILTER (WHERE month >= (SELECT {model}.this_month())), 0) AS lost_month,
        coalesce(sum(won) FILTER (WHERE month >= (SELECT {model}.this_quarter())), 0) AS won_quarter,
        coalesce(sum(lost) FILTER (WHERE month >= (SELECT {model}.this_quarter())), 0) AS lost_quarter,
        coalesce(sum(won) FILTER (WHERE month > (SELECT {model}.year_ago_month())), 0) AS won_year,
        coalesce(sum(lost) FILTER (WHERE month > (SELECT {model}.year_ago_month())), 0) AS lost_year,
        (sum(engaged_days) FILTER (WHERE month > (SELECT {model}.year_ago_month())))::numeric
            / nullif(sum(engaged) FILTER (WHERE month > (SELECT {model}.year_ago_month())), 0) AS cycle_days_mean_closed,
        coalesce(sum(approved) FILTER (WHERE month > (SELECT {model}.year_ago_month())), 0) AS approved,
        coalesce(sum(decided) FILTER (WHERE month > (SELECT {model}.year_ago_month())), 0) AS decided
    FROM (
        SELECT partner_id, month, open, won, lost, engaged, engaged_days, approved, approved + rejected AS decided
        FROM {model}.month
        WHERE open > 0 OR month > (SELECT {model}.year_ago_month())
        UNION ALL
        SELECT decided_for, decided_month + 1, 0, 0, 0, 0, 0, (decision = 'approved')::int, 1
        FROM {model}.lead
        WHERE decided_month = (SELECT {model}.year_ago_month()) AND {model}.day_of(decided_at) > (SELECT {model}.year_ago())
        UNION ALL
        SELECT partner_id, closed_on, 0, (status = 'won')::int, (status = 'lost')::int, (engaged_at IS NOT NULL)::int,
            closed_on - {model}.day_of(engaged_at), 0, 0
        FROM {model}.deal
        WHERE closed_month = (SELECT {model}.year_ago_month()) AND closed_on > (SELECT {model}.year_ago())
    ) one
    GROUP BY partner_id
) counts ON counts.partner_id = p.partner_id
LEFT JOIN (
    SELECT
        partner_id,
        count(*) FILTER (WHERE touched_at < now() - interval '30 days') AS stalled,
        count(*) FILTER (
            WHERE next_action_due_on < (SELECT {model}.today()) OR expected_close_on < (SELECT {model}.today())
        ) AS overdue
    FROM {model}.deal WHERE closed_on IS NULL
    GROUP BY partner_id
) late ON late.partner_id = p.partner_id
LEFT JOIN (
    SELECT
        partner_id,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY (closed_on - {model}.day_of(opened_at))::float8)::numeric AS days_median
    FROM {model}.deal
    WHERE status = 'won' AND closed_month >= (SELECT {model}.year_ago_month()) AND closed_on > (SELECT {model}.year_ago())
    GROUP BY partner_id
) cycles ON cycles.partner_id = p.partner_id
LEFT JOIN (
    SELECT partner_id, count(*) AS registrations FROM {model}.lead
    WHERE origin = 'registered'
        AND (status IN ('submitted', 'in_review', 'action_required') OR (status = 'approved' AND protected))
    GROUP BY partner_id
) live ON live.partner_id = p.partner_id
LEFT JOIN LATERAL ( -- the last one by the index: to sum them all up would read them all
    SELECT act.last_at FROM {model}.act WHERE act.partner_id = p.partner_id ORDER BY act.last_at DESC LIMIT 1
) acts ON true
LEFT JOIN (
    SELECT
        partner_id,
        max(period) AS period,
        max(currency) AS currency,
        max(target) AS target,
        max(actual) AS actual,
        max(attainment_percent) AS attainment_percent,
        max(pace_percent) AS pace_percent,
        max(gap) AS gap,
        max(coverage) AS coverage
    FROM {read}.goals WHERE current AND metric = 'won_amount' AND product_line IS NULL
    GROUP BY partner_id
) goal ON goal.partner_id = p.partner_id
LEFT JOIN (
    SELECT
        partner_id,
        jsonb_agg(jsonb_build_object(
            'metric', metric, 'period', period, 'product_line', product_line, 'currency', currency, 'target', target,
            'actual', actual, 'attainment_percent', attainment_percent, 'pace_percent', pace_percent, 'gap', gap
        ) ORDER BY metric, product_line NULLS FIRST, first_on) AS goals
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
