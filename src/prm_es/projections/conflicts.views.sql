CREATE VIEW {read}.lead_conflicts WITH (security_invoker) AS
SELECT
    c.status,
    c.strength,
    c.score,
    c.reasons AS sentence,
    c.matched_keys,
    c.round,
    CASE WHEN second.customer_sealed THEN second_name.value ELSE second.customer END AS customer,
    ARRAY(SELECT unnest(first.product_lines) INTERSECT SELECT unnest(second.product_lines) ORDER BY 1) AS common_product_lines,
    first.lead_id AS first_lead_id,
    CASE first.status WHEN 'won' THEN 'customer' ELSE first.kind END AS first_kind,
    first.partner_id AS first_partner_id,
    first_partner.name AS first_partner,
    first.status AS first_state,
    first.place AS first_position,
    first.came_at AS first_came_at,
    first.protected_until AS first_protected_until,
    second.lead_id AS second_lead_id,
    CASE second.status WHEN 'won' THEN 'customer' ELSE second.kind END AS second_kind,
    second.partner_id AS second_partner_id,
    second_partner.name AS second_partner,
    second.status AS second_state,
    second.place AS second_position,
    second.came_at AS second_came_at,
    second.protected_until AS second_protected_until,
    second.came_at - first.came_at AS first_by,
    c.found_position,
    c.found_at,
    c.outcome,
    c.decided_by_lead AS decided_on_lead_id,
    c.decided_position,
    c.ended_position,
    c.ended_at,
    c.ended_because,
    lower(CASE WHEN second.customer_sealed THEN second_name.value ELSE second.customer END) AS searched
FROM {model}.conflict c
JOIN {model}.lead first ON first.lead_id = c.first_lead_id
JOIN {model}.lead second ON second.lead_id = CASE c.first_lead_id WHEN c.low_lead_id THEN c.high_lead_id ELSE c.low_lead_id END
LEFT JOIN {model}.partner first_partner ON first_partner.partner_id = first.partner_id
LEFT JOIN {model}.partner second_partner ON second_partner.partner_id = second.partner_id
LEFT JOIN {model}.personal second_name ON second_name.aggregate_id = second.lead_id AND second_name.field = 'customer';

COMMENT ON VIEW {read}.lead_conflicts IS 'Leads, and what they were compared with, in different hands, about the same customer and a common product line, open and past, as found in the order of the log.';
COMMENT ON COLUMN {read}.lead_conflicts.status IS 'open: both live and nobody has decided; decided: both live; past: one of them has ended or changed.';
COMMENT ON COLUMN {read}.lead_conflicts.strength IS 'hard: same tax id root or customer id, which blocks a second approval by itself; probable: most likely the same, to be resolved before the later is approved; possible and related (a group, a franchise, a shared address): to be known, they hold up nothing.';
COMMENT ON COLUMN {read}.lead_conflicts.score IS 'How like the two are, from 0 to 1, by the policy''s weights.';
COMMENT ON COLUMN {read}.lead_conflicts.sentence IS 'Why they match, in words that name nobody.';
COMMENT ON COLUMN {read}.lead_conflicts.matched_keys IS 'What both have: tax:COUNTRY:KIND:ID and id:CUSTOMER of a hard match, else what was compared and found alike.';
COMMENT ON COLUMN {read}.lead_conflicts.round IS 'How often these two have met.';
COMMENT ON COLUMN {read}.lead_conflicts.customer IS 'Name of the end customer as the second lead has it; null if unknown or forgotten.';
COMMENT ON COLUMN {read}.lead_conflicts.common_product_lines IS 'Product lines that both name as they are now; empty where one names none, which stands for every line.';
COMMENT ON COLUMN {read}.lead_conflicts.first_lead_id IS 'The one that was first, by position in the log; a named account goes before all.';
COMMENT ON COLUMN {read}.lead_conflicts.first_kind IS 'lead, opportunity (open), customer (an opportunity that was won) or named_account; its id stands in first_lead_id.';
COMMENT ON COLUMN {read}.lead_conflicts.first_partner_id IS 'Its partner now; null while the vendor holds it.';
COMMENT ON COLUMN {read}.lead_conflicts.first_partner IS 'Name of that partner.';
COMMENT ON COLUMN {read}.lead_conflicts.first_state IS 'State of the first lead now.';
COMMENT ON COLUMN {read}.lead_conflicts.first_position IS 'Position in the log at which it took its place: when it came in, or was resubmitted too late or with other identifiers.';
COMMENT ON COLUMN {read}.lead_conflicts.first_came_at IS 'Business time at which it came in.';
COMMENT ON COLUMN {read}.lead_conflicts.first_protected_until IS 'End of its protection, if it has one.';
COMMENT ON COLUMN {read}.lead_conflicts.second_lead_id IS 'The other lead.';
COMMENT ON COLUMN {read}.lead_conflicts.second_kind IS 'As first_kind.';
COMMENT ON COLUMN {read}.lead_conflicts.second_partner_id IS 'Its partner now; null while the vendor holds it.';
COMMENT ON COLUMN {read}.lead_conflicts.second_partner IS 'Name of that partner.';
COMMENT ON COLUMN {read}.lead_conflicts.second_state IS 'State of the second lead now.';
COMMENT ON COLUMN {read}.lead_conflicts.second_position IS 'Position in the log at which it took its place.';
COMMENT ON COLUMN {read}.lead_conflicts.second_came_at IS 'Business time at which it came in.';
COMMENT ON COLUMN {read}.lead_conflicts.second_protected_until IS 'End of its protection, if it has one.';
COMMENT ON COLUMN {read}.lead_conflicts.first_by IS 'By how much the first came in earlier, in business time; negative where an import told of it later.';
COMMENT ON COLUMN {read}.lead_conflicts.found_position IS 'Position of the event with which they were found to match.';
COMMENT ON COLUMN {read}.lead_conflicts.found_at IS 'When that was recorded.';
COMMENT ON COLUMN {read}.lead_conflicts.outcome IS 'What was decided: award, split, second_place_benefit, reject_all, vendor_direct or not_a_conflict; null while nothing is.';
COMMENT ON COLUMN {read}.lead_conflicts.decided_on_lead_id IS 'Lead whose history has the decision.';
COMMENT ON COLUMN {read}.lead_conflicts.decided_position IS 'Position of the decision.';
COMMENT ON COLUMN {read}.lead_conflicts.ended_position IS 'Position of the event with which the match was gone; null while it stands.';
COMMENT ON COLUMN {read}.lead_conflicts.ended_at IS 'When that was recorded.';
COMMENT ON COLUMN {read}.lead_conflicts.ended_because IS 'What ended it: the state of the lead that ended, won or lost, changed or transferred.';
COMMENT ON COLUMN {read}.lead_conflicts.searched IS 'Customer in lower case, to look for a text in.';
