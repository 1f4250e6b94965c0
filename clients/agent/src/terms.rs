//! What an agent checks before it puts money into a channel: that the chain says what the offer says.

use crate::error::AgentError;
use crate::policy::Policy;
use tallybook_chain::address::{self, associated_token_account};
use tallybook_chain::{Address, BookView, PROGRAM_ID, PageView, TokenAccountView};
use tallybook_rpc::{Account, Chain, View};
use tallybook_rules::signing::page_domain;
use tallybook_rules::{Amount, OpenPolicy};
use tallybook_wire::{Key, PaymentRequirements};

/// An offer that the chain confirms.
#[derive(Debug)]
pub(crate) struct Confirmed {
    /// The payee's book.
    pub(crate) book: BookView,
    /// The page that was asked about.
    pub(crate) page: PageView,
    /// The wallet's token account.
    pub(crate) source: Address,
    /// What the wallet holds.
    pub(crate) held: Amount,
}

/// Reads book, page and wallet, and compares them with the offer and the policy's pins.
pub(crate) async fn confirm<C: Chain>(
    chain: &C,
    policy: &Policy,
    offer: &PaymentRequirements,
    page: Key,
    wallet: &Address,
) -> Result<Confirmed, AgentError> {
    let source = associated_token_account(wallet, &offer.asset.0.into(), &offer.extra.token_program.0.into());
    let addresses = [offer.extra.book.0.into(), page.0.into(), source];
    let accounts = chain.accounts(&addresses, View::CONFIRMED).await?;
    let mut accounts = accounts.list.into_iter();
    let mut next = || accounts.next().flatten();
    let (book, page_account, wallet_account) = (next(), next(), next());
    let book = check_book(policy, offer, book)?;
    if offer.extra.fee_payer.0 == wallet.to_bytes() {
        return Err(AgentError::Terms("feePayer is the payer itself, not a sponsor"));
    }
    let held = wallet_account
        .and_then(|account| TokenAccountView::parse(&account.data))
        .filter(|account| account.mint == book.mint() && account.owner == *wallet && !account.frozen)
        .map_or(Amount::ZERO, |account| account.amount);
    Ok(Confirmed { page: check_page(policy, &book, page.0.into(), page_account)?, book, source, held })
}

fn ours(account: Option<Account>) -> Option<Vec<u8>> {
    account.filter(|account| account.owner == PROGRAM_ID).map(|account| account.data)
}

fn check_book(policy: &Policy, offer: &PaymentRequirements, account: Option<Account>) -> Result<BookView, AgentError> {
    let (payee, mint): (Address, Address) = (offer.pay_to.0.into(), offer.asset.0.into());
    let (address, _) = address::book(&PROGRAM_ID, &payee, &mint, offer.extra.book_id);
    let data = ours(account).ok_or(AgentError::Terms("book is no account of the program"))?;
    let book = BookView::parse(address, &data).map_err(|_| AgentError::Terms("book is no book of this version"))?;
    let state = &book.state;
    let checks = [
        (address.to_bytes() == offer.extra.book.0, "book is not the one of payTo, asset and bookId"),
        (state.payee == offer.pay_to.0, "payTo is not the book's payee"),
        (state.mint == policy.cluster.mint.0, "the book is of another mint"),
        (state.genesis_hash == policy.cluster.genesis_hash.0, "the book is of another cluster"),
        (state.token_program == offer.extra.token_program.0, "tokenProgram is not the book's"),
        (state.decimals == offer.extra.decimals, "decimals are not the book's"),
        (state.grace_seconds == offer.extra.withdraw_delay, "withdrawDelay is not the book's grace period"),
        (state.min_deposit == offer.extra.min_deposit, "minDeposit is not the book's"),
        (
            OpenPolicy::from_byte(state.open_policy) == Ok(OpenPolicy::Anyone),
            "the book opens channels only with its operator's signature",
        ),
    ];
    match checks.iter().find(|(holds, _)| !holds) {
        Some((_, why)) => Err(AgentError::Terms(why)),
        None => Ok(book),
    }
}

fn check_page(
    policy: &Policy,
    book: &BookView,
    address: Address,
    account: Option<Account>,
) -> Result<PageView, AgentError> {
    let data = ours(account).ok_or(AgentError::Terms("page is no account of the program"))?;
    let page = PageView::parse(address, &data).map_err(|_| AgentError::Terms("page is no page of this version"))?;
    let (derived, _) = address::page(&PROGRAM_ID, &book.address, page.header.index);
    let domain = page_domain(&PROGRAM_ID.to_bytes(), &policy.cluster.genesis_hash.0, &address.to_bytes());
    if page.book() != book.address || derived != address {
        return Err(AgentError::Terms("page is not a page of the book"));
    }
    if page.header.page_domain != domain {
        return Err(AgentError::Terms("the page's vouchers are of another program or cluster"));
    }
    Ok(page)
}
