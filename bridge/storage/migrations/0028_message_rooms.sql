-- In which room each message is: its portal may have moved since into the one that replaced it. Of
-- what people said before this, it is not known, and taken to be the portal's present room.

ALTER TABLE message ADD COLUMN room text;

ALTER TABLE message NO FORCE ROW LEVEL SECURITY;
ALTER TABLE outbox NO FORCE ROW LEVEL SECURITY;
ALTER TABLE portal NO FORCE ROW LEVEL SECURITY;
UPDATE message SET room = portal.room FROM portal WHERE portal.id = message.portal;
UPDATE message SET room = outbox.room FROM outbox
    WHERE outbox.event_id = message.event_id AND outbox.portal = message.portal
    AND outbox.room <> message.room;
-- Of portals that are gone.
DELETE FROM message WHERE room IS NULL;
ALTER TABLE message FORCE ROW LEVEL SECURITY;
ALTER TABLE outbox FORCE ROW LEVEL SECURITY;

-- The bot that was invited into a direct chat with somebody of a network took it for its own.
ALTER TABLE bot_room NO FORCE ROW LEVEL SECURITY;
UPDATE bot_room SET direct_with = NULL FROM portal
    WHERE portal.room = bot_room.room AND portal.receiver IS NOT NULL;
ALTER TABLE bot_room FORCE ROW LEVEL SECURITY;
ALTER TABLE portal FORCE ROW LEVEL SECURITY;

ALTER TABLE message ALTER COLUMN room SET NOT NULL;
