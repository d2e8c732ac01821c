-- What was deleted in Matrix or shows another file now, so that links to what it showed end.

CREATE TABLE deleted_message (
    mark   text PRIMARY KEY,
    until  timestamptz NOT NULL
);
CREATE INDEX deleted_message_until ON deleted_message (until);

GRANT SELECT, INSERT, UPDATE, DELETE ON deleted_message TO {core};
