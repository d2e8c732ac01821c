-- Whether we let only those speak in a room who are heard in its chat.

ALTER TABLE portal
    ADD COLUMN quieted  boolean NOT NULL DEFAULT false;
