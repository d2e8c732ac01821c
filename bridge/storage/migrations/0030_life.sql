-- How long this database has lived by a clock that nobody sets, and how far its numbers had come
-- when, so that what was stored under a date to come is forgotten as well in time.

ALTER TABLE instance_state ADD COLUMN life text NOT NULL DEFAULT '';
