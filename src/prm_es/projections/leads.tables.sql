-- Getting at a column takes as long as there are columns before it: those come first by which few of many are found.
CREATE TABLE {model}.lead (
    lead_id                uuid PRIMARY KEY,
    came_in_at             timestamptz NOT NULL,
    touched_at             timestamptz NOT NULL,
    place_position         bigint NOT NULL,
    updated_position       bigint NOT NULL,
    identity_version       int NOT NULL,
    screened_version       int NOT NULL,
    ended                  boolean NOT NULL,
    -- Whether it is a token, whose value in clear is another table's: only then is that looked for.
    customer_sealed        boolean NOT NULL GENERATED ALWAYS AS (coalesce(customer ~ {token}, false)) STORED,
    origin                 text NOT NULL,
    status                 text NOT NULL,
    partner_id             uuid,
    amount                 numeric,
    currency               text,
    customer               text,
    external_id            text,
    -- What a text is looked for in. Names of people are not in it.
    searched               text NOT NULL GENERATED ALWAYS AS (lower(
        CASE WHEN customer ~ {token} THEN '' ELSE coalesce(customer, '') END || chr(10) || coalesce(external_id, '')
    )) STORED,
    decision               text,
    owner                  text,
    country                text,
    deal_type              text,
    product_lines          text[] NOT NULL,
    score                  int,
    expected_close_on      date,
    submitted_by           text NOT NULL,
    source                 text,
    customer_keys          text[] NOT NULL,
    held_until             timestamptz,
    sla_warn_at            timestamptz,
    sla_due_at             timestamptz,
    sla_stopped_at         timestamptz,
    sla_warn_left          interval,
    sla_left               interval,
    sla_warned_at          timestamptz,
    sla_breached_at        timestamptz,
    asked_for              text[] NOT NULL,
    place_until            timestamptz,
    lapse_at               timestamptz,
    decided_at             timestamptz,
    reject_reason          text,
    disqualify_reason      text,
    protected_from         timestamptz,
    protected_until        timestamptz,
    remind_at              timestamptz[] NOT NULL,
    extensions             int NOT NULL,
    extension_requested_at timestamptz,
    unprotected_at         timestamptz,
    unprotected_by         text,
    respond_by             timestamptz,
    contact_by             timestamptz,
    contact_overdue_at     timestamptz,
    recall_at              timestamptz,
    opportunity_id         uuid,
    converted_at           timestamptz,
    ended_at               timestamptz,
    data_gaps              text[] NOT NULL
) WITH (fillfactor = 80);
-- For the questions of api/indexed.py.
CREATE INDEX ON {model}.lead (came_in_at, lead_id)
    INCLUDE (partner_id, status, origin, decision, currency, customer_sealed);
CREATE INDEX ON {model}.lead (partner_id, came_in_at, lead_id);
CREATE INDEX ON {model}.lead (status, came_in_at, lead_id);
CREATE INDEX ON {model}.lead (decision, status, came_in_at, lead_id) WHERE decision IS NOT NULL;
CREATE INDEX ON {model}.lead (protected_until, lead_id);
CREATE STATISTICS {model}.lead_kinds (mcv) ON origin, status, decision FROM {model}.lead;

CREATE TABLE {model}.offer (
    lead_id       uuid NOT NULL,
    number        int NOT NULL,
    partner_id    uuid NOT NULL,
    strategy      text,
    offered_at    timestamptz NOT NULL,
    respond_by    timestamptz NOT NULL,
    opened_at     timestamptz,
    answered_at   timestamptz,
    answer        text NOT NULL,
    reason        text,
    country       text,
    product_lines text[] NOT NULL,
    amount        numeric,
    currency      text,
    PRIMARY KEY (lead_id, number)
) WITH (fillfactor = 80);
CREATE INDEX ON {model}.offer (offered_at, lead_id, number);
CREATE INDEX ON {model}.offer (partner_id, offered_at, lead_id, number);

CREATE TABLE {model}.lead_match (
    lead_id       uuid NOT NULL,
    other_lead_id uuid NOT NULL,
    partner_id    uuid,
    strength      text,
    matched_keys  text[] NOT NULL,
    sentence      text,
    other_first   boolean,
    outcome       text,
    resolved_at   timestamptz,
    PRIMARY KEY (lead_id, other_lead_id)
) WITH (fillfactor = 80);
CREATE INDEX ON {model}.lead_match (other_lead_id);
