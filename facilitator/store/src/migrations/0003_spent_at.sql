-- When what the sponsor paid was written down, in Unix seconds: what others may make it pay within a day is bounded. What
-- was paid before counts as long ago.
ALTER TABLE spent ADD COLUMN at INTEGER NOT NULL DEFAULT 0;

CREATE INDEX spent_for_others ON spent (at) WHERE purpose <> 'claims';
