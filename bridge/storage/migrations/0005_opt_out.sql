-- Who does not want to be bridged: in one portal, or (portal 0) nowhere.

CREATE TABLE opt_out (
    subject  text NOT NULL,
    portal   bigint NOT NULL,
    since    timestamptz NOT NULL,
    PRIMARY KEY (subject, portal)
);
GRANT SELECT, INSERT, UPDATE, DELETE ON opt_out TO {core};
GRANT SELECT ON opt_out TO {subject};
ALTER TABLE opt_out ENABLE ROW LEVEL SECURITY;
ALTER TABLE opt_out FORCE ROW LEVEL SECURITY;
CREATE POLICY work ON opt_out TO {core} USING (true);
CREATE POLICY own ON opt_out TO {subject}
    USING (subject = nullif(current_setting('trestle.subject', true), ''))
    WITH CHECK (subject = nullif(current_setting('trestle.subject', true), ''));
