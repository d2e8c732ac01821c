-- Whether a room was told that the relay is out of its chat.

ALTER TABLE portal
    ADD COLUMN shut_out  boolean NOT NULL DEFAULT false;
