//! A book of the released program with a page full of open channels, on an in-process chain.

use super::Taken;
use ed25519_dalek::SigningKey;
use litesvm::LiteSVM;
use litesvm::types::TransactionMetadata;
use sha2::{Digest, Sha256};
use solana_account::Account;
use solana_address::{Address, address};
use solana_address_lookup_table_interface::instruction::{create_lookup_table, extend_lookup_table};
use solana_clock::Clock;
use solana_instruction::{AccountMeta, Instruction};
use solana_keypair::Keypair;
use solana_message::{AddressLookupTableAccount, Message, VersionedMessage, v0, v1};
use solana_signer::Signer;
use solana_transaction::versioned::VersionedTransaction;
use tallybook_chain::address::{TOKEN_PROGRAM, associated_token_account, book as book_address, page as page_address};
use tallybook_chain::instruction::{Instructions, NewBook, NewChannel, Split};
use tallybook_chain::transaction::{MAX_TRANSACTION_BYTES, create_token_account, to_bytes};
use tallybook_chain::{BookView, PROGRAM_ID, PageView, TokenAccountView};
use tallybook_rules::half_aggregation::Row;
use tallybook_rules::signing::{SignedVoucher, aggregate, channel_id, halves};
use tallybook_rules::{Amount, Terms};

/// Builders for the deployed program.
pub const TALLYBOOK: Instructions = Instructions::new(PROGRAM_ID);
/// The second token program.
pub const TOKEN_2022_PROGRAM: Address = address!("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb");
/// The most bytes of a transaction of version 1.
pub const MAX_V1_BYTES: usize = 4_096;
/// Channels of a page.
pub const CHANNELS: u8 = 96;
/// What each channel is opened with, in base units.
pub const DEPOSIT: u64 = 10_000_000;

const GRACE_SECONDS: u32 = 3_600;
/// The feature gate of transactions of version 1.
const TRANSACTION_V1: Address = address!("txv1aq4pp281K9um3tnPgkfX8UqtFT6wcVW3hNezGLL");
/// Addresses that one legacy transaction can add to a table, and the one that makes the table too.
const EXTENSION: usize = 30;
const FIRST_EXTENSION: usize = 26;

/// A key that is the same in every run.
#[must_use]
pub fn key(name: &str) -> Keypair {
    Keypair::new_from_array(Sha256::digest(name).into())
}

/// A chain with mainnet's features and transactions of version 1, and a sponsor who pays for everything.
pub struct Chain {
    /// The chain.
    pub svm: LiteSVM,
    /// Pays fees and rent.
    pub sponsor: Keypair,
}

/// A transaction to be, with its size on the wire.
pub struct Sized {
    transaction: VersionedTransaction,
    /// Serialized, signatures included.
    pub bytes: usize,
}

impl Default for Chain {
    fn default() -> Self {
        let mut features = LiteSVM::mainnet_feature_set();
        features.activate(&TRANSACTION_V1, 0);
        let mut svm =
            LiteSVM::new().with_feature_set(features).with_builtins().with_precompiles().with_feature_accounts();
        let sponsor = key("sponsor");
        svm.airdrop(&sponsor.pubkey(), 1_000_000_000_000).unwrap();
        Self { svm, sponsor }
    }
}

impl Chain {
    /// A legacy transaction that the sponsor pays for.
    pub fn legacy(&mut self, instructions: &[Instruction], signers: &[&Keypair]) -> Sized {
        self.svm.expire_blockhash();
        let message =
            Message::new_with_blockhash(instructions, Some(&self.sponsor.pubkey()), &self.svm.latest_blockhash());
        self.signed(VersionedMessage::Legacy(message), signers)
    }

    /// One of version 0 that takes what it can from `table`.
    pub fn v0(
        &mut self,
        instructions: &[Instruction],
        table: &AddressLookupTableAccount,
        signers: &[&Keypair],
    ) -> Sized {
        self.svm.expire_blockhash();
        let (payer, blockhash) = (self.sponsor.pubkey(), self.svm.latest_blockhash());
        let message = v0::Message::try_compile(&payer, instructions, std::slice::from_ref(table), blockhash).unwrap();
        self.signed(VersionedMessage::V0(message), signers)
    }

    /// One of version 1, with its limits and a priority fee of nothing.
    pub fn v1(&mut self, instructions: &[Instruction], signers: &[&Keypair]) -> Sized {
        self.svm.expire_blockhash();
        let limits = v1::TransactionConfig::empty()
            .with_compute_unit_limit(1_400_000)
            .with_loaded_accounts_data_size_limit(4 << 20)
            .with_priority_fee(0);
        let (payer, blockhash) = (self.sponsor.pubkey(), self.svm.latest_blockhash());
        let message = v1::Message::try_compile_with_config(&payer, instructions, blockhash, limits).unwrap();
        let size = message.size();
        let mut sized = self.signed(VersionedMessage::V1(message), signers);
        sized.bytes = size + 64 * sized.transaction.signatures.len();
        sized
    }

    fn signed(&self, message: VersionedMessage, signers: &[&Keypair]) -> Sized {
        let others = signers.iter().copied().filter(|signer| signer.pubkey() != self.sponsor.pubkey());
        let signers: Vec<_> = [&self.sponsor].into_iter().chain(others).collect();
        let transaction = VersionedTransaction::try_new(message, &signers).unwrap();
        // Too large ones are built too, to see that they are.
        let bytes = to_bytes(&transaction).map_or(MAX_TRANSACTION_BYTES + 1, |bytes| bytes.len());
        Sized { transaction, bytes }
    }

    /// Whether it would go through: the chain here does not look at sizes.
    pub fn takes(&self, sized: &Sized, most_bytes: usize) -> bool {
        sized.bytes <= most_bytes && self.svm.simulate_transaction(sized.transaction.clone()).is_ok()
    }

    /// Sends it, and says what it took out of the sponsor's balance.
    pub fn send(&mut self, sized: Sized) -> Taken {
        let before = self.lamports();
        let TransactionMetadata { compute_units_consumed, .. } =
            self.svm.send_transaction(sized.transaction).map_err(|failed| failed.err).expect("it goes through");
        Taken {
            bytes: sized.bytes.try_into().unwrap(),
            compute_units: compute_units_consumed,
            lamports: before - self.lamports(),
        }
    }

    fn lamports(&self) -> u64 {
        self.svm.get_balance(&self.sponsor.pubkey()).unwrap()
    }

    /// Creates a lookup table with real instructions; says what it took in fees, and in rent that comes back.
    pub fn table(&mut self, addresses: &[Address]) -> (AddressLookupTableAccount, u64, u64) {
        let (sponsor, before) = (self.sponsor.pubkey(), self.lamports());
        let slot = self.svm.get_sysvar::<Clock>().slot;
        let (create, table) = create_lookup_table(sponsor, sponsor, slot);
        let (first, others) = addresses.split_at(addresses.len().min(FIRST_EXTENSION));
        let mut instructions = vec![create];
        for chunk in [first].into_iter().chain(others.chunks(EXTENSION)) {
            instructions.push(extend_lookup_table(table, sponsor, Some(sponsor), chunk.to_vec()));
            let sized = self.legacy(&instructions, &[]);
            assert!(sized.bytes <= MAX_TRANSACTION_BYTES);
            self.send(sized);
            instructions.clear();
        }
        // What was added in this slot counts from the next one on.
        self.svm.warp_to_slot(slot + 1);
        let rent = self.svm.get_balance(&table).unwrap();
        let account = AddressLookupTableAccount { key: table, addresses: addresses.to_vec() };
        (account, before - self.lamports() - rent, rent)
    }
}

/// A channel and its keys.
pub struct Channel {
    /// The slot.
    pub slot: u8,
    /// Who funded it.
    pub payer: Keypair,
    signer: SigningKey,
    id: [u8; 32],
}

/// A page full of open channels.
pub struct World {
    /// The chain.
    pub chain: Chain,
    /// The resource server's key.
    pub operator: Keypair,
    /// The page.
    pub page: Address,
    /// Its channels, by slot.
    pub channels: Vec<Channel>,
    /// What opening one of them took.
    pub opening: Taken,
    book: Address,
    mint: Address,
    token_program: Address,
}

impl World {
    /// A book of `legs` recipients and a page of [`CHANNELS`] channels.
    #[must_use]
    pub fn new(token_program: Address, legs: u8) -> Self {
        let mut chain = Chain::default();
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../programs/tallybook/artifact/tallybook.so");
        chain.svm.add_program(PROGRAM_ID, &std::fs::read(program).unwrap()).unwrap();
        let (payee, mint) = (key("payee"), key("mint").pubkey());
        chain.svm.set_account(mint, mint_account(&chain.sponsor.pubkey(), token_program)).unwrap();
        let book = book_address(&PROGRAM_ID, &payee.pubkey(), &mint, 0).0;
        let page = page_address(&PROGRAM_ID, &book, 0).0;
        let (operator, channels, opening) = (key("operator"), Vec::new(), Taken::default());
        let mut world = Self { chain, operator, page, channels, opening, book, mint, token_program };
        world.make_book(&payee, legs);
        world.opening = (0..CHANNELS).map(|slot| world.open(slot)).last().unwrap();
        world
    }

    fn make_book(&mut self, payee: &Keypair, legs: u8) {
        let partners: Vec<_> = (1..legs).map(|leg| key(&format!("leg {leg}")).pubkey()).collect();
        let sponsor = self.chain.sponsor.pubkey();
        let new = NewBook {
            payee: payee.pubkey(),
            rent_payer: sponsor,
            mint: self.mint,
            token_program: self.token_program,
            book_id: 0,
            genesis_hash: [0x6e; 32],
            terms: Terms {
                grace_seconds: GRACE_SECONDS,
                max_idle_seconds: 0,
                min_deposit: Amount::new(1),
                open_policy: 0,
            },
            operator: self.operator.pubkey(),
            splits: partners.iter().map(|to| Split { recipient: to.to_bytes(), basis_points: 500 }).collect(),
        };
        let made = self.chain.legacy(&[TALLYBOOK.init_book(&new)], &[payee]);
        self.chain.send(made);
        let operator = self.operator.insecure_clone();
        let add = TALLYBOOK.add_page(&self.book(), &operator.pubkey(), &sponsor, 0, CHANNELS);
        let added = self.chain.legacy(&[add], &[&operator]);
        self.chain.send(added);
        [payee.pubkey()].iter().chain(&partners).for_each(|owner| self.fund(owner, 0));
    }

    /// Creates the associated account of `owner`, with `amount` new tokens in it.
    fn fund(&mut self, owner: &Address, amount: u64) {
        let sponsor = self.chain.sponsor.pubkey();
        let mint_to = Instruction {
            program_id: self.token_program,
            accounts: vec![
                AccountMeta::new(self.mint, false),
                AccountMeta::new(self.token_account(owner), false),
                AccountMeta::new_readonly(sponsor, true),
            ],
            data: [&[7][..], &amount.to_le_bytes()].concat(),
        };
        let create = create_token_account(&sponsor, owner, &self.mint, &self.token_program);
        let funded = self.chain.legacy(&[create, mint_to], &[]);
        self.chain.send(funded);
    }

    /// A payer opens a channel, sponsored: payer and sponsor sign.
    fn open(&mut self, slot: u8) -> Taken {
        let (payer, signer) = (key(&format!("payer {slot}")), key(&format!("signer {slot}")));
        let signer = SigningKey::from_bytes(signer.secret_bytes());
        self.fund(&payer.pubkey(), DEPOSIT);
        let new = NewChannel {
            payer: payer.pubkey(),
            source: self.token_account(&payer.pubkey()),
            operator: None,
            page: self.page,
            slot,
            generation: 1,
            signer: signer.verifying_key().to_bytes(),
            deposit: DEPOSIT,
        };
        let open = self.chain.legacy(&[TALLYBOOK.open(&self.book(), &new)], &[&payer]);
        let domain = PageView::parse(self.page, &self.data(&self.page)).unwrap().header.page_domain;
        let id = channel_id(&domain, slot, 1, payer.pubkey().as_array(), &new.signer);
        self.channels.push(Channel { slot, payer, signer, id });
        self.chain.send(open)
    }

    /// The claim of the first `count` channels' vouchers, each over `cumulative`.
    #[must_use]
    pub fn claim(&self, count: u8, cumulative: u64) -> Instruction {
        let verified: Vec<_> = self.channels[..usize::from(count)]
            .iter()
            .map(|channel| {
                let voucher = SignedVoucher::sign(&channel.signer, channel.id, Amount::new(cumulative));
                voucher.verify(&channel.signer.verifying_key().to_bytes()).unwrap()
            })
            .collect();
        let rows: Vec<_> = (0..count)
            .zip(&verified)
            .map(|(slot, verified)| {
                let nonce = *halves(&verified.voucher().signature).0;
                Row { slot, cumulative: Amount::new(cumulative), nonce }
            })
            .collect();
        TALLYBOOK.claim(&self.page, &aggregate(&verified).unwrap(), &rows).unwrap()
    }

    /// The payout of every leg.
    #[must_use]
    pub fn payout(&self) -> Instruction {
        let book = self.book();
        TALLYBOOK.payout(&book, &self.page, u8::try_from((1u32 << book.state.leg_count) - 1).unwrap())
    }

    /// The addresses of a page's lookup table: all that claim and payout name, but for the program.
    #[must_use]
    pub fn shared_addresses(&self) -> Vec<Address> {
        let book = self.book();
        let legs = book.state.legs().iter().map(|leg| Address::from(leg.account));
        [self.page, self.vault(), self.mint, self.token_program, self.book].into_iter().chain(legs).collect()
    }

    /// The book.
    #[must_use]
    pub fn book(&self) -> BookView {
        BookView::parse(self.book, &self.data(&self.book)).unwrap()
    }

    /// What the vault holds, in base units.
    #[must_use]
    pub fn held(&self) -> u64 {
        TokenAccountView::parse(&self.data(&self.vault())).unwrap().amount.get()
    }

    /// Every channel's payer begins to leave, and the grace period passes. Says what one request took.
    pub fn leave(&mut self) -> Taken {
        let mut taken = Taken::default();
        for at in 0..self.channels.len() {
            let (payer, slot) = (self.channels[at].payer.insecure_clone(), self.channels[at].slot);
            let close = TALLYBOOK.request_close(&self.book, &self.page, &payer.pubkey(), slot, 1);
            let request = self.chain.legacy(&[close], &[&payer]);
            taken = self.chain.send(request);
        }
        let mut clock = self.chain.svm.get_sysvar::<Clock>();
        clock.unix_timestamp += i64::from(GRACE_SECONDS);
        self.chain.svm.set_sysvar(&clock);
        taken
    }

    fn vault(&self) -> Address {
        self.token_account(&self.page)
    }

    fn token_account(&self, owner: &Address) -> Address {
        associated_token_account(owner, &self.mint, &self.token_program)
    }

    fn data(&self, address: &Address) -> Vec<u8> {
        self.chain.svm.get_account(address).map(|account| account.data).unwrap_or_default()
    }
}

/// A mint of 6 decimals that `authority` mints.
fn mint_account(authority: &Address, token_program: Address) -> Account {
    let mut data = vec![0; 82];
    data[0] = 1;
    data[4..36].copy_from_slice(authority.as_ref());
    data[44..46].copy_from_slice(&[6, 1]);
    Account { lamports: 1_000_000_000, data, owner: token_program, executable: false, rent_epoch: u64::MAX }
}

/// The name of a token program.
#[must_use]
pub fn token_name(token_program: &Address) -> &'static str {
    if *token_program == TOKEN_PROGRAM { "SPL Token" } else { "Token-2022" }
}
