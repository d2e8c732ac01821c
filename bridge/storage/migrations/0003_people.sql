-- People: keys of instances, records with a version, tokens, one-time links, used OpenID tokens.

CREATE TABLE instance_key (
    instance     text PRIMARY KEY,
    wrapped      bytea NOT NULL,
    key_version  integer NOT NULL
);

ALTER TABLE vault ADD COLUMN version bigint NOT NULL;

CREATE TABLE token (
    hash     bytea PRIMARY KEY,
    id       uuid NOT NULL UNIQUE,
    subject  text NOT NULL,
    scope    text NOT NULL,
    made_at  timestamptz NOT NULL,
    used_at  timestamptz NOT NULL,
    idle     integer NOT NULL,
    ends_at  timestamptz NOT NULL,
    until    timestamptz NOT NULL
);
CREATE INDEX token_subject ON token (subject);
CREATE INDEX token_until ON token (until);

CREATE TABLE link (
    hash     bytea PRIMARY KEY,
    subject  text NOT NULL,
    purpose  text NOT NULL,
    until    timestamptz NOT NULL
);
CREATE INDEX link_subject ON link (subject);
CREATE INDEX link_until ON link (until);

CREATE TABLE openid_used (
    hash   bytea PRIMARY KEY,
    until  timestamptz NOT NULL
);
CREATE INDEX openid_used_until ON openid_used (until);

GRANT SELECT, INSERT, UPDATE, DELETE ON instance_key, token, link, openid_used TO {core};
GRANT INSERT, UPDATE, DELETE ON vault TO {core};
GRANT SELECT, DELETE ON token TO {subject};
GRANT USAGE ON SEQUENCE vault_id_seq TO {core}, {subject};

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['token', 'link'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY own ON %I TO {subject} USING (subject = '
            'nullif(current_setting(''trestle.subject'', true), '''')) WITH CHECK (subject = '
            'nullif(current_setting(''trestle.subject'', true), ''''))',
            name
        );
        EXECUTE format('CREATE POLICY work ON %I TO {core} USING (true)', name);
    END LOOP;
END
$$;

-- Instances keep records of their own; of people's the core still only reads what it serves.
CREATE POLICY keep_insert ON vault FOR INSERT TO {core} WITH CHECK (subject IS NULL);
CREATE POLICY keep_update ON vault FOR UPDATE TO {core} USING (subject IS NULL);
CREATE POLICY keep_delete ON vault FOR DELETE TO {core} USING (subject IS NULL);

-- Whoever changes the master key wraps all keys again: as the owner of the tables, which sees the
-- wrapped keys and no record. A wrapped key opens nothing without the master key.
CREATE POLICY look ON subject_key FOR SELECT TO {owner} USING (true);
CREATE POLICY rewrap ON subject_key FOR UPDATE TO {owner} USING (true);
