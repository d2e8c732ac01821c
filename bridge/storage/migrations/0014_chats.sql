-- What a chat is, as its network says, and how far its room follows it.

ALTER TABLE portal
    ADD COLUMN follow  text NOT NULL DEFAULT 'topic' CHECK (follow IN ('nothing', 'topic', 'all')),
    ADD COLUMN listed  boolean,
    ADD COLUMN open    boolean,
    ADD COLUMN closed  boolean NOT NULL DEFAULT false;
