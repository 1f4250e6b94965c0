use crate::{Amount, Book, Leg, MAX_LEGS, Rejection, Slot, Status, Terms};
use bytemuck::{Pod, Zeroable};

/// The most slots of a page: 8 + 216 + 96 · 104 = 10,208 of the 10,240 bytes that one instruction may allocate.
pub const MAX_CAPACITY: u8 = 96;

/// The page account after its 8-byte discriminator and before its slots, 216 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct PageHeader {
    /// The book whose channels these are.
    pub book: [u8; 32],
    /// [`crate::voucher::page_domain`]: binds vouchers to program, cluster and page.
    pub page_domain: [u8; 32],
    /// The associated token account of the page.
    pub vault: [u8; 32],
    /// Who paid the rent of page and vault.
    pub rent_payer: [u8; 32],
    /// Σ (deposit − settled) over the slots: what still belongs to payers.
    pub outstanding: Amount,
    /// All that was ever claimed from this page.
    pub claimed_total: Amount,
    /// All that was ever paid out, for each leg.
    pub paid: [Amount; MAX_LEGS],
    /// The page's number in its book.
    pub index: u32,
    /// Slots, 1 ..= 96.
    pub capacity: u8,
    /// Slots that are not free.
    pub used: u8,
    /// Layout version: [`PageHeader::VERSION`].
    pub version: u8,
    /// Bump of the address.
    pub bump: u8,
    /// For later versions; zero.
    pub spare: [u8; 24],
}

const _: () = assert!(size_of::<PageHeader>() == PageHeader::SIZE, "a page header is 216 bytes");

impl PageHeader {
    /// Bytes between discriminator and slots.
    pub const SIZE: usize = 216;
    /// The layout version that this code reads and writes.
    pub const VERSION: u8 = 1;

    /// Bytes of the whole account, discriminator included, for `capacity` slots.
    pub const fn account_size(capacity: u8) -> Result<usize, Rejection> {
        if capacity == 0 || capacity > MAX_CAPACITY {
            return Err(Rejection::CapacityOutOfRange);
        }
        #[expect(clippy::as_conversions, clippy::arithmetic_side_effects, reason = "at most 10,208; From is not const")]
        Ok(8 + Self::SIZE + Slot::SIZE * capacity as usize)
    }

    /// Books what a claim settled: from `outstanding` to `claimed_total`, their sum unchanged.
    #[inline]
    pub fn record_claim(&mut self, added: Amount) -> Result<(), Rejection> {
        let outstanding = self.outstanding.minus(added)?;
        self.claimed_total = self.claimed_total.plus(added)?;
        self.outstanding = outstanding;
        Ok(())
    }

    /// What the leg numbered `at` may be paid now: `floor(claimed_total · basis_points / 10,000) − paid`. Every share
    /// is a floor, the payee's too, so that all legs together are never paid more than was claimed.
    pub fn owed(&self, at: usize, leg: &Leg) -> Result<Amount, Rejection> {
        let paid = self.paid.get(at).ok_or(Rejection::AccountCountMismatch)?;
        self.claimed_total.share(leg.basis_points)?.minus(*paid)
    }

    /// Books a payout of all that the leg is owed, and says how much to transfer.
    pub fn pay(&mut self, at: usize, leg: &Leg) -> Result<Amount, Rejection> {
        let owed = self.owed(at, leg)?;
        let paid = self.paid.get_mut(at).ok_or(Rejection::AccountCountMismatch)?;
        *paid = paid.plus(owed)?;
        Ok(owed)
    }

    /// A page may be closed when no slot is used ([`Rejection::PageInUse`]) and each of the `legs` is paid what it is owed
    /// ([`Rejection::LegsUnpaid`]). What is left in the vault then is dust of the shares and donations.
    pub fn check_closable(&self, legs: &[Leg]) -> Result<(), Rejection> {
        if self.used != 0 {
            return Err(Rejection::PageInUse);
        }
        for (at, leg) in legs.iter().enumerate() {
            if !self.owed(at, leg)?.is_zero() {
                return Err(Rejection::LegsUnpaid);
            }
        }
        Ok(())
    }

    /// What the vault must hold: `outstanding + claimed_total − Σ paid`.
    pub fn owed_in_all(&self) -> Result<Amount, Rejection> {
        let mut rest = self.claimed_total;
        for paid in self.paid {
            rest = rest.minus(paid)?;
        }
        rest.plus(self.outstanding)
    }

    /// What must hold where tokens move: the vault covers all that is owed. More than that is a donation.
    pub fn check_vault(&self, balance: Amount) -> Result<(), Rejection> {
        if balance < self.owed_in_all()? { Err(Rejection::VaultShort) } else { Ok(()) }
    }
}

/// What a payer asks for when opening a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opening {
    /// Who funds it.
    pub payer: [u8; 32],
    /// Whose vouchers bind it.
    pub signer: [u8; 32],
    /// The slot's *next* generation.
    pub generation: u32,
    /// What is put in.
    pub deposit: Amount,
}

/// What goes back to a payer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Returned {
    /// To whom.
    pub payer: [u8; 32],
    /// How much; may be nothing.
    pub amount: Amount,
}

/// A page in hand: its header and its slots, with every transition of a channel's life.
///
/// Each transition decides first and writes last: when it returns a rejection, nothing was changed.
#[derive(Debug)]
pub struct Page<'a> {
    /// Totals and identity.
    pub header: &'a mut PageHeader,
    /// The channels; `header.capacity` of them.
    pub slots: &'a mut [Slot],
}

impl<'a> Page<'a> {
    /// Takes an account's bytes after the discriminator apart.
    ///
    /// The bytes must be aligned to 8, as account data is. [`Rejection::WrongAccount`] when they are no page of this
    /// version.
    pub fn from_bytes(bytes: &'a mut [u8]) -> Result<Self, Rejection> {
        let (header, slots) = bytes.split_at_mut_checked(PageHeader::SIZE).ok_or(Rejection::WrongAccount)?;
        let header: &mut PageHeader = bytemuck::try_from_bytes_mut(header).map_err(|_| Rejection::WrongAccount)?;
        let slots: &mut [Slot] = bytemuck::try_cast_slice_mut(slots).map_err(|_| Rejection::WrongAccount)?;
        if header.version != PageHeader::VERSION || slots.len() != usize::from(header.capacity) {
            return Err(Rejection::WrongAccount);
        }
        Ok(Self { header, slots })
    }

    /// The slot numbered `at`.
    #[inline]
    pub fn slot(&mut self, at: u8) -> Result<&mut Slot, Rejection> {
        self.slots.get_mut(usize::from(at)).ok_or(Rejection::NoSuchSlot)
    }

    /// Opens a channel in a free slot, of the generation after the slot's last one.
    pub fn open(&mut self, at: u8, opening: &Opening, min_deposit: Amount, now: i64) -> Result<(), Rejection> {
        let slot = self.vacant(at, opening.generation)?;
        if opening.deposit < min_deposit {
            return Err(Rejection::DepositTooSmall);
        }
        if opening.deposit >= Amount::DEPOSIT_LIMIT {
            return Err(Rejection::DepositTooLarge);
        }
        let opened = Slot {
            payer: opening.payer,
            signer: opening.signer,
            generation: opening.generation,
            last_activity: now,
            status_byte: Slot::OPEN,
            ..Slot::default()
        };
        *slot = opened;
        self.fund(at, opening.deposit)?;
        self.header.used = self.header.used.checked_add(1).ok_or(Rejection::Overflow)?;
        Ok(())
    }

    /// The slot numbered `at`, if a channel of this generation can be opened in it: [`Rejection::NoSuchSlot`],
    /// [`Rejection::SlotTaken`], [`Rejection::WrongGeneration`].
    pub fn vacant(&mut self, at: u8, generation: u32) -> Result<&mut Slot, Rejection> {
        let slot = self.slot(at)?;
        if slot.status()? != Status::Free {
            return Err(Rejection::SlotTaken);
        }
        if slot.generation.checked_add(1).ok_or(Rejection::Overflow)? != generation {
            return Err(Rejection::WrongGeneration);
        }
        Ok(slot)
    }

    /// Adds to the deposit of an open slot, from whatever source the caller has taken the money.
    pub fn fund(&mut self, at: u8, amount: Amount) -> Result<(), Rejection> {
        let outstanding = self.header.outstanding.plus(amount);
        let slot = self.slot(at)?;
        if slot.status()? != Status::Open {
            return Err(Rejection::SlotNotOpen);
        }
        let deposit = slot.deposit.plus(amount).unwrap_or(Amount::DEPOSIT_LIMIT);
        if deposit >= Amount::DEPOSIT_LIMIT {
            return Err(Rejection::DepositTooLarge);
        }
        let outstanding = outstanding?;
        slot.deposit = deposit;
        self.header.outstanding = outstanding;
        Ok(())
    }

    /// Adds to the deposit of an open channel of this generation. [`Rejection::DepositTooSmall`] for nothing.
    pub fn top_up(&mut self, at: u8, generation: u32, amount: Amount) -> Result<(), Rejection> {
        if self.of_generation(at, generation)?.status()? != Status::Open {
            return Err(Rejection::SlotNotOpen);
        }
        if amount.is_zero() {
            return Err(Rejection::DepositTooSmall);
        }
        self.fund(at, amount)
    }

    /// Claims one verified voucher; see [`Slot::claim`]. (The program sums up a batch and records it once.)
    pub fn claim(&mut self, at: u8, cumulative: Amount, now: i64) -> Result<Amount, Rejection> {
        let added = self.slot(at)?.claim(cumulative, now)?;
        self.header.record_claim(added)?;
        Ok(added)
    }

    /// Begins to close an open channel of this generation at its payer's request; says when it may be withdrawn.
    pub fn request_close(
        &mut self,
        at: u8,
        generation: u32,
        payer: &[u8; 32],
        grace_seconds: u32,
        now: i64,
    ) -> Result<i64, Rejection> {
        let slot = self.of_generation(at, generation)?;
        slot.must_be_open()?;
        if slot.payer != *payer {
            return Err(Rejection::WrongPayer);
        }
        slot.begin_to_close(grace_seconds, now)
    }

    /// Begins to close an open channel of this generation that nobody has claimed from for `max_idle_seconds`, with the
    /// same grace period as at its payer's request: a forgotten channel never holds a slot for good.
    pub fn idle_close(&mut self, at: u8, generation: u32, terms: &Terms, now: i64) -> Result<i64, Rejection> {
        let slot = self.of_generation(at, generation)?;
        slot.must_be_open()?;
        if terms.max_idle_seconds == 0 {
            return Err(Rejection::IdleCloseOff);
        }
        let idle_at = slot.last_activity.checked_add(i64::from(terms.max_idle_seconds)).ok_or(Rejection::Overflow)?;
        if now < idle_at {
            return Err(Rejection::NotIdle);
        }
        slot.begin_to_close(terms.grace_seconds, now)
    }

    /// The slot numbered `at`, if it is of this generation, else [`Rejection::WrongGeneration`].
    fn of_generation(&mut self, at: u8, generation: u32) -> Result<&mut Slot, Rejection> {
        let slot = self.slot(at)?;
        if slot.generation == generation { Ok(slot) } else { Err(Rejection::WrongGeneration) }
    }

    /// Ends a closing channel after its grace period: what was never claimed goes back, the slot is free.
    pub fn withdraw(&mut self, at: u8, now: i64) -> Result<Returned, Rejection> {
        let slot = self.slot(at)?;
        if slot.status()? != Status::Closing {
            return Err(Rejection::SlotNotClosing);
        }
        if now < slot.closing_at {
            return Err(Rejection::GraceNotOver);
        }
        let returned = Returned { payer: slot.payer, amount: slot.unsettled()? };
        self.take_out(at, returned.amount, true)?;
        Ok(returned)
    }

    /// Lowers an open or closing channel's deposit to `max(settled, keep)` and says what goes back at once; a channel
    /// with nothing left is freed.
    ///
    /// By target: a repeat, also after the slot was freed or reopened, returns nothing and changes nothing.
    pub fn refund(&mut self, at: u8, generation: u32, keep: Amount) -> Result<Returned, Rejection> {
        let slot = self.slot(at)?;
        if slot.generation < generation {
            return Err(Rejection::WrongGeneration);
        }
        let nothing = Returned { payer: slot.payer, amount: Amount::ZERO };
        if slot.generation > generation || slot.status()? == Status::Free {
            return Ok(nothing);
        }
        let target = slot.settled.max(keep).min(slot.deposit);
        let amount = slot.deposit.minus(target)?;
        let freed = target == slot.settled;
        self.take_out(at, amount, freed)?;
        Ok(Returned { amount, ..nothing })
    }

    /// Takes `amount` of unsettled money out of a slot, and the channel with it when it is over.
    fn take_out(&mut self, at: u8, amount: Amount, freed: bool) -> Result<(), Rejection> {
        let outstanding = self.header.outstanding.minus(amount)?;
        let used = self.header.used.checked_sub(u8::from(freed)).ok_or(Rejection::InvariantBroken)?;
        let slot = self.slot(at)?;
        slot.deposit = slot.deposit.minus(amount)?;
        if freed {
            slot.free();
        }
        self.header.outstanding = outstanding;
        self.header.used = used;
        Ok(())
    }

    /// What must hold after every instruction: each slot is sound, `outstanding` is the sum over the slots, `used`
    /// counts them, and no leg was paid more than was claimed.
    pub fn check(&self) -> Result<(), Rejection> {
        let sums = Sums::of(self.slots)?;
        if sums.outstanding != self.header.outstanding.get() || sums.used != usize::from(self.header.used) {
            return Err(Rejection::InvariantBroken);
        }
        self.header.owed_in_all().map(|_| ())
    }

    /// The first free slot and the generation that opens it.
    pub fn free_slot(&self) -> Option<(u8, u32)> {
        let (at, slot) = self.slots.iter().enumerate().find(|(_, slot)| slot.status_byte == Slot::FREE)?;
        Some((u8::try_from(at).ok()?, slot.generation.checked_add(1)?))
    }
}

/// What is summed up over the slots of a page.
struct Sums {
    /// Σ (deposit − settled).
    outstanding: u64,
    /// Slots that are not free.
    used: usize,
}

impl Sums {
    /// The sums, if each slot is as [`Slot::check`] wants it. On chain every page pays for this after every change: so it is a
    /// function of its own, takes several slots at a time, and counts the free ones, which on a full page are few.
    #[inline(never)]
    fn of(slots: &[Slot]) -> Result<Self, Rejection> {
        let (mut outstanding, mut free) = (0u64, 0usize);
        let mut is_sound = |slot: &Slot| {
            let (deposit, settled) = (slot.deposit.get(), slot.settled.get());
            if slot.status_byte == Slot::FREE {
                free = free.wrapping_add(1);
                return deposit == 0 && settled == 0;
            }
            // Wraps nowhere: of sound slots each difference is 0 ..= 2^48 − 1, and a page has at most 255. Said so that the
            // chain does not pay for looking.
            outstanding = outstanding.wrapping_add(deposit).wrapping_sub(settled);
            settled <= deposit && deposit < Amount::DEPOSIT_LIMIT.get() && slot.status_byte <= Slot::CLOSING
        };
        let (chunks, rest) = slots.as_chunks::<8>();
        if chunks.iter().all(|chunk| chunk.iter().all(&mut is_sound)) && rest.iter().all(&mut is_sound) {
            Ok(Self { outstanding, used: slots.len().wrapping_sub(free) })
        } else {
            Err(Rejection::InvariantBroken)
        }
    }
}

impl Book {
    /// The terms.
    pub const fn terms(&self) -> Terms {
        Terms {
            grace_seconds: self.grace_seconds,
            max_idle_seconds: self.max_idle_seconds,
            min_deposit: self.min_deposit,
            open_policy: self.open_policy,
        }
    }
}
