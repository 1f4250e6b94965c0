//! Somebody who pays by the scheme `exact`, as any x402 client does, and the requests that a resource server makes of it.

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::Client;
use serde_json::{Value, json};
use solana_address::Address;
use solana_hash::Hash;
use solana_instruction::{AccountMeta, Instruction};
use solana_keypair::Keypair;
use solana_message::{VersionedMessage, v0};
use solana_signature::Signature;
use solana_signer::Signer;
use solana_transaction::versioned::VersionedTransaction;
use tallybook_chain::address::{TOKEN_PROGRAM, associated_token_account};
use tallybook_chain::transaction::{compute_unit_limit, compute_unit_price, memo, to_bytes};
use tallybook_cli::demo::Ground;
use tallybook_rules::Amount;
use tallybook_wire::{Key, Network};

/// A wallet with tokens, and no SOL: somebody else pays the fee.
#[derive(Debug)]
pub struct Buyer {
    /// The wallet.
    pub wallet: Keypair,
}

/// What is asked for, and by which transaction it is paid.
#[derive(Clone, Debug)]
pub struct Purchase {
    /// In base units.
    pub amount: u64,
    /// Who is paid.
    pub pay_to: Address,
    /// The token.
    pub mint: Address,
    /// SPL Token or Token-2022.
    pub token_program: Address,
    /// Who pays the fee.
    pub fee_payer: Address,
    /// Makes it differ from an equal one.
    pub memo: String,
}

impl Buyer {
    /// With so many base units of the ground's token.
    pub async fn arrive(ground: &Ground, tokens: u64) -> Result<Self> {
        let wallet = Keypair::new();
        ground.mint.fund(&ground.chain, &[wallet.pubkey()], 0, Amount::new(tokens)).await?;
        Ok(Self { wallet })
    }

    /// Signed on the newest blockhash, the fee payer's place left empty.
    pub async fn sign(&self, ground: &Ground, purchase: &Purchase) -> Result<VersionedTransaction> {
        let blockhash = ground.chain.rpc().get_latest_blockhash().await?;
        self.sign_on(purchase, blockhash)
    }

    /// The same, on this blockhash.
    pub fn sign_on(&self, purchase: &Purchase, blockhash: Hash) -> Result<VersionedTransaction> {
        let instructions = purchase.instructions(&self.wallet.pubkey());
        let message = v0::Message::try_compile(&purchase.fee_payer, &instructions, &[], blockhash)?;
        let message = VersionedMessage::V0(message);
        let signatures = vec![Signature::default(), self.wallet.sign_message(&message.serialize())];
        Ok(VersionedTransaction { signatures, message })
    }

    /// What is left in the wallet.
    pub async fn holds(&self, ground: &Ground) -> Result<u64> {
        Ok(ground.mint.held_by(&ground.chain, &self.wallet.pubkey()).await?.get())
    }
}

impl Purchase {
    /// Of the ground's payee, in its token, sponsored by its sponsor.
    pub fn of(ground: &Ground, amount: u64) -> Self {
        Self {
            amount,
            pay_to: ground.payee,
            mint: ground.mint.address(),
            token_program: TOKEN_PROGRAM,
            fee_payer: ground.sponsor,
            memo: Key(Keypair::new().pubkey().to_bytes()).to_string(),
        }
    }

    /// As reference clients build them.
    pub fn instructions(&self, buyer: &Address) -> [Instruction; 4] {
        let account_of = |owner: &Address| associated_token_account(owner, &self.mint, &self.token_program);
        let transfer = Instruction {
            program_id: self.token_program,
            accounts: vec![
                AccountMeta::new(account_of(buyer), false),
                AccountMeta::new_readonly(self.mint, false),
                AccountMeta::new(account_of(&self.pay_to), false),
                AccountMeta::new_readonly(*buyer, true),
            ],
            data: [&[12][..], &self.amount.to_le_bytes(), &[6]].concat(),
        };
        [compute_unit_limit(40_000), compute_unit_price(1), transfer, memo(&self.memo)]
    }

    /// The body of `/verify` and `/settle` in version 2 of x402.
    pub fn request(&self, transaction: &VersionedTransaction) -> Result<Value> {
        let terms = json!({
            "scheme": "exact", "network": Network::devnet(), "amount": self.amount.to_string(),
            "asset": self.mint.to_string(), "payTo": self.pay_to.to_string(), "maxTimeoutSeconds": 60,
            "extra": { "feePayer": self.fee_payer.to_string() },
        });
        let payload = json!({ "transaction": STANDARD.encode(to_bytes(transaction)?) });
        let payment = json!({ "x402Version": 2, "accepted": terms, "payload": payload });
        Ok(json!({ "x402Version": 2, "paymentPayload": payment, "paymentRequirements": terms }))
    }

    /// The same in version 1.
    pub fn request_v1(&self, transaction: &VersionedTransaction) -> Result<Value> {
        let terms = json!({
            "scheme": "exact", "network": "solana-devnet", "maxAmountRequired": self.amount.to_string(),
            "asset": self.mint.to_string(), "payTo": self.pay_to.to_string(), "maxTimeoutSeconds": 60,
            "resource": "http://localhost/", "description": "", "mimeType": "", "outputSchema": null,
            "extra": { "feePayer": self.fee_payer.to_string() },
        });
        let payload = json!({ "transaction": STANDARD.encode(to_bytes(transaction)?) });
        let payment = json!({ "x402Version": 1, "scheme": "exact", "network": "solana-devnet", "payload": payload });
        Ok(json!({ "x402Version": 1, "paymentPayload": payment, "paymentRequirements": terms }))
    }
}

/// Asks a facilitator: the status, and the JSON of the answer.
pub async fn ask(http: &Client, facilitator: &str, path: &str, request: &Value) -> Result<(u16, Value)> {
    let response = http.post(format!("{facilitator}/{path}")).json(request).send().await?;
    let status = response.status().as_u16();
    Ok((status, response.json().await.context("the answer is JSON")?))
}
