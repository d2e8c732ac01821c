-- Whether a room has what its chat says only while everybody who reads is seen there.

ALTER TABLE portal
    ADD COLUMN privacy  boolean,
    ADD COLUMN blocked  boolean NOT NULL DEFAULT false;
