CREATE TABLE {model}.held (
    lead_id    uuid PRIMARY KEY,
    partner_id uuid,
    status     text NOT NULL,
    protected  boolean NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX ON {model}.held (partner_id);
