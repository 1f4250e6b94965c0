//! The batch: from a paid call to a settled one, over everything that may happen on the way.
//!
//! Here run together the real ledger (calls, observations, plans), the real store (what a crash leaves), the real batch record
//! and the settler's real decision about a transaction that was sent, over a chain of blocks that are confirmed, finalized or
//! forked away, and a network that drops, delays and repeats. What is modelled is the loop around them: plan, write, send, ask,
//! write, in the order of the facilitator's `settlement`, with a crash between any two of its steps.

use crate::explore::{Explored, Model, explore};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use tallybook_ledger::{
    Attempt, Batch, BatchRecord, Bundle, Change, Channel, Finality, Landed, Ledger, Outcome, PageSeen, Policy, Purpose,
    Settings, State as BatchState,
};
use tallybook_rules::signing::{SignedVoucher, SigningKey, VerifiedVoucher, channel_id};
use tallybook_rules::{Amount, Opening, Page, PageHeader, Rejection, Slot, Status};
use tallybook_settler::{Commitment, Failure, Fate, Height, Landing, Statuses, decide};
use tallybook_store::{MemoryStore, VoucherStore};

const PAGE: [u8; 32] = [7; 32];
const PAYER: [u8; 32] = [9; 32];
const GRACE: u32 = 900;
/// A call costs this, of the ceiling that is signed for.
const COST: u64 = 1;
const CEILING: u64 = 2;
const DEPOSIT: u64 = 3;
/// For so many blocks a transaction can land.
const LIFETIME: u64 = 1;
/// After so many good steps everything has ended.
const PATIENCE: usize = 12;

/// How often each thing may happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Bounds {
    openings: u8,
    calls: u8,
    top_ups: u8,
    strangers: u8,
    batches: u8,
    sendings: u8,
    crashes: u8,
    forks: u8,
    blocks: u8,
    leavings: u8,
}

/// A page as one block has it.
#[derive(Clone)]
struct Sheet {
    header: PageHeader,
    slots: Vec<Slot>,
}

/// A transaction that was signed.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Sent {
    /// Channel and cumulative amount.
    rows: Vec<([u8; 32], u64)>,
    last_valid: u64,
}

/// What a node says of a transaction in a block.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct InBlock {
    block: u64,
    worked: bool,
}

#[derive(Clone)]
struct World {
    left: Bounds,
    now: i64,
    // --- the chain
    tip: Sheet,
    rooted: Sheet,
    block: u64,
    rooted_block: u64,
    /// Counts every change of the tip, forks too: a later sight has a larger number.
    sights: u64,
    signed: Vec<Sent>,
    on_the_way: BTreeSet<usize>,
    landed: BTreeMap<usize, InBlock>,
    // --- the facilitator
    store: MemoryStore,
    /// None while it is down.
    house: Option<House>,
    // --- what its customers know
    /// Of each channel, the largest charge that was answered for.
    answered: BTreeMap<[u8; 32], u64>,
    /// Of each channel, the most that was signed.
    promised: BTreeMap<[u8; 32], u64>,
}

/// What a crash takes away.
#[derive(Clone)]
struct House {
    ledger: Ledger,
    /// Batches that have not ended.
    work: BTreeMap<u64, Work>,
    newest: u64,
}

/// A batch that is worked on: its rows, and whether it was found at a restart, when it is only asked about.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Work {
    rows: Vec<([u8; 32], u64)>,
    attempts: Vec<usize>,
    is_resumed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Action {
    // --- payers and strangers
    Open,
    TopUp,
    RequestClose,
    Withdraw,
    StrangerClaims,
    // --- the facilitator
    Look,
    LookAtRoot,
    Reserve,
    Commit { charge: u64, crash: Crash },
    Release,
    Plan { crash: Crash },
    Send { batch: u64, crash: Crash },
    Resend { batch: u64 },
    Ask { batch: u64, crash: Crash },
    AskNodeThatIsBehind { batch: u64 },
    CrashNow,
    Restart,
    Leave { crash: Crash },
    // --- the chain
    Land { transaction: usize },
    Drop { transaction: usize },
    Block,
    Root,
    Fork,
    GraceEnds,
}

/// Where in a step the process dies, if it does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Crash {
    Never,
    /// Nothing is written yet.
    Before,
    /// It is written, and nobody was told.
    After,
}

const CRASHES: [Crash; 3] = [Crash::Never, Crash::Before, Crash::After];

fn key() -> SigningKey {
    SigningKey::from_bytes(&[5; 32])
}

/// The voucher of a channel over so much: signed once in this run.
fn voucher(id: [u8; 32], cumulative: u64) -> VerifiedVoucher {
    thread_local! { static SIGNED: RefCell<HashMap<([u8; 32], u64), VerifiedVoucher>> = RefCell::default(); }
    SIGNED.with_borrow_mut(|signed| {
        *signed.entry((id, cumulative)).or_insert_with(|| {
            let voucher = SignedVoucher::sign(&key(), id, Amount::new(cumulative));
            voucher.verify(key().verifying_key().as_bytes()).unwrap()
        })
    })
}

fn signature(transaction: usize) -> [u8; 64] {
    [u8::try_from(transaction).unwrap(); 64]
}

impl Sheet {
    fn page(&mut self) -> Page<'_> {
        Page { header: &mut self.header, slots: &mut self.slots }
    }

    fn slot(&self) -> &Slot {
        &self.slots[0]
    }

    /// The id of the channel that stands here.
    fn id(&self) -> Option<[u8; 32]> {
        let slot = self.slot();
        let stands = slot.status() != Ok(Status::Free);
        stands.then(|| channel_id(&self.header.page_domain, 0, slot.generation, &slot.payer, &slot.signer))
    }

    fn is(&self, other: &Self) -> bool {
        self.header == other.header && self.slots == other.slots
    }
}

impl World {
    fn new(bounds: Bounds) -> Self {
        let header = PageHeader {
            book: [8; 32],
            page_domain: [6; 32],
            capacity: 1,
            version: PageHeader::VERSION,
            ..PageHeader::default()
        };
        let sheet = Sheet { header, slots: vec![Slot::default()] };
        let mut world = Self {
            left: bounds,
            now: 1_000,
            tip: sheet.clone(),
            rooted: sheet,
            block: 1,
            rooted_block: 1,
            sights: 1,
            signed: Vec::new(),
            on_the_way: BTreeSet::new(),
            landed: BTreeMap::new(),
            store: MemoryStore::default(),
            house: None,
            answered: BTreeMap::new(),
            promised: BTreeMap::new(),
        };
        world.restart();
        world
    }

    // --- the facilitator's steps

    /// Reads the store, then the page; what was on its way is asked about before anything else is done with it.
    fn restart(&mut self) {
        let stored = self.store.load().unwrap();
        let settings = Settings { credit: Amount::MAX_DEPOSIT, retry_seconds: 0 };
        let mut ledger = Ledger::new(settings);
        for record in stored.channels {
            ledger.restore(record).expect("what was written is good");
        }
        let mut work = BTreeMap::new();
        for record in &stored.sending {
            let rows = record.rows.iter().map(|row| (row.channel_id, row.cumulative.get())).collect();
            let attempts = record.attempts.iter().map(|attempt| usize::from(attempt.signature[0])).collect();
            work.insert(record.id, Work { rows, attempts, is_resumed: true });
        }
        self.house = Some(House { ledger, work, newest: stored.newest_batch });
        self.look();
        let house = self.house.as_mut().unwrap();
        for record in &stored.sending {
            house.ledger.sent(record.channel_ids());
        }
    }

    /// Verifies what was read back, as is done beside the calls; an instant after the page was seen.
    fn prove(&mut self) {
        let Some(house) = &mut self.house else { return };
        assert!(house.ledger.prove_all().is_empty(), "what was written is whole");
    }

    fn look(&mut self) {
        let Some(house) = &mut self.house else { return };
        let seen =
            PageSeen { address: PAGE, chain_slot: self.sights, header: &self.tip.header, slots: &self.tip.slots };
        house.ledger.observe(&seen, Finality::Confirmed, self.now).expect("a page that the rules wrote");
        self.prove();
    }

    fn look_at_root(&mut self) {
        let Some(house) = &mut self.house else { return };
        let sheet = &self.rooted;
        let seen = PageSeen { address: PAGE, chain_slot: self.sights, header: &sheet.header, slots: &sheet.slots };
        let changes = house.ledger.observe(&seen, Finality::Final, self.now).unwrap().changes;
        self.store.commit(&changes).unwrap();
    }

    fn channel(&self) -> Option<Channel> {
        self.house.as_ref()?.ledger.channel(&self.tip.id()?)
    }

    fn reserve(&mut self) -> Option<()> {
        let channel = self.channel()?;
        let signed = channel.charged().get() + CEILING;
        let voucher = voucher(*channel.id(), signed);
        // The customer signs before it is known whether the voucher is taken.
        let promised = self.promised.entry(*channel.id()).or_default();
        *promised = signed.max(*promised);
        let (now, house) = (self.now, self.house.as_mut()?);
        let reserved = house.ledger.reserve(voucher, Amount::new(CEILING), now, now + 10_000);
        if reserved.is_err() {
            assert_eq!(house.ledger.channel(channel.id()), Some(channel), "refused changes nothing");
        }
        reserved.ok().map(|_| ())
    }

    fn commit(&mut self, charge: u64, crash: Crash) -> Option<()> {
        let (channel, now) = (self.channel()?, self.now);
        let reserved = *channel.reserved(now)?.voucher.voucher();
        let house = self.house.as_mut()?;
        let committed = house.ledger.commit(&reserved, Amount::new(charge), now).ok()?;
        if crash != Crash::Before {
            self.store.commit(&[Change::Channel(committed.change?)]).expect("what is charged never falls");
        }
        if crash == Crash::Never {
            let again = house.ledger.commit(&reserved, Amount::new(CEILING), now).expect("the same answer");
            assert_eq!((again.charge.get(), again.change), (charge, None), "charged once");
            let answered = self.answered.entry(*channel.id()).or_default();
            *answered = committed.channel.charged().get().max(*answered);
        } else {
            self.crash();
        }
        Some(())
    }

    fn plan(&mut self, crash: Crash) -> Option<()> {
        let policy = Policy { per_call: true, due_age_seconds: 0, ..Policy::default() };
        let now = self.now;
        let house = self.house.as_mut()?;
        let batches: Vec<Batch> = house.ledger.plan(now, &policy).into_iter().flat_map(Bundle::into_batches).collect();
        if batches.is_empty() {
            return None;
        }
        for batch in batches {
            house.newest += 1;
            let record = BatchRecord::planned(house.newest, &batch, now).unwrap();
            house.ledger.sent(batch.channel_ids());
            let rows: Vec<_> = record.rows.iter().map(|row| (row.channel_id, row.cumulative.get())).collect();
            for (id, amount) in &rows {
                let charged = house.ledger.channel(id).expect("a planned channel").charged();
                assert!(*amount <= charged.get(), "no more is claimed than calls have cost");
            }
            house.work.insert(house.newest, Work { rows, attempts: Vec::new(), is_resumed: false });
            if crash != Crash::Before {
                self.store.commit(&[Change::Planned(record)]).unwrap();
            }
        }
        if crash != Crash::Never {
            self.crash();
        }
        Some(())
    }

    /// Signs the next transaction of a batch: only when none of it can land any more.
    fn send(&mut self, id: u64, crash: Crash) -> Option<()> {
        let work = self.house.as_ref()?.work.get(&id)?.clone();
        let fates: Vec<Fate> = work.attempts.iter().map(|attempt| self.fate(*attempt, true)).collect();
        if work.is_resumed || fates.iter().any(|fate| *fate != Fate::Expired) {
            return None;
        }
        for attempt in &work.attempts {
            assert!(!self.may_land(*attempt), "another transaction is signed while one may still land");
        }
        let (number, last_valid) = (self.signed.len(), self.block + LIFETIME);
        let attempt = Attempt { signature: signature(number), last_valid_block_height: last_valid };
        if crash != Crash::Before {
            self.store.commit(&[Change::Sending { purpose: Purpose::Batch(id), attempt }]).unwrap();
        }
        if crash != Crash::Never {
            self.crash();
            // Written and never sent, or not even written: it exists nowhere else.
            if crash == Crash::After {
                self.signed.push(Sent { rows: work.rows, last_valid });
            }
            return Some(());
        }
        self.signed.push(Sent { rows: work.rows, last_valid });
        self.on_the_way.insert(number);
        self.house.as_mut()?.work.get_mut(&id)?.attempts.push(number);
        Some(())
    }

    /// Hands the same transaction over again.
    fn resend(&mut self, id: u64) -> Option<()> {
        let work = self.house.as_ref()?.work.get(&id)?;
        let last = *work.attempts.last()?;
        let undecided = !work.is_resumed && self.fate(last, true) == Fate::Unknown;
        (undecided && self.signed[last].last_valid >= self.block && self.on_the_way.insert(last)).then_some(())
    }

    /// What the settler makes of what a node says; one that is behind has seen nothing.
    fn fate(&self, transaction: usize, is_up_to_date: bool) -> Fate {
        let attempt =
            Attempt { signature: signature(transaction), last_valid_block_height: self.signed[transaction].last_valid };
        let height = Height { slot: self.rooted_block, block: self.rooted_block };
        let found = self.landed.get(&transaction).filter(|_| is_up_to_date).map(|found| Landing {
            slot: found.block,
            commitment: if found.block <= self.rooted_block { Commitment::Finalized } else { Commitment::Confirmed },
            failure: (!found.worked).then(failure),
        });
        let slot = if is_up_to_date { self.block } else { self.rooted_block.saturating_sub(1) };
        decide(&attempt, Some(height), &Statuses { slot, landings: vec![found] })
    }

    /// Asks about every sending of a batch; when all is known the batch ends.
    fn ask(&mut self, id: u64, crash: Crash) -> Option<()> {
        let work = self.house.as_ref()?.work.get(&id)?.clone();
        let fates: Vec<(usize, Fate)> =
            work.attempts.iter().map(|attempt| (*attempt, self.fate(*attempt, true))).collect();
        let landed: Vec<Landed> = fates
            .iter()
            .filter(|(_, fate)| matches!(fate, Fate::Landed { .. }))
            .map(|(attempt, _)| landed(*attempt, work.rows.len()))
            .collect();
        let failed = fates.iter().any(|(_, fate)| matches!(fate, Fate::Failed { .. }));
        let undecided = fates.iter().any(|(_, fate)| *fate == Fate::Unknown);
        // A batch under work goes on to its next transaction; one found at a restart ends as soon as all is known.
        if undecided || (landed.is_empty() && !failed && !work.is_resumed) {
            return None;
        }
        let refused = if failed { vec![(0, Rejection::SlotFree)] } else { Vec::new() };
        let outcome = Outcome { landed, refused: refused.clone(), unknown: false };
        self.look();
        let (now, ids) = (self.now, work.rows.iter().map(|(id, _)| *id));
        let house = self.house.as_mut()?;
        house.work.remove(&id);
        house.ledger.ended(ids, &refused, now);
        if crash != Crash::Before {
            self.store.commit(&[Change::Ended { id, outcome, at: now }]).unwrap();
        }
        if crash != Crash::Never {
            self.crash();
        }
        Some(())
    }

    /// The signer wants out: what is charged is claimed with the refund of the rest, in one transaction by the operator.
    fn leave(&mut self, crash: Crash) -> Option<()> {
        let (channel, now) = (self.channel()?, self.now);
        let voucher = voucher(*channel.id(), channel.charged().get());
        let house = self.house.as_mut()?;
        let left = house.ledger.leave(voucher, now).ok()?;
        if crash != Crash::Before {
            self.store.commit(&left.change.map(Change::Channel).into_iter().collect::<Vec<_>>()).unwrap();
        }
        if crash != Crash::Never {
            self.crash();
            return Some(());
        }
        let generation = self.tip.slot().generation;
        let mut page = self.tip.page();
        page.claim(0, channel.charged(), now).ok()?;
        page.refund(0, generation, channel.charged()).unwrap();
        self.moved();
        Some(())
    }

    fn crash(&mut self) {
        self.house = None;
    }

    // --- the chain's steps

    fn moved(&mut self) {
        self.sights += 1;
    }

    fn may_land(&self, transaction: usize) -> bool {
        let valid = self.signed[transaction].last_valid >= self.block;
        valid && !self.landed.contains_key(&transaction) && self.on_the_way.contains(&transaction)
    }

    /// Executes a transaction: all of its rows, or none.
    fn land(&mut self, transaction: usize) -> Option<()> {
        if !self.may_land(transaction) {
            return None;
        }
        let (mut after, now) = (self.tip.clone(), self.now);
        let rows = self.signed[transaction].rows.clone();
        // A row of a freed or reopened slot is of another voucher than the program rebuilds.
        let worked = rows
            .iter()
            .all(|(id, amount)| after.id() == Some(*id) && after.page().claim(0, Amount::new(*amount), now).is_ok());
        if worked {
            self.tip = after;
        }
        self.on_the_way.remove(&transaction);
        self.landed.insert(transaction, InBlock { block: self.block, worked });
        self.moved();
        Some(())
    }

    fn next_block(&mut self) {
        self.block += 1;
        let (block, signed) = (self.block, &self.signed);
        self.on_the_way.retain(|transaction| signed[*transaction].last_valid >= block);
    }

    /// All that is not final is undone; transactions that were in it are on their way again, while they are valid.
    fn fork(&mut self) -> Option<()> {
        let undone: Vec<usize> = self
            .landed
            .iter()
            .filter(|(_, found)| found.block > self.rooted_block)
            .map(|(transaction, _)| *transaction)
            .collect();
        if undone.is_empty() && self.tip.is(&self.rooted) {
            return None;
        }
        for transaction in undone {
            self.landed.remove(&transaction);
            if self.signed[transaction].last_valid >= self.block {
                self.on_the_way.insert(transaction);
            }
        }
        self.tip = self.rooted.clone();
        self.moved();
        Some(())
    }

    /// What payers and strangers do on chain.
    fn others_act(&mut self, action: Action) -> Option<()> {
        let now = self.now;
        let generation = self.tip.slot().generation;
        match action {
            Action::Open => {
                let opening = Opening {
                    payer: PAYER,
                    signer: key().verifying_key().to_bytes(),
                    generation: generation + 1,
                    deposit: Amount::new(DEPOSIT),
                };
                self.tip.page().open(0, &opening, Amount::new(1), now).ok()?;
                self.moved();
            }
            Action::TopUp => {
                self.tip.page().top_up(0, generation, Amount::new(1)).ok()?;
                self.moved();
            }
            Action::RequestClose => {
                self.tip.page().request_close(0, generation, &PAYER, GRACE, now).ok()?;
                self.moved();
            }
            Action::Withdraw => {
                self.tip.page().withdraw(0, now).ok()?;
                self.moved();
            }
            Action::StrangerClaims => {
                let promised = *self.promised.get(&self.tip.id()?)?;
                let added = self.tip.page().claim(0, Amount::new(promised), now).ok()?;
                self.moved();
                return (!added.is_zero()).then_some(());
            }
            _ => return None,
        }
        Some(())
    }

    fn act(&mut self, action: Action) -> Option<()> {
        let now = self.now;
        match action {
            Action::Open | Action::TopUp | Action::RequestClose | Action::Withdraw | Action::StrangerClaims => {
                return self.others_act(action);
            }
            Action::Look => self.look(),
            Action::LookAtRoot => self.look_at_root(),
            Action::Reserve => return self.reserve(),
            Action::Commit { charge, crash } => return self.commit(charge, crash),
            Action::Release => {
                let channel = self.channel()?;
                let reserved = *channel.reserved(now)?.voucher.voucher();
                self.house.as_mut()?.ledger.release(&reserved).unwrap();
            }
            Action::Plan { crash } => return self.plan(crash),
            Action::Send { batch, crash } => return self.send(batch, crash),
            Action::Resend { batch } => return self.resend(batch),
            Action::Ask { batch, crash } => return self.ask(batch, crash),
            Action::AskNodeThatIsBehind { batch } => {
                for attempt in &self.house.as_ref()?.work.get(&batch)?.attempts {
                    assert_eq!(self.fate(*attempt, false), Fate::Unknown, "who has seen nothing decides nothing");
                }
                return None;
            }
            Action::CrashNow => {
                self.house.as_ref()?;
                self.crash();
            }
            Action::Restart => {
                if self.house.is_some() {
                    return None;
                }
                self.restart();
            }
            Action::Leave { crash } => return self.leave(crash),
            Action::Land { transaction } => return self.land(transaction),
            Action::Drop { transaction } => return self.on_the_way.remove(&transaction).then_some(()),
            Action::Block => self.next_block(),
            Action::Root => {
                if self.rooted_block == self.block && self.rooted.is(&self.tip) {
                    return None;
                }
                self.rooted = self.tip.clone();
                self.rooted_block = self.block;
            }
            Action::Fork => return self.fork(),
            Action::GraceEnds => {
                if self.tip.slot().status() != Ok(Status::Closing) || self.now >= self.tip.slot().closing_at {
                    return None;
                }
                self.now = self.tip.slot().closing_at;
            }
        }
        Some(())
    }

    /// From here on nothing fails: a sound network, a chain that roots its blocks, a facilitator that stays up.
    fn without_faults(&mut self) {
        for _ in 0..PATIENCE {
            if self.house.is_none() {
                self.restart();
            }
            self.look();
            let batches: Vec<u64> = self.house.as_ref().unwrap().work.keys().copied().collect();
            for batch in batches {
                let _ = self.ask(batch, Crash::Never);
                let _ = self.send(batch, Crash::Never);
            }
            let _ = self.plan(Crash::Never);
            for transaction in self.on_the_way.clone() {
                let _ = self.land(transaction);
            }
            self.next_block();
            self.rooted = self.tip.clone();
            self.rooted_block = self.block;
            self.look_at_root();
        }
        self.look();
    }
}

fn failure() -> Failure {
    Failure(solana_transaction::TransactionError::AccountInUse)
}

fn landed(transaction: usize, rows: usize) -> Landed {
    let rows = u32::try_from(rows).unwrap();
    Landed { signature: signature(transaction), rows, fee_lamports: 5_000, compute_units: 1 }
}

impl Model for Bounds {
    type State = World;
    type Action = Action;

    fn fingerprint(&self, world: &World) -> impl Hash {
        let sheet = |sheet: &Sheet| format!("{:?}{:?}", sheet.header, sheet.slots);
        let house = world.house.as_ref().map(|house| {
            let mut channels: Vec<String> = house.ledger.channels().map(|channel| format!("{channel:?}")).collect();
            channels.sort();
            (channels, house.ledger.unmet(), house.work.clone(), house.newest)
        });
        let chain = (sheet(&world.tip), sheet(&world.rooted), world.block, world.rooted_block, world.signed.clone());
        let network = (world.on_the_way.clone(), world.landed.clone());
        let known = (world.answered.clone(), world.promised.clone());
        (world.left, world.now, chain, network, format!("{:?}", world.store), house, known)
    }

    fn actions(&self, world: &World) -> Vec<Action> {
        let left = &world.left;
        let mut actions = vec![Action::Look, Action::LookAtRoot, Action::Release, Action::Restart];
        let crashes = if left.crashes > 0 { &CRASHES[..] } else { &CRASHES[..1] };
        let times = |left: u8, action: Action| (left > 0).then_some(action);
        actions.extend(
            [
                times(left.openings, Action::Open),
                times(left.top_ups, Action::TopUp),
                times(left.leavings, Action::RequestClose),
                times(left.strangers, Action::StrangerClaims),
                times(left.calls, Action::Reserve),
                times(left.crashes, Action::CrashNow),
                times(left.blocks, Action::Block),
                times(left.forks, Action::Fork),
            ]
            .into_iter()
            .flatten(),
        );
        actions.extend([Action::Withdraw, Action::Root, Action::GraceEnds]);
        for crash in crashes {
            actions.extend([COST, CEILING].map(|charge| Action::Commit { charge, crash: *crash }));
            if left.batches > 0 {
                actions.push(Action::Plan { crash: *crash });
            }
            if left.leavings > 0 {
                actions.push(Action::Leave { crash: *crash });
            }
            for batch in world.house.iter().flat_map(|house| house.work.keys().copied()) {
                actions.push(Action::Ask { batch, crash: *crash });
                if left.sendings > 0 {
                    actions.push(Action::Send { batch, crash: *crash });
                }
            }
        }
        for batch in world.house.iter().flat_map(|house| house.work.keys().copied()) {
            actions.extend([Action::Resend { batch }, Action::AskNodeThatIsBehind { batch }]);
        }
        for transaction in &world.on_the_way {
            actions.extend([Action::Land { transaction: *transaction }, Action::Drop { transaction: *transaction }]);
        }
        actions
    }

    fn next(&self, before: &World, action: Action) -> Option<World> {
        let mut after = before.clone();
        after.act(action)?;
        let left = &mut after.left;
        let spend = |left: &mut u8| *left -= 1;
        match action {
            Action::Open => spend(&mut left.openings),
            Action::TopUp => spend(&mut left.top_ups),
            Action::RequestClose => spend(&mut left.leavings),
            Action::StrangerClaims => spend(&mut left.strangers),
            Action::Reserve => spend(&mut left.calls),
            Action::Block => spend(&mut left.blocks),
            Action::Fork => spend(&mut left.forks),
            Action::Plan { .. } => spend(&mut left.batches),
            Action::Send { .. } => spend(&mut left.sendings),
            Action::Leave { .. } => spend(&mut left.leavings),
            _ => {}
        }
        if before.house.is_some() && after.house.is_none() {
            spend(&mut left.crashes);
        }
        step_is_sound(before, &after, action);
        Some(after)
    }

    fn check(&self, world: &World) {
        for sheet in [&world.tip, &world.rooted] {
            let mut sheet = sheet.clone();
            assert_eq!(sheet.page().check(), Ok(()), "the page's own invariants");
        }
        four_numbers(world);
        answered_survives(world);
        settles_in_the_end(world);
    }
}

/// What was recorded on chain falls by a fork alone; a transaction that may land again adds nothing twice.
fn step_is_sound(before: &World, after: &World, action: Action) {
    let same = before.tip.id() == after.tip.id();
    if same && action != Action::Fork {
        assert!(after.tip.slot().settled >= before.tip.slot().settled, "settled never falls");
    }
    if let (Some(old), Some(new)) = (before.channel(), after.channel())
        && old.id() == new.id()
        && before.house.is_some()
    {
        // What only the chain had charged, by a stranger's claim, a fork may undo; what vouchers here say, nothing.
        let kept = old.newest().map_or(Amount::ZERO, |newest| newest.cumulative);
        assert!(new.charged() >= old.charged().min(kept) && new.signed() >= kept, "neither falls, also by a fork");
    }
    if let Action::Land { transaction } = action {
        // Idempotent by target: the very rows again, as a second transaction would bring them.
        let mut again = after.tip.clone();
        for (id, amount) in &after.signed[transaction].rows {
            if again.id() == Some(*id) && after.landed[&transaction].worked {
                assert_eq!(again.page().claim(0, Amount::new(*amount), after.now), Ok(Amount::ZERO), "no double pay");
            }
        }
    }
    if let Action::Withdraw = action {
        assert!(before.now >= before.tip.slot().closing_at, "not within the grace period");
    }
}

/// settled ≤ charged ≤ signed ≤ deposit, and nothing beyond what the customer has signed.
fn four_numbers(world: &World) {
    let promised = |id: &[u8; 32]| world.promised.get(id).copied().unwrap_or_default();
    if let Some(id) = world.tip.id() {
        assert!(world.tip.slot().settled.get() <= promised(&id), "settled ≤ signed");
    }
    let Some(house) = &world.house else { return };
    assert_eq!(house.ledger.check(), Ok(()), "the ledger's own invariants");
    for channel in house.ledger.channels() {
        assert!(channel.settled() <= channel.charged() && channel.charged() <= channel.signed());
        assert!(channel.signed().get() <= promised(channel.id()), "signed is what the customer signed");
    }
}

/// What was answered is in the store, and in the ledger while the channel stands, whatever crashed in between.
fn answered_survives(world: &World) {
    let mut store = world.store.clone();
    for (id, answered) in &world.answered {
        let kept = store.channel(id).unwrap().expect("an answered call is in the store");
        assert!(kept.record.charged.get() >= *answered, "an answered call is lost");
        if let Some(channel) = world.house.as_ref().and_then(|house| house.ledger.channel(id)) {
            assert!(channel.charged().get() >= *answered, "an answered call is forgotten");
        }
    }
}

/// When faults stop, every answered call of a channel that stands is settled, every batch ends, and nothing waits.
fn settles_in_the_end(world: &World) {
    let mut good = world.clone();
    good.without_faults();
    let house = good.house.as_mut().unwrap();
    assert!(house.work.is_empty(), "every batch ends: {:?}", house.work);
    let stored = good.store.load().unwrap();
    assert!(stored.sending.is_empty(), "and is written so");
    for batch in good.store.batches(None, 64).unwrap() {
        assert_ne!(batch.state, BatchState::Sending);
    }
    if let Some(channel) = good.channel() {
        let (settled, due) = (channel.settled(), channel.charged().min(channel.deposit()));
        assert!(settled >= due, "charged {due} and settled {settled}, with nothing in the way");
        let answered = good.answered.get(channel.id()).copied().unwrap_or_default();
        assert!(settled.get() >= answered.min(channel.deposit().get()));
    }
    // The payee's part is never less than what was answered, where nobody took the channel away before it could claim.
    let spent: usize = good.signed.len();
    assert!(spent <= world.signed.len() + 4, "no transaction after transaction: {spent}");
}

#[test]
fn given_calls_and_claims_when_anything_fails_at_any_moment_then_what_was_answered_is_settled_once() {
    let bounds = Bounds {
        openings: 1,
        calls: 1,
        top_ups: 0,
        strangers: 0,
        batches: 2,
        sendings: 2,
        crashes: 1,
        forks: 1,
        blocks: 2,
        leavings: 0,
    };
    report("crashes and forks", &bounds);
}

#[test]
fn given_a_payer_who_leaves_when_it_races_with_calls_and_claims_then_nothing_that_was_answered_is_lost() {
    let bounds = Bounds {
        openings: 2,
        calls: 1,
        top_ups: 0,
        strangers: 0,
        batches: 1,
        sendings: 1,
        crashes: 1,
        forks: 0,
        blocks: 1,
        leavings: 1,
    };
    report("leaving", &bounds);
}

#[test]
fn given_strangers_and_top_ups_when_they_race_with_calls_then_nothing_is_paid_twice() {
    let bounds = Bounds {
        openings: 1,
        calls: 2,
        top_ups: 1,
        strangers: 1,
        batches: 1,
        sendings: 1,
        crashes: 0,
        forks: 1,
        blocks: 0,
        leavings: 0,
    };
    report("strangers and top-ups", &bounds);
}

fn report(name: &str, bounds: &Bounds) {
    let explored: Explored = explore(bounds, World::new(*bounds));
    println!("batch, {name}: {explored:?}");
    assert!(explored.states > 1_000, "{explored:?}");
    for action in ["Open", "Reserve", "Commit", "Plan", "Send", "Land", "Ask"] {
        assert!(explored.taken.contains_key(action), "{action} never happened: {:?}", explored.taken);
    }
}
