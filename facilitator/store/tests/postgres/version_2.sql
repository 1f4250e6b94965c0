CREATE SCHEMA tallybook;
CREATE FUNCTION tallybook.end_batches(ids bigint[], ats bigint[], landed bigint[], refused bigint[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
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
CREATE FUNCTION tallybook.refuse() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION USING MESSAGE = TG_ARGV[0], ERRCODE = 'integrity_constraint_violation';
END
$$;
CREATE TABLE tallybook.about (
    one boolean DEFAULT true NOT NULL,
    application_id integer NOT NULL,
    version integer NOT NULL,
    CONSTRAINT about_one_check CHECK (one)
);
CREATE TABLE tallybook.attempt (
    subject bytea NOT NULL,
    purpose text NOT NULL,
    signature bytea NOT NULL,
    last_valid_block_height bigint NOT NULL,
    CONSTRAINT attempt_purpose_check CHECK ((purpose = ANY (ARRAY['deposit'::text, 'top_up'::text, 'refund'::text, 'page'::text]))),
    CONSTRAINT attempt_signature_check CHECK ((length(signature) = 64)),
    CONSTRAINT attempt_subject_check CHECK ((length(subject) = 32))
);
CREATE TABLE tallybook.batch (
    id bigint NOT NULL,
    page bytea NOT NULL,
    gain bigint NOT NULL,
    planned_at bigint NOT NULL,
    ended_at bigint DEFAULT 0 NOT NULL,
    state text NOT NULL,
    CONSTRAINT batch_gain_check CHECK ((gain >= 0)),
    CONSTRAINT batch_page_check CHECK ((length(page) = 32)),
    CONSTRAINT batch_state_check CHECK ((state = ANY (ARRAY['sending'::text, 'confirmed'::text, 'failed'::text])))
);
CREATE TABLE tallybook.batch_attempt (
    id bigint NOT NULL,
    batch bigint NOT NULL,
    signature bytea NOT NULL,
    last_valid_block_height bigint NOT NULL,
    CONSTRAINT batch_attempt_signature_check CHECK ((length(signature) = 64))
);
ALTER TABLE tallybook.batch_attempt ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME tallybook.batch_attempt_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE tallybook.batch_landed (
    batch bigint NOT NULL,
    "position" bigint NOT NULL,
    signature bytea NOT NULL,
    channels bigint NOT NULL,
    fee_lamports bigint NOT NULL,
    compute_units bigint NOT NULL,
    CONSTRAINT batch_landed_signature_check CHECK ((length(signature) = 64))
);
CREATE TABLE tallybook.batch_refusal (
    batch bigint NOT NULL,
    "position" bigint NOT NULL,
    slot smallint NOT NULL,
    rejection integer NOT NULL,
    CONSTRAINT batch_refusal_slot_check CHECK (((slot >= 0) AND (slot <= 255)))
);
CREATE TABLE tallybook.batch_row (
    batch bigint NOT NULL,
    slot smallint NOT NULL,
    "position" bigint NOT NULL,
    channel_id bytea NOT NULL,
    cumulative bigint NOT NULL,
    settled bigint NOT NULL,
    CONSTRAINT batch_row_channel_id_check CHECK ((length(channel_id) = 32)),
    CONSTRAINT batch_row_cumulative_check CHECK ((cumulative >= 0)),
    CONSTRAINT batch_row_settled_check CHECK ((settled >= 0)),
    CONSTRAINT batch_row_slot_check CHECK (((slot >= 0) AND (slot <= 255)))
);
CREATE TABLE tallybook.channel (
    channel_id bytea NOT NULL,
    page bytea NOT NULL,
    slot smallint NOT NULL,
    generation bigint NOT NULL,
    payer bytea NOT NULL,
    signer bytea NOT NULL,
    cumulative bigint NOT NULL,
    signature bytea NOT NULL,
    charged bigint NOT NULL,
    unsettled_since bigint NOT NULL,
    leaving_since bigint NOT NULL,
    over boolean DEFAULT false NOT NULL,
    last_cumulative bigint,
    last_signature bytea,
    last_charge bigint,
    CONSTRAINT channel_channel_id_check CHECK ((length(channel_id) = 32)),
    CONSTRAINT channel_check CHECK (((charged >= 0) AND (charged <= cumulative))),
    CONSTRAINT channel_check1 CHECK (((last_charge >= 0) AND (last_charge <= last_cumulative))),
    CONSTRAINT channel_cumulative_check CHECK ((cumulative >= 0)),
    CONSTRAINT channel_generation_check CHECK (((generation >= 0) AND (generation <= '4294967295'::bigint))),
    CONSTRAINT channel_last_cumulative_check CHECK ((last_cumulative >= 0)),
    CONSTRAINT channel_last_signature_check CHECK ((length(last_signature) = 64)),
    CONSTRAINT channel_page_check CHECK ((length(page) = 32)),
    CONSTRAINT channel_payer_check CHECK ((length(payer) = 32)),
    CONSTRAINT channel_signature_check CHECK ((length(signature) = 64)),
    CONSTRAINT channel_signer_check CHECK ((length(signer) = 32)),
    CONSTRAINT channel_slot_check CHECK (((slot >= 0) AND (slot <= 255)))
)
WITH (fillfactor='70');
CREATE TABLE tallybook.listing (
    key bytea NOT NULL,
    text text NOT NULL,
    paid_at bigint NOT NULL,
    CONSTRAINT listing_key_check CHECK ((length(key) = 32))
);
CREATE TABLE tallybook.lookup_table (
    page bytea NOT NULL,
    address bytea NOT NULL,
    CONSTRAINT lookup_table_address_check CHECK ((length(address) = 32)),
    CONSTRAINT lookup_table_page_check CHECK ((length(page) = 32))
);
CREATE TABLE tallybook.payment (
    message_hash bytea NOT NULL,
    signature bytea NOT NULL,
    last_valid_block_height bigint NOT NULL,
    granted_to bytea,
    CONSTRAINT payment_granted_to_check CHECK ((length(granted_to) = 32)),
    CONSTRAINT payment_message_hash_check CHECK ((length(message_hash) = 32)),
    CONSTRAINT payment_signature_check CHECK ((length(signature) = 64))
);
CREATE TABLE tallybook.spent (
    signature bytea NOT NULL,
    book bytea NOT NULL,
    purpose text NOT NULL,
    lamports bigint NOT NULL,
    at bigint NOT NULL,
    CONSTRAINT spent_book_check CHECK ((length(book) = 32)),
    CONSTRAINT spent_lamports_check CHECK ((lamports >= 0)),
    CONSTRAINT spent_purpose_check CHECK ((purpose = ANY (ARRAY['claims'::text, 'deposits'::text, 'refunds'::text, 'pages'::text, 'payments'::text]))),
    CONSTRAINT spent_signature_check CHECK ((length(signature) = 64))
);
CREATE TABLE tallybook.spent_sum (
    book bytea NOT NULL,
    purpose text NOT NULL,
    lamports bigint NOT NULL,
    CONSTRAINT spent_sum_book_check CHECK ((length(book) = 32)),
    CONSTRAINT spent_sum_lamports_check CHECK ((lamports >= 0)),
    CONSTRAINT spent_sum_purpose_check CHECK ((purpose = ANY (ARRAY['claims'::text, 'deposits'::text, 'refunds'::text, 'pages'::text, 'payments'::text])))
);
INSERT INTO tallybook.about VALUES (true, 1413641843, 2);
INSERT INTO tallybook.attempt VALUES ('\x0101010101010101010101010101010101010101010101010101010101010101', 'deposit', '\x05050505050505050505050505050505050505050505050505050505050505050505050505050505050505050505050505050505050505050505050505050505', 5);
INSERT INTO tallybook.attempt VALUES ('\x0909090909090909090909090909090909090909090909090909090909090909', 'page', '\x08080808080808080808080808080808080808080808080808080808080808080808080808080808080808080808080808080808080808080808080808080808', 8);
INSERT INTO tallybook.attempt VALUES ('\x0202020202020202020202020202020202020202020202020202020202020202', 'refund', '\x07070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707', 7);
INSERT INTO tallybook.attempt VALUES ('\x0101010101010101010101010101010101010101010101010101010101010101', 'top_up', '\x06060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606', 6);
INSERT INTO tallybook.batch VALUES (3, '\x0909090909090909090909090909090909090909090909090909090909090909', 50, 1000, 0, 'sending');
INSERT INTO tallybook.batch VALUES (1, '\x0909090909090909090909090909090909090909090909090909090909090909', 50, 1000, 1010, 'confirmed');
INSERT INTO tallybook.batch VALUES (2, '\x0909090909090909090909090909090909090909090909090909090909090909', 50, 1000, 1011, 'failed');
INSERT INTO tallybook.batch_attempt OVERRIDING SYSTEM VALUE VALUES (1, 1, '\x01010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101', 1);
INSERT INTO tallybook.batch_attempt OVERRIDING SYSTEM VALUE VALUES (2, 1, '\x02020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202', 2);
INSERT INTO tallybook.batch_attempt OVERRIDING SYSTEM VALUE VALUES (3, 2, '\x03030303030303030303030303030303030303030303030303030303030303030303030303030303030303030303030303030303030303030303030303030303', 3);
INSERT INTO tallybook.batch_attempt OVERRIDING SYSTEM VALUE VALUES (4, 3, '\x04040404040404040404040404040404040404040404040404040404040404040404040404040404040404040404040404040404040404040404040404040404', 4);
INSERT INTO tallybook.batch_landed VALUES (1, 0, '\x02020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202', 1, 5000, 200000);
INSERT INTO tallybook.batch_refusal VALUES (2, 0, 2, 42);
INSERT INTO tallybook.batch_row VALUES (1, 1, 0, '\x0101010101010101010101010101010101010101010101010101010101010101', 90, 40);
INSERT INTO tallybook.batch_row VALUES (2, 2, 0, '\x0202020202020202020202020202020202020202020202020202020202020202', 90, 40);
INSERT INTO tallybook.batch_row VALUES (3, 1, 0, '\x0101010101010101010101010101010101010101010101010101010101010101', 90, 40);
INSERT INTO tallybook.channel VALUES ('\x0101010101010101010101010101010101010101010101010101010101010101', '\x0909090909090909090909090909090909090909090909090909090909090909', 1, 7, '\x0101010101010101010101010101010101010101010101010101010101010101', '\x6e7a1cdd29b0b78fd13af4c5598feff4ef2a97166e3ca6f2e4fbfccd80505bf1', 100, '\x06060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606', 100, 77, 0, false, 90, '\x04040404040404040404040404040404040404040404040404040404040404040404040404040404040404040404040404040404040404040404040404040404', 3);
INSERT INTO tallybook.channel VALUES ('\x0202020202020202020202020202020202020202020202020202020202020202', '\x0909090909090909090909090909090909090909090909090909090909090909', 2, 7, '\x0202020202020202020202020202020202020202020202020202020202020202', '\x6e7a1cdd29b0b78fd13af4c5598feff4ef2a97166e3ca6f2e4fbfccd80505bf1', 200, '\x06060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606', 0, 77, 5, false, NULL, NULL, NULL);
INSERT INTO tallybook.channel VALUES ('\x0303030303030303030303030303030303030303030303030303030303030303', '\x0909090909090909090909090909090909090909090909090909090909090909', 3, 7, '\x0303030303030303030303030303030303030303030303030303030303030303', '\x6e7a1cdd29b0b78fd13af4c5598feff4ef2a97166e3ca6f2e4fbfccd80505bf1', 9223372036854775807, '\x06060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606', 9223372036854775807, 77, 0, true, NULL, NULL, NULL);
INSERT INTO tallybook.listing VALUES ('\x0404040404040404040404040404040404040404040404040404040404040404', '{"n":"ä''"}', 9);
INSERT INTO tallybook.lookup_table VALUES ('\x0909090909090909090909090909090909090909090909090909090909090909', '\x0101010101010101010101010101010101010101010101010101010101010101');
INSERT INTO tallybook.payment VALUES ('\x0101010101010101010101010101010101010101010101010101010101010101', '\x09090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909', 9, '\x0303030303030303030303030303030303030303030303030303030303030303');
INSERT INTO tallybook.spent VALUES ('\x01010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101', '\x0101010101010101010101010101010101010101010101010101010101010101', 'deposits', 10000, 100);
INSERT INTO tallybook.spent VALUES ('\x02020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202', '\x0101010101010101010101010101010101010101010101010101010101010101', 'deposits', 20000, 100);
INSERT INTO tallybook.spent_sum VALUES ('\x0101010101010101010101010101010101010101010101010101010101010101', 'deposits', 30000);
SELECT pg_catalog.setval('tallybook.batch_attempt_id_seq', 4, true);
ALTER TABLE ONLY tallybook.about
    ADD CONSTRAINT about_pkey PRIMARY KEY (one);
ALTER TABLE ONLY tallybook.attempt
    ADD CONSTRAINT attempt_pkey PRIMARY KEY (subject, purpose);
ALTER TABLE ONLY tallybook.batch_attempt
    ADD CONSTRAINT batch_attempt_pkey PRIMARY KEY (id);
ALTER TABLE ONLY tallybook.batch_landed
    ADD CONSTRAINT batch_landed_pkey PRIMARY KEY (batch, "position");
ALTER TABLE ONLY tallybook.batch
    ADD CONSTRAINT batch_pkey PRIMARY KEY (id);
ALTER TABLE ONLY tallybook.batch_refusal
    ADD CONSTRAINT batch_refusal_pkey PRIMARY KEY (batch, "position");
ALTER TABLE ONLY tallybook.batch_row
    ADD CONSTRAINT batch_row_pkey PRIMARY KEY (batch, slot);
ALTER TABLE ONLY tallybook.channel
    ADD CONSTRAINT channel_pkey PRIMARY KEY (channel_id);
ALTER TABLE ONLY tallybook.listing
    ADD CONSTRAINT listing_pkey PRIMARY KEY (key);
ALTER TABLE ONLY tallybook.lookup_table
    ADD CONSTRAINT lookup_table_pkey PRIMARY KEY (page);
ALTER TABLE ONLY tallybook.payment
    ADD CONSTRAINT payment_pkey PRIMARY KEY (message_hash);
ALTER TABLE ONLY tallybook.spent
    ADD CONSTRAINT spent_pkey PRIMARY KEY (signature, book);
ALTER TABLE ONLY tallybook.spent_sum
    ADD CONSTRAINT spent_sum_pkey PRIMARY KEY (book, purpose);
CREATE INDEX batch_attempt_of ON tallybook.batch_attempt USING btree (batch, id);
CREATE INDEX batch_sending ON tallybook.batch USING btree (id) WHERE (state = 'sending'::text);
CREATE INDEX channel_of_page ON tallybook.channel USING btree (page) WHERE (NOT over);
CREATE INDEX spent_for_others ON tallybook.spent USING btree (at) WHERE (purpose <> 'claims'::text);
CREATE TRIGGER channel_never_falls BEFORE UPDATE ON tallybook.channel FOR EACH ROW WHEN (((new.cumulative < old.cumulative) OR (new.charged < old.charged) OR (new.over < old.over))) EXECUTE FUNCTION tallybook.refuse('a voucher, a charge or an end of a channel would be taken back');
CREATE TRIGGER payment_is_granted_once BEFORE UPDATE ON tallybook.payment FOR EACH ROW WHEN (((old.granted_to IS NOT NULL) AND (new.granted_to IS DISTINCT FROM old.granted_to))) EXECUTE FUNCTION tallybook.refuse('a payment would be granted twice');
ALTER TABLE ONLY tallybook.batch_attempt
    ADD CONSTRAINT batch_attempt_batch_fkey FOREIGN KEY (batch) REFERENCES tallybook.batch(id);
ALTER TABLE ONLY tallybook.batch_landed
    ADD CONSTRAINT batch_landed_batch_fkey FOREIGN KEY (batch) REFERENCES tallybook.batch(id);
ALTER TABLE ONLY tallybook.batch_refusal
    ADD CONSTRAINT batch_refusal_batch_fkey FOREIGN KEY (batch) REFERENCES tallybook.batch(id);
ALTER TABLE ONLY tallybook.batch_row
    ADD CONSTRAINT batch_row_batch_fkey FOREIGN KEY (batch) REFERENCES tallybook.batch(id);
