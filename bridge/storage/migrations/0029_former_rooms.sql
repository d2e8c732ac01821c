-- In which rooms a bridge was before they were replaced: what is deleted there is taken back in the
-- chat. Of moves before this only what was said there tells, as far as its room is known.

ALTER TABLE portal ADD COLUMN former_rooms text[] NOT NULL DEFAULT '{}';

ALTER TABLE message NO FORCE ROW LEVEL SECURITY;
ALTER TABLE portal NO FORCE ROW LEVEL SECURITY;
UPDATE portal SET former_rooms = ARRAY(
    SELECT DISTINCT message.room FROM message
    WHERE message.portal = portal.id AND message.room <> portal.room
);
ALTER TABLE message FORCE ROW LEVEL SECURITY;
ALTER TABLE portal FORCE ROW LEVEL SECURITY;
