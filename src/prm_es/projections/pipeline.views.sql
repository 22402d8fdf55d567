CREATE VIEW {read}.partners WITH (security_invoker) AS
SELECT
    p.partner_id,
    p.external_id,
    p.name AS partner,
    p.legal_name,
    p.status,
    p.types,
    p.country,
    p.territories,
    p.tier,
    p.channel_manager,
    p.parent_id,
    parent.name AS parent,
    p.on_notice,
    p.since,
    ARRAY(
        SELECT a.product_line FROM {model}.authorisation a
        WHERE a.partner_id = p.partner_id AND coalesce(a.valid_to >= (now() AT TIME ZONE {tz})::date, true)
        ORDER BY 1
    ) AS product_lines,
    p.data_gaps,
    p.updated_position,
    lower(concat_ws(chr(10), p.name, p.legal_name, p.external_id)) AS searched
FROM {model}.partner p
LEFT JOIN {model}.partner parent ON parent.partner_id = p.parent_id;

COMMENT ON VIEW {read}.partners IS 'Every partner as it stands.';
COMMENT ON COLUMN {read}.partners.partner_id IS 'Aggregate id.';
COMMENT ON COLUMN {read}.partners.external_id IS 'Key in the system that the partner came from.';
COMMENT ON COLUMN {read}.partners.partner IS 'Trade name, else legal name.';
COMMENT ON COLUMN {read}.partners.legal_name IS 'Registered name.';
COMMENT ON COLUMN {read}.partners.status IS 'invited, applied, under_review, approved, onboarding, active, suspended, declined, rejected or terminated.';
COMMENT ON COLUMN {read}.partners.types IS 'reseller, retailer, consultant, service_provider, integrator, isv, distributor, referral.';
COMMENT ON COLUMN {read}.partners.country IS 'ISO 3166 code.';
COMMENT ON COLUMN {read}.partners.territories IS 'Where the partner may sell.';
COMMENT ON COLUMN {read}.partners.tier IS 'Level in the partner programme.';
COMMENT ON COLUMN {read}.partners.channel_manager IS 'Who looks after the partner, an opaque id.';
COMMENT ON COLUMN {read}.partners.parent_id IS 'Parent organisation, which may act for this one.';
COMMENT ON COLUMN {read}.partners.parent IS 'Name of the parent organisation.';
COMMENT ON COLUMN {read}.partners.on_notice IS 'Whether a notice stands.';
COMMENT ON COLUMN {read}.partners.since IS 'Business time of the first event.';
COMMENT ON COLUMN {read}.partners.product_lines IS 'Product lines that the partner is authorised to sell today.';
COMMENT ON COLUMN {read}.partners.data_gaps IS 'Fields that an import left out and nobody has given since.';
COMMENT ON COLUMN {read}.partners.updated_position IS 'Position in the log of the last event that changed the row.';
COMMENT ON COLUMN {read}.partners.searched IS 'Names and external id in lower case, to look for a text in.';

CREATE VIEW {read}.opportunities WITH (security_invoker) AS
SELECT
    o.opportunity_id,
    o.external_id,
    o.name,
    o.partner_id,
    p.name AS partner,
    array_to_string(p.territories, ', ') AS territory,
    CASE WHEN o.customer_sealed THEN customer.value ELSE o.customer END AS customer,
    o.product_lines,
    o.deal_type,
    o.stage,
    o.status,
    o.probability,
    o.forecast_category,
    o.amount,
    o.currency,
    o.amount * o.probability * 0.01 AS weighted_amount,
    o.owner,
    o.opened_at,
    (o.engaged_at AT TIME ZONE {tz})::date AS engaged_on,
    o.expected_close_on,
    o.closed_on,
    o.lost_reason,
    o.stage_entered_at,
    CASE WHEN o.status = 'open' THEN today.day - (o.stage_entered_at AT TIME ZONE {tz})::date END AS days_in_stage,
    coalesce(o.closed_on, today.day) - (o.opened_at AT TIME ZONE {tz})::date AS age_days,
    CASE WHEN o.next_action_sealed THEN action.value ELSE o.next_action END AS next_action,
    o.next_action_due_on,
    o.status = 'open' AND coalesce(o.next_action_due_on < today.day OR o.expected_close_on < today.day, false) AS overdue,
    o.status = 'open' AND o.stalled_at IS NOT NULL AS stalled,
    CASE WHEN o.status = 'open' THEN o.stalled_at END AS stalled_at,
    o.data_gaps,
    o.lead_id,
    o.touched_at,
    o.updated_position,
    CASE WHEN customer.value IS NULL THEN o.searched ELSE o.searched || lower(customer.value) END AS searched
FROM {model}.opportunity o
CROSS JOIN (SELECT (now() AT TIME ZONE {tz})::date AS day) today -- no WITH: it would keep indexes away
LEFT JOIN {model}.partner p USING (partner_id)
-- Both say of what is looked up only what stands in the index that pages are chosen from, else it is not enough by itself.
LEFT JOIN {model}.personal customer
    ON customer.aggregate_id = CASE WHEN o.customer_sealed THEN o.opportunity_id END AND customer.field = 'customer'
LEFT JOIN {model}.personal action
    ON action.aggregate_id = CASE WHEN o.next_action_sealed THEN o.opportunity_id END AND action.field = 'next_action';

COMMENT ON VIEW {read}.opportunities IS 'Every opportunity as it stands: status, next action, age.';
COMMENT ON COLUMN {read}.opportunities.opportunity_id IS 'Aggregate id.';
COMMENT ON COLUMN {read}.opportunities.external_id IS 'Key in the system that the opportunity came from.';
COMMENT ON COLUMN {read}.opportunities.name IS 'Name given by the owner.';
COMMENT ON COLUMN {read}.opportunities.partner_id IS 'Partner of record.';
COMMENT ON COLUMN {read}.opportunities.partner IS 'Name of the partner of record, as it is now.';
COMMENT ON COLUMN {read}.opportunities.territory IS 'Territories of the partner of record, as they are now, separated by commas.';
COMMENT ON COLUMN {read}.opportunities.customer IS 'Name of the end customer; null if unknown or forgotten.';
COMMENT ON COLUMN {read}.opportunities.product_lines IS 'Product lines on the deal.';
COMMENT ON COLUMN {read}.opportunities.deal_type IS 'new, expansion or renewal.';
COMMENT ON COLUMN {read}.opportunities.stage IS 'prospect, qualified, technical_validation, business_validation, committed, won or lost.';
COMMENT ON COLUMN {read}.opportunities.status IS 'open, won or lost.';
COMMENT ON COLUMN {read}.opportunities.probability IS 'Percent, a snapshot at stage entry.';
COMMENT ON COLUMN {read}.opportunities.forecast_category IS 'The override if there is one, else the snapshot at stage entry: pipeline, best_case, commit, closed or omitted.';
COMMENT ON COLUMN {read}.opportunities.amount IS 'In currency; the final amount once won.';
COMMENT ON COLUMN {read}.opportunities.currency IS 'ISO 4217 code; sums never mix currencies.';
COMMENT ON COLUMN {read}.opportunities.weighted_amount IS 'amount x probability / 100.';
COMMENT ON COLUMN {read}.opportunities.owner IS 'Who works the deal, an opaque id.';
COMMENT ON COLUMN {read}.opportunities.opened_at IS 'Business time of opening.';
COMMENT ON COLUMN {read}.opportunities.engaged_on IS 'Day on which it first stood in qualified or a later stage, in the report time zone.';
COMMENT ON COLUMN {read}.opportunities.expected_close_on IS 'Day on which the deal is expected to close.';
COMMENT ON COLUMN {read}.opportunities.closed_on IS 'Day on which it was won or lost.';
COMMENT ON COLUMN {read}.opportunities.lost_reason IS 'From the closed list; not_given shows in data_gaps.';
COMMENT ON COLUMN {read}.opportunities.stage_entered_at IS 'Business time of entering the stage.';
COMMENT ON COLUMN {read}.opportunities.days_in_stage IS 'Days since then, as at today; null once closed.';
COMMENT ON COLUMN {read}.opportunities.age_days IS 'Days from opening to closing, or to today while open.';
COMMENT ON COLUMN {read}.opportunities.next_action IS 'What is to be done next; null if nothing is or its text was forgotten.';
COMMENT ON COLUMN {read}.opportunities.next_action_due_on IS 'Day by which it is to be done.';
COMMENT ON COLUMN {read}.opportunities.overdue IS 'Open, and the next action or the expected close lies in the past.';
COMMENT ON COLUMN {read}.opportunities.stalled IS 'Open, and noted to be without activity or stage change for the policy''s time.';
COMMENT ON COLUMN {read}.opportunities.stalled_at IS 'When that time was over; null once something has happened, or it was closed.';
COMMENT ON COLUMN {read}.opportunities.data_gaps IS 'Fields that an import left out and nobody has given since.';
COMMENT ON COLUMN {read}.opportunities.lead_id IS 'Lead that it came from.';
COMMENT ON COLUMN {read}.opportunities.touched_at IS 'Business time of the last activity or stage change.';
COMMENT ON COLUMN {read}.opportunities.updated_position IS 'Position in the log of the last event that changed the row.';
COMMENT ON COLUMN {read}.opportunities.searched IS 'Name, external id and customer in lower case, to look for a text in.';

CREATE VIEW {read}.pipeline WITH (security_invoker) AS
SELECT
    stage,
    status,
    forecast_category,
    partner_id,
    partner,
    territory,
    currency,
    date_trunc('month', expected_close_on)::date AS expected_close_month,
    count(*) AS opportunities,
    sum(amount) AS amount,
    sum(weighted_amount) AS weighted_amount
FROM {read}.opportunities
GROUP BY stage, status, forecast_category, partner_id, partner, territory, currency, date_trunc('month', expected_close_on)::date;

COMMENT ON VIEW {read}.pipeline IS 'Opportunities counted and summed; filter status = ''open'' for the open pipeline.';
COMMENT ON COLUMN {read}.pipeline.stage IS 'Stage.';
COMMENT ON COLUMN {read}.pipeline.status IS 'open, won or lost.';
COMMENT ON COLUMN {read}.pipeline.forecast_category IS 'Forecast category.';
COMMENT ON COLUMN {read}.pipeline.partner_id IS 'Partner of record.';
COMMENT ON COLUMN {read}.pipeline.partner IS 'Its name.';
COMMENT ON COLUMN {read}.pipeline.territory IS 'Its territories.';
COMMENT ON COLUMN {read}.pipeline.currency IS 'ISO 4217 code; null where no amount is known.';
COMMENT ON COLUMN {read}.pipeline.expected_close_month IS 'First day of the month of the expected close; null if unknown.';
COMMENT ON COLUMN {read}.pipeline.opportunities IS 'How many.';
COMMENT ON COLUMN {read}.pipeline.amount IS 'Sum of the amounts that are known.';
COMMENT ON COLUMN {read}.pipeline.weighted_amount IS 'Sum of amount x probability / 100.';

CREATE VIEW {read}.funnel WITH (security_invoker) AS
SELECT
    stage,
    sum(visits)::bigint AS entered,
    coalesce(sum(visits) FILTER (WHERE left_for = 'forward'), 0)::bigint AS left_forward,
    coalesce(sum(visits) FILTER (WHERE left_for = 'back'), 0)::bigint AS left_back,
    coalesce(sum(visits) FILTER (WHERE left_for = 'won'), 0)::bigint AS won,
    coalesce(sum(visits) FILTER (WHERE left_for = 'lost'), 0)::bigint AS lost,
    coalesce(sum(visits) FILTER (WHERE left_for IS NULL), 0)::bigint AS still_in,
    min(days) FILTER (WHERE 2 * upto >= ended) AS median_days
FROM (
    -- Counted by length first: to sort every stay for the median takes long.
    SELECT
        *,
        sum(visits) FILTER (WHERE days IS NOT NULL) OVER (PARTITION BY stage ORDER BY days) AS upto,
        sum(visits) FILTER (WHERE days IS NOT NULL) OVER (PARTITION BY stage) AS ended
    FROM (
        SELECT
            stage, nullif(left_for, '') AS left_for, CASE WHEN left_for <> '' THEN days END AS days, sum(stays) AS visits
        FROM {model}.stay
        WHERE {vendor}
        GROUP BY 1, 2, 3
        UNION ALL
        SELECT stage, left_for, floor(extract(epoch FROM left_at - entered_at) / 86400)::int, count(*)
        FROM {model}.stage_visit
        WHERE NOT {vendor} -- who sees those of its own organisations alone
        GROUP BY 1, 2, 3
    ) counted
) added
GROUP BY stage;

COMMENT ON VIEW {read}.funnel IS 'What becomes of the stays in each stage; an opportunity that comes back counts again.';
COMMENT ON COLUMN {read}.funnel.stage IS 'Stage.';
COMMENT ON COLUMN {read}.funnel.entered IS 'Stays that began.';
COMMENT ON COLUMN {read}.funnel.left_forward IS 'Stays that ended with a later open stage.';
COMMENT ON COLUMN {read}.funnel.left_back IS 'Stays that ended with an earlier stage, reopening included.';
COMMENT ON COLUMN {read}.funnel.won IS 'Stays that ended with winning.';
COMMENT ON COLUMN {read}.funnel.lost IS 'Stays that ended with losing.';
COMMENT ON COLUMN {read}.funnel.still_in IS 'Stays that last.';
COMMENT ON COLUMN {read}.funnel.median_days IS 'Median length in whole days of the stays that ended.';
