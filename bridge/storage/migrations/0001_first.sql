-- The first schema. {owner}, {core} and {subject} are the three roles.
-- Every table with a subject is under forced row-level security from here on.

CREATE TABLE instance_state (
    id          smallint PRIMARY KEY CHECK (id = 1),
    generation  bigint NOT NULL
);

CREATE TABLE lease (
    shard  integer PRIMARY KEY,
    owner  text NOT NULL,
    epoch  bigint NOT NULL,
    until  timestamptz NOT NULL
);

CREATE TABLE journal (
    day          date NOT NULL,
    seq          bigint NOT NULL,
    source       text NOT NULL,
    received_at  timestamptz NOT NULL,
    body         bytea NOT NULL,
    event_keys   bytea NOT NULL,
    progress     bytea NOT NULL,
    done         boolean NOT NULL,
    epoch        bigint NOT NULL,
    PRIMARY KEY (day, seq)
) PARTITION BY RANGE (day);
ALTER TABLE journal ALTER body SET STORAGE EXTERNAL, ALTER event_keys SET STORAGE EXTERNAL;
CREATE INDEX journal_open ON journal (day, seq) WHERE NOT done;

CREATE TABLE item (
    day       date NOT NULL,
    seq       bigint NOT NULL,
    index     integer NOT NULL,
    consumer  text NOT NULL,
    state     text NOT NULL CHECK (state IN ('trying', 'parked', 'waiting', 'uncertain')),
    tries     integer NOT NULL,
    reason    text,
    detail    bytea,
    event     bytea,
    since     timestamptz NOT NULL,
    epoch     bigint NOT NULL,
    PRIMARY KEY (day, seq, index, consumer)
) PARTITION BY RANGE (day);

CREATE TABLE outbox (
    day             date NOT NULL,
    seq             bigint NOT NULL,
    received_at     timestamptz NOT NULL,
    room            text NOT NULL,
    sender          text NOT NULL,
    kind            text NOT NULL,
    transaction_id  text NOT NULL,
    content         bytea NOT NULL,
    wire_type       text,
    wire            bytea,
    portal          bigint,
    remote_id       bytea,
    part            integer NOT NULL,
    state           text NOT NULL CHECK (state IN ('queued', 'sent', 'parked', 'dropped', 'waiting')),
    event_id        text,
    reason          text,
    detail          bytea,
    epoch           bigint NOT NULL,
    PRIMARY KEY (day, seq),
    UNIQUE (day, transaction_id)
) PARTITION BY RANGE (day);
CREATE INDEX outbox_open ON outbox (day, seq) WHERE state = 'queued';

CREATE TABLE portal (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    instance    text NOT NULL,
    chat        text NOT NULL,
    chat_name   text NOT NULL,
    room        text NOT NULL,
    receiver    bigint,
    created_by  text,
    paused      boolean NOT NULL,
    made_at     timestamptz NOT NULL,
    UNIQUE NULLS NOT DISTINCT (instance, chat, receiver),
    UNIQUE (room, instance, chat)
);

CREATE TABLE message (
    day        date NOT NULL,
    portal     bigint NOT NULL,
    event_id   text NOT NULL,
    remote_id  bytea,
    part       integer NOT NULL,
    sender     text NOT NULL,
    kind       text NOT NULL
) PARTITION BY RANGE (day);
CREATE INDEX message_event ON message (portal, event_id);
CREATE INDEX message_remote ON message (portal, remote_id, part) WHERE remote_id IS NOT NULL;

CREATE TABLE login (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    instance  text NOT NULL,
    kind      text NOT NULL CHECK (kind IN ('automatic', 'person', 'relay')),
    subject   text,
    made_at   timestamptz NOT NULL,
    UNIQUE NULLS NOT DISTINCT (instance, kind, subject)
);

CREATE TABLE room (
    room             text PRIMARY KEY,
    encrypted_since  timestamptz,
    newest           bytea
);

CREATE TABLE bot_room (
    user_id      text NOT NULL,
    room         text NOT NULL,
    direct_with  text,
    since        timestamptz NOT NULL,
    PRIMARY KEY (user_id, room)
);

CREATE TABLE told (
    subject  text NOT NULL,
    what     text NOT NULL,
    at       timestamptz NOT NULL,
    PRIMARY KEY (subject, what)
);

CREATE TABLE device (
    user_id        text PRIMARY KEY,
    send_device    text NOT NULL,
    crypto_device  text
);

CREATE TABLE long_id (
    user_id    text PRIMARY KEY,
    instance   text NOT NULL,
    remote_id  bytea NOT NULL
);

CREATE TABLE module_store (
    instance  text NOT NULL,
    key       text NOT NULL,
    value     bytea NOT NULL,
    subject   text,
    room      text,
    until     timestamptz,
    PRIMARY KEY (instance, key)
);
CREATE INDEX module_store_until ON module_store (until) WHERE until IS NOT NULL;

CREATE TABLE timer (
    id        uuid PRIMARY KEY,
    instance  text NOT NULL,
    key       text NOT NULL,
    at        timestamptz NOT NULL,
    due       timestamptz NOT NULL,
    note      bytea NOT NULL,
    room      text,
    subject   text,
    state     text NOT NULL CHECK (state IN ('waiting', 'parked')),
    tries     integer NOT NULL,
    reason    text,
    detail    bytea,
    epoch     bigint NOT NULL,
    UNIQUE (instance, key)
);
CREATE INDEX timer_due ON timer (instance, due) WHERE state = 'waiting';

CREATE TABLE acceptance (
    subject      text NOT NULL,
    document     text NOT NULL,
    version      text NOT NULL,
    language     text NOT NULL,
    accepted_at  timestamptz NOT NULL,
    PRIMARY KEY (subject, document, version, language)
);

CREATE TABLE access (
    day      date NOT NULL,
    subject  text NOT NULL,
    address  bytea NOT NULL,
    agent    bytea NOT NULL,
    at       timestamptz NOT NULL
) PARTITION BY RANGE (day);

CREATE TABLE audit (
    seq       bigint PRIMARY KEY CHECK (seq > 0),
    at        timestamptz NOT NULL,
    actor     text NOT NULL,
    subject   text,
    action    text NOT NULL,
    target    text NOT NULL,
    detail    bytea,
    previous  bytea NOT NULL,
    hash      bytea NOT NULL
);

CREATE TABLE subject_key (
    subject      text PRIMARY KEY,
    wrapped      bytea NOT NULL,
    key_version  integer NOT NULL
);

CREATE TABLE vault (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject      text,
    instance     text NOT NULL,
    record       text NOT NULL,
    login        bigint REFERENCES login (id) ON DELETE CASCADE,
    key_version  integer NOT NULL,
    sealed       bytea NOT NULL CHECK (length(sealed) <= 1100000),
    UNIQUE NULLS NOT DISTINCT (subject, instance, record)
);

-- Rights: the core does the daily work; a subject sees its own rows and nothing else.

GRANT USAGE ON SCHEMA public TO {core}, {subject};
GRANT SELECT, INSERT, UPDATE, DELETE ON
    journal, item, outbox, portal, message, login, room, bot_room, told, device, long_id,
    module_store, timer, access TO {core};
GRANT SELECT, INSERT, UPDATE ON instance_state, lease TO {core};
GRANT SELECT, INSERT ON audit TO {core};
GRANT SELECT ON vault, acceptance, subject_key TO {core};
GRANT SELECT ON schema_version TO {core}, {subject};
GRANT SELECT ON portal, message, login, bot_room, told, module_store, timer, access, audit
    TO {subject};
GRANT SELECT, INSERT, UPDATE, DELETE ON acceptance, vault, subject_key TO {subject};

DO $$
DECLARE
    pair text[];
BEGIN
    FOREACH pair SLICE 1 IN ARRAY ARRAY[
        ['portal', 'created_by'], ['message', 'sender'], ['login', 'subject'],
        ['bot_room', 'direct_with'], ['told', 'subject'], ['module_store', 'subject'],
        ['timer', 'subject'], ['outbox', 'sender'], ['device', 'user_id'], ['long_id', 'user_id'],
        ['acceptance', 'subject'], ['access', 'subject'], ['audit', 'subject'],
        ['subject_key', 'subject'], ['vault', 'subject']
    ] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', pair[1]);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', pair[1]);
        -- A custom setting reads as an empty text once it was set in an earlier transaction.
        EXECUTE format(
            'CREATE POLICY own ON %I TO {subject} USING (%I = '
            'nullif(current_setting(''trestle.subject'', true), '''')) WITH CHECK (%I = '
            'nullif(current_setting(''trestle.subject'', true), ''''))',
            pair[1], pair[2], pair[2]
        );
        IF pair[1] NOT IN ('vault', 'subject_key', 'acceptance') THEN
            EXECUTE format('CREATE POLICY work ON %I TO {core} USING (true)', pair[1]);
        END IF;
    END LOOP;
END
$$;

-- The core opens what a login that it serves needs to sign in, and instances' own records.
CREATE POLICY serve ON vault FOR SELECT TO {core} USING (login IS NOT NULL OR subject IS NULL);
CREATE POLICY serve ON subject_key FOR SELECT TO {core}
    USING (subject IN (SELECT v.subject FROM vault v WHERE v.login IS NOT NULL));
CREATE POLICY serve ON acceptance FOR SELECT TO {core} USING (true);

INSERT INTO instance_state (id, generation) VALUES (1, 1);
INSERT INTO lease (shard, owner, epoch, until) VALUES (0, '', 0, '-infinity');
