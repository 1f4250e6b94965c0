//! Lookup tables: each page has one, so that 23 claims fit into a transaction.
//!
//! Made once, in one transaction that creates it with all that it ever holds; its address is derived from a recent slot, so
//! the journal keeps it. A table saves bytes and nothing else: whenever there is none, claims go without.

use crate::chain::{Account, Chain, Commitment, Snapshot};
use crate::send::{Fate, Journal, send_until_decided};
use crate::settler::{Settler, attempt_of};
use solana_address::Address;
use solana_address_lookup_table_interface::instruction::{create_lookup_table, extend_lookup_table};
use solana_address_lookup_table_interface::program::ID as LOOKUP_TABLE_PROGRAM;
use solana_address_lookup_table_interface::state::AddressLookupTable;
use solana_message::AddressLookupTableAccount;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use tallybook_chain::BookView;
use tallybook_chain::shape::{Budget, Shape, message};
use tallybook_rules::Rejection;

/// Creating and filling a table uses about 4,000 units.
const COMPUTE_UNITS: u32 = 20_000;
/// How often it is looked whether a new table has become usable, which takes one slot.
const LOOKS: u32 = 8;

/// The tables known to be usable, by page.
#[derive(Debug, Default)]
pub(crate) struct Tables(Mutex<BTreeMap<Address, Known>>);

#[derive(Clone, Debug)]
pub(crate) enum Known {
    Ready(AddressLookupTableAccount),
    /// Making one failed in this process: not tried again, since each try may cost rent.
    Without,
}

impl Tables {
    /// Looks for the page's table anew next time.
    pub(crate) fn forget(&self, page: &Address) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(page);
    }

    fn get(&self, page: &Address) -> Option<Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(page).cloned()
    }

    pub(crate) fn set(&self, page: &Address, known: Known) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(*page, known);
    }
}

impl<C: Chain> Settler<C> {
    /// The table of a page: the one in use, else the recorded one, else a new one. `None` means: go without.
    pub(crate) async fn table<J: Journal>(
        &self,
        book: &BookView,
        page: &Address,
        journal: &J,
    ) -> Option<AddressLookupTableAccount> {
        match self.tables().get(page) {
            Some(Known::Ready(table)) => return Some(table),
            Some(Known::Without) => return None,
            None if !self.settings().make_tables => return None,
            None => {}
        }
        let found = match self.recorded_table(book, page, journal).await {
            Ok(None) => self.make_table(book, page, journal).await,
            found => found,
        };
        match found {
            Ok(Some(table)) => {
                self.tables().set(page, Known::Ready(table.clone()));
                Some(table)
            }
            Ok(None) => {
                tracing::warn!(%page, "no lookup table for this page: fewer claims fit into a transaction");
                self.tables().set(page, Known::Without);
                None
            }
            // The chain or the disk did not answer; the next batch tries again.
            Err(_) => None,
        }
    }

    /// The table that the journal knows of, if the chain still shows it usable.
    async fn recorded_table<J: Journal>(
        &self,
        book: &BookView,
        page: &Address,
        journal: &J,
    ) -> Result<Option<AddressLookupTableAccount>, Rejection> {
        let Some(key) = journal.table(&page.to_bytes()).await? else {
            return Ok(None);
        };
        self.usable_table(&Address::from(key), book, page).await
    }

    /// Creates a table and waits until it can be used.
    async fn make_table<J: Journal>(
        &self,
        book: &BookView,
        page: &Address,
        journal: &J,
    ) -> Result<Option<AddressLookupTableAccount>, Rejection> {
        let sponsor = self.sponsor();
        // The address is derived from a slot that every later bank remembers.
        let Snapshot { slot, .. } = self.chain().accounts(&[*page], Commitment::Confirmed).await?;
        let (create, key) = create_lookup_table(sponsor, sponsor, slot);
        let instructions = [create, extend_lookup_table(key, sponsor, Some(sponsor), contents(book, page))];
        let budget = Budget { compute_units: COMPUTE_UNITS, compute_price: self.compute_price(&[sponsor]).await };
        let blockhash = self.latest_blockhash().await?;
        let transaction = self.signed(message(Shape::Legacy, &sponsor, &instructions, None, &budget, blockhash.hash)?);
        let Some(attempt) = attempt_of(&transaction, blockhash.last_valid_height) else {
            return Ok(None);
        };
        if let Some(failure) = self.simulate(&transaction).await?.failure {
            tracing::warn!(%failure, "a lookup table cannot be made");
            return Ok(None);
        }
        journal.keep_table(&page.to_bytes(), &key.to_bytes()).await?;
        let fate = send_until_decided(self.chain(), &transaction, &attempt, &self.settings().pace).await;
        if matches!(fate, Fate::Landed { .. } | Fate::Failed { .. }) {
            journal.billed_for_accounts(attempt.signature);
        }
        match fate {
            Fate::Landed { .. } => self.wait_for_table(&key, book, page).await,
            Fate::Failed { .. } | Fate::Expired | Fate::Unknown => Ok(None),
        }
    }

    /// What a table holds can be looked up from the slot after the one that put it there.
    async fn wait_for_table(
        &self,
        key: &Address,
        book: &BookView,
        page: &Address,
    ) -> Result<Option<AddressLookupTableAccount>, Rejection> {
        let mut pause = self.settings().pace.first;
        for _ in 0..LOOKS {
            if let Some(table) = self.usable_table(key, book, page).await? {
                return Ok(Some(table));
            }
            tokio::time::sleep(pause).await;
            pause = self.settings().pace.after(pause);
        }
        // It is there, and the next batch will find it ready.
        Err(Rejection::ChainUnavailable)
    }

    async fn usable_table(
        &self,
        key: &Address,
        book: &BookView,
        page: &Address,
    ) -> Result<Option<AddressLookupTableAccount>, Rejection> {
        let Snapshot { slot, accounts } = self.chain().accounts(&[*key], Commitment::Confirmed).await?;
        let addresses = accounts.first().and_then(Option::as_ref).and_then(|account| usable(account, slot));
        let complete = |addresses: &Vec<Address>| contents(book, page).iter().all(|one| addresses.contains(one));
        Ok(addresses.filter(complete).map(|addresses| AddressLookupTableAccount { key: *key, addresses }))
    }
}

/// What a table can be used for at `slot`: nothing before the slot after its last extension, or when it is being closed.
fn usable(account: &Account, slot: u64) -> Option<Vec<Address>> {
    let table = AddressLookupTable::deserialize(&account.data).ok()?;
    let ready = account.owner == LOOKUP_TABLE_PROGRAM
        && table.meta.deactivation_slot == u64::MAX
        && slot > table.meta.last_extended_slot;
    ready.then(|| table.addresses.to_vec())
}

/// All that a claim with its payout names, but the programs that it calls, which have to stand in the message itself.
fn contents(book: &BookView, page: &Address) -> Vec<Address> {
    let mut contents = vec![*page, book.vault(page), book.address, book.mint(), book.token_program()];
    contents.extend(book.state.legs().iter().map(|leg| Address::from(leg.account)));
    contents
}

#[cfg(test)]
mod tests {
    use super::*;
    use solana_address_lookup_table_interface::state::LookupTableMeta;

    /// A table as it lies in its account: 56 bytes of meta (a tag, two slots, an index, the authority), addresses.
    fn table(deactivation_slot: u64, last_extended_slot: u64, addresses: &[Address]) -> Account {
        let meta = LookupTableMeta::default();
        let mut data = 1u32.to_le_bytes().to_vec();
        data.extend(deactivation_slot.to_le_bytes());
        data.extend(last_extended_slot.to_le_bytes());
        data.push(meta.last_extended_slot_start_index);
        data.resize(56, 0);
        addresses.iter().for_each(|one| data.extend(one.to_bytes()));
        Account { lamports: 1, owner: LOOKUP_TABLE_PROGRAM, data }
    }

    #[test]
    fn a_table_is_used_from_the_slot_after_its_extension_until_it_is_closed() {
        let addresses = [Address::new_from_array([7; 32])];
        assert_eq!(usable(&table(u64::MAX, 10, &addresses), 10), None, "not warm yet");
        assert_eq!(usable(&table(u64::MAX, 10, &addresses), 11), Some(addresses.to_vec()));
        assert_eq!(usable(&table(12, 10, &addresses), 12), None, "being closed");
        let foreign = Account { owner: Address::new_from_array([1; 32]), ..table(u64::MAX, 10, &addresses) };
        assert_eq!(usable(&foreign, 11), None, "not a lookup table at all");
    }
}
