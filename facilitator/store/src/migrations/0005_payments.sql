-- Payments without a channel, from before their transaction is sent until it can neither land nor be asked for any more.
CREATE TABLE payment (
    message_hash            BLOB    NOT NULL PRIMARY KEY CHECK (length(message_hash) = 32),
    signature               BLOB    NOT NULL CHECK (length(signature) = 64),
    last_valid_block_height INTEGER NOT NULL,
    granted_to              BLOB    CHECK (length(granted_to) = 32)
) STRICT, WITHOUT ROWID;

-- What was granted to somebody is granted to nobody else.
CREATE TRIGGER payment_is_granted_once BEFORE UPDATE ON payment
WHEN old.granted_to IS NOT NULL AND new.granted_to IS NOT old.granted_to
BEGIN
    SELECT RAISE(ABORT, 'a payment would be granted twice');
END;

-- Their fees are for no book: they are counted under the payee's address.
CREATE TABLE spent_for_any (
    signature BLOB    NOT NULL CHECK (length(signature) = 64),
    book      BLOB    NOT NULL CHECK (length(book) = 32),
    purpose   TEXT    NOT NULL CHECK (purpose IN ('claims', 'deposits', 'refunds', 'pages', 'payments')),
    lamports  INTEGER NOT NULL CHECK (lamports >= 0),
    at        INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (signature, book)
) STRICT, WITHOUT ROWID;

INSERT INTO spent_for_any SELECT signature, book, purpose, lamports, at FROM spent;

DROP TABLE spent;

ALTER TABLE spent_for_any RENAME TO spent;

CREATE INDEX spent_for_others ON spent (at) WHERE purpose <> 'claims';

CREATE TABLE spent_sum_for_any (
    book     BLOB    NOT NULL CHECK (length(book) = 32),
    purpose  TEXT    NOT NULL CHECK (purpose IN ('claims', 'deposits', 'refunds', 'pages', 'payments')),
    lamports INTEGER NOT NULL CHECK (lamports >= 0),
    PRIMARY KEY (book, purpose)
) STRICT, WITHOUT ROWID;

INSERT INTO spent_sum_for_any SELECT book, purpose, lamports FROM spent_sum;

DROP TABLE spent_sum;

ALTER TABLE spent_sum_for_any RENAME TO spent_sum;
