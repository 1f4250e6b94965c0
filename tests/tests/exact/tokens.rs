//! Tokens of both token programs, with extensions, made by the real programs.

use crate::house::House;
use anyhow::Result;
use solana_address::Address;
use solana_instruction::{AccountMeta, Instruction};
use solana_keypair::Keypair;
use solana_signer::Signer;
use tallybook_chain::address::{TOKEN_2022_PROGRAM, associated_token_account};
use tallybook_chain::transaction::create_token_account;
use tallybook_cli::demo::Ground;
use tallybook_tests::exact::{Buyer, Purchase};

/// Bytes of a mint without extensions, and of one with them before the first.
const PLAIN: usize = 82;
const BEFORE_EXTENSIONS: usize = 166;

/// A mint whose authority is the chain's faucet.
pub(crate) struct Token {
    pub(crate) mint: Address,
    program: Address,
}

impl Token {
    /// With extensions of these sizes, each set up by its instruction (a number and what follows it).
    pub(crate) async fn make(ground: &Ground, program: Address, sizes: &[usize], set_up: &[Vec<u8>]) -> Result<Self> {
        let (key, faucet) = (Keypair::new(), ground.chain.faucet().pubkey());
        let mint = key.pubkey();
        let extensions: usize = sizes.iter().map(|size| size + 4).sum();
        let bytes = if sizes.is_empty() { PLAIN } else { BEFORE_EXTENSIONS + extensions };
        let rent = ground.chain.rpc().get_minimum_balance_for_rent_exemption(bytes).await?;
        let of_mint =
            |data: Vec<u8>| Instruction { program_id: program, accounts: vec![AccountMeta::new(mint, false)], data };
        let create =
            [&[0, 0, 0, 0][..], &rent.to_le_bytes(), &u64::try_from(bytes)?.to_le_bytes(), program.as_ref()].concat();
        let accounts = vec![AccountMeta::new(faucet, true), AccountMeta::new(mint, true)];
        let mut instructions = vec![Instruction { program_id: Address::default(), accounts, data: create }];
        instructions.extend(set_up.iter().cloned().map(of_mint));
        // `InitializeMint2` with six decimals; the faucet mints and freezes.
        instructions.push(of_mint([&[20, 6][..], faucet.as_ref(), &[1], faucet.as_ref()].concat()));
        ground.chain.send(&instructions, &[&key]).await?;
        Ok(Self { mint, program })
    }

    /// Makes the owner's account, with so many base units in it.
    pub(crate) async fn give(&self, ground: &Ground, owner: &Address, amount: u64) -> Result<()> {
        let faucet = ground.chain.faucet().pubkey();
        let account = associated_token_account(owner, &self.mint, &self.program);
        let mut instructions = vec![create_token_account(&faucet, owner, &self.mint, &self.program)];
        if amount > 0 {
            instructions.push(Instruction {
                program_id: self.program,
                accounts: vec![
                    AccountMeta::new(self.mint, false),
                    AccountMeta::new(account, false),
                    AccountMeta::new_readonly(faucet, true),
                ],
                data: [&[7][..], &amount.to_le_bytes()].concat(),
            });
        }
        ground.chain.send(&instructions, &[]).await?;
        Ok(())
    }

    /// A payment in this token that a buyer with 10,000 of it has signed, and its purchase.
    async fn paid(&self, house: &House, amount: u64) -> Result<serde_json::Value> {
        let ground = &house.ground;
        let buyer = Buyer { wallet: Keypair::new() };
        self.give(ground, &buyer.wallet.pubkey(), 10_000).await?;
        self.give(ground, &ground.payee, 0).await?;
        let purchase = Purchase { mint: self.mint, token_program: self.program, ..house.purchase(amount) };
        purchase.request(&buyer.sign(ground, &purchase).await?)
    }

    async fn held_by(&self, ground: &Ground, owner: &Address) -> Result<u64> {
        let account = associated_token_account(owner, &self.mint, &self.program);
        let data = ground.chain.rpc().get_account(&account).await?.data;
        Ok(tallybook_chain::TokenAccountView::parse(&data).unwrap().amount.get())
    }
}

impl House {
    /// The same, where this mint is served too.
    pub(crate) async fn with_mint(mut self, mint: &Address) -> Result<Self> {
        self.config.exact.as_mut().unwrap().mints.push(tallybook_wire::Key(mint.to_bytes()));
        self.restart().await
    }
}

/// `InitializeTransferFeeConfig`: nobody may change it, and so many basis points are taken, all that there is at most.
fn transfer_fee(basis_points: u16) -> Vec<u8> {
    [&[26, 0, 0, 0][..], &basis_points.to_le_bytes(), &u64::MAX.to_le_bytes()].concat()
}

/// `InitializeTransferHook` by somebody, with this program.
fn transfer_hook(program: Address) -> Vec<u8> {
    [&[36, 0][..], &[5; 32], program.as_ref()].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn given_tokens_of_token_2022_when_paid_in_then_the_payee_gets_all_of_it_or_nothing_is_paid() -> Result<()> {
    let house = House::open().await?;
    let (fee, hook) = (108, 64);
    let make =
        async |sizes: &[usize], set_up: &[Vec<u8>]| Token::make(&house.ground, TOKEN_2022_PROGRAM, sizes, set_up).await;
    let good = [
        make(&[], &[]).await?,
        make(&[fee], &[transfer_fee(0)]).await?,
        make(&[hook], &[transfer_hook(Address::default())]).await?,
    ];
    let bad = [
        make(&[fee], &[transfer_fee(100)]).await?,
        make(&[hook], &[transfer_hook(tallybook_chain::PROGRAM_ID)]).await?,
        make(&[fee, hook], &[transfer_fee(1), transfer_hook(Address::default())]).await?,
    ];
    let mut house = house;
    for token in good.iter().chain(&bad) {
        house.config.exact.as_mut().unwrap().mints.push(tallybook_wire::Key(token.mint.to_bytes()));
    }
    let house = house.restart().await?;
    for token in &good {
        house.settle(&token.paid(&house, 1_000).await?).await?;
        assert_eq!(token.held_by(&house.ground, &house.ground.payee).await?, 1_000);
    }
    for token in &bad {
        let request = token.paid(&house, 1_000).await?;
        assert_eq!(house.refused(&request).await?, "invalid_exact_svm_mint_not_supported");
        assert_eq!(token.held_by(&house.ground, &house.ground.payee).await?, 0);
    }
    house.close().await
}
