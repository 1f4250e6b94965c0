//! What each instruction costs: compute units, bytes of its transaction, stack, heap, logs. Each has a ceiling, and what was
//! last known stands beside it.

use crate::claim_below::Below;
use crate::memory::{FRAME_BYTES, HEAP_BYTES, MAX_FRAMES, Watch};
use crate::vouchers::Batch;
use crate::world::{Channel, GRACE_SECONDS, Sent, Setup, TALLYBOOK, World, key};
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_signer::Signer;
use tallybook_chain::instruction::{Addition, NewBook, RefundRow, Split};
use tallybook_chain::transaction::to_bytes;

/// Compute units; bytes of the transaction, alone with a compute limit; frames of the stack, and bytes of the largest one;
/// bytes of the heap; bytes of logs and events.
type Cost = [u64; 6];

/// Ceiling, and last known.
#[rustfmt::skip]
const COSTS: &[(&str, Cost, Cost)] = &[
    ("init_book",          [22_600, 664, 8, 1_600, 1_536, 160],           [22_392, 664, 5, 1_584, 1_444, 146]),
    ("add_page",           [29_900, 544, 8, 1_408, 1_792, 192],           [29_649, 544, 5, 1_352, 1_737, 191]),
    ("open, refused",      [4_130, 519, 12, 576, 1_280, 320],             [4_097, 519, 10, 576, 1_258, 294]),
    ("open",               [5_980, 551, 8, 576, 1_536, 192],              [5_921, 551, 5, 576, 1_362, 162]),
    ("top_up",             [4_950, 518, 8, 576, 1_280, 96],               [4_907, 518, 5, 568, 1_242, 86]),
    ("claim of 1",         [13_300, 314, 8, 704, 768, 96],                [13_250, 314, 5, 704, 640, 82]),
    ("claim of 8",         [76_100, 588, 8, 704, 2_048, 96],              [75_379, 588, 5, 704, 1_808, 82]),
    ("claim of 23",        [210_000, 1_173, 8, 704, 4_352, 96],           [208_504, 1_173, 5, 704, 4_320, 82]),
    ("claim of 94",        [846_000, 3_921, 8, 704, 16_384, 96],          [838_511, 3_921, 5, 704, 16_176, 82]),
    ("claim_below of 1",   [13_400, 320, 8, 704, 768, 96],                [13_336, 320, 5, 704, 688, 82]),
    ("claim_below of 20",  [184_000, 1_176, 8, 704, 4_864, 96],           [182_725, 1_176, 5, 704, 4_712, 82]),
    ("claim_below of 81",  [733_000, 3_900, 8, 704, 17_664, 96],          [726_414, 3_900, 5, 704, 17_648, 82]),
    ("payout of 1",        [5_240, 409, 8, 512, 1_280, 96],               [5_191, 409, 5, 512, 1_138, 70]),
    ("payout of 5",        [10_600, 541, 8, 512, 2_304, 96],              [10_577, 541, 5, 512, 2_120, 70]),
    ("request_close",      [2_570, 378, 8, 320, 768, 96],                 [2_549, 378, 5, 272, 616, 78]),
    ("withdraw of 1",      [7_180, 414, 8, 1_024, 1_280, 96],             [7_110, 414, 5, 1_016, 1_266, 70]),
    ("withdraw of 20",     [111_000, 1_060, 8, 1_024, 11_520, 1_408],     [110_081, 1_060, 5, 1_016, 11_504, 1_400]),
    ("refund of 1",        [11_500, 522, 8, 1_024, 1_280, 96],            [11_446, 522, 5, 1_000, 1_274, 78]),
    ("refund of 16",       [93_900, 1_213, 8, 1_024, 9_728, 1_248],       [93_060, 1_213, 5, 1_000, 9_584, 1_248]),
    ("idle_close",         [2_590, 378, 8, 320, 768, 96],                 [2_568, 378, 5, 272, 616, 78]),
    ("set_operator",       [1_200, 372, 8, 320, 512, 128],                [1_191, 372, 5, 272, 496, 102]),
    ("close_page",         [6_990, 506, 8, 896, 1_792, 128],              [6_923, 506, 5, 840, 1_544, 118]),
];

const DEPOSIT: u64 = 10_000_000;
const PARTNERS: [&str; 4] = ["partner", "tax", "host", "author"];

/// Measures one instruction after another.
struct Meter {
    world: World,
    watch: Watch,
    measured: Vec<(&'static str, Cost)>,
}

impl Meter {
    /// A book of five legs and a page of 96 slots; making them is measured too.
    fn new() -> Self {
        let watch = Watch::default();
        let world = World::bare(&Setup { watch: Some(watch.clone()), ..Setup::default() });
        let mut meter = Self { world, watch, measured: Vec::new() };
        let split = |name: &str| Split { recipient: key(name).pubkey().to_bytes(), basis_points: 100 };
        let new = NewBook { splits: PARTNERS.map(split).to_vec(), ..meter.world.new_book() };
        meter.sent("init_book", TALLYBOOK.init_book(&new), &[&key("payee")]);
        let add = meter.world.add_page_instruction(0, 96);
        meter.sent("add_page", add, &[&key("operator")]);
        let page = meter.world.page;
        meter.world.fund(&page, 0); // so that the world counts the vault
        for owner in PARTNERS.iter().chain(&["payee"]) {
            meter.world.fund(&key(owner).pubkey(), 0);
        }
        meter
    }

    /// Sends and measures a transaction of this instruction and a compute limit.
    fn sent(&mut self, name: &'static str, instruction: Instruction, signers: &[&Keypair]) {
        let transaction = self.world.legacy_transaction(&[instruction], signers);
        let bytes = to_bytes(&transaction).unwrap().len();
        self.watch.take();
        let sent = self.world.send_transaction(transaction);
        self.note(name, bytes, sent);
    }

    /// The same in a transaction of version 1, which takes up to 4,096 bytes.
    fn sent_v1(&mut self, name: &'static str, instruction: Instruction) {
        self.watch.take();
        let (bytes, sent) = self.world.send_v1(&[instruction]);
        self.note(name, bytes, sent);
    }

    /// What it takes to say no, with the addresses that were compared: the longest way through Anchor's errors.
    fn refused(&mut self, name: &'static str, mut instruction: Instruction, signers: &[&Keypair]) {
        instruction.accounts[6].pubkey = self.world.book; // for a mint
        let transaction = self.world.legacy_transaction(&[instruction], signers);
        let bytes = to_bytes(&transaction).unwrap().len();
        self.watch.take();
        let refused = self.world.send_transaction(transaction).map(|_| ()).unwrap_err();
        self.note(name, bytes, Ok(refused.meta));
    }

    fn note(&mut self, name: &'static str, bytes: usize, sent: Sent) {
        let (sent, memory) = (sent.unwrap(), self.watch.take());
        let logs =
            sent.logs.iter().filter(|line| line.starts_with("Program log: ") || line.starts_with("Program data: "));
        let (bytes, log_bytes) = (bytes.try_into().unwrap(), logs.map(String::len).sum::<usize>().try_into().unwrap());
        let units = sent.compute_units_consumed;
        self.measured.push((name, [units, bytes, memory.frames, memory.frame_bytes, memory.heap_bytes, log_bytes]));
    }

    fn open_all(&mut self) -> Vec<Channel> {
        let (new, payer, _) = self.world.opening(95, DEPOSIT);
        let instruction = TALLYBOOK.open(&self.world.book_view(), &new);
        self.refused("open, refused", instruction.clone(), &[&payer]);
        self.sent("open", instruction, &[&payer]);
        (0..95).map(|slot| self.world.open(slot, DEPOSIT)).collect()
    }

    fn claims(&mut self, channels: &[Channel]) {
        let page = self.world.page;
        for (name, rows, cumulative) in [("claim of 1", 1, 100), ("claim of 8", 8, 200), ("claim of 23", 23, 300)] {
            let vouchers: Vec<_> = channels.iter().take(rows).map(|channel| (channel, cumulative)).collect();
            self.sent(name, Batch::of(&vouchers).instruction(&page), &[]);
        }
        let vouchers: Vec<_> = channels.iter().take(94).map(|channel| (channel, 400)).collect();
        self.sent_v1("claim of 94", Batch::of(&vouchers).instruction(&page));
        for (name, rows, amount) in [("claim_below of 1", 1, 500), ("claim_below of 20", 20, 600)] {
            let vouchers: Vec<_> = channels.iter().take(rows).map(|channel| (channel, 900, amount)).collect();
            let instruction = Below::of(&vouchers).instruction(&self.world);
            self.sent(name, instruction, &[]);
        }
        let vouchers: Vec<_> = channels.iter().take(81).map(|channel| (channel, 900, 700)).collect();
        let instruction = Below::of(&vouchers).instruction(&self.world);
        self.sent_v1("claim_below of 81", instruction);
        for (name, legs) in [("payout of 1", 0b1), ("payout of 5", 0b1_1111)] {
            let instruction = TALLYBOOK.payout(&self.world.book_view(), &page, legs);
            self.sent(name, instruction, &[]);
        }
    }

    fn refund(&mut self, name: &'static str, channels: &[Channel]) {
        let row =
            |channel: &Channel| (RefundRow { slot: channel.slot, generation: 1, keep: 0 }, channel.payer.pubkey());
        let (operator, rows) = (key("operator"), channels.iter().map(row).collect::<Vec<_>>());
        let page = self.world.page;
        let instruction = TALLYBOOK.refund(&self.world.book_view(), &page, &operator.pubkey(), &rows);
        self.sent(name, instruction, &[&operator]);
    }

    fn leaving(&mut self, channels: &[Channel]) {
        let (book, page) = (self.world.book, self.world.page);
        let [first, others @ ..] = &channels[..21] else { unreachable!() };
        let close = TALLYBOOK.request_close(&book, &page, &first.payer.pubkey(), 0, 1);
        self.sent("request_close", close, &[&first.payer]);
        others.iter().for_each(|channel| drop(self.world.request_close(channel).unwrap()));
        self.world.pass(GRACE_SECONDS);
        for (name, channels) in [("withdraw of 1", &channels[..1]), ("withdraw of 20", others)] {
            let rows: Vec<_> = channels.iter().map(|channel| (channel.slot, channel.payer.pubkey())).collect();
            let instruction = TALLYBOOK.withdraw(&self.world.book_view(), &page, &rows);
            self.sent(name, instruction, &[]);
        }
        self.refund("refund of 1", &channels[21..22]);
        self.refund("refund of 16", &channels[22..38]);
    }

    /// What only the payee, or a page's rent payer, does.
    fn keeping(&mut self, channels: &[Channel]) {
        let (payee, page) = (key("payee"), self.world.page);
        self.world.pass(86_400);
        let idle = TALLYBOOK.idle_close(&self.world.book, &page, &payee.pubkey(), 38, 1);
        self.sent("idle_close", idle, &[&payee]);
        let set = TALLYBOOK.set_operator(&self.world.book_view(), &key("operator").pubkey());
        self.sent("set_operator", set, &[&payee]);
        let (last, measured) = (self.world.page_view().slots[95], self.measured.len());
        let row = RefundRow { slot: 95, generation: 1, keep: 0 };
        let refund = TALLYBOOK.refund(&self.world.book_view(), &page, &payee.pubkey(), &[(row, last.payer.into())]);
        self.world.send(&[refund], &[&payee]).unwrap();
        channels[38..].chunks(16).for_each(|channels| self.refund("", channels));
        self.measured.truncate(measured);
        self.world.fund(&page, 7); // a donation
        let close = TALLYBOOK.close_page(&self.world.book_view(), &page, &payee.pubkey(), &self.world.sponsor.pubkey());
        self.sent("close_page", close, &[&payee]);
    }
}

#[test]
fn given_each_instruction_when_measured_then_units_bytes_stack_heap_and_logs_stay_below_their_ceilings() {
    let mut meter = Meter::new();
    let channels = meter.open_all();
    let addition = Addition {
        funder: channels[0].payer.pubkey(),
        source: meter.world.fund(&channels[0].payer.pubkey(), 5),
        page: meter.world.page,
        slot: 0,
        generation: 1,
        amount: 5,
    };
    let top_up = TALLYBOOK.top_up(&meter.world.book_view(), &addition);
    meter.sent("top_up", top_up, &[&channels[0].payer]);
    meter.claims(&channels);
    meter.leaving(&channels);
    meter.keeping(&channels);

    println!("{:18} [units, bytes, frames, largest frame, heap, logs]", "");
    for (name, cost) in &meter.measured {
        println!("{name:18} {cost:?}");
    }
    assert_eq!(meter.measured.len(), COSTS.len());
    for ((name, cost), (expected, ceiling, last_known)) in meter.measured.iter().zip(COSTS) {
        assert_eq!(name, expected);
        let is_below = |cost: &Cost| cost.iter().zip(ceiling).all(|(cost, ceiling)| cost <= ceiling);
        assert!(is_below(cost), "{name} costs {cost:?}, more than {ceiling:?}; last known: {last_known:?}");
        assert!(is_below(last_known), "{name}");
        let [_, _, frames, frame_bytes, heap_bytes, _] = *ceiling;
        assert!(frames <= MAX_FRAMES / 2 && frame_bytes <= FRAME_BYTES && heap_bytes <= HEAP_BYTES, "{name}");
    }
}
