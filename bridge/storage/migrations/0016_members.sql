-- Whose ghosts are in a room: everybody of the chat, who has spoken, or nobody.
-- Who has spoken is known from who is in the room; the irc module kept it until now.

ALTER TABLE portal
    ADD COLUMN members  text CHECK (members IN ('full', 'speakers', 'none'));

ALTER TABLE module_store NO FORCE ROW LEVEL SECURITY;
DELETE FROM module_store WHERE key LIKE 'speaker:%';
ALTER TABLE module_store FORCE ROW LEVEL SECURITY;
