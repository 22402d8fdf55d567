CREATE VIEW {read}.leads WITH (security_invoker) AS
SELECT
    l.lead_id,
    l.external_id,
    l.origin,
    l.status,
    l.partner_id,
    p.name AS partner,
    array_to_string(p.territories, ', ') AS territory,
    p.channel_manager,
    CASE WHEN l.customer_sealed THEN customer.value ELSE l.customer END AS customer,
    l.customer_keys,
    l.country,
    l.product_lines,
    l.deal_type,
    l.amount,
    l.currency,
    l.expected_close_on,
    l.submitted_by,
    l.owner,
    l.source,
    l.score,
    l.came_in_at,
    coalesce((coalesce(l.ended_at, l.converted_at) AT TIME ZONE {tz})::date, today.day)
        - (l.came_in_at AT TIME ZONE {tz})::date AS age_days,
    l.place_position,
    sla.due_at AS sla_due_at,
    CASE
        WHEN l.status = 'action_required' THEN 'grey'
        WHEN NOT sla.undecided THEN NULL
        WHEN l.sla_breached_at IS NOT NULL OR sla.due_at <= now() THEN 'red'
        WHEN l.sla_warned_at IS NOT NULL OR l.sla_warn_at <= now() THEN 'amber'
        WHEN sla.due_at IS NOT NULL THEN 'green'
    END AS sla_colour,
    CASE WHEN l.status = 'action_required' THEN l.sla_left ELSE sla.due_at - now() END AS sla_left,
    l.sla_breached_at IS NOT NULL AS sla_breached,
    l.asked_for,
    CASE next.at -- of what is due at once, the first by name
        WHEN l.respond_by THEN 'answer'
        WHEN sla.contact_at THEN 'contact'
        WHEN sla.due_at THEN 'decide'
        WHEN l.protected_until THEN 'expire'
        WHEN l.lapse_at THEN 'lapse'
        WHEN l.recall_at THEN 'recall'
        WHEN sla.resubmit_at THEN 'resubmit'
    END AS next_deadline,
    next.at AS next_deadline_at,
    coalesce(next.at <= now(), false) AS overdue,
    l.respond_by,
    l.contact_by,
    l.recall_at,
    l.screened_version >= l.identity_version AS screened,
    CASE WHEN {vendor} THEN NOT l.ended AND rivalled.lead_id IS NOT NULL END AS in_conflict,
    CASE WHEN l.held_until > now() THEN l.held_until END AS held_until,
    l.decision,
    l.decided_at,
    l.reject_reason,
    l.disqualify_reason,
    l.protected_until,
    l.remind_at[1] AS next_reminder_at,
    l.extension_requested_at,
    l.opportunity_id,
    NOT l.ended AND coalesce(p.status = 'terminated', false) AS orphaned,
    l.data_gaps,
    l.touched_at,
    l.updated_position,
    CASE WHEN customer.value IS NULL THEN l.searched ELSE lower(customer.value) || l.searched END AS searched
FROM {model}.lead l
CROSS JOIN (SELECT (now() AT TIME ZONE {tz})::date AS day) today -- no WITH: it would keep indexes away
LEFT JOIN {model}.partner p USING (partner_id)
LEFT JOIN {model}.personal customer
    ON customer.aggregate_id = CASE WHEN l.customer_sealed THEN l.lead_id END AND customer.field = 'customer'
CROSS JOIN LATERAL (
    SELECT
        l.status IN ('submitted', 'in_review') AS undecided,
        CASE WHEN l.status IN ('submitted', 'in_review') THEN coalesce(l.sla_due_at, l.sla_breached_at) END AS due_at,
        CASE WHEN l.place_until > now() THEN l.place_until END AS resubmit_at,
        coalesce(l.contact_by, l.contact_overdue_at) AS contact_at
) sla
CROSS JOIN LATERAL (
    SELECT least(
        sla.due_at, sla.resubmit_at, l.lapse_at, l.respond_by, sla.contact_at, l.recall_at, l.protected_until
    ) AS at
) next
-- Grouped, it is found at once for all rows or by the index for one, and left out where nobody asks.
LEFT JOIN (
    SELECT met.lead_id
    FROM (
        SELECT lead_id, other_lead_id, strength, outcome FROM {model}.lead_match
        UNION ALL
        SELECT other_lead_id, lead_id, strength, outcome FROM {model}.lead_match
    ) met
    LEFT JOIN {model}.lead other ON other.lead_id = met.other_lead_id
    WHERE met.strength IN ('hard', 'probable') AND met.outcome IS NULL AND other.ended IS NOT TRUE
    GROUP BY met.lead_id
) rivalled ON rivalled.lead_id = l.lead_id;

COMMENT ON VIEW {read}.leads IS 'Every lead as it stands: who has it, what is to be done next, and by when.';
COMMENT ON COLUMN {read}.leads.lead_id IS 'Aggregate id.';
COMMENT ON COLUMN {read}.leads.external_id IS 'Key in the system that the lead came from.';
COMMENT ON COLUMN {read}.leads.origin IS 'registered by a partner that asks for protection, or captured by the vendor and handed out.';
COMMENT ON COLUMN {read}.leads.status IS 'Registered: submitted, in_review, action_required, approved, rejected, withdrawn, lapsed, expired, revoked. Captured: new, qualified, offered, accepted, contacted, working, disqualified. Both: converted.';
COMMENT ON COLUMN {read}.leads.partner_id IS 'Partner that brought it, was offered it or has it; null while a captured lead is with nobody.';
COMMENT ON COLUMN {read}.leads.partner IS 'Name of the partner, as it is now.';
COMMENT ON COLUMN {read}.leads.territory IS 'Territories of the partner, as they are now, separated by commas.';
COMMENT ON COLUMN {read}.leads.channel_manager IS 'Who looks after the partner, an opaque id.';
COMMENT ON COLUMN {read}.leads.customer IS 'Name of the end customer; null if unknown or forgotten.';
COMMENT ON COLUMN {read}.leads.customer_keys IS 'Keys under which the customer is the same customer: tax ids of companies and the vendor''s own id.';
COMMENT ON COLUMN {read}.leads.country IS 'Country of the customer, ISO 3166 code.';
COMMENT ON COLUMN {read}.leads.product_lines IS 'Product lines asked for.';
COMMENT ON COLUMN {read}.leads.deal_type IS 'new, expansion or renewal.';
COMMENT ON COLUMN {read}.leads.amount IS 'Expected amount, in currency.';
COMMENT ON COLUMN {read}.leads.currency IS 'ISO 4217 code; sums never mix currencies.';
COMMENT ON COLUMN {read}.leads.expected_close_on IS 'Day on which the deal is expected to close.';
COMMENT ON COLUMN {read}.leads.submitted_by IS 'Who registered or captured it, an opaque id.';
COMMENT ON COLUMN {read}.leads.owner IS 'Who works it, an opaque id.';
COMMENT ON COLUMN {read}.leads.source IS 'Where a captured lead came from.';
COMMENT ON COLUMN {read}.leads.score IS '0 to 100, given when a captured lead was qualified.';
COMMENT ON COLUMN {read}.leads.came_in_at IS 'Business time of registering or capturing.';
COMMENT ON COLUMN {read}.leads.age_days IS 'Days since then, to the end or the conversion, or to today.';
COMMENT ON COLUMN {read}.leads.place_position IS 'Position in the log of what gave the lead its place in the queue: its coming in, or a resubmission that came late or changed the customer. The lower was first.';
COMMENT ON COLUMN {read}.leads.sla_due_at IS 'By when it is to be decided, working time counted; null unless it waits for a decision.';
COMMENT ON COLUMN {read}.leads.sla_colour IS 'green before half of the working time, amber from then on, red when breached or past due, grey while the clock is stopped, null when no clock runs.';
COMMENT ON COLUMN {read}.leads.sla_left IS 'Time from now to sla_due_at, negative when past; while the clock is stopped, the working time left.';
COMMENT ON COLUMN {read}.leads.sla_breached IS 'Whether the last decision was due before it was made.';
COMMENT ON COLUMN {read}.leads.asked_for IS 'Fields that the partner was asked about and has not resubmitted yet.';
COMMENT ON COLUMN {read}.leads.next_deadline IS 'What is due first: decide, resubmit (to keep the place), lapse, answer (an offer), contact (the customer for the first time), recall (of an idle lead) or expire (the protection).';
COMMENT ON COLUMN {read}.leads.next_deadline_at IS 'When it is due.';
COMMENT ON COLUMN {read}.leads.overdue IS 'Whether that lies in the past.';
COMMENT ON COLUMN {read}.leads.respond_by IS 'By when the running offer is to be answered.';
COMMENT ON COLUMN {read}.leads.contact_by IS 'By when the customer is to be contacted for the first time.';
COMMENT ON COLUMN {read}.leads.recall_at IS 'When the lead is taken from an idle partner.';
COMMENT ON COLUMN {read}.leads.screened IS 'Whether it was screened for conflicts as it is now.';
COMMENT ON COLUMN {read}.leads.in_conflict IS 'Whether another lead that has not ended is the same customer, surely or probably, found by either''s screening, and nobody has decided; what is only possible or related holds up nothing and does not count. A partner''s people are not told.';
COMMENT ON COLUMN {read}.leads.held_until IS 'Until when another lead''s protection held the customer, as it stood at registration; null once past or approved.';
COMMENT ON COLUMN {read}.leads.decision IS 'approved or rejected; null while undecided.';
COMMENT ON COLUMN {read}.leads.decided_at IS 'Business time of the decision.';
COMMENT ON COLUMN {read}.leads.reject_reason IS 'From the closed list.';
COMMENT ON COLUMN {read}.leads.disqualify_reason IS 'From the closed list.';
COMMENT ON COLUMN {read}.leads.protected_until IS 'End of the protection that it holds.';
COMMENT ON COLUMN {read}.leads.next_reminder_at IS 'When the partner is reminded of that end.';
COMMENT ON COLUMN {read}.leads.extension_requested_at IS 'When the partner asked for an extension that is not given yet.';
COMMENT ON COLUMN {read}.leads.opportunity_id IS 'Opportunity that it was converted to.';
COMMENT ON COLUMN {read}.leads.orphaned IS 'Whether its partner was terminated and it has not ended.';
COMMENT ON COLUMN {read}.leads.data_gaps IS 'Fields that an import left out and nobody has given since.';
COMMENT ON COLUMN {read}.leads.touched_at IS 'Business time of the last thing that somebody did on it.';
COMMENT ON COLUMN {read}.leads.updated_position IS 'Position in the log of the last event that changed the row.';
COMMENT ON COLUMN {read}.leads.searched IS 'Customer and external id in lower case, to look for a text in.';

CREATE VIEW {read}.registrations WITH (security_invoker) AS
SELECT
    l.lead_id,
    l.external_id,
    l.partner_id,
    p.name AS partner,
    array_to_string(p.territories, ', ') AS territory,
    CASE WHEN l.customer_sealed THEN customer.value ELSE l.customer END AS customer,
    l.product_lines,
    l.deal_type,
    l.amount,
    l.currency,
    l.submitted_by,
    l.owner,
    l.came_in_at AS submitted_at,
    l.status,
    l.asked_for,
    l.lapse_at AS answer_by,
    CASE WHEN l.held_until > now() THEN l.held_until END AS held_until,
    l.decision,
    l.decided_at,
    l.decided_at - l.came_in_at AS decided_in,
    l.reject_reason,
    l.sla_breached_at IS NOT NULL AS sla_breached,
    l.protected_from,
    l.protected_until,
    (l.protected_until AT TIME ZONE {tz})::date - today.day AS days_left,
    l.extensions,
    l.extension_requested_at,
    l.unprotected_at,
    l.unprotected_by,
    l.converted_at IS NOT NULL AS converted,
    l.converted_at,
    l.opportunity_id,
    l.data_gaps,
    l.updated_position,
    CASE WHEN customer.value IS NULL THEN l.searched ELSE lower(customer.value) || l.searched END AS searched
FROM {model}.lead l
CROSS JOIN (SELECT (now() AT TIME ZONE {tz})::date AS day) today
LEFT JOIN {model}.partner p USING (partner_id)
LEFT JOIN {model}.personal customer
    ON customer.aggregate_id = CASE WHEN l.customer_sealed THEN l.lead_id END AND customer.field = 'customer'
WHERE l.origin = 'registered';

COMMENT ON VIEW {read}.registrations IS 'Every registered lead with its course, from submission to decision, protection and conversion.';
COMMENT ON COLUMN {read}.registrations.lead_id IS 'Aggregate id.';
COMMENT ON COLUMN {read}.registrations.external_id IS 'Key in the system that the lead came from.';
COMMENT ON COLUMN {read}.registrations.partner_id IS 'Partner that registered it, or that it was transferred to.';
COMMENT ON COLUMN {read}.registrations.partner IS 'Name of the partner, as it is now.';
COMMENT ON COLUMN {read}.registrations.territory IS 'Territories of the partner, as they are now, separated by commas.';
COMMENT ON COLUMN {read}.registrations.customer IS 'Name of the end customer; null if unknown or forgotten.';
COMMENT ON COLUMN {read}.registrations.product_lines IS 'Product lines asked for.';
COMMENT ON COLUMN {read}.registrations.deal_type IS 'new, expansion or renewal.';
COMMENT ON COLUMN {read}.registrations.amount IS 'Expected amount, in currency.';
COMMENT ON COLUMN {read}.registrations.currency IS 'ISO 4217 code; sums never mix currencies.';
COMMENT ON COLUMN {read}.registrations.submitted_by IS 'Who registered it, an opaque id.';
COMMENT ON COLUMN {read}.registrations.owner IS 'Who works it, an opaque id.';
COMMENT ON COLUMN {read}.registrations.submitted_at IS 'Business time of registering.';
COMMENT ON COLUMN {read}.registrations.status IS 'submitted, in_review, action_required, approved, converted, rejected, withdrawn, lapsed, expired or revoked.';
COMMENT ON COLUMN {read}.registrations.asked_for IS 'Fields that the partner was asked about and has not resubmitted yet.';
COMMENT ON COLUMN {read}.registrations.answer_by IS 'When it lapses unless it is resubmitted.';
COMMENT ON COLUMN {read}.registrations.held_until IS 'Until when another lead''s protection held the customer, as it stood at registration; null once past or approved.';
COMMENT ON COLUMN {read}.registrations.decision IS 'approved or rejected; null while undecided.';
COMMENT ON COLUMN {read}.registrations.decided_at IS 'Business time of the decision.';
COMMENT ON COLUMN {read}.registrations.decided_in IS 'Time from submission to decision.';
COMMENT ON COLUMN {read}.registrations.reject_reason IS 'From the closed list.';
COMMENT ON COLUMN {read}.registrations.sla_breached IS 'Whether the last decision was due before it was made.';
COMMENT ON COLUMN {read}.registrations.protected_from IS 'Beginning of the protection that it holds.';
COMMENT ON COLUMN {read}.registrations.protected_until IS 'End of the protection that it holds; null if it holds none.';
COMMENT ON COLUMN {read}.registrations.days_left IS 'Days from today to that end, in the report time zone; negative once past.';
COMMENT ON COLUMN {read}.registrations.extensions IS 'How often that protection was extended.';
COMMENT ON COLUMN {read}.registrations.extension_requested_at IS 'When the partner asked for an extension that is not given yet.';
COMMENT ON COLUMN {read}.registrations.unprotected_at IS 'When the last protection ended.';
COMMENT ON COLUMN {read}.registrations.unprotected_by IS 'What ended it: expired, revoked, reverted, won or lost.';
COMMENT ON COLUMN {read}.registrations.converted IS 'Whether it was converted to an opportunity.';
COMMENT ON COLUMN {read}.registrations.converted_at IS 'Business time of the conversion.';
COMMENT ON COLUMN {read}.registrations.opportunity_id IS 'Opportunity that it was converted to.';
COMMENT ON COLUMN {read}.registrations.data_gaps IS 'Fields that an import left out and nobody has given since.';
COMMENT ON COLUMN {read}.registrations.updated_position IS 'Position in the log of the last event that changed the row.';
COMMENT ON COLUMN {read}.registrations.searched IS 'Customer and external id in lower case, to look for a text in.';

CREATE VIEW {read}.protected_customers WITH (security_invoker) AS
SELECT
    CASE WHEN l.customer_sealed THEN customer.value ELSE l.customer END AS customer,
    l.customer_keys,
    l.country,
    l.product_lines,
    l.partner_id,
    p.name AS partner,
    array_to_string(p.territories, ', ') AS territory,
    l.protected_from,
    l.protected_until,
    (l.protected_until AT TIME ZONE {tz})::date - today.day AS days_left,
    l.extensions,
    l.extension_requested_at,
    l.remind_at[1] AS next_reminder_at,
    l.owner,
    l.origin,
    l.status,
    l.lead_id,
    l.opportunity_id,
    l.updated_position,
    lower(CASE WHEN l.customer_sealed THEN customer.value ELSE l.customer END) AS searched
FROM {model}.lead l
CROSS JOIN (SELECT (now() AT TIME ZONE {tz})::date AS day) today
LEFT JOIN {model}.partner p USING (partner_id)
LEFT JOIN {model}.personal customer
    ON customer.aggregate_id = CASE WHEN l.customer_sealed THEN l.lead_id END AND customer.field = 'customer'
WHERE l.protected_until > now();

COMMENT ON VIEW {read}.protected_customers IS 'The book: who holds which customer for which product lines, while the protection runs.';
COMMENT ON COLUMN {read}.protected_customers.customer IS 'Name of the end customer; null if unknown or forgotten.';
COMMENT ON COLUMN {read}.protected_customers.customer_keys IS 'Keys by which the customer is held: tax ids of companies and the vendor''s own id. Without any, no rival is kept away.';
COMMENT ON COLUMN {read}.protected_customers.country IS 'Country of the customer, ISO 3166 code.';
COMMENT ON COLUMN {read}.protected_customers.product_lines IS 'Product lines that are held; none means all.';
COMMENT ON COLUMN {read}.protected_customers.partner_id IS 'Partner that holds the customer.';
COMMENT ON COLUMN {read}.protected_customers.partner IS 'Name of the partner, as it is now.';
COMMENT ON COLUMN {read}.protected_customers.territory IS 'Territories of the partner, as they are now, separated by commas.';
COMMENT ON COLUMN {read}.protected_customers.protected_from IS 'Beginning of the protection.';
COMMENT ON COLUMN {read}.protected_customers.protected_until IS 'End of the protection.';
COMMENT ON COLUMN {read}.protected_customers.days_left IS 'Days from today to that end, in the report time zone.';
COMMENT ON COLUMN {read}.protected_customers.extensions IS 'How often the protection was extended.';
COMMENT ON COLUMN {read}.protected_customers.extension_requested_at IS 'When the partner asked for an extension that is not given yet.';
COMMENT ON COLUMN {read}.protected_customers.next_reminder_at IS 'When the partner is reminded of the end.';
COMMENT ON COLUMN {read}.protected_customers.owner IS 'Who works the lead, an opaque id.';
COMMENT ON COLUMN {read}.protected_customers.origin IS 'registered or captured.';
COMMENT ON COLUMN {read}.protected_customers.status IS 'Status of the lead.';
COMMENT ON COLUMN {read}.protected_customers.lead_id IS 'Lead that holds the protection.';
COMMENT ON COLUMN {read}.protected_customers.opportunity_id IS 'Opportunity that the lead was converted to.';
COMMENT ON COLUMN {read}.protected_customers.updated_position IS 'Position in the log of the last event that changed the row.';
COMMENT ON COLUMN {read}.protected_customers.searched IS 'Customer in lower case, to look for a text in.';

CREATE VIEW {read}.offers WITH (security_invoker) AS
SELECT
    o.lead_id,
    o.number,
    o.partner_id,
    p.name AS partner,
    array_to_string(p.territories, ', ') AS territory,
    CASE WHEN o.opened_at IS NOT NULL OR o.answer = 'accepted' THEN CASE WHEN l.customer_sealed THEN customer.value ELSE l.customer END END AS customer,
    o.country,
    o.product_lines,
    o.amount,
    o.currency,
    o.strategy,
    o.offered_at,
    o.respond_by,
    CASE WHEN o.answer = 'open' THEN o.respond_by - now() END AS time_left,
    o.answer = 'open' AND o.respond_by <= now() AS overdue,
    o.opened_at,
    o.answer,
    o.answered_at,
    o.answered_at - o.offered_at AS answered_in,
    o.reason
FROM {model}.offer o
LEFT JOIN {model}.lead l USING (lead_id)
LEFT JOIN {model}.partner p ON p.partner_id = o.partner_id
LEFT JOIN {model}.personal customer ON customer.aggregate_id = l.lead_id AND customer.field = 'customer';

COMMENT ON VIEW {read}.offers IS 'Every offer of a captured lead to a partner, with what it answered.';
COMMENT ON COLUMN {read}.offers.lead_id IS 'Lead that was offered.';
COMMENT ON COLUMN {read}.offers.number IS 'Which of the lead''s offers, from 1.';
COMMENT ON COLUMN {read}.offers.partner_id IS 'Partner that it was offered to.';
COMMENT ON COLUMN {read}.offers.partner IS 'Name of the partner, as it is now.';
COMMENT ON COLUMN {read}.offers.territory IS 'Territories of the partner, as they are now, separated by commas.';
COMMENT ON COLUMN {read}.offers.customer IS 'Name of the end customer, once the partner has opened or accepted the offer; null before, or if unknown or forgotten.';
COMMENT ON COLUMN {read}.offers.country IS 'Country of the customer, ISO 3166 code; this and what follows as the lead was while the offer stood.';
COMMENT ON COLUMN {read}.offers.product_lines IS 'Product lines asked for.';
COMMENT ON COLUMN {read}.offers.amount IS 'Expected amount, in currency.';
COMMENT ON COLUMN {read}.offers.currency IS 'ISO 4217 code; sums never mix currencies.';
COMMENT ON COLUMN {read}.offers.strategy IS 'How the partner was chosen.';
COMMENT ON COLUMN {read}.offers.offered_at IS 'Business time of the offer.';
COMMENT ON COLUMN {read}.offers.respond_by IS 'By when it is to be answered.';
COMMENT ON COLUMN {read}.offers.time_left IS 'Time from now to respond_by, negative when past; null once answered.';
COMMENT ON COLUMN {read}.offers.overdue IS 'Open, and respond_by lies in the past.';
COMMENT ON COLUMN {read}.offers.opened_at IS 'When the partner opened it.';
COMMENT ON COLUMN {read}.offers.answer IS 'open, accepted, declined, expired, recalled, or transferred to another partner before an answer.';
COMMENT ON COLUMN {read}.offers.answered_at IS 'When it was answered or ended.';
COMMENT ON COLUMN {read}.offers.answered_in IS 'Time from the offer to that.';
COMMENT ON COLUMN {read}.offers.reason IS 'Why the partner declined, from the closed list.';
