-- How far the numbers of days had come that are gone: the next ones go on from there.

ALTER TABLE instance_state
    ADD COLUMN journal_seq  bigint NOT NULL DEFAULT 0,
    ADD COLUMN outbox_seq   bigint NOT NULL DEFAULT 0;
