-- Whose account speaks in a room, how a relay names people there, and whose login is the relay.

ALTER TABLE portal
    ADD COLUMN puppets     text,
    ADD COLUMN relay_name  text,
    ADD COLUMN relay       bigint;
