-- Only `trestle trace` looks for an entry by the message that it became, and it reads each day's
-- journal anyway. Every message into Matrix paid for these: a tenth of the database's work for it.

DROP INDEX outbox_remote;
DROP INDEX outbox_event;
