-- Up to which restore the rooms were looked at.

ALTER TABLE instance_state ADD COLUMN looked bigint NOT NULL DEFAULT 1;
