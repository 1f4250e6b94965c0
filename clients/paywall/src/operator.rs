//! What the operator's key signs: transactions of a facilitator, taken apart and compared with what was asked for.

use solana_message::VersionedMessage;
use solana_message::compiled_instruction::CompiledInstruction;
use solana_signer::Signer;
use solana_transaction::versioned::VersionedTransaction;
use tallybook_chain::Address;
use tallybook_chain::address::{COMPUTE_BUDGET_PROGRAM, PROGRAM_ID};
use tallybook_chain::transaction::{from_bytes, to_bytes};
use tallybook_rules::Rejection;
use tallybook_wire::TransactionBytes;

/// A transaction whose instructions, but for the compute budget's, are to be looked at.
pub(crate) struct Proposed {
    transaction: VersionedTransaction,
    operator: Address,
}

impl Proposed {
    /// Reads it. [`Rejection::RequirementsMismatch`] when it names accounts by lookup tables, when the operator would pay
    /// its fee or does not sign at all, or when its compute budget touches accounts.
    pub(crate) fn read(unsigned: &TransactionBytes, operator: &impl Signer) -> Result<Self, Rejection> {
        let proposed = Self { transaction: from_bytes(unsigned.as_bytes())?, operator: operator.pubkey() };
        let message = proposed.message();
        let has_tables = message.address_table_lookups().is_some_and(|lookups| !lookups.is_empty());
        let is_sponsored = message.static_account_keys().first().is_some_and(|payer| *payer != proposed.operator);
        let budget = message.instructions().iter().filter(|instruction| proposed.is_budget(instruction));
        let budget: Vec<_> = budget.collect();
        let sound = budget.len() <= 2 && budget.iter().all(|instruction| instruction.accounts.is_empty());
        if has_tables || !is_sponsored || !sound { Err(Rejection::RequirementsMismatch) } else { Ok(proposed) }
    }

    /// The instructions beside the compute budget.
    pub(crate) fn instructions(&self) -> Vec<&CompiledInstruction> {
        self.message().instructions().iter().filter(|instruction| !self.is_budget(instruction)).collect()
    }

    /// Who pays the fee.
    pub(crate) fn fee_payer(&self) -> Option<Address> {
        self.message().static_account_keys().first().copied()
    }

    /// Whether an instruction is one of our program's.
    pub(crate) fn is_ours(&self, instruction: &CompiledInstruction) -> bool {
        self.program(instruction) == Some(&PROGRAM_ID)
    }

    /// The accounts of an instruction, in their order.
    pub(crate) fn accounts(&self, instruction: &CompiledInstruction) -> Option<Vec<Address>> {
        let keys = self.message().static_account_keys();
        instruction.accounts.iter().map(|at| keys.get(usize::from(*at)).copied()).collect()
    }

    /// The transaction with the operator's signature.
    pub(crate) fn sign(mut self, operator: &impl Signer) -> Result<TransactionBytes, Rejection> {
        let keys = self.message().static_account_keys();
        let at = keys.iter().position(|key| *key == self.operator).ok_or(Rejection::RequirementsMismatch)?;
        let signature = operator.try_sign_message(&self.message().serialize());
        let signature = signature.map_err(|_| Rejection::OperatorMustSign)?;
        *self.transaction.signatures.get_mut(at).ok_or(Rejection::RequirementsMismatch)? = signature;
        TransactionBytes::new(to_bytes(&self.transaction)?)
    }

    const fn message(&self) -> &VersionedMessage {
        &self.transaction.message
    }

    fn is_budget(&self, instruction: &CompiledInstruction) -> bool {
        self.program(instruction) == Some(&COMPUTE_BUDGET_PROGRAM)
    }

    fn program(&self, instruction: &CompiledInstruction) -> Option<&Address> {
        self.message().static_account_keys().get(usize::from(instruction.program_id_index))
    }
}
