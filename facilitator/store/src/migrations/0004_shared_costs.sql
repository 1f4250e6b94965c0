-- Claims of several books may share a transaction: what the sponsor paid for it is counted once for each of them.
CREATE TABLE spent_for_book (
    signature BLOB    NOT NULL CHECK (length(signature) = 64),
    book      BLOB    NOT NULL CHECK (length(book) = 32),
    purpose   TEXT    NOT NULL CHECK (purpose IN ('claims', 'deposits', 'refunds', 'pages')),
    lamports  INTEGER NOT NULL CHECK (lamports >= 0),
    at        INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (signature, book)
) STRICT, WITHOUT ROWID;

INSERT INTO spent_for_book SELECT signature, book, purpose, lamports, at FROM spent;

DROP TABLE spent;

ALTER TABLE spent_for_book RENAME TO spent;

CREATE INDEX spent_for_others ON spent (at) WHERE purpose <> 'claims';
