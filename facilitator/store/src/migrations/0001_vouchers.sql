-- Amounts are base units and times Unix seconds, both below 2^63. Keys and ids are 32 bytes, signatures 64.

-- A channel with its newest voucher, written whole each time.
CREATE TABLE channel (
    channel_id      BLOB    NOT NULL PRIMARY KEY CHECK (length(channel_id) = 32),
    page            BLOB    NOT NULL CHECK (length(page) = 32),
    slot            INTEGER NOT NULL CHECK (slot BETWEEN 0 AND 255),
    generation      INTEGER NOT NULL CHECK (generation BETWEEN 0 AND 4294967295),
    payer           BLOB    NOT NULL CHECK (length(payer) = 32),
    signer          BLOB    NOT NULL CHECK (length(signer) = 32),
    cumulative      INTEGER NOT NULL CHECK (cumulative >= 0),
    signature       BLOB    NOT NULL CHECK (length(signature) = 64),
    charged         INTEGER NOT NULL CHECK (charged BETWEEN 0 AND cumulative),
    unsettled_since INTEGER NOT NULL,
    leaving_since   INTEGER NOT NULL,
    over            INTEGER NOT NULL DEFAULT 0 CHECK (over IN (0, 1))
) STRICT, WITHOUT ROWID;

CREATE INDEX channel_in_use ON channel (channel_id) WHERE over = 0;

-- What was accepted once is never replaced by less.
CREATE TRIGGER channel_never_falls BEFORE UPDATE ON channel
WHEN new.cumulative < old.cumulative OR new.charged < old.charged OR new.over < old.over
BEGIN
    SELECT RAISE(ABORT, 'a voucher, a charge or an end of a channel would be taken back');
END;

CREATE TABLE batch (
    id         INTEGER NOT NULL PRIMARY KEY,
    page       BLOB    NOT NULL CHECK (length(page) = 32),
    gain       INTEGER NOT NULL CHECK (gain >= 0),
    planned_at INTEGER NOT NULL,
    ended_at   INTEGER NOT NULL DEFAULT 0,
    state      TEXT    NOT NULL CHECK (state IN ('sending', 'confirmed', 'failed'))
) STRICT;

CREATE INDEX batch_sending ON batch (id) WHERE state = 'sending';

CREATE TABLE batch_row (
    batch      INTEGER NOT NULL REFERENCES batch (id),
    slot       INTEGER NOT NULL CHECK (slot BETWEEN 0 AND 255),
    position   INTEGER NOT NULL,
    channel_id BLOB    NOT NULL CHECK (length(channel_id) = 32),
    cumulative INTEGER NOT NULL CHECK (cumulative >= 0),
    settled    INTEGER NOT NULL CHECK (settled >= 0),
    PRIMARY KEY (batch, slot)
) STRICT, WITHOUT ROWID;

-- Rows that the chain refused; `rejection` is the number of a named reason.
CREATE TABLE batch_refusal (
    batch     INTEGER NOT NULL REFERENCES batch (id),
    position  INTEGER NOT NULL,
    slot      INTEGER NOT NULL CHECK (slot BETWEEN 0 AND 255),
    rejection INTEGER NOT NULL,
    PRIMARY KEY (batch, position)
) STRICT, WITHOUT ROWID;

-- Every sending of a batch, written before the transaction leaves the house.
CREATE TABLE batch_attempt (
    id                      INTEGER NOT NULL PRIMARY KEY,
    batch                   INTEGER NOT NULL REFERENCES batch (id),
    signature               BLOB    NOT NULL CHECK (length(signature) = 64),
    last_valid_block_height INTEGER NOT NULL
) STRICT;

CREATE INDEX batch_attempt_of ON batch_attempt (batch, id);

CREATE TABLE batch_landed (
    batch         INTEGER NOT NULL REFERENCES batch (id),
    position      INTEGER NOT NULL,
    signature     BLOB    NOT NULL CHECK (length(signature) = 64),
    channels      INTEGER NOT NULL,
    fee_lamports  INTEGER NOT NULL,
    compute_units INTEGER NOT NULL,
    PRIMARY KEY (batch, position)
) STRICT, WITHOUT ROWID;

-- The last sending of a channel's deposit or refund.
CREATE TABLE channel_attempt (
    channel_id              BLOB    NOT NULL CHECK (length(channel_id) = 32),
    purpose                 TEXT    NOT NULL CHECK (purpose IN ('deposit', 'refund')),
    signature               BLOB    NOT NULL CHECK (length(signature) = 64),
    last_valid_block_height INTEGER NOT NULL,
    PRIMARY KEY (channel_id, purpose)
) STRICT, WITHOUT ROWID;

-- The address lookup table that was made for a page.
CREATE TABLE lookup_table (
    page    BLOB NOT NULL PRIMARY KEY CHECK (length(page) = 32),
    address BLOB NOT NULL CHECK (length(address) = 32)
) STRICT, WITHOUT ROWID;
