CREATE TABLE {model}.lead (
    lead_id        uuid PRIMARY KEY,
    origin         text NOT NULL,
    status         text NOT NULL,
    partner_id     uuid,
    protected      boolean NOT NULL,
    amount         numeric,
    currency       text,
    product_lines  text[] NOT NULL,
    registered_for uuid,
    registered_at  timestamptz,
    waits_since    timestamptz,
    waited_seconds bigint NOT NULL,
    sla_due_at     timestamptz,
    decided_for    uuid,
    decided_at     timestamptz,
    decision       text,
    reason         text,
    within_sla     boolean,
    expired_at     timestamptz,
    converted_for  uuid,
    converted_at   timestamptz,
    opportunity_id uuid
) WITH (fillfactor = 80);
CREATE INDEX ON {model}.lead (partner_id);
CREATE INDEX ON {model}.lead (partner_id) WHERE origin = 'registered'
    AND (status IN ('submitted', 'in_review', 'action_required') OR (status = 'approved' AND protected));
CREATE INDEX ON {model}.lead (registered_for, registered_at);
CREATE INDEX ON {model}.lead (decided_for);
CREATE INDEX ON {model}.lead (converted_for);

CREATE TABLE {model}.offer (
    lead_id     uuid NOT NULL,
    number      int NOT NULL,
    partner_id  uuid NOT NULL,
    offered_at  timestamptz NOT NULL,
    answer      text,
    answered_at timestamptz,
    currency    text,
    PRIMARY KEY (lead_id, number)
) WITH (fillfactor = 80);
CREATE INDEX ON {model}.offer (partner_id);

CREATE TABLE {model}.deal (
    opportunity_id     uuid PRIMARY KEY,
    partner_id         uuid NOT NULL,
    attached           text[] NOT NULL,
    lead_id            uuid,
    opened_at          timestamptz,
    engaged_at         timestamptz,
    status             text NOT NULL,
    probability        int NOT NULL,
    amount             numeric,
    currency           text,
    product_lines      text[] NOT NULL,
    customer_keys      text[] NOT NULL,
    expected_close_on  date,
    next_action_due_on date,
    touched_at         timestamptz NOT NULL,
    closed_on          date,
    closed_position    bigint,
    closed_month       date GENERATED ALWAYS AS (date_trunc('month', closed_on::timestamp)::date) STORED,
    expected_month     date GENERATED ALWAYS AS (date_trunc('month', expected_close_on::timestamp)::date) STORED
) WITH (fillfactor = 80);
-- A deal is in one of the first two, with all that a partner's figures are summed from: no row is looked at for them.
CREATE INDEX ON {model}.deal (partner_id, closed_month, closed_on)
    INCLUDE (status, currency, amount, product_lines, opened_at, engaged_at) WHERE closed_on IS NOT NULL;
CREATE INDEX ON {model}.deal (partner_id, expected_month, expected_close_on)
    INCLUDE (status, currency, amount, product_lines, probability) WHERE closed_on IS NULL;
CREATE INDEX ON {model}.deal (closed_on) INCLUDE (currency, partner_id, amount) WHERE status = 'won';

CREATE TABLE {model}.won_customer (
    opportunity_id uuid NOT NULL,
    customer_key   text NOT NULL,
    won_on         date NOT NULL,
    position       bigint NOT NULL,
    PRIMARY KEY (opportunity_id, customer_key)
);
CREATE INDEX ON {model}.won_customer (customer_key, won_on, position);

-- Whether a deal's customer had been won before, by whomever: so much, of a deal of its own, a partner is told.
CREATE FUNCTION {model}.won_before(deal uuid) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER
RETURN EXISTS (
    SELECT FROM {model}.deal own
    JOIN {model}.won_customer mine USING (opportunity_id)
    WHERE own.opportunity_id = deal AND own.partner_id = ANY ({seen}) AND (mine.won_on, mine.position) > (
        SELECT earlier.won_on, earlier.position FROM {model}.won_customer earlier
        WHERE earlier.customer_key = mine.customer_key
        ORDER BY earlier.won_on, earlier.position
        LIMIT 1
    )
);

CREATE TABLE {model}.act (
    aggregate_id uuid NOT NULL,
    partner_id   uuid NOT NULL,
    last_at      timestamptz NOT NULL,
    PRIMARY KEY (aggregate_id, partner_id)
) WITH (fillfactor = 80);
CREATE INDEX ON {model}.act (partner_id, last_at);

CREATE TABLE {model}.activity (
    aggregate_id   uuid NOT NULL,
    partner_id     uuid NOT NULL,
    happened_on    date NOT NULL,
    activities     int NOT NULL,
    currency       text,
    happened_month date GENERATED ALWAYS AS (date_trunc('month', happened_on::timestamp)::date) STORED,
    PRIMARY KEY (aggregate_id, partner_id, happened_on)
) WITH (fillfactor = 80);
CREATE INDEX ON {model}.activity (partner_id, happened_month, happened_on)
    INCLUDE (aggregate_id, activities, currency);

CREATE TABLE {model}.goal (
    partner_id   uuid NOT NULL,
    goal_id      uuid NOT NULL,
    metric       text NOT NULL,
    period       text NOT NULL,
    first_on     date NOT NULL,
    last_on      date NOT NULL,
    product_line text,
    target       numeric NOT NULL,
    currency     text,
    distribution numeric[] NOT NULL,
    owner        text,
    status       text NOT NULL,
    PRIMARY KEY (partner_id, goal_id)
);
