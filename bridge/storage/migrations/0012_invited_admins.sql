-- Who was invited into the status room: who is no admin any more has to leave it.

ALTER TABLE status_room ADD COLUMN invited text[] NOT NULL DEFAULT '{}';
