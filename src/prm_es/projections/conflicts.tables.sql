CREATE TABLE {model}.lead (
    lead_id         uuid NOT NULL,
    kind            text NOT NULL,
    origin          text NOT NULL,
    status          text NOT NULL,
    partner_id      uuid,
    linked          uuid,
    version         int NOT NULL,
    place           bigint NOT NULL,
    came_at         timestamptz NOT NULL,
    protected_until timestamptz,
    customer        text,
    customer_keys   text[] NOT NULL,
    product_lines   text[] NOT NULL,
    people          uuid[] NOT NULL,
    identity        text,
    keys            bigint[] NOT NULL,
    customer_sealed boolean NOT NULL GENERATED ALWAYS AS (coalesce(customer ~ {token}, false)) STORED,
    PRIMARY KEY (lead_id) INCLUDE (partner_id) -- whose conflict it is, is asked of every one
) WITH (fillfactor = 80);
CREATE INDEX ON {model}.lead (partner_id);
CREATE INDEX ON {model}.lead (kind) WHERE kind = 'named_account';

CREATE TABLE {model}.lead_key (
    lead_id uuid NOT NULL,
    key     bigint NOT NULL,
    PRIMARY KEY (key, lead_id)
);

CREATE TABLE {model}.conflict (
    low_lead_id      uuid NOT NULL,
    high_lead_id     uuid NOT NULL,
    round            int NOT NULL,
    first_lead_id    uuid NOT NULL,
    strength         text NOT NULL,
    score            numeric NOT NULL,
    matched_keys     text[] NOT NULL,
    reasons          text NOT NULL,
    found_position   bigint NOT NULL,
    found_at         timestamptz NOT NULL,
    outcome          text,
    decided_by_lead  uuid,
    decided_position bigint,
    ended_position   bigint,
    ended_at         timestamptz,
    ended_because    text,
    status           text NOT NULL GENERATED ALWAYS AS (
        CASE WHEN ended_position IS NOT NULL THEN 'past' WHEN outcome IS NOT NULL THEN 'decided' ELSE 'open' END
    ) STORED,
    PRIMARY KEY (low_lead_id, high_lead_id, round)
) WITH (fillfactor = 80);
CREATE INDEX ON {model}.conflict (high_lead_id);
CREATE INDEX ON {model}.conflict (first_lead_id);
CREATE INDEX ON {model}.conflict (found_at);

CREATE TABLE {model}.rules (
    stream_id uuid PRIMARY KEY,
    weights   text NOT NULL
);
