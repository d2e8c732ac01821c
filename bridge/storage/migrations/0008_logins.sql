-- People may link several accounts on an instance; one of them speaks.

ALTER TABLE login
    ADD COLUMN name       text NOT NULL DEFAULT '',
    ADD COLUMN preferred  boolean NOT NULL DEFAULT false,
    DROP CONSTRAINT login_instance_kind_subject_key;
CREATE UNIQUE INDEX login_single ON login (instance, kind, subject) NULLS NOT DISTINCT
    WHERE kind <> 'person';
CREATE UNIQUE INDEX login_person ON login (instance, subject, name) WHERE kind = 'person';
CREATE UNIQUE INDEX login_preferred ON login (instance, subject) WHERE preferred;
