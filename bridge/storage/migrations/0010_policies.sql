-- Policy lists that rooms follow, and the bans on chats that came of them.

CREATE TABLE policy_list (
    portal   bigint NOT NULL,
    room     text NOT NULL,
    subject  text NOT NULL,
    applied  boolean NOT NULL,
    agreed   boolean NOT NULL,
    since    timestamptz NOT NULL,
    PRIMARY KEY (portal, room)
);

CREATE TABLE policy_ban (
    portal   bigint NOT NULL,
    pattern  text NOT NULL,
    since    timestamptz NOT NULL,
    PRIMARY KEY (portal, pattern)
);

GRANT SELECT, INSERT, UPDATE, DELETE ON policy_list, policy_ban TO {core};
GRANT SELECT ON policy_list TO {subject};

ALTER TABLE policy_list ENABLE ROW LEVEL SECURITY;
ALTER TABLE policy_list FORCE ROW LEVEL SECURITY;
CREATE POLICY work ON policy_list TO {core} USING (true);
CREATE POLICY own ON policy_list TO {subject}
    USING (subject = nullif(current_setting('trestle.subject', true), ''))
    WITH CHECK (subject = nullif(current_setting('trestle.subject', true), ''));
