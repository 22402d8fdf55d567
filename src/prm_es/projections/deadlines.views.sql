CREATE VIEW {read}.deadlines WITH (security_invoker) AS
SELECT
    split_part(d.kind, '.', 1) AS aggregate,
    d.aggregate_id,
    d.kind,
    d.due_at,
    d.due_at - now() AS due_in,
    d.due_at <= now() AS overdue,
    d.late AS over_when_set,
    h.partner_id,
    p.name AS partner,
    p.channel_manager,
    d.set_position
FROM {model}.deadline d
JOIN {model}.holder h USING (aggregate_id)
LEFT JOIN {model}.partner p USING (partner_id)
WHERE NOT d.done AND NOT h.closed;

COMMENT ON VIEW {read}.deadlines IS 'What is due when: the command that the system sends then, unless something moves or ends it before.';
COMMENT ON COLUMN {read}.deadlines.aggregate IS 'lead or opportunity.';
COMMENT ON COLUMN {read}.deadlines.aggregate_id IS 'Id of the lead or opportunity.';
COMMENT ON COLUMN {read}.deadlines.kind IS 'The command that is due: lead.warn_sla, lead.breach_sla, lead.lapse, lead.remind_protection, lead.expire, lead.expire_offer, lead.remind_contact, lead.recall or opportunity.mark_stalled.';
COMMENT ON COLUMN {read}.deadlines.due_at IS 'When it is due, by the policy in force when it was set.';
COMMENT ON COLUMN {read}.deadlines.due_in IS 'Time until then; negative once overdue.';
COMMENT ON COLUMN {read}.deadlines.overdue IS 'Due, and the answer is not in the log yet.';
COMMENT ON COLUMN {read}.deadlines.over_when_set IS 'Over when it was set, as in imports of the past: sent once the import has fallen quiet.';
COMMENT ON COLUMN {read}.deadlines.partner_id IS 'Partner that has the lead, or partner of record; null for a lead without a partner.';
COMMENT ON COLUMN {read}.deadlines.partner IS 'Its name, as it is now.';
COMMENT ON COLUMN {read}.deadlines.channel_manager IS 'Who looks after the partner, an opaque id.';
COMMENT ON COLUMN {read}.deadlines.set_position IS 'Position in the log of the event that set it.';
