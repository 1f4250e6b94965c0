//! The instructions of a message that somebody else has made, with their accounts by address: what a sponsor looks at before
//! it signs.

use crate::address::COMPUTE_BUDGET_PROGRAM;
use solana_address::Address;
use solana_message::VersionedMessage;
use solana_message::compiled_instruction::CompiledInstruction;

/// Number of `SetComputeUnitLimit`.
const SET_LIMIT: u8 = 2;
/// Number of `SetComputeUnitPrice`.
const SET_PRICE: u8 = 3;

/// An instruction with its accounts by address. Which of them sign or are written is the message's to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedInstruction<'a> {
    /// The program that is called.
    pub program: Address,
    /// The accounts that it is given, in its order.
    pub accounts: Vec<Address>,
    /// What it is told.
    pub data: &'a [u8],
}

impl<'a> NamedInstruction<'a> {
    /// All instructions of a message, in its order; `None` where one names an account that is not among the static ones, as
    /// those of lookup tables are not.
    pub fn all(message: &'a VersionedMessage) -> Option<Vec<Self>> {
        let keys = message.static_account_keys();
        message.instructions().iter().map(|compiled| Self::read(keys, compiled)).collect()
    }

    fn read(keys: &[Address], compiled: &'a CompiledInstruction) -> Option<Self> {
        let key = |at: &u8| keys.get(usize::from(*at)).copied();
        Some(Self {
            program: key(&compiled.program_id_index)?,
            accounts: compiled.accounts.iter().map(key).collect::<Option<_>>()?,
            data: &compiled.data,
        })
    }

    /// Whether it names somebody, as an account or as its program.
    pub fn names(&self, who: &Address) -> bool {
        self.program == *who || self.accounts.contains(who)
    }

    /// The units of a compute limit; `None` for anything else.
    pub fn compute_limit(&self) -> Option<u32> {
        self.budget(SET_LIMIT).map(u32::from_le_bytes)
    }

    /// The micro-lamports a unit of a compute price; `None` for anything else.
    pub fn compute_price(&self) -> Option<u64> {
        self.budget(SET_PRICE).map(u64::from_le_bytes)
    }

    /// What follows the number of a compute budget instruction: exactly so many bytes, and no accounts.
    fn budget<const N: usize>(&self, number: u8) -> Option<[u8; N]> {
        let (found, argument) = self.data.split_first()?;
        let is_it = self.program == COMPUTE_BUDGET_PROGRAM && *found == number && self.accounts.is_empty();
        argument.try_into().ok().filter(|_| is_it)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::MEMO_PROGRAM;
    use crate::transaction::{compute_unit_limit, compute_unit_price, memo};
    use solana_instruction::{AccountMeta, Instruction};
    use solana_message::legacy;

    const PAYER: [u8; 32] = [1; 32];

    fn message(instructions: &[Instruction]) -> VersionedMessage {
        VersionedMessage::Legacy(legacy::Message::new(instructions, Some(&PAYER.into())))
    }

    #[test]
    fn given_a_message_when_read_then_every_account_stands_by_its_address_in_order() {
        let [a, b] = [[2; 32], [3; 32]].map(Address::from);
        let mut said = memo("hello");
        said.accounts = vec![AccountMeta::new_readonly(b, false), AccountMeta::new(a, false)];
        let message = message(&[compute_unit_limit(7), compute_unit_price(8), said]);
        let all = NamedInstruction::all(&message).unwrap();
        let [limit, price, said] = all.as_slice() else { panic!("three instructions") };
        assert_eq!((limit.compute_limit(), limit.compute_price()), (Some(7), None));
        assert_eq!((price.compute_limit(), price.compute_price()), (None, Some(8)));
        assert_eq!((said.program, said.accounts.as_slice(), said.data), (MEMO_PROGRAM, &[b, a][..], &b"hello"[..]));
        assert!(said.names(&a) && said.names(&MEMO_PROGRAM) && !said.names(&PAYER.into()));
    }

    #[test]
    fn given_an_account_out_of_sight_when_read_then_nothing_is() {
        let mut message = legacy::Message::new(&[memo("hello")], Some(&PAYER.into()));
        message.instructions[0].accounts.push(2);
        assert_eq!(NamedInstruction::all(&VersionedMessage::Legacy(message)), None);
    }

    #[test]
    fn given_what_is_only_like_a_compute_limit_when_read_then_it_is_none() {
        let good = compute_unit_limit(7);
        let (mut longer, mut of_accounts, mut elsewhere) = (good.clone(), good.clone(), good);
        longer.data.push(0);
        of_accounts.accounts.push(AccountMeta::new_readonly(Address::from([2; 32]), false));
        elsewhere.program_id = MEMO_PROGRAM;
        for like in [longer, of_accounts, elsewhere, memo("")] {
            let message = message(&[like]);
            let all = NamedInstruction::all(&message).unwrap();
            assert_eq!((all[0].compute_limit(), all[0].compute_price()), (None, None));
        }
    }
}
