//! What every world begins with: a machine with the released program, a mint, wallets, a book with a page. Made once for
//! each kind of world, and copied.

use litesvm::LiteSVM;
use sha2::{Digest, Sha256};
use solana_account::Account;
use solana_address::{Address, address};
use solana_clock::Clock;
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_message::{Message, VersionedMessage};
use solana_signer::Signer;
use solana_transaction::versioned::VersionedTransaction;
use std::sync::LazyLock;
use tallybook_chain::address::{TOKEN_PROGRAM, associated_token_account, book as book_address, page as page_address};
use tallybook_chain::instruction::{Instructions, NewBook, Split};
use tallybook_chain::transaction::compute_unit_limit;
use tallybook_chain::{BookView, PROGRAM_ID};
use tallybook_rules::{Amount, Terms};

/// Builders for the deployed program.
pub(crate) const TALLYBOOK: Instructions = Instructions::new(PROGRAM_ID);
/// The cluster.
pub(crate) const GENESIS: [u8; 32] = [0x6e; 32];
/// The shortest that the program allows.
pub(crate) const GRACE_SECONDS: u32 = 900;
/// Slots of the page: so few that they are used again.
pub(crate) const CAPACITY: u8 = 4;
/// Agents that there can be.
pub(crate) const AGENTS: usize = 4;
/// What each agent's wallet holds at first, in base units.
pub(crate) const TOKENS: u64 = 1_000_000;
/// The chain's slot when a world begins.
pub(crate) const FIRST_SLOT: u64 = 1_000;

/// The feature gate of transactions of version 1.
const TRANSACTION_V1: Address = address!("txv1aq4pp281K9um3tnPgkfX8UqtFT6wcVW3hNezGLL");

/// A key that is the same in every world.
pub(crate) fn key(name: &str) -> Keypair {
    Keypair::new_from_array(Sha256::digest(name).into())
}

/// The wallet of an agent.
pub(crate) fn wallet(agent: usize) -> Keypair {
    key(&format!("agent {agent}"))
}

/// What kinds of worlds there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// The payee takes all.
    OneLeg,
    /// A tenth goes to the facilitator.
    TwoLegs,
    /// The payee has no token account yet: the sponsor makes it.
    NoAccount,
}

/// A machine, and what stands on it.
pub(crate) struct Ground {
    pub(crate) svm: LiteSVM,
    pub(crate) book: BookView,
    pub(crate) page: Address,
    /// Every token account that there is or will be.
    pub(crate) accounts: Vec<Address>,
}

impl Ground {
    pub(crate) fn of(kind: Kind) -> &'static Self {
        static ONE_LEG: LazyLock<Ground> = LazyLock::new(|| Ground::make(Kind::OneLeg));
        static TWO_LEGS: LazyLock<Ground> = LazyLock::new(|| Ground::make(Kind::TwoLegs));
        static NO_ACCOUNT: LazyLock<Ground> = LazyLock::new(|| Ground::make(Kind::NoAccount));
        match kind {
            Kind::OneLeg => &ONE_LEG,
            Kind::TwoLegs => &TWO_LEGS,
            Kind::NoAccount => &NO_ACCOUNT,
        }
    }

    fn make(kind: Kind) -> Self {
        let mut features = LiteSVM::mainnet_feature_set();
        features.activate(&TRANSACTION_V1, 0);
        let mut svm = LiteSVM::new()
            .with_feature_set(features)
            .with_builtins()
            .with_precompiles()
            .with_feature_accounts()
            // The simulated chain's own business: blockhashes and repeats depend on the fork, and nodes that simulate look at
            // no signature.
            .with_sigverify(false)
            .with_blockhash_check(false)
            .with_transaction_history(0);
        let artifact = concat!(env!("CARGO_MANIFEST_DIR"), "/../programs/tallybook/artifact/tallybook.so");
        svm.add_program_from_file(PROGRAM_ID, artifact).expect("the released program");
        let mut clock = svm.get_sysvar::<Clock>();
        clock.slot = FIRST_SLOT - 1;
        clock.unix_timestamp = crate::virtual_time::BEGIN_SECONDS;
        svm.set_sysvar(&clock);

        let (payee, mint, sponsor) = (key("payee"), key("mint").pubkey(), key("sponsor"));
        svm.set_account(mint, account(mint_data(), TOKEN_PROGRAM)).unwrap();
        let token_account = |owner: &Address| associated_token_account(owner, &mint, &TOKEN_PROGRAM);
        let income = key("income").pubkey();
        let mut holders: Vec<(Address, u64)> = (0..AGENTS).map(|agent| (wallet(agent).pubkey(), TOKENS)).collect();
        if kind != Kind::NoAccount {
            holders.push((payee.pubkey(), 0));
        }
        holders.push((income, 0));
        for (owner, amount) in &holders {
            let data = token_account_data(&mint, owner, *amount);
            svm.set_account(token_account(owner), account(data, TOKEN_PROGRAM)).unwrap();
        }
        for rich in [sponsor.pubkey(), key("rival").pubkey(), payee.pubkey()] {
            svm.airdrop(&rich, 1_000_000_000_000).unwrap();
        }
        (0..AGENTS).for_each(|agent| drop(svm.airdrop(&wallet(agent).pubkey(), 10_000_000_000)));

        let new = NewBook {
            payee: payee.pubkey(),
            rent_payer: payee.pubkey(),
            mint,
            token_program: TOKEN_PROGRAM,
            book_id: 0,
            genesis_hash: GENESIS,
            terms: Terms {
                grace_seconds: GRACE_SECONDS,
                max_idle_seconds: 0,
                min_deposit: Amount::new(1_000),
                open_policy: 0,
            },
            operator: key("operator").pubkey(),
            splits: match kind {
                Kind::TwoLegs => vec![Split { recipient: income.to_bytes(), basis_points: 1_000 }],
                Kind::OneLeg | Kind::NoAccount => Vec::new(),
            },
        };
        let address = book_address(&PROGRAM_ID, &payee.pubkey(), &mint, 0).0;
        send(&mut svm, TALLYBOOK.init_book(&new), &payee);
        let book = view(&svm, address);
        send(&mut svm, TALLYBOOK.add_page(&book, &payee.pubkey(), &payee.pubkey(), 0, CAPACITY), &payee);
        let page = page_address(&PROGRAM_ID, &address, 0).0;
        let mut accounts: Vec<Address> = holders.iter().map(|(owner, _)| token_account(owner)).collect();
        accounts.extend([token_account(&page), token_account(&payee.pubkey())]);
        accounts.sort();
        accounts.dedup();
        Self { book: view(&svm, address), page, accounts, svm }
    }
}

fn view(svm: &LiteSVM, book: Address) -> BookView {
    BookView::parse(book, &svm.get_account(&book).expect("the book").data).unwrap()
}

fn send(svm: &mut LiteSVM, instruction: Instruction, signer: &Keypair) {
    let message = Message::new(&[compute_unit_limit(1_400_000), instruction], Some(&signer.pubkey()));
    let transaction = VersionedTransaction::try_new(VersionedMessage::Legacy(message), &[signer]).unwrap();
    svm.send_transaction(transaction).expect("a good instruction");
}

fn account(data: Vec<u8>, owner: Address) -> Account {
    Account { lamports: 1_000_000_000, data, owner, executable: false, rent_epoch: u64::MAX }
}

/// An initialised mint of 6 decimals whose authority nobody has.
fn mint_data() -> Vec<u8> {
    let mut data = vec![0; 82];
    (data[44], data[45]) = (6, 1);
    data[36..44].copy_from_slice(&(TOKENS * AGENTS as u64).to_le_bytes());
    data
}

fn token_account_data(mint: &Address, owner: &Address, amount: u64) -> Vec<u8> {
    let mut data = vec![0; 165];
    data[..32].copy_from_slice(mint.as_ref());
    data[32..64].copy_from_slice(owner.as_ref());
    data[64..72].copy_from_slice(&amount.to_le_bytes());
    data[108] = 1;
    data
}
