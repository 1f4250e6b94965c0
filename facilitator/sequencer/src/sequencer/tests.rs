use super::*;
use std::sync::mpsc;
use tallybook_ledger::{Attempt, Change, ChannelRecord, Finality, Ledger, PageSeen, Place, Purpose, Settings};
use tallybook_rules::signing::{SignedVoucher, SigningKey, channel_id};
use tallybook_rules::{Amount, Opening, Page, PageHeader, Slot};
use tallybook_store::{FaultyStore, KeptChannel, MemoryStore, Row, Spending, Stored, VoucherStore};

fn change(number: u8) -> Change {
    Change::Sending {
        purpose: Purpose::Deposit([number; 32]),
        attempt: Attempt { signature: [number; 64], last_valid_block_height: 0 },
    }
}

/// The record of a call of a channel.
fn paid(channel: u8) -> Change {
    let voucher = SignedVoucher { channel_id: [channel; 32], cumulative: Amount::new(1), signature: [0; 64] };
    Change::Channel(ChannelRecord {
        place: Place { page: [0; 32], slot: 0, generation: 1 },
        payer: [0; 32],
        signer: [0; 32],
        voucher,
        charged: Amount::new(1),
        last: None,
        unsettled_since: 0,
        leaving_since: 0,
    })
}

fn start(store: impl VoucherStore + 'static, queue: usize) -> (Sequencer, JoinHandle<Result<(), StoreFailure>>) {
    Sequencer::start(Desk::new(Ledger::new(Settings::default()), Box::new(store)), queue).unwrap()
}

/// A page with one channel of 10 base units, the key of its signer, and its record after a call of 1.
fn page_with_a_channel() -> (PageHeader, [Slot; 1], SigningKey, ChannelRecord) {
    let mut header = PageHeader { capacity: 1, version: PageHeader::VERSION, ..PageHeader::default() };
    let mut slots = [Slot::default()];
    let key = SigningKey::from_bytes(&[5; 32]);
    let signer = key.verifying_key().to_bytes();
    let opening = Opening { payer: [0; 32], signer, generation: 1, deposit: Amount::new(10) };
    Page { header: &mut header, slots: &mut slots }.open(0, &opening, Amount::new(1), 1).unwrap();
    let id = channel_id(&header.page_domain, 0, 1, &opening.payer, &signer);
    let Change::Channel(record) = paid(0) else { unreachable!() };
    let record = ChannelRecord { signer, voucher: SignedVoucher::sign(&key, id, Amount::new(1)), ..record };
    (header, slots, key, record)
}

/// A desk that has read this back.
fn desk_with(record: ChannelRecord) -> Desk {
    let mut store = MemoryStore::default();
    store.commit(&[Change::Channel(record)]).unwrap();
    Desk::open(Box::new(store), Settings::default()).unwrap().0
}

#[tokio::test]
async fn given_a_damaged_voucher_in_the_store_when_its_page_is_seen_then_the_writer_ends_soon_whoever_calls() {
    let (header, slots, _, whole) = page_with_a_channel();
    let seen = PageSeen { address: [0; 32], chain_slot: 1, header: &header, slots: &slots };
    let forged = SignedVoucher { cumulative: Amount::new(2), ..whole.voucher };
    for (damaged, is_seen_at_once) in
        [(ChannelRecord { voucher: forged, ..whole }, false), (ChannelRecord { signer: [9; 32], ..whole }, true)]
    {
        let (sequencer, thread) = Sequencer::start(desk_with(damaged), 8).unwrap();
        let observed = sequencer.observe(&[seen], Finality::Confirmed).await;
        assert!(!is_seen_at_once || observed == Err(Rejection::StoreUnavailable));
        sequencer.ended().cancelled().await;
        assert!(matches!(thread.join().unwrap(), Err(StoreFailure::Damaged(_))));
        assert_eq!(sequencer.ask(|_| ()).await, Err(Rejection::StoreUnavailable));
    }
    let (sequencer, thread) = Sequencer::start(desk_with(whole), 8).unwrap();
    assert_eq!(sequencer.observe(&[seen], Finality::Confirmed).await.map(|events| events.len()), Ok(1));
    while sequencer.ask_now(|desk| desk.ledger.has_unproven()).await.unwrap() {
        tokio::task::yield_now().await;
    }
    drop(sequencer);
    assert!(thread.join().unwrap().is_ok());
}

#[tokio::test]
async fn given_a_stored_voucher_that_nobody_has_verified_yet_when_a_call_comes_then_it_is_verified_by_the_call() {
    let (header, slots, key, whole) = page_with_a_channel();
    let seen = PageSeen { address: [0; 32], chain_slot: 1, header: &header, slots: &slots };
    let next = SignedVoucher::sign(&key, whole.voucher.channel_id, Amount::new(3));
    // Whoever verifies beside the calls is the writer's future, which is not polled.
    let (sequencer, _writer) = Sequencer::on_one_thread(desk_with(whole), 8);
    sequencer.observe(&[seen], Finality::Confirmed).await.unwrap();
    assert!(sequencer.ask_now(|desk| desk.ledger.has_unproven()).await.unwrap());
    let reserved = sequencer.reserve(next, header.book, Amount::new(2), 60).await.unwrap();
    assert_eq!(reserved.newest(), Some(&whole.voucher));
    assert!(!sequencer.ask_now(|desk| desk.ledger.has_unproven()).await.unwrap());

    // The same by name, as whoever decides on many at a time does.
    let (sequencer, _writer) = Sequencer::on_one_thread(desk_with(whole), 8);
    sequencer.observe(&[seen], Finality::Confirmed).await.unwrap();
    assert_eq!(sequencer.prove([whole.voucher.channel_id, [1; 32]]).await, Ok(()));
    assert!(!sequencer.ask_now(|desk| desk.ledger.has_unproven()).await.unwrap());

    let forged = SignedVoucher { cumulative: Amount::new(2), ..whole.voucher };
    let (sequencer, writer) = Sequencer::on_one_thread(desk_with(ChannelRecord { voucher: forged, ..whole }), 8);
    sequencer.observe(&[seen], Finality::Confirmed).await.unwrap();
    let (refused, written) = tokio::join!(sequencer.reserve(next, header.book, Amount::new(2), 60), writer);
    assert_eq!(refused.unwrap_err().rejection, Rejection::StoreUnavailable);
    assert!(matches!(written, Err(StoreFailure::Damaged(_))));
}

#[tokio::test]
async fn given_no_thread_when_something_is_stored_then_the_writers_future_verifies_it() {
    let (header, slots, _, whole) = page_with_a_channel();
    let seen = PageSeen { address: [0; 32], chain_slot: 1, header: &header, slots: &slots };
    let (sequencer, writer) = Sequencer::on_one_thread(desk_with(whole), 8);
    let mut writer = Box::pin(writer);
    assert!(at_once(&mut writer).is_none(), "nothing was met yet");
    sequencer.observe(&[seen], Finality::Confirmed).await.unwrap();
    assert!(at_once(&mut writer).is_none());
    assert!(!sequencer.ask_now(|desk| desk.ledger.has_unproven()).await.unwrap());
}

/// A disk that says when it begins to write, and goes on when it is told to. It finds no channel, and fails with it.
struct SlowStore {
    begun: mpsc::Sender<usize>,
    go_on: mpsc::Receiver<()>,
}

impl SlowStore {
    fn new() -> (Self, mpsc::Receiver<usize>, mpsc::Sender<()>) {
        let ((begun, has_begun), (gate, go_on)) = (mpsc::channel(), mpsc::channel());
        (Self { begun, go_on }, has_begun, gate)
    }
}

impl VoucherStore for SlowStore {
    fn load_each(&mut self, _: &mut dyn FnMut(ChannelRecord)) -> Result<Stored, StoreFailure> {
        Ok(Stored::default())
    }

    fn each_row(&mut self, _: &mut dyn FnMut(Row) -> Result<(), StoreFailure>) -> Result<(), StoreFailure> {
        Ok(())
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreFailure> {
        self.begun.send(changes.len()).unwrap();
        self.go_on.recv().map_err(|_| StoreFailure::Poisoned)
    }

    fn channel(&mut self, _: &[u8; 32]) -> Result<Option<KeptChannel>, StoreFailure> {
        Err(StoreFailure::Damaged("it was asked for"))
    }

    fn batches(&mut self, _: Option<u64>, _: u32) -> Result<Vec<tallybook_ledger::BatchRecord>, StoreFailure> {
        Ok(Vec::new())
    }

    fn last_attempt(&mut self, _: Purpose) -> Result<Option<Attempt>, StoreFailure> {
        Ok(None)
    }

    fn spent(&mut self, _: &[u8; 32]) -> Result<Spending, StoreFailure> {
        Ok(Spending::default())
    }

    fn spent_for_others_since(&mut self, _: i64) -> Result<u64, StoreFailure> {
        Ok(0)
    }
}

/// Polls a future once: what it says at once.
fn at_once<F: Future>(future: &mut std::pin::Pin<Box<F>>) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

#[tokio::test]
async fn given_a_broken_disk_when_something_is_written_then_nobody_is_answered_and_the_writer_ends() {
    let (store, broken) = FaultyStore::new(MemoryStore::default());
    let (sequencer, thread) = start(store, 8);
    assert_eq!(sequencer.ask(|desk| desk.write(change(1))).await, Ok(()));
    broken.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(sequencer.ask(|_| 5).await, Ok(5), "nothing to write");
    let (first, second) = tokio::join!(sequencer.ask(|desk| desk.write(change(2))), sequencer.ask(|_| ()));
    assert_eq!(first, Err(Rejection::StoreUnavailable));
    // The second may have waited in the same group or come too late; it may not have come before.
    assert_eq!(second, Err(Rejection::StoreUnavailable));
    sequencer.ended().cancelled().await;
    assert!(matches!(thread.join().unwrap(), Err(StoreFailure::File { .. })));
    assert_eq!(sequencer.ask(|_| ()).await, Err(Rejection::StoreUnavailable));
    assert_eq!(sequencer.ask_now(|_| ()).await, Err(Rejection::StoreUnavailable));
}

#[tokio::test]
async fn given_a_store_that_fails_a_question_when_asked_then_that_job_and_all_others_are_told_nothing() {
    let (store, ..) = SlowStore::new();
    let (sequencer, thread) = start(store, 8);
    let asked = sequencer.ask_now(|desk| desk.ask_store(|store| store.channel(&[1; 32])).is_err());
    assert_eq!(asked.await, Err(Rejection::StoreUnavailable));
    sequencer.ended().cancelled().await;
    assert!(thread.join().unwrap().is_err());
}

#[tokio::test]
async fn given_a_commit_under_way_when_others_decide_then_they_share_the_next_one_and_none_is_answered_before_it() {
    let (store, begun, gate) = SlowStore::new();
    let (sequencer, _) = start(store, 8);
    let mut first = Box::pin(sequencer.ask(|desk| desk.write(change(1))));
    assert_eq!(at_once(&mut first), None);
    assert_eq!(begun.recv().unwrap(), 1);
    let mut second = Box::pin(sequencer.ask(|desk| desk.write(change(2))));
    let mut third = Box::pin(sequencer.ask(|desk| desk.write(change(3))));
    assert_eq!((at_once(&mut second), at_once(&mut third)), (None, None));
    gate.send(()).unwrap();
    assert_eq!(first.await, Ok(()));
    assert_eq!(begun.recv().unwrap(), 2, "one commit for both");
    assert_eq!((at_once(&mut second), at_once(&mut third)), (None, None), "not durable yet");
    gate.send(()).unwrap();
    assert_eq!((second.await, third.await), (Ok(()), Ok(())));
}

#[tokio::test]
async fn given_a_channel_in_a_commit_under_way_when_asked_for_then_only_what_speaks_of_it_waits() {
    let (store, begun, gate) = SlowStore::new();
    let (sequencer, _) = start(store, 8);
    let mut charged = Box::pin(sequencer.ask(|desk| desk.write(paid(1))));
    assert_eq!(at_once(&mut charged), None);
    begun.recv().unwrap();
    let mut same = Box::pin(sequencer.ask_of(&[1; 32], |_| "of it"));
    let mut any = Box::pin(sequencer.ask(|_| "of anything"));
    assert_eq!((at_once(&mut same), at_once(&mut any)), (None, None), "they may speak of what is not durable");
    assert_eq!(at_once(&mut Box::pin(sequencer.ask_of(&[2; 32], |_| "another's"))), Some(Ok("another's")));
    assert_eq!(at_once(&mut Box::pin(sequencer.ask_now(|_| "nothing"))), Some(Ok("nothing")));
    // And what waits for the next commit.
    let mut charged_again = Box::pin(sequencer.ask(|desk| desk.write(paid(2))));
    assert_eq!(at_once(&mut charged_again), None);
    let mut next = Box::pin(sequencer.ask_of(&[2; 32], |_| "of the next"));
    assert_eq!(at_once(&mut next), None);
    gate.send(()).unwrap();
    assert_eq!((same.await, any.await, charged.await), (Ok("of it"), Ok("of anything"), Ok(())));
    begun.recv().unwrap();
    assert_eq!(at_once(&mut next), None);
    gate.send(()).unwrap();
    assert_eq!((next.await, charged_again.await), (Ok("of the next"), Ok(())));
    assert_eq!(
        at_once(&mut Box::pin(sequencer.ask_of(&[1; 32], |_| ()))),
        Some(Ok(())),
        "durable: nothing to wait for"
    );
}

#[tokio::test]
async fn given_a_disk_that_is_slow_when_too_many_wait_then_the_next_is_refused_and_undecided() {
    let (store, begun, gate) = SlowStore::new();
    let (sequencer, _) = start(store, 2);
    let mut first = Box::pin(sequencer.ask(|desk| desk.write(change(1))));
    assert_eq!(at_once(&mut first), None);
    begun.recv().unwrap();
    let next = |desk: &mut Desk| {
        desk.write(change(2));
        desk.newest_batch += 1;
        desk.newest_batch
    };
    let (mut second, mut third) = (Box::pin(sequencer.ask(next)), Box::pin(sequencer.ask(next)));
    assert_eq!((at_once(&mut second), at_once(&mut third)), (None, None));
    assert_eq!(sequencer.ask(next).await, Err(Rejection::Overloaded));
    let mut own = Box::pin(sequencer.insist(next));
    assert_eq!(at_once(&mut own), None, "its owner is not refused");
    gate.send(()).unwrap();
    gate.send(()).unwrap();
    assert_eq!((first.await, second.await, third.await, own.await), (Ok(()), Ok(1), Ok(2), Ok(3)), "in order");
}

#[tokio::test]
async fn given_a_job_that_panics_when_others_ask_then_they_are_refused_and_the_writer_ends() {
    let (sequencer, thread) = start(MemoryStore::default(), 8);
    let panicking = sequencer.clone();
    let panicked = tokio::spawn(async move { panicking.ask(|_| panic!("as asked")).await });
    assert!(panicked.await.is_err());
    sequencer.ended().cancelled().await;
    assert!(matches!(thread.join().unwrap(), Err(StoreFailure::Poisoned)));
    assert_eq!(sequencer.ask(|_| ()).await, Err(Rejection::StoreUnavailable));
}

#[tokio::test]
async fn given_work_when_the_last_handle_goes_then_it_is_written_before_the_writer_ends() {
    let (store, begun, gate) = SlowStore::new();
    let (sequencer, thread) = start(store, 8);
    let mut first = Box::pin(sequencer.ask(|desk| desk.write(change(1))));
    let mut second = Box::pin(sequencer.ask(|desk| desk.write(change(2))));
    assert_eq!(at_once(&mut first), None);
    begun.recv().unwrap();
    assert_eq!(at_once(&mut second), None);
    drop((first, second));
    drop(sequencer);
    gate.send(()).unwrap();
    assert_eq!(begun.recv().unwrap(), 1);
    gate.send(()).unwrap();
    assert!(thread.join().unwrap().is_ok());
}

#[tokio::test]
async fn given_no_thread_when_the_writer_is_a_future_then_it_writes_when_it_is_polled_and_ends_with_the_last_handle() {
    let desk = Desk::new(Ledger::new(Settings::default()), Box::new(MemoryStore::default()));
    let (sequencer, writer) = Sequencer::on_one_thread(desk, 8);
    let mut writer = Box::pin(writer);
    let mut asked = Box::pin(sequencer.ask(|desk| desk.write(change(1))));
    assert_eq!(at_once(&mut asked), None);
    assert!(at_once(&mut writer).is_none());
    assert_eq!(at_once(&mut asked), Some(Ok(())));
    drop(asked);
    drop(sequencer);
    assert!(matches!(at_once(&mut writer), Some(Ok(()))));
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_common_store_when_a_page_is_taken_up_and_given_away_then_it_is_known_here_only_between() {
    let (header, slots, key, whole) = page_with_a_channel();
    let (book, id, page) = (header.book, whole.voucher.channel_id, whole.place.page);
    let seen = PageSeen { address: page, chain_slot: 1, header: &header, slots: &slots };
    let mut store = MemoryStore::default();
    store.commit(&[Change::Channel(whole), Change::Table { page, table: [7; 32] }]).unwrap();
    let desk = Desk::among(Box::new(store), Settings::default(), 3).unwrap();
    let (sequencer, thread) = Sequencer::start(desk, 8).unwrap();
    let load = || async {
        let load = |store: &mut dyn VoucherStore| {
            let mut channels = Vec::new();
            let stored = store.load_pages(&[[0; 32]], &mut |record| channels.push(record))?;
            Ok(Stored { channels, ..stored })
        };
        sequencer.ask_beside(load).await.unwrap()
    };

    // What is stored of it is not known here, and so nothing of it is taken in.
    assert_eq!(sequencer.not_taken_up([page]).await, Ok(vec![page]));
    assert_eq!(sequencer.observe(&[seen], Finality::Confirmed).await.map(|events| events.len()), Ok(0));
    assert_eq!(sequencer.signer(&id), Err(Rejection::UnknownChannel));

    let next = SignedVoucher::sign(&key, id, Amount::new(3));
    for (charged, calls) in [(1, 0), (3, 1)] {
        let stored = load().await;
        let taken = sequencer.insist(move |desk| desk.take_up(book, &[page], stored)).await;
        assert_eq!(taken, Ok(vec![]), "round {calls}");
        // Once more changes nothing: what is known here by then is newer.
        let again = load().await;
        sequencer.insist(move |desk| desk.take_up(book, &[page], again)).await.unwrap();
        assert_eq!(sequencer.observe(&[seen], Finality::Confirmed).await.map(|events| events.len()), Ok(1));
        let charged_here = sequencer.ask(|desk| desk.ledger.channel(&id).unwrap().charged()).await;
        assert_eq!(charged_here, Ok(Amount::new(charged)));
        assert_eq!(sequencer.ask(|desk| desk.tables.get(&page).copied()).await, Ok(Some([7; 32])));
        if calls == 0 {
            sequencer.reserve(next, book, Amount::new(2), 60).await.unwrap();
            sequencer.commit(next, book, Amount::new(2)).await.unwrap();
        }

        assert_eq!(sequencer.ask(|desk| desk.taken_up_of(&book)).await, Ok(vec![page]));
        sequencer.insist(|desk| desk.give_away(&[page])).await.unwrap();
        assert_eq!(sequencer.observe(&[seen], Finality::Confirmed).await.map(|events| events.len()), Ok(0));
        assert_eq!(sequencer.signer(&id), Err(Rejection::UnknownChannel));
        assert_eq!(
            sequencer.ask(|desk| (desk.ledger.len(), desk.ledger.unmet(), desk.tables.len())).await,
            Ok((0, 0, 0))
        );
    }
    assert_eq!(sequencer.ask(|desk| desk.number_batch()).await, Ok(Ok(3)));
    drop(sequencer);
    thread.join().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_question_beside_the_desk_when_the_store_fails_it_then_the_writer_ends() {
    let (sequencer, thread) = start(MemoryStore::default(), 8);
    assert_eq!(sequencer.ask_beside(|store| store.load().map(|stored| stored.newest_batch)).await, Ok(0));
    let failed = sequencer.ask_beside(|_| Err::<(), _>(StoreFailure::Damaged("a test"))).await;
    assert_eq!(failed, Err(Rejection::StoreUnavailable));
    assert!(matches!(thread.join().unwrap(), Err(StoreFailure::Damaged("a test"))));
    assert_eq!(sequencer.ask_beside(|_| Ok(())).await, Err(Rejection::StoreUnavailable));
}
