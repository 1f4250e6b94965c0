use core::fmt;

/// Whether asking again can help.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// The same request may succeed later, or after a resynchronisation.
    Transient,
    /// The same request will never succeed.
    Final,
}

macro_rules! rejections {
    ($( $(#[doc = $doc:literal])+ $name:ident = $code:literal, $snake:literal, $class:ident, $advice:literal; )+) => {
        /// A named, numbered reason not to do what was asked.
        ///
        /// Numbers are in order of precedence (the first that applies is reported), are never reused, and mean the
        /// same on chain (as the Anchor error `6000 + number`) and off chain. Numbers below 100 come from the
        /// program or from rules it shares; 100 and above exist off chain only.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u16)]
        #[non_exhaustive]
        pub enum Rejection {
            $( $(#[doc = $doc])+ $name = $code, )+
        }

        impl Rejection {
            /// All rejections, in order of precedence.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The number.
            pub const fn code(self) -> u16 {
                match self { $(Self::$name => $code),+ }
            }

            /// The name as it stands on the wire: `snake_case`, never changed.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $snake),+ }
            }

            /// What happened and what to do about it, as a sentence for a person.
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$name => $advice),+ }
            }

            /// Whether asking again can help.
            pub const fn class(self) -> Class {
                match self { $(Self::$name => Class::$class),+ }
            }

            /// The rejection of this number.
            pub const fn from_code(code: u16) -> Option<Self> {
                match code { $($code => Some(Self::$name),)+ _ => None }
            }

            /// The rejection of this name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($snake => Some(Self::$name),)+ _ => None }
            }
        }

        /// Calls the macro `$callback` with every rejection as `Name = number, "advice";`, so that another error
        /// type (the program's) is made from this one list.
        #[macro_export]
        macro_rules! for_each_rejection {
            ($callback:ident) => { $callback! { $( $name = $code, $advice; )+ } };
        }
    };
}

rejections! {
    // --- terms of a book
    /// The grace period is not within 900 ..= 2,592,000 seconds.
    GraceOutOfRange = 1, "grace_out_of_range", Final, "grace_seconds must be 900 to 2,592,000 (15 minutes to 30 days).";
    /// The idle limit is neither 0 nor at least 86,400 seconds.
    IdleOutOfRange = 2, "idle_out_of_range", Final, "max_idle_seconds must be 0 (never) or at least 86,400 (a day).";
    /// The smallest deposit of a book is 0 or 2^48 and above.
    MinDepositOutOfRange = 3, "min_deposit_out_of_range", Final, "min_deposit must be 1 to 2^48 - 1 base units.";
    /// Not one of the open policies.
    UnknownOpenPolicy = 4, "unknown_open_policy", Final, "open_policy must be 0 (anyone may open) or 1 (the operator co-signs).";
    /// Too many splits, one of nothing, one to nobody or to somebody twice, or more than 10,000 basis points in all.
    BadSplits = 5, "bad_splits", Final, "Name at most 4 splits, each of at least 1 basis point to a recipient of its own, 10,000 in all at most.";
    /// The mint has an extension that could take, tax, freeze or redirect money in a way channels do not allow.
    MintNotSupported = 6, "mint_not_supported", Final, "Use an SPL Token mint, or a Token-2022 mint with metadata and group extensions only.";
    /// The capacity is not within 1 ..= 96.
    CapacityOutOfRange = 7, "capacity_out_of_range", Final, "capacity must be 1 to 96 slots.";
    /// Not the index that the book's next page gets.
    WrongPageIndex = 8, "wrong_page_index", Transient, "Another page was added first: read the book's next_page and ask again.";

    // --- accounts
    /// The account is not one of this program, this version or this kind.
    WrongAccount = 10, "wrong_account", Final, "An account is not what its place in the instruction asks for: build the instruction with the library.";
    /// The page is not a page of this book.
    WrongBook = 11, "wrong_book", Final, "The page belongs to another book: pass the book that the page names.";
    /// The signer has no right to this instruction.
    WrongAuthority = 12, "wrong_authority", Final, "Only the payee (or, where allowed, the operator) of the book may do this.";
    /// The mint is not the book's.
    WrongMint = 13, "wrong_mint", Final, "Pass the mint that the book names.";
    /// The token program is not the book's.
    WrongTokenProgram = 14, "wrong_token_program", Final, "Pass the token program that the book names.";
    /// The vault is not the page's.
    WrongVault = 15, "wrong_vault", Final, "Pass the page's vault: the associated token account of the page.";
    /// The token account is not one that this recipient's money may go to.
    WrongRecipientAccount = 16, "wrong_recipient_account", Final, "Pay to the recipient's associated token account, or let the recipient sign.";
    /// Fewer or more token accounts than rows or legs.
    AccountCountMismatch = 17, "account_count_mismatch", Final, "Pass exactly one token account for each row or leg, in their order.";

    // --- slots
    /// The number of the slot is not below the page's capacity.
    NoSuchSlot = 20, "no_such_slot", Final, "The page has fewer slots: use a number below its capacity.";
    /// The slot is taken.
    SlotTaken = 21, "slot_taken", Transient, "Somebody else opened this slot first: ask for another one.";
    /// The slot is of another generation than the one named.
    WrongGeneration = 22, "wrong_generation", Transient, "The slot was reopened since: read the page and use its generation.";
    /// The slot is free: there is no channel in it.
    SlotFree = 23, "slot_free", Final, "The channel is over: its slot is free. Open a new channel.";
    /// The slot is not open (it is free or closing).
    SlotNotOpen = 24, "slot_not_open", Final, "The channel is closing or over: open a new one.";
    /// The slot is not closing.
    SlotNotClosing = 25, "slot_not_closing", Final, "Request the close first, and wait for the grace period to end.";
    /// The grace period has not ended.
    GraceNotOver = 26, "grace_not_over", Transient, "Wait until closing_at: until then the payee may still claim.";
    /// The signer is not the slot's payer.
    WrongPayer = 27, "wrong_payer", Final, "Only the payer of the channel may do this.";
    /// The book's open policy asks for the operator's signature.
    OperatorMustSign = 28, "operator_must_sign", Final, "This needs the signature of the book's operator, which is missing: the resource server has that key.";
    /// The deposit is below the book's smallest.
    DepositTooSmall = 29, "deposit_too_small", Final, "Deposit at least the book's min_deposit.";
    /// The deposit is 2^48 base units or above.
    DepositTooLarge = 30, "deposit_too_large", Final, "A channel holds less than 2^48 base units: deposit less.";
    /// The voucher key is not a point of the curve, or one of small order that anybody could sign for.
    WeakSigner = 31, "weak_signer", Final, "The signer must be an ordinary Ed25519 public key.";
    /// The vault did not receive the deposit in full.
    DepositNotReceived = 32, "deposit_not_received", Final, "The vault received another amount than was deposited: use a mint without transfer fees.";
    /// The book's channels never close for idleness.
    IdleCloseOff = 33, "idle_close_off", Final, "This book's max_idle_seconds is 0: its channels close at their payers' request only.";
    /// The channel was claimed from too recently.
    NotIdle = 34, "not_idle", Transient, "Wait until max_idle_seconds have passed since the channel's last_activity.";
    /// The page has channels.
    PageInUse = 35, "page_in_use", Transient, "Close the page's channels first: refund or withdraw each slot.";
    /// A leg is owed something.
    LegsUnpaid = 36, "legs_unpaid", Transient, "Pay out every leg first.";

    // --- claims
    /// The claim is not a scalar and 1 to 96 whole rows.
    MalformedRows = 40, "malformed_rows", Final, "A claim is a 32-byte scalar followed by 1 to 96 rows, of 39 bytes each, or 45 below a ceiling.";
    /// The aggregate scalar is not below the group order.
    ScalarNotCanonical = 41, "scalar_not_canonical", Final, "The aggregate scalar must be below the group order L: aggregate anew.";
    /// A nonce point does not decode, or the check equation does not hold.
    SignatureMismatch = 42, "signature_mismatch", Final, "At least one voucher of the batch does not verify: drop rows of freed or reopened slots and aggregate anew.";
    /// A row of `claim_below` settles more than was signed for.
    AmountAboveSigned = 43, "amount_above_signed", Final, "Settle at most what the voucher says.";

    // --- invariants: a bug or a tampered account, nothing is written
    /// A sum or difference left the range of 64 bits.
    Overflow = 50, "overflow", Final, "An amount left its range: nothing was changed. Report this.";
    /// An invariant does not hold after the instruction.
    InvariantBroken = 51, "invariant_broken", Final, "The books would not balance: nothing was changed. Report this.";
    /// The vault holds less than the page owes.
    VaultShort = 52, "vault_short", Final, "The vault holds less than the page owes: nothing was changed. Report this.";

    // --- off chain: the shape of a request
    /// A decimal amount that is not one, or has more places than the mint.
    MalformedAmount = 100, "malformed_amount", Final, "Write the amount as a decimal number with no more places than the mint has, such as 0.0005.";
    /// The body or header is larger than its cap.
    RequestTooLarge = 101, "request_too_large", Final, "Send less: a payment header is at most 8,192 bytes, a body at most 65,536.";
    /// Not base64, not JSON, or not the fields of the scheme.
    MalformedPayload = 102, "malformed_payload", Final, "Send padded base64 of the JSON that x402 v2 and this scheme describe.";
    /// Not x402 version 2.
    UnsupportedVersion = 103, "unsupported_version", Final, "Send x402Version 2.";
    /// Not the scheme `@tallybook/channel`.
    UnsupportedScheme = 104, "unsupported_scheme", Final, "Use the scheme @tallybook/channel, or ask /supported.";
    /// Another network than this facilitator's.
    WrongNetwork = 105, "wrong_network", Final, "Use the network that /supported names.";
    /// The payload does not match the requirements that it answers.
    RequirementsMismatch = 106, "requirements_mismatch", Final, "Accept the requirements exactly as the server sent them.";
    /// This facilitator does not serve that book.
    UnknownBook = 107, "unknown_book", Final, "This facilitator does not serve that book: use the one that the resource server names.";
    /// This ledger does not serve that page.
    UnknownPage = 108, "unknown_page", Final, "Exactly one ledger serves a page, and it is not this one.";
    /// The access token is missing or another one.
    Unauthorized = 109, "unauthorized", Final, "Send the facilitator's access token as Authorization: Bearer.";

    // --- off chain: a deposit
    /// The deposit transaction is not the one allowed shape.
    MalformedDeposit = 110, "malformed_deposit", Final, "A deposit transaction is exactly: compute limit, compute price, open, one memo; static accounts only.";
    /// The transaction's fee payer is not the sponsor that was named.
    WrongFeePayer = 111, "wrong_fee_payer", Final, "Use the feePayer of the requirements.";
    /// The payer has not signed, or the signature is not theirs.
    PayerSignatureMissing = 112, "payer_signature_missing", Final, "Sign the deposit transaction with the payer's key.";
    /// The transaction does not do what the payload says.
    DepositMismatch = 113, "deposit_mismatch", Final, "Channel, amount and transaction of a deposit must say the same.";
    /// A compute limit or price above what the sponsor pays for.
    FeeTooHigh = 114, "fee_too_high", Final, "Ask for less compute, or a lower price per unit.";
    /// The chain refused the transaction in simulation.
    SimulationFailed = 115, "simulation_failed", Transient, "The chain refuses this transaction: check the payer's token balance and that the slot is free.";
    /// The transaction expired without landing.
    DepositExpired = 116, "deposit_expired", Transient, "The transaction did not land in time and nothing was moved: ask again, and sign it with a fresh blockhash.";
    /// Sent, but its outcome is not known yet.
    SettlementPending = 117, "settlement_pending", Transient, "The transaction was sent and its outcome is not known yet: ask again with the same payload.";
    /// The payer or address has used up what the sponsor pays for.
    QuotaExceeded = 118, "quota_exceeded", Transient, "The sponsor pays for no more deposits of this payer now: try later, or pay the fee yourself.";

    // --- off chain: a voucher
    /// No channel of this id.
    UnknownChannel = 120, "unknown_channel", Final, "No such channel here: open one with a deposit.";
    /// The channel is closing on chain or in the ledger.
    ChannelClosing = 121, "channel_closing", Final, "The channel is closing and takes no more vouchers: open a new one.";
    /// The signature is not the signer's over this voucher.
    BadSignature = 122, "bad_signature", Final, "The voucher's signature does not verify: sign the 43 bytes with the channel's signer.";
    /// Another call on this channel is under way.
    ChannelBusy = 123, "channel_busy", Transient, "Another call on this channel is under way: wait for its answer, or open a second channel.";
    /// The voucher was used for a payment already.
    VoucherUsed = 124, "voucher_used", Final, "This voucher paid for another call already: sign the next one.";
    /// The cumulative amount is not `charged + amount`.
    WrongCumulative = 125, "wrong_cumulative", Transient, "Sign for exactly the charged total plus the price: the corrective answer names both.";
    /// The cumulative amount is above the deposit.
    DepositExceeded = 126, "deposit_exceeded", Final, "The channel's deposit does not cover this call: top up, or open a new channel.";
    /// The reservation was released, expired or never made.
    NoReservation = 127, "no_reservation", Transient, "The call took longer than its reservation, and was not charged: pay again.";
    /// The price differs from the one that the voucher answers.
    WrongPrice = 128, "wrong_price", Transient, "The price has changed: ask for it again.";
    /// A call is to cost more than the ceiling that its voucher was signed for.
    ChargeAboveCeiling = 129, "charge_above_ceiling", Final, "Charge at most the amount that the voucher was signed for.";
    /// The voucher for the next part of a stream did not come in time.
    PaymentOverdue = 130, "payment_overdue", Transient, "The stream has stopped where it was not paid any more: what was delivered is charged, pay again for the rest.";

    // --- off chain: the service
    /// The service has more work than it can finish in time.
    Overloaded = 140, "overloaded", Transient, "The service is busy: retry after the time that Retry-After names.";
    /// The service is shutting down, or paused.
    Draining = 141, "draining", Transient, "Nothing new is taken on here now: retry in a moment.";
    /// The chain could not be asked.
    ChainUnavailable = 142, "chain_unavailable", Transient, "The chain cannot be reached now: nothing was charged, retry later.";
    /// The disk could not be written.
    StoreUnavailable = 143, "store_unavailable", Transient, "The voucher could not be stored: nothing was charged, retry later.";
    /// The facilitator could not be reached by the resource server.
    FacilitatorUnavailable = 144, "facilitator_unavailable", Transient, "The facilitator cannot be reached now: nothing was charged, retry later.";
    /// No slot is free in any page of the book.
    BookFull = 145, "book_full", Transient, "All slots of this book are taken: try later, or ask the payee to add a page.";
    /// The book has as many pages as its operator or facilitator allows.
    PageLimit = 146, "page_limit", Final, "The book has as many pages as is allowed: raise the limit of pages, or close unused pages.";
}

impl Rejection {
    /// The program's error number: Anchor errors begin at 6000.
    pub const ANCHOR_OFFSET: u32 = 6000;

    /// The rejection of an Anchor error number that the program returned.
    pub fn from_anchor(error: u32) -> Option<Self> {
        error.checked_sub(Self::ANCHOR_OFFSET).and_then(|code| u16::try_from(code).ok()).and_then(Self::from_code)
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.name(), self.code(), self.advice())
    }
}

impl core::error::Error for Rejection {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_and_names_lead_back() {
        assert!(Rejection::ALL.windows(2).all(|pair| matches!(pair, [a, b] if a.code() < b.code())));
        for rejection in Rejection::ALL {
            assert_eq!(Rejection::from_code(rejection.code()), Some(*rejection));
            assert_eq!(Rejection::from_name(rejection.name()), Some(*rejection));
            assert_eq!(Rejection::from_anchor(6000 + u32::from(rejection.code())), Some(*rejection));
            assert!(rejection.advice().ends_with('.'), "{rejection:?} does not say what to do in a sentence");
        }
    }
}
