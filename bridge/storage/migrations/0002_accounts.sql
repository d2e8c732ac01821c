-- What became of each event, when, and what a portal does with what may have been sent.

ALTER TABLE journal
    ADD COLUMN repeated   integer NOT NULL DEFAULT 0,
    ADD COLUMN delivered  integer NOT NULL DEFAULT 0,
    ADD COLUMN parked     integer NOT NULL DEFAULT 0,
    ADD COLUMN dropped    integer NOT NULL DEFAULT 0,
    ADD COLUMN marked_at  timestamptz;
-- Of what came before, only this is known.
UPDATE journal SET delivered =
    bit_count(substring(progress FROM 1 FOR (length(event_keys) / 16 + 7) / 8));
-- Numbers go up over days, also when a clock goes back.
DROP INDEX journal_open;
CREATE INDEX journal_open ON journal (seq) WHERE NOT done;
CREATE INDEX item_parked ON item (day, seq) WHERE state = 'parked';

ALTER TABLE outbox ADD COLUMN sent_at timestamptz;
DROP INDEX outbox_open;
CREATE INDEX outbox_waiting ON outbox (room, seq) WHERE state = 'queued';
CREATE INDEX outbox_parked ON outbox (day, seq) WHERE state = 'parked';
CREATE INDEX outbox_remote ON outbox (remote_id) WHERE remote_id IS NOT NULL;
CREATE INDEX outbox_event ON outbox (event_id) WHERE event_id IS NOT NULL;

ALTER TABLE message
    ADD COLUMN received_at   timestamptz,
    ADD COLUMN laned_at      timestamptz,
    ADD COLUMN sent_at       timestamptz,
    ADD COLUMN confirmed_at  timestamptz;

ALTER TABLE portal
    ADD COLUMN uncertain  text NOT NULL DEFAULT 'resend' CHECK (uncertain IN ('resend', 'hold')),
    ADD COLUMN telling    text NOT NULL DEFAULT 'notice' CHECK (telling IN ('notice', 'reaction')),
    ADD COLUMN left_out   text;

CREATE TABLE tally (
    day         date NOT NULL,
    direction   text NOT NULL CHECK (direction IN ('to_network', 'to_matrix')),
    received    bigint NOT NULL,
    delivered   bigint NOT NULL,
    parked      bigint NOT NULL,
    dropped     bigint NOT NULL,
    in_hand     bigint NOT NULL,
    counted_at  timestamptz NOT NULL,
    PRIMARY KEY (day, direction)
);
GRANT SELECT, INSERT, UPDATE, DELETE ON tally TO {core};
