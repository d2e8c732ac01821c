-- Up to where the homeserver was asked for invitations of each bot.

CREATE TABLE bot_point (
    bot    text PRIMARY KEY,
    point  text NOT NULL
);

GRANT SELECT, INSERT, UPDATE, DELETE ON bot_point TO {core};
