-- Mailchimp's audiences.

CREATE TABLE audience (
    list_id       text PRIMARY KEY,
    first_used_at timestamptz NOT NULL DEFAULT now(),
    missing_since timestamptz
);
COMMENT ON TABLE audience IS 'Mailchimp audiences that records are or were written to, by Mailchimp''s answers; delete the row of one that is no longer used';
COMMENT ON COLUMN audience.list_id IS 'its id at Mailchimp';
COMMENT ON COLUMN audience.first_used_at IS 'when something was first written to it';
COMMENT ON COLUMN audience.missing_since IS 'since when Mailchimp says that there is no such audience; NULL: it exists';
