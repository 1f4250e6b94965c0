use core::fmt;

/// Why a payment is not taken. The name on the wire is the x402 reference's, and differs in places between the versions of
/// x402; where the reference has none, the comment says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// Another scheme than `exact` was accepted or asked for.
    UnsupportedScheme,
    /// Another network was accepted than was asked for.
    NetworkMismatch,
    /// The price is no decimal number of base units.
    Requirements,
    /// The requirements name no fee payer.
    MissingFeePayer,
    /// They name another fee payer than the sponsor.
    FeePayerNotManaged,
    /// Not base64, or not the bytes of a legacy or v0 transaction in their one encoding.
    Undecodable,
    /// Somebody besides client and sponsor has to sign.
    ExcessiveSigners,
    /// The transaction has another fee payer.
    FeePayerMismatch,
    /// A signature of the client's is missing or does not hold.
    SignatureInvalid,
    /// Some accounts stand in lookup tables, where nobody here looks.
    LookupTables,
    /// Fewer instructions than a payment has, or more.
    InstructionsLength,
    /// The first instruction is no compute limit.
    ComputeLimit,
    /// It asks for more than the sponsor pays for.
    ComputeLimitTooHigh,
    /// The second instruction is no compute price.
    ComputePrice,
    /// It offers more than the sponsor pays.
    ComputePriceTooHigh,
    /// The third instruction is no `TransferChecked` of SPL Token or Token-2022 with its four accounts.
    NoTransfer,
    /// The sponsor's own tokens would be moved.
    FeePayerTransferring,
    /// The sponsor is named by an instruction. (In version 2 the reference knows this only for smart wallets; this is the
    /// name that its first version has for it.)
    FeePayerInAccounts,
    /// Another mint.
    MintMismatch,
    /// Not to the associated token account of the payee.
    RecipientMismatch,
    /// More or less than what was asked for.
    AmountMismatch,
    /// The instruction of this number, from 4, is neither Lighthouse nor a memo.
    UnknownInstruction(usize),
    /// A memo was asked for, and there is none, or more than one.
    MemoCount,
    /// The memo says something else.
    MemoMismatch,
    /// The mint takes a fee of transfers, or has a program decide on them: the payee would not get the price. (Not a name
    /// of the reference, which does not look.)
    MintTakesFromTransfers,
    /// This sponsor pays for transfers to that payee, or of that mint, to nobody. (Not a name of the reference: whom a
    /// sponsor serves is its own affair.)
    NotServed,
    /// The sponsor has paid enough for now, or has no SOL left. (Not a name of the reference.)
    SponsorSpent,
    /// The chain would refuse the transaction.
    SimulationFailed,
    /// The chain has refused the transaction: it changed nothing.
    TransactionFailed,
    /// Sent, and not known yet what became of it.
    Pending,
    /// The same message is being settled, or was settled before.
    Duplicate,
}

impl Fault {
    /// The name, in this version of x402.
    pub const fn name(self, x402_version: u64) -> &'static str {
        let [in_v1, in_v2] = self.names();
        if x402_version == 1 { in_v1 } else { in_v2 }
    }

    /// The names in version 1 and in version 2.
    const fn names(self) -> [&'static str; 2] {
        const UNDECODABLE: &str = "invalid_exact_svm_payload_transaction_could_not_be_decoded";
        match self {
            Self::UnsupportedScheme => ["unsupported_scheme", "invalid_exact_svm_unsupported_scheme"],
            Self::NetworkMismatch => ["network_mismatch", "invalid_exact_svm_network_mismatch"],
            Self::Requirements => ["invalid_payment_requirements"; 2],
            Self::MissingFeePayer => ["invalid_exact_svm_payload_missing_fee_payer"; 2],
            Self::FeePayerNotManaged => {
                ["fee_payer_not_managed_by_facilitator", "invalid_exact_svm_fee_payer_not_managed_by_facilitator"]
            }
            Self::Undecodable => [UNDECODABLE; 2],
            Self::LookupTables => [UNDECODABLE, "invalid_exact_svm_smart_wallet_alt_resolution_not_available"],
            Self::SimulationFailed => {
                ["transaction_simulation_failed", "invalid_exact_svm_transaction_simulation_failed"]
            }
            Self::TransactionFailed => ["transaction_failed", "invalid_exact_svm_transaction_failed"],
            Self::Pending => ["settlement_pending"; 2],
            Self::Duplicate => ["duplicate_settlement"; 2],
            Self::MintTakesFromTransfers => ["invalid_exact_svm_mint_not_supported"; 2],
            Self::NotServed => ["invalid_exact_svm_not_sponsored"; 2],
            Self::SponsorSpent => ["invalid_exact_svm_sponsor_allowance_exceeded"; 2],
            Self::ExcessiveSigners
            | Self::FeePayerMismatch
            | Self::SignatureInvalid
            | Self::InstructionsLength
            | Self::ComputeLimit
            | Self::ComputeLimitTooHigh
            | Self::ComputePrice
            | Self::ComputePriceTooHigh
            | Self::NoTransfer
            | Self::FeePayerTransferring
            | Self::FeePayerInAccounts
            | Self::MintMismatch
            | Self::RecipientMismatch
            | Self::AmountMismatch
            | Self::UnknownInstruction(_)
            | Self::MemoCount
            | Self::MemoMismatch => [self.name_of_transaction(); 2],
        }
    }

    /// The name of what is wrong with a transaction itself, which both versions share.
    const fn name_of_transaction(self) -> &'static str {
        match self {
            Self::ExcessiveSigners => "invalid_exact_svm_payload_excessive_signers",
            Self::FeePayerMismatch => "invalid_exact_svm_fee_payer_mismatch",
            Self::SignatureInvalid => "invalid_exact_svm_payload_signature_invalid",
            Self::InstructionsLength => "invalid_exact_svm_payload_transaction_instructions_length",
            Self::ComputeLimit => "invalid_exact_svm_payload_transaction_instructions_compute_limit_instruction",
            Self::ComputeLimitTooHigh => {
                "invalid_exact_svm_payload_transaction_instructions_compute_limit_instruction_too_high"
            }
            Self::ComputePrice => "invalid_exact_svm_payload_transaction_instructions_compute_price_instruction",
            Self::ComputePriceTooHigh => {
                "invalid_exact_svm_payload_transaction_instructions_compute_price_instruction_too_high"
            }
            Self::NoTransfer => "invalid_exact_svm_payload_no_transfer_instruction",
            Self::FeePayerTransferring => "invalid_exact_svm_payload_transaction_fee_payer_transferring_funds",
            Self::FeePayerInAccounts => {
                "invalid_exact_svm_payload_transaction_fee_payer_included_in_instruction_accounts"
            }
            Self::MintMismatch => "invalid_exact_svm_payload_mint_mismatch",
            Self::RecipientMismatch => "invalid_exact_svm_payload_recipient_mismatch",
            Self::AmountMismatch => "invalid_exact_svm_payload_amount_mismatch",
            Self::UnknownInstruction(4) => "invalid_exact_svm_payload_unknown_fourth_instruction",
            Self::UnknownInstruction(5) => "invalid_exact_svm_payload_unknown_fifth_instruction",
            Self::UnknownInstruction(6) => "invalid_exact_svm_payload_unknown_sixth_instruction",
            Self::UnknownInstruction(7) => "invalid_exact_svm_payload_unknown_seventh_instruction",
            Self::UnknownInstruction(_) => "invalid_exact_svm_payload_unknown_optional_instruction",
            Self::MemoCount => "invalid_exact_svm_payload_memo_count",
            Self::MemoMismatch => "invalid_exact_svm_payload_memo_mismatch",
            Self::UnsupportedScheme
            | Self::NetworkMismatch
            | Self::Requirements
            | Self::MissingFeePayer
            | Self::FeePayerNotManaged
            | Self::Undecodable
            | Self::LookupTables
            | Self::SimulationFailed
            | Self::TransactionFailed
            | Self::Pending
            | Self::Duplicate
            | Self::MintTakesFromTransfers
            | Self::NotServed
            | Self::SponsorSpent => "invalid_exact_svm_verification_failed",
        }
    }

    /// What to do about it, in a sentence.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::UnsupportedScheme => "Use the scheme exact, as the requirements say.",
            Self::NetworkMismatch => "Accept the requirements on the network that they name.",
            Self::Requirements => "Write the price as a decimal number of base units, such as \"1000\".",
            Self::MissingFeePayer => "Name extra.feePayer in the requirements, as /supported does.",
            Self::FeePayerNotManaged => "Use the feePayer that /supported names.",
            Self::Undecodable => "Send a legacy or v0 transaction of at most 1,232 bytes in padded base64.",
            Self::ExcessiveSigners => "Client and fee payer sign, and nobody else.",
            Self::FeePayerMismatch => "Use the feePayer of the requirements as the transaction's fee payer.",
            Self::SignatureInvalid => "Sign the transaction with the key that owns the tokens.",
            Self::LookupTables => "Name every account in the transaction itself, without lookup tables.",
            Self::InstructionsLength => {
                "Send compute limit, compute price, one TransferChecked, and at most four of Lighthouse and Memo (three in version 1)."
            }
            Self::ComputeLimit => "Begin with one SetComputeUnitLimit.",
            Self::ComputeLimitTooHigh => "Ask for less compute: the sponsor pays for no more.",
            Self::ComputePrice => "Put one SetComputeUnitPrice second.",
            Self::ComputePriceTooHigh => "Offer a lower price for compute: the sponsor pays no more.",
            Self::NoTransfer => "Put one TransferChecked of SPL Token or Token-2022 third, with its four accounts.",
            Self::FeePayerTransferring => "Pay from the client's own tokens, never the fee payer's.",
            Self::FeePayerInAccounts => {
                "Leave the fee payer out of every instruction: it pays the network's fee alone."
            }
            Self::MintMismatch => "Pay in the asset of the requirements.",
            Self::RecipientMismatch => "Pay to the associated token account of payTo.",
            Self::AmountMismatch => "Pay exactly the amount of the requirements.",
            Self::UnknownInstruction(_) => {
                "After the transfer only Lighthouse and Memo may follow, seventh a memo alone."
            }
            Self::MemoCount => "Add exactly one memo, with the text of extra.memo.",
            Self::MemoMismatch => "Write extra.memo into the memo, byte for byte.",
            Self::MintTakesFromTransfers => {
                "Use a mint whose transfers arrive whole: without a transfer fee and without a transfer hook."
            }
            Self::NotServed => {
                "This facilitator does not sponsor payments to that payee in that asset: ask its operator."
            }
            Self::SponsorSpent => "The sponsor pays for no more now: try later, or ask its operator.",
            Self::SimulationFailed => {
                "The chain would refuse this payment: check the balance, both token accounts and the blockhash."
            }
            Self::TransactionFailed => "The payment did not go through and nothing was paid: sign a new one.",
            Self::Pending => {
                "The transaction was sent and its outcome is not known yet: ask again with the same payload."
            }
            Self::Duplicate => "This very payment is being settled or was settled before: a payment buys once.",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name(2), self.advice())
    }
}

impl core::error::Error for Fault {}
