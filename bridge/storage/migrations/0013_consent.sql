-- What those who run chats said: whether a chat may be bridged, and of whom it takes nothing.

CREATE TABLE consent (
    instance   text NOT NULL,
    chat       text NOT NULL,
    chat_name  text NOT NULL,
    room       text NOT NULL,
    room_name  text NOT NULL,
    subject    text NOT NULL,
    state      text NOT NULL CHECK (state IN ('asked', 'unanswered', 'refused')),
    asked_at   timestamptz NOT NULL,
    answer_by  timestamptz NOT NULL,
    until      timestamptz NOT NULL,
    PRIMARY KEY (instance, chat)
);

CREATE TABLE chat_block (
    instance   text NOT NULL,
    chat       text NOT NULL,
    subject    text NOT NULL,
    since      timestamptz NOT NULL,
    PRIMARY KEY (instance, chat, subject)
);

GRANT SELECT, INSERT, UPDATE, DELETE ON consent, chat_block TO {core};
GRANT SELECT ON consent, chat_block TO {subject};

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['consent', 'chat_block'] LOOP
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
