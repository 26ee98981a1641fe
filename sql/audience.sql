-- Mailchimp's audiences.

CREATE TABLE audience (
    list_id       text PRIMARY KEY,
    first_used_at timestamptz NOT NULL DEFAULT now(),
    missing_since timestamptz
);
COMMENT ON TABLE audience IS 'Mailchimp audiences that records are or were written to, as Mailchimp''s answers tell; delete the row of one that is used no longer';
COMMENT ON COLUMN audience.list_id IS 'its id at Mailchimp';
COMMENT ON COLUMN audience.first_used_at IS 'when something was first written to it';
COMMENT ON COLUMN audience.missing_since IS 'since when Mailchimp says that there is no such audience; NULL: it is there';
