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
    ("init_book",          [23_900, 664, 8, 1_792, 1_536, 192],           [22_901, 664, 5, 1_584, 1_444, 180]),
    ("add_page",           [31_900, 544, 8, 1_792, 2_048, 256],           [30_636, 544, 5, 1_616, 1_737, 224]),
    ("open, refused",      [4_900, 519, 12, 768, 1_536, 352],             [4_694, 519, 10, 576, 1_258, 324]),
    ("open",               [7_800, 551, 8, 768, 1_536, 224],              [7_479, 551, 5, 688, 1_432, 192]),
    ("top_up",             [6_400, 518, 8, 768, 1_536, 128],              [6_140, 518, 5, 688, 1_312, 117]),
    ("claim of 1",         [15_100, 314, 8, 768, 768, 128],               [14_516, 314, 5, 640, 640, 113]),
    ("claim of 8",         [83_000, 588, 8, 768, 2_048, 128],             [79_728, 588, 5, 680, 1_808, 113]),
    ("claim of 23",        [229_000, 1_173, 8, 768, 4_608, 128],          [219_468, 1_173, 5, 680, 4_320, 113]),
    ("claim of 94",        [917_000, 3_921, 8, 768, 17_152, 128],         [880_772, 3_921, 5, 680, 16_176, 113]),
    ("claim_below of 1",   [15_200, 320, 8, 768, 768, 128],               [14_608, 320, 5, 640, 688, 118]),
    ("claim_below of 20",  [201_000, 1_176, 8, 768, 5_120, 128],          [192_524, 1_176, 5, 680, 4_712, 118]),
    ("claim_below of 81",  [795_000, 3_900, 8, 768, 18_688, 128],         [763_592, 3_900, 5, 680, 17_648, 118]),
    ("payout of 1",        [7_400, 409, 8, 768, 1_792, 128],              [7_080, 409, 5, 688, 1_480, 102]),
    ("payout of 5",        [15_600, 541, 8, 768, 3_584, 128],             [14_934, 541, 5, 688, 3_216, 102]),
    ("request_close",      [3_800, 378, 8, 512, 768, 128],                [3_558, 378, 5, 304, 616, 116]),
    ("withdraw of 1",      [9_100, 414, 8, 1_024, 1_536, 128],            [8_696, 414, 5, 1_016, 1_336, 104]),
    ("withdraw of 20",     [128_000, 1_060, 8, 1_024, 13_568, 1_440],     [122_367, 1_060, 5, 1_016, 12_904, 1_434]),
    ("refund of 1",        [13_700, 522, 8, 1_024, 1_536, 128],           [13_104, 522, 5, 984, 1_344, 110]),
    ("refund of 16",       [108_000, 1_213, 8, 1_024, 11_264, 1_312],     [103_299, 1_213, 5, 984, 10_704, 1_280]),
    ("idle_close",         [3_800, 378, 8, 512, 768, 128],                [3_629, 378, 5, 304, 616, 113]),
    ("set_operator",       [1_500, 372, 8, 512, 768, 160],                [1_441, 372, 5, 304, 496, 139]),
    ("close_page",         [9_200, 506, 8, 1_024, 2_048, 160],            [8_819, 506, 5, 800, 1_944, 153]),
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
