-- The last call that was charged: committed again, it is answered as before. Until now each call cost what its voucher
-- added, so that the newest voucher was the last call's; what it cost is not known, and is what is asked for again.
ALTER TABLE channel ADD COLUMN last_cumulative INTEGER CHECK (last_cumulative >= 0);
ALTER TABLE channel ADD COLUMN last_signature BLOB CHECK (length(last_signature) = 64);
ALTER TABLE channel ADD COLUMN last_charge INTEGER CHECK (last_charge BETWEEN 0 AND last_cumulative);

UPDATE channel SET last_cumulative = cumulative, last_signature = signature;

-- The last sending for a channel or page: `subject` is the channel's id or the page's address.
CREATE TABLE attempt (
    subject                 BLOB    NOT NULL CHECK (length(subject) = 32),
    purpose                 TEXT    NOT NULL CHECK (purpose IN ('deposit', 'top_up', 'refund', 'page')),
    signature               BLOB    NOT NULL CHECK (length(signature) = 64),
    last_valid_block_height INTEGER NOT NULL,
    PRIMARY KEY (subject, purpose)
) STRICT, WITHOUT ROWID;

INSERT INTO attempt SELECT channel_id, purpose, signature, last_valid_block_height FROM channel_attempt;

DROP TABLE channel_attempt;

-- What the sponsor paid for each transaction that landed, so that none is counted twice, and the sums.
CREATE TABLE spent (
    signature BLOB    NOT NULL PRIMARY KEY CHECK (length(signature) = 64),
    book      BLOB    NOT NULL CHECK (length(book) = 32),
    purpose   TEXT    NOT NULL CHECK (purpose IN ('claims', 'deposits', 'refunds', 'pages')),
    lamports  INTEGER NOT NULL CHECK (lamports >= 0)
) STRICT, WITHOUT ROWID;

CREATE TABLE spent_sum (
    book     BLOB    NOT NULL CHECK (length(book) = 32),
    purpose  TEXT    NOT NULL CHECK (purpose IN ('claims', 'deposits', 'refunds', 'pages')),
    lamports INTEGER NOT NULL CHECK (lamports >= 0),
    PRIMARY KEY (book, purpose)
) STRICT, WITHOUT ROWID;
