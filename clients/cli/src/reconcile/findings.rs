//! What differs between store and chain, and why.

use super::token::Token;
use crate::history::{Channel, Kind as Moved, PageHistory};
use anyhow::{Context, Result};
use serde::Serialize;
use solana_signature::Signature;
use std::collections::{BTreeMap, BTreeSet};
use tallybook_ledger::{BatchRecord, ChannelRecord, State};
use tallybook_rules::Amount;
use tallybook_store::VoucherStore;
use tallybook_wire::Key;

/// Why store and chain say something else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Charged, and not claimed yet: it waits for a batch to be worth it.
    Waiting,
    /// Charged, and on its way: a batch that has not ended has it.
    UnderWay,
    /// Somebody claimed all that was signed, which is more than calls cost: anyone with a voucher may.
    ClaimedInFull,
    /// A batch that settled less than it was planned for: somebody else had claimed some of it before.
    ClaimedBefore,
    /// Claimed by transactions that the store knows nothing of: anyone may claim.
    ClaimedByOthers,
    /// The chain has settled more than any voucher in the store says: the store is older than the chain, as after a restore, or
    /// another one served this channel.
    StoreIsBehind,
    /// A channel on chain was claimed from, and the store never had a voucher of it: another store serves this page.
    NotInStore,
    /// A channel ended, and what it was charged was not all claimed before: that money is lost to the payee.
    Lost,
    /// The store has vouchers of a channel that its page never had.
    NotOnChain,
    /// The store says that a transaction of a batch landed, and the page has no such transaction.
    BatchNotOnChain,
}

impl Kind {
    /// Whether it is how things are, or somebody has to look.
    pub const fn is_explained(self) -> bool {
        match self {
            Self::Waiting | Self::UnderWay | Self::ClaimedInFull | Self::ClaimedBefore | Self::ClaimedByOthers => true,
            Self::StoreIsBehind | Self::NotInStore | Self::Lost | Self::NotOnChain | Self::BatchNotOnChain => false,
        }
    }

    /// In a few words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Waiting => "charged, and waits to be claimed",
            Self::UnderWay => "charged, and a batch with it is on its way",
            Self::ClaimedInFull => "claimed up to what was signed, more than calls cost: anyone with a voucher may",
            Self::ClaimedBefore => "settled less than planned: somebody had claimed some of it before",
            Self::ClaimedByOthers => "claimed by transactions that are not this store's: anyone may",
            Self::StoreIsBehind => "settled beyond any voucher in the store: was an old backup restored?",
            Self::NotInStore => {
                "claimed from, and the store has no voucher of it: is the page served from another store?"
            }
            Self::Lost => "over, and not all that was charged had been claimed: it is lost to the payee",
            Self::NotOnChain => "in the store, and its page never had it: is --rpc the right cluster?",
            Self::BatchNotOnChain => "landed as the store says, and the page knows nothing of it: ask another node",
        }
    }
}

/// One difference.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Why.
    pub kind: Kind,
    /// The token that both amounts are of.
    pub mint: String,
    /// The page.
    pub page: String,
    /// The channel, if it is of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// The batch, if it is of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<u64>,
    /// The transaction, if it is of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction: Option<String>,
    /// What was charged according to the store, in base units; planned, for a batch.
    #[serde(serialize_with = "digits")]
    pub in_store: Amount,
    /// What was settled according to the chain, in base units.
    #[serde(serialize_with = "digits")]
    pub on_chain: Amount,
}

fn digits<S: serde::Serializer>(amount: &Amount, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(amount)
}

/// All differences in one token, and the sums that they explain.
#[derive(Clone, Debug)]
pub(super) struct Findings<'a> {
    /// The token, and what store and chain say of its books.
    pub token: &'a Token,
    /// Of channels: they explain why what was charged is not what was settled.
    pub channels: Vec<Finding>,
    /// Of batches and transactions.
    pub batches: Vec<Finding>,
    /// Charged in all, of every channel that the pages ever had or the store has.
    pub charged: Amount,
    /// Settled in all.
    pub settled: Amount,
    /// Channels that were compared.
    pub compared: usize,
}

impl<'a> Findings<'a> {
    /// Compares what store and chain say of one token's books. `ours` are the transactions that the store knows of.
    pub(super) fn of(store: &mut dyn VoucherStore, token: &'a Token, ours: &BTreeSet<Signature>) -> Result<Self> {
        let under_way: BTreeSet<[u8; 32]> = token
            .batches
            .iter()
            .filter(|batch| batch.state == State::Sending)
            .flat_map(BatchRecord::channel_ids)
            .collect();
        let (charged, settled) = (Amount::ZERO, Amount::ZERO);
        let mut findings = Self { token, channels: Vec::new(), batches: Vec::new(), charged, settled, compared: 0 };
        let mut met = BTreeSet::new();
        for page in token.histories.iter().flat_map(|history| &history.pages) {
            let ended = page.ended.iter().map(|ended| (ended.channel, true));
            for (channel, is_over) in page.standing.values().map(|channel| (*channel, false)).chain(ended) {
                met.insert(channel.id);
                let kept = store.channel(&channel.id.0)?.map(|kept| kept.record);
                findings.compare(page, &channel, kept.as_ref(), is_over, under_way.contains(&channel.id.0))?;
            }
        }
        for record in token.channels.iter().filter(|record| !met.contains(&Key(record.voucher.channel_id))) {
            findings.charged = findings.charged.plus(record.charged)?;
            let channel = Some(Key(record.voucher.channel_id).to_string());
            let finding = findings.finding(Kind::NotOnChain, record.place.page, record.charged, Amount::ZERO);
            findings.channels.push(Finding { channel, ..finding });
        }
        findings.compare_batches(ours)?;
        Ok(findings)
    }

    /// A difference in a page of this token.
    fn finding(&self, kind: Kind, page: [u8; 32], in_store: Amount, on_chain: Amount) -> Finding {
        let (mint, page) = (self.token.mint.to_string(), Key(page).to_string());
        Finding { kind, mint, page, channel: None, batch: None, transaction: None, in_store, on_chain }
    }

    fn compare(
        &mut self,
        page: &PageHistory,
        channel: &Channel,
        record: Option<&ChannelRecord>,
        is_over: bool,
        is_under_way: bool,
    ) -> Result<()> {
        let charged = record.map_or(Amount::ZERO, |record| record.charged);
        let settled = channel.settled;
        self.compared = self.compared.saturating_add(1);
        self.charged = self.charged.plus(charged)?;
        self.settled = self.settled.plus(settled)?;
        if charged == settled {
            return Ok(());
        }
        let kind = match record {
            None => Kind::NotInStore,
            Some(record) if settled > record.voucher.cumulative => Kind::StoreIsBehind,
            Some(_) if settled > charged => Kind::ClaimedInFull,
            Some(_) if is_over => Kind::Lost,
            Some(_) if is_under_way => Kind::UnderWay,
            Some(_) => Kind::Waiting,
        };
        let finding = self.finding(kind, page.address.to_bytes(), charged, settled);
        self.channels.push(Finding { channel: Some(channel.id.to_string()), ..finding });
        Ok(())
    }

    /// Each transaction of a batch that landed is in the page's history, and added what was planned. What was claimed by no
    /// batch was claimed by others.
    fn compare_batches(&mut self, ours: &BTreeSet<Signature>) -> Result<()> {
        let Token { histories, batches, .. } = self.token;
        // What each transaction added in each page.
        let mut added: BTreeMap<(Signature, [u8; 32]), Amount> = BTreeMap::new();
        for page in histories.iter().flat_map(|history| &history.pages) {
            for movement in page.movements.iter().filter(|movement| movement.kind == Moved::Claimed) {
                let sum = added.entry((movement.transaction, page.address.to_bytes())).or_insert(Amount::ZERO);
                *sum = sum.plus(movement.amount)?;
            }
        }
        let known: BTreeSet<Signature> = histories.iter().flat_map(|history| history.costs.keys().copied()).collect();
        for batch in batches.iter().filter(|batch| batch.state != State::Sending) {
            self.compare_batch(batch, &added, &known)?;
        }
        for ((transaction, page), amount) in added.iter().filter(|((transaction, _), _)| !ours.contains(transaction)) {
            let finding = self.finding(Kind::ClaimedByOthers, *page, Amount::ZERO, *amount);
            self.batches.push(Finding { transaction: Some(transaction.to_string()), ..finding });
        }
        Ok(())
    }

    fn compare_batch(
        &mut self,
        batch: &BatchRecord,
        added: &BTreeMap<(Signature, [u8; 32]), Amount>,
        known: &BTreeSet<Signature>,
    ) -> Result<()> {
        let (mut gained, mut is_whole) = (Amount::ZERO, true);
        // One that was sent twice may stand here twice.
        let landed: BTreeSet<Signature> = batch.landed.iter().map(|landed| Signature::from(landed.signature)).collect();
        for signature in landed {
            if known.contains(&signature) {
                let amount = added.get(&(signature, batch.page)).copied().unwrap_or_default();
                gained = gained.plus(amount)?;
            } else {
                is_whole = false;
                let finding = self.finding(Kind::BatchNotOnChain, batch.page, batch.gain, Amount::ZERO);
                let transaction = Some(signature.to_string());
                self.batches.push(Finding { batch: Some(batch.id), transaction, ..finding });
            }
        }
        if is_whole && gained < batch.gain && batch.state == State::Confirmed && batch.refused.is_empty() {
            let finding = self.finding(Kind::ClaimedBefore, batch.page, batch.gain, gained);
            self.batches.push(Finding { batch: Some(batch.id), ..finding });
        }
        Ok(())
    }

    /// Of channels, and of batches and transactions.
    pub(super) fn every(&self) -> impl Iterator<Item = &Finding> {
        self.channels.iter().chain(&self.batches)
    }

    /// Whether the differences of the channels are the difference of the sums, to the base unit.
    pub(super) fn add_up(&self) -> Result<bool> {
        let wide = |amount: Amount| i128::from(amount.get());
        let mut sum = 0i128;
        for finding in &self.channels {
            let difference = wide(finding.in_store).checked_sub(wide(finding.on_chain)).context("too large")?;
            sum = sum.checked_add(difference).context("too large")?;
        }
        Ok(wide(self.charged).checked_sub(wide(self.settled)) == Some(sum))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::history::town::{PAGE, Town};
    use crate::history::{BookHistory, Cost};
    use solana_address::Address;
    use tallybook_ledger::{Change, Landed, Place};
    use tallybook_rules::signing::{SignedVoucher, SigningKey};
    use tallybook_store::MemoryStore;

    pub(in crate::reconcile) fn id(history: &BookHistory, slot: u8) -> [u8; 32] {
        let page = &history.pages[0];
        let standing = page.standing.get(&slot).copied();
        standing.or_else(|| page.ended.iter().map(|ended| ended.channel).find(|one| one.slot == slot)).unwrap().id.0
    }

    pub(in crate::reconcile) fn record(channel: [u8; 32], slot: u8, signed: u64, charged: u64) -> Change {
        let key = SigningKey::from_bytes(&[5; 32]);
        Change::Channel(ChannelRecord {
            place: Place { page: PAGE, slot, generation: 1 },
            payer: [slot; 32],
            signer: key.verifying_key().to_bytes(),
            voucher: SignedVoucher::sign(&key, channel, Amount::new(signed)),
            charged: Amount::new(charged),
            last: None,
            unsettled_since: 1,
            leaving_since: 0,
        })
    }

    pub(in crate::reconcile) fn history(town: &Town) -> BookHistory {
        let page = town.replay().unwrap();
        let cost = |at| Cost { at, fee_payer: [7; 32].into(), lamports: 5_000 };
        let costs = town.told.iter().map(|transaction| (transaction.signature, cost(transaction.at))).collect();
        BookHistory { book: Town::book(), chain_slot: 99, pages: vec![page], costs }
    }

    /// A batch that was to add so much, with transactions that landed as the store says.
    fn batch(number: u64, gain: u64, state: State, landed: &[Signature]) -> BatchRecord {
        let landed = landed.iter().map(|signature| Landed {
            signature: *signature.as_array(),
            rows: 1,
            fee_lamports: 5_000,
            compute_units: 1,
        });
        BatchRecord {
            id: number,
            page: PAGE,
            rows: Vec::new(),
            gain: Amount::new(gain),
            planned_at: 1,
            ended_at: 2,
            state,
            attempts: Vec::new(),
            landed: landed.collect(),
            refused: Vec::new(),
        }
    }

    /// All that a store and a history say of the one token that they are of.
    fn token(store: &mut MemoryStore, batches: Vec<BatchRecord>, history: BookHistory) -> Token {
        let of_page = [(Address::from(PAGE), history.book.address)].into();
        let channels = store.load().unwrap().channels;
        let mut tokens = Token::each(channels, batches, &of_page, vec![history]).unwrap();
        assert_eq!(tokens.len(), 1);
        tokens.remove(0)
    }

    fn kinds(findings: &[Finding]) -> Vec<(Kind, u64, u64)> {
        let mut kinds: Vec<_> = findings.iter().map(|one| (one.kind, one.in_store.get(), one.on_chain.get())).collect();
        kinds.sort();
        kinds
    }

    #[test]
    fn given_channels_in_every_relation_when_compared_then_each_has_its_reason_and_all_add_up() {
        // Given channels of which the chain has settled 100 each, and one that is over,
        let mut town = Town::default();
        (0..6).for_each(|slot| town.open(slot, 1, 1_000));
        town.claim(&[(0, 100), (1, 100), (2, 100), (3, 100), (4, 100), (5, 100)], 600);
        town.withdraw(4, 900);
        let history = history(&town);
        let mut store = MemoryStore::default();
        // and a store that has charged the same, more, less, and less than was settled of what was signed; more for the one
        // that is over; nothing of the last; and something of a channel that never was.
        let of = |slot: u8, signed, charged| record(id(&history, slot), slot, signed, charged);
        let changes = [
            of(0, 100, 100),
            of(1, 170, 150),
            of(2, 100, 60),
            of(3, 90, 90),
            of(4, 130, 130),
            record([77; 32], 9, 5, 5),
        ];
        store.commit(&changes).unwrap();
        let token = token(&mut store, Vec::new(), history);
        let findings = Findings::of(&mut store, &token, &BTreeSet::new()).unwrap();
        let expected = [
            (Kind::Waiting, 150, 100),
            (Kind::ClaimedInFull, 60, 100),
            (Kind::StoreIsBehind, 90, 100),
            (Kind::NotInStore, 0, 100),
            (Kind::Lost, 130, 100),
            (Kind::NotOnChain, 5, 0),
        ];
        assert_eq!(kinds(&findings.channels), expected);
        assert_eq!((findings.charged.get(), findings.settled.get()), (535, 600));
        assert!(findings.add_up().unwrap());
        let explained = findings.channels.iter().filter(|finding| finding.kind.is_explained()).count();
        assert_eq!(explained, 2);
    }

    #[test]
    fn given_batches_when_compared_then_what_landed_is_found_and_what_others_claimed_is_said() {
        let mut town = Town::default();
        town.open(0, 1, 1_000);
        town.claim(&[(0, 100)], 100);
        let ours = town.signature(0);
        town.claim(&[(0, 130)], 30);
        let short = town.signature(0);
        town.claim(&[(0, 175)], 45);
        let history = history(&town);
        let mut store = MemoryStore::default();
        store.commit(&[record(id(&history, 0), 0, 200, 200)]).unwrap();
        let never = Signature::from([200; 64]);
        let batches = [
            batch(4, 20, State::Sending, &[]),
            batch(3, 10, State::Confirmed, &[never]),
            batch(2, 50, State::Confirmed, &[short]),
            batch(1, 100, State::Confirmed, &[ours]),
        ];
        let token = token(&mut store, batches.to_vec(), history);
        let findings = Findings::of(&mut store, &token, &[ours, short, never].into()).unwrap();
        let expected = [(Kind::ClaimedBefore, 50, 30), (Kind::ClaimedByOthers, 0, 45), (Kind::BatchNotOnChain, 10, 0)];
        assert_eq!(kinds(&findings.batches), expected);
        assert_eq!(kinds(&findings.channels), [(Kind::Waiting, 200, 175)], "the batch on its way has no row of it");
    }
}
