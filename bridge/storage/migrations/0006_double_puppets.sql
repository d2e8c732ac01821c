-- Who lets us speak with the own Matrix account, and whose the accounts on networks are.

CREATE TABLE double_puppet (
    subject  text PRIMARY KEY,
    way      text NOT NULL CHECK (way IN ('appservice', 'token')),
    since    timestamptz NOT NULL
);

CREATE TABLE remote_account (
    instance   text NOT NULL,
    remote_id  bytea NOT NULL,
    subject    text NOT NULL,
    PRIMARY KEY (instance, remote_id)
);
CREATE INDEX remote_account_subject ON remote_account (subject);

GRANT SELECT, INSERT, UPDATE, DELETE ON double_puppet, remote_account TO {core};
GRANT SELECT ON double_puppet, remote_account TO {subject};

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['double_puppet', 'remote_account'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY work ON %I TO {core} USING (true)', name);
        EXECUTE format(
            'CREATE POLICY own ON %I TO {subject} USING (subject = '
            'nullif(current_setting(''trestle.subject'', true), '''')) WITH CHECK (subject = '
            'nullif(current_setting(''trestle.subject'', true), ''''))',
            name
        );
    END LOOP;
END
$$;
