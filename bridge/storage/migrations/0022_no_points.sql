-- Open invitations are asked for anew each time: no point is kept from which the next ones are.

DROP TABLE bot_point;
