-- Amounts are base units and times Unix seconds, both below 2^63. Keys and ids are 32 bytes, signatures 64.

-- A channel with its newest voucher, written whole each time. Room is left on every page of the table, so that a new version
-- of a row lies beside the old one and no index is touched.
CREATE TABLE channel (
    channel_id      bytea    NOT NULL PRIMARY KEY CHECK (length(channel_id) = 32),
    page            bytea    NOT NULL CHECK (length(page) = 32),
    slot            smallint NOT NULL CHECK (slot BETWEEN 0 AND 255),
    generation      bigint   NOT NULL CHECK (generation BETWEEN 0 AND 4294967295),
    payer           bytea    NOT NULL CHECK (length(payer) = 32),
    signer          bytea    NOT NULL CHECK (length(signer) = 32),
    cumulative      bigint   NOT NULL CHECK (cumulative >= 0),
    signature       bytea    NOT NULL CHECK (length(signature) = 64),
    charged         bigint   NOT NULL CHECK (charged BETWEEN 0 AND cumulative),
    unsettled_since bigint   NOT NULL,
    leaving_since   bigint   NOT NULL,
    over            boolean  NOT NULL DEFAULT false,
    last_cumulative bigint   CHECK (last_cumulative >= 0),
    last_signature  bytea    CHECK (length(last_signature) = 64),
    last_charge     bigint   CHECK (last_charge BETWEEN 0 AND last_cumulative)
) WITH (fillfactor = 70);

CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING MESSAGE = TG_ARGV[0], ERRCODE = 'integrity_constraint_violation';
END
$$;

-- What was accepted once is never replaced by less.
CREATE TRIGGER channel_never_falls BEFORE UPDATE ON channel FOR EACH ROW
WHEN (new.cumulative < old.cumulative OR new.charged < old.charged OR new.over < old.over)
EXECUTE FUNCTION refuse('a voucher, a charge or an end of a channel would be taken back');

CREATE TABLE batch (
    id         bigint NOT NULL PRIMARY KEY,
    page       bytea  NOT NULL CHECK (length(page) = 32),
    gain       bigint NOT NULL CHECK (gain >= 0),
    planned_at bigint NOT NULL,
    ended_at   bigint NOT NULL DEFAULT 0,
    state      text   NOT NULL CHECK (state IN ('sending', 'confirmed', 'failed'))
);

CREATE INDEX batch_sending ON batch (id) WHERE state = 'sending';

CREATE TABLE batch_row (
    batch      bigint   NOT NULL REFERENCES batch (id),
    slot       smallint NOT NULL CHECK (slot BETWEEN 0 AND 255),
    position   bigint   NOT NULL,
    channel_id bytea    NOT NULL CHECK (length(channel_id) = 32),
    cumulative bigint   NOT NULL CHECK (cumulative >= 0),
    settled    bigint   NOT NULL CHECK (settled >= 0),
    PRIMARY KEY (batch, slot)
);

-- Rows that the chain refused; `rejection` is the number of a named reason.
CREATE TABLE batch_refusal (
    batch     bigint   NOT NULL REFERENCES batch (id),
    position  bigint   NOT NULL,
    slot      smallint NOT NULL CHECK (slot BETWEEN 0 AND 255),
    rejection integer  NOT NULL,
    PRIMARY KEY (batch, position)
);

-- Every sending of a batch, written before the transaction leaves the house.
CREATE TABLE batch_attempt (
    id                      bigint NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch                   bigint NOT NULL REFERENCES batch (id),
    signature               bytea  NOT NULL CHECK (length(signature) = 64),
    last_valid_block_height bigint NOT NULL
);

CREATE INDEX batch_attempt_of ON batch_attempt (batch, id);

CREATE TABLE batch_landed (
    batch         bigint NOT NULL REFERENCES batch (id),
    position      bigint NOT NULL,
    signature     bytea  NOT NULL CHECK (length(signature) = 64),
    channels      bigint NOT NULL,
    fee_lamports  bigint NOT NULL,
    compute_units bigint NOT NULL,
    PRIMARY KEY (batch, position)
);

-- Ends batches: each is confirmed if no row of it was refused and all have landed, else failed.
CREATE FUNCTION end_batches(ids bigint[], ats bigint[], landed bigint[], refused bigint[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    ended bigint;
BEGIN
    UPDATE batch SET
        ended_at = given.at,
        state = CASE WHEN given.refused = 0
                      AND given.landed >= (SELECT count(*) FROM batch_row WHERE batch_row.batch = batch.id)
                THEN 'confirmed' ELSE 'failed' END
    FROM unnest(ids, ats, landed, refused) AS given (id, at, landed, refused)
    WHERE batch.id = given.id;
    GET DIAGNOSTICS ended = ROW_COUNT;
    IF ended <> cardinality(ids) THEN
        RAISE EXCEPTION 'no such batch' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
END
$$;

-- The last sending for a channel or page: `subject` is the channel's id or the page's address.
CREATE TABLE attempt (
    subject                 bytea  NOT NULL CHECK (length(subject) = 32),
    purpose                 text   NOT NULL CHECK (purpose IN ('deposit', 'top_up', 'refund', 'page')),
    signature               bytea  NOT NULL CHECK (length(signature) = 64),
    last_valid_block_height bigint NOT NULL,
    PRIMARY KEY (subject, purpose)
);

-- The address lookup table that was made for a page.
CREATE TABLE lookup_table (
    page    bytea NOT NULL PRIMARY KEY CHECK (length(page) = 32),
    address bytea NOT NULL CHECK (length(address) = 32)
);

-- Payments without a channel, from before their transaction is sent until it can neither land nor be asked for any more.
CREATE TABLE payment (
    message_hash            bytea  NOT NULL PRIMARY KEY CHECK (length(message_hash) = 32),
    signature               bytea  NOT NULL CHECK (length(signature) = 64),
    last_valid_block_height bigint NOT NULL,
    granted_to              bytea  CHECK (length(granted_to) = 32)
);

-- What was granted to somebody is granted to nobody else.
CREATE TRIGGER payment_is_granted_once BEFORE UPDATE ON payment FOR EACH ROW
WHEN (old.granted_to IS NOT NULL AND new.granted_to IS DISTINCT FROM old.granted_to)
EXECUTE FUNCTION refuse('a payment would be granted twice');

-- The catalogue of resources that were paid for: what is known of each, and when it was paid for last. No money rests on it.
CREATE TABLE listing (
    key     bytea  NOT NULL PRIMARY KEY CHECK (length(key) = 32),
    text    text   NOT NULL,
    paid_at bigint NOT NULL
);

-- What the sponsor paid for each transaction that landed, once for each book that shared it, and the sums. Fees of payments
-- without a channel are counted under the payee's address.
CREATE TABLE spent (
    signature bytea  NOT NULL CHECK (length(signature) = 64),
    book      bytea  NOT NULL CHECK (length(book) = 32),
    purpose   text   NOT NULL CHECK (purpose IN ('claims', 'deposits', 'refunds', 'pages', 'payments')),
    lamports  bigint NOT NULL CHECK (lamports >= 0),
    at        bigint NOT NULL,
    PRIMARY KEY (signature, book)
);

CREATE INDEX spent_for_others ON spent (at) WHERE purpose <> 'claims';

CREATE TABLE spent_sum (
    book     bytea  NOT NULL CHECK (length(book) = 32),
    purpose  text   NOT NULL CHECK (purpose IN ('claims', 'deposits', 'refunds', 'pages', 'payments')),
    lamports bigint NOT NULL CHECK (lamports >= 0),
    PRIMARY KEY (book, purpose)
);
