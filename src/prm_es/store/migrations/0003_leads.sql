-- Guard tables of leads: derived from the log, rebuildable from it, written in the transaction of the events they follow.

CREATE EXTENSION IF NOT EXISTS btree_gist;
SET LOCAL ROLE {owner};

CREATE TABLE {store}.product_lines (
    number int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name   text NOT NULL UNIQUE
);
COMMENT ON TABLE {store}.product_lines IS 'A number for each product line ever named, so that ranges can tell "every line" from one.';

CREATE TABLE {store}.claims (
    lead_id       uuid NOT NULL,
    customer_key  text NOT NULL,
    product_line  text NOT NULL,
    product_lines int4range NOT NULL CHECK (NOT isempty(product_lines)),
    claim_group   uuid NOT NULL,
    partner_id    uuid NOT NULL,
    during        tstzrange NOT NULL CHECK (NOT isempty(during)),
    PRIMARY KEY (lead_id, customer_key, product_line),
    EXCLUDE USING gist (customer_key WITH =, product_lines WITH &&, claim_group WITH <>, during WITH &&)
);
COMMENT ON TABLE {store}.claims IS 'Guard: a partner''s protection of an end customer. Overlap between claim groups is impossible.';
COMMENT ON COLUMN {store}.claims.product_line IS 'Empty text: every line.';
COMMENT ON COLUMN {store}.claims.product_lines IS 'The line''s number alone, or everything.';
CREATE INDEX claims_key ON {store}.claims (customer_key);

CREATE TABLE {store}.live_registrations (
    lead_id       uuid PRIMARY KEY,
    partner_id    uuid NOT NULL,
    origin        text NOT NULL,
    customer_keys text[] NOT NULL,
    product_lines text[] NOT NULL
);
COMMENT ON TABLE {store}.live_registrations IS 'Guard: leads that count against their partner, for the cap and for duplicates.';
CREATE INDEX live_registrations_partner ON {store}.live_registrations (partner_id);

CREATE TABLE {store}.undecided_matches (
    lead_id         uuid NOT NULL,
    other_lead_id   uuid NOT NULL,
    strength        text NOT NULL,
    earlier_lead_id uuid NOT NULL,
    PRIMARY KEY (lead_id, other_lead_id)
);
COMMENT ON TABLE {store}.undecided_matches IS 'Guard: leads that may be about the same customer and about which nobody has decided.';
CREATE INDEX undecided_matches_other ON {store}.undecided_matches (other_lead_id);

CREATE TABLE {store}.incumbencies (
    opportunity_id uuid NOT NULL,
    customer_key   text NOT NULL,
    product_line   text NOT NULL,
    partner_id     uuid NOT NULL,
    won_at         timestamptz NOT NULL,
    PRIMARY KEY (opportunity_id, customer_key, product_line)
);
COMMENT ON TABLE {store}.incumbencies IS 'Guard: who won a customer for a product line, for renewals. Empty line: none was named.';
CREATE INDEX incumbencies_key ON {store}.incumbencies (customer_key);

GRANT SELECT, INSERT ON {store}.product_lines TO {writer};
GRANT SELECT, INSERT, DELETE ON {store}.claims, {store}.live_registrations, {store}.undecided_matches, {store}.incumbencies TO {writer};
GRANT SELECT ON {store}.product_lines, {store}.claims, {store}.live_registrations, {store}.undecided_matches, {store}.incumbencies
    TO {auditor};
RESET ROLE;
