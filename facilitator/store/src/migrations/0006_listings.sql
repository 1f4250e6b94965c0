-- The catalogue of resources that were paid for: what is known of each, and when it was paid for last. No money rests on it.
CREATE TABLE listing (
    key     BLOB    NOT NULL PRIMARY KEY CHECK (length(key) = 32),
    text    TEXT    NOT NULL,
    paid_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
