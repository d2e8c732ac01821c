-- What the operators' status room shows.

CREATE TABLE status_room (
    id    smallint PRIMARY KEY,
    room  text NOT NULL
);

CREATE TABLE trouble (
    key             text PRIMARY KEY,
    sentence        text NOT NULL,
    since           timestamptz NOT NULL,
    over_at         timestamptz,
    said            text NOT NULL,
    revision        integer NOT NULL,
    day             date NOT NULL,
    transaction_id  text NOT NULL,
    event_id        text,
    seen_by         text
);
GRANT SELECT, INSERT, UPDATE, DELETE ON status_room, trouble TO {core};
ALTER TABLE trouble ENABLE ROW LEVEL SECURITY;
ALTER TABLE trouble FORCE ROW LEVEL SECURITY;
CREATE POLICY work ON trouble TO {core} USING (true);
CREATE POLICY own ON trouble TO {subject}
    USING (seen_by = nullif(current_setting('trestle.subject', true), ''))
    WITH CHECK (seen_by = nullif(current_setting('trestle.subject', true), ''));
