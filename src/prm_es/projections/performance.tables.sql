-- Months and days are cut in the report time zone: here, and nowhere else.
CREATE FUNCTION {model}.day_of(at timestamptz) RETURNS date LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (at AT TIME ZONE {tz})::date;
CREATE FUNCTION {model}.month_of(at timestamptz) RETURNS date LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN date_trunc('month', at AT TIME ZONE {tz})::date;
CREATE FUNCTION {model}.today() RETURNS date LANGUAGE sql STABLE PARALLEL SAFE RETURN {model}.day_of(now());
CREATE FUNCTION {model}.this_month() RETURNS date LANGUAGE sql STABLE PARALLEL SAFE RETURN {model}.month_of(now());
CREATE FUNCTION {model}.this_quarter() RETURNS date LANGUAGE sql STABLE PARALLEL SAFE
RETURN date_trunc('quarter', {model}.today()::timestamp)::date;
-- The last 12 months are those since this day, which is left out.
CREATE FUNCTION {model}.year_ago() RETURNS date LANGUAGE sql STABLE PARALLEL SAFE
RETURN ({model}.today() - interval '1 year')::date;
CREATE FUNCTION {model}.year_ago_month() RETURNS date LANGUAGE sql STABLE PARALLEL SAFE
RETURN date_trunc('month', {model}.year_ago()::timestamp)::date;

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
    opportunity_id uuid,
    decided_month  date GENERATED ALWAYS AS ({model}.month_of(decided_at)) STORED
) WITH (fillfactor = 80);
CREATE INDEX ON {model}.lead (partner_id) WHERE origin = 'registered'
    AND (status IN ('submitted', 'in_review', 'action_required') OR (status = 'approved' AND protected));
CREATE INDEX ON {model}.lead (registered_for);
CREATE INDEX ON {model}.lead (decided_month, decided_for);

CREATE TABLE {model}.offer (
    lead_id     uuid NOT NULL,
    number      int NOT NULL,
    partner_id  uuid NOT NULL,
    offered_at  timestamptz NOT NULL,
    answer      text,
    answered_at timestamptz,
    currency    text,
    offered_month date GENERATED ALWAYS AS ({model}.month_of(offered_at)) STORED,
    PRIMARY KEY (lead_id, number)
) WITH (fillfactor = 80);
CREATE INDEX ON {model}.offer (partner_id, offered_month);

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
    closed_month       date GENERATED ALWAYS AS (date_trunc('month', closed_on::timestamp)::date) STORED
) WITH (fillfactor = 80);
-- What a partner's figures want of its deals stands in these: no row is looked at for them.
CREATE INDEX ON {model}.deal (partner_id, closed_month, currency)
    INCLUDE (closed_on, opened_at, amount, product_lines) WHERE status = 'won';
CREATE INDEX ON {model}.deal (closed_month, partner_id)
    INCLUDE (closed_on, status, currency, amount, engaged_at) WHERE closed_on IS NOT NULL;
CREATE INDEX ON {model}.deal (partner_id, expected_close_on)
    INCLUDE (currency, amount, product_lines, touched_at, next_action_due_on) WHERE closed_on IS NULL;

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
    PRIMARY KEY (aggregate_id, partner_id, happened_on)
) WITH (fillfactor = 80);
CREATE INDEX ON {model}.activity (partner_id, happened_on);

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

-- Sums of what the rows above say, kept by performance.month.sql. The currency is '' for what has no amount. An open deal
-- counts in the month of its expected close, in -infinity if it has none.
CREATE TABLE {model}.month (
    partner_id         uuid NOT NULL,
    month              date NOT NULL,
    currency           text NOT NULL,
    registered         int NOT NULL,
    registered_valued  int NOT NULL,
    registered_amount  numeric NOT NULL,
    approved           int NOT NULL,
    rejected           int NOT NULL,
    decided_in_time    int NOT NULL,
    approved_converted int NOT NULL,
    approved_expired   int NOT NULL,
    offers             int NOT NULL,
    offers_accepted    int NOT NULL,
    converted          int NOT NULL,
    won                int NOT NULL,
    won_valued         int NOT NULL,
    won_amount         numeric NOT NULL,
    lost               int NOT NULL,
    lost_valued        int NOT NULL,
    lost_amount        numeric NOT NULL,
    engaged            int NOT NULL,
    engaged_days       bigint NOT NULL,
    activities         int NOT NULL,
    goals              int NOT NULL,
    goal               numeric NOT NULL,
    open               int NOT NULL,
    open_valued        int NOT NULL,
    open_amount        numeric NOT NULL,
    open_weighted      numeric NOT NULL, -- amount x percent
    happened           int GENERATED ALWAYS AS (
        registered + approved + rejected + offers + converted + won + lost + activities + goals
    ) STORED,
    PRIMARY KEY (partner_id, month, currency)
) WITH (fillfactor = 80);

-- What the months do not say of a goal: what was reached of one product line or in new customers, and what is open of the
-- line. Functions, for their plans are kept: to plan them takes longer than to look.
CREATE FUNCTION {model}.actual_of(g {model}.goal) RETURNS numeric LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE g.metric
    WHEN 'won_amount' THEN (
        SELECT coalesce(sum(d.amount), 0) FROM {model}.deal d
        WHERE d.partner_id = g.partner_id AND d.status = 'won' AND d.closed_on BETWEEN g.first_on AND g.last_on
            AND d.currency = g.currency AND g.product_line = ANY (d.product_lines)
    )
    WHEN 'won_count' THEN (
        SELECT count(*)::numeric FROM {model}.deal d
        WHERE d.partner_id = g.partner_id AND d.status = 'won' AND d.closed_on BETWEEN g.first_on AND g.last_on
            AND g.product_line = ANY (d.product_lines)
    )
    WHEN 'registered_amount' THEN (
        SELECT coalesce(sum(l.amount), 0) FROM {model}.lead l
        WHERE l.registered_for = g.partner_id
            AND {model}.day_of(l.registered_at) BETWEEN g.first_on AND g.last_on
            AND l.currency = g.currency AND g.product_line = ANY (l.product_lines)
    )
    WHEN 'registered_count' THEN (
        SELECT count(*)::numeric FROM {model}.lead l
        WHERE l.registered_for = g.partner_id
            AND {model}.day_of(l.registered_at) BETWEEN g.first_on AND g.last_on
            AND g.product_line = ANY (l.product_lines)
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
            AND g.product_line = ANY (coalesce(
                (SELECT d.product_lines FROM {model}.deal d WHERE d.opportunity_id = a.aggregate_id),
                (SELECT l.product_lines FROM {model}.lead l WHERE l.lead_id = a.aggregate_id)
            ))
    )
END;

CREATE FUNCTION {model}.open_for(g {model}.goal) RETURNS numeric LANGUAGE sql STABLE PARALLEL SAFE
RETURN (
    SELECT CASE g.metric WHEN 'won_amount' THEN coalesce(sum(d.amount), 0) WHEN 'won_count' THEN count(*)::numeric END
    FROM {model}.deal d
    WHERE d.partner_id = g.partner_id AND d.closed_on IS NULL AND d.expected_close_on BETWEEN g.first_on AND g.last_on
        AND (g.currency IS NULL OR d.currency = g.currency) AND g.product_line = ANY (d.product_lines)
);
