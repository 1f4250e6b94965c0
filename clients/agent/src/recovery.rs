//! Finding channels again whose journal was lost: on chain, in the pages of a book.
//!
//! What the channels were charged is not on chain, but for what was claimed. So a channel that is found counts with its whole deposit, and may have
//! promised all of it; before it pays or is closed the server is asked where it stands, and believed only as far as it
//! shows a voucher with our own signature. Without the server the money comes back through the chain.

use crate::agent::{Agent, ChannelReport};
use crate::answer;
use crate::channel::{OwnChannel, Phase};
use crate::error::AgentError;
use crate::pool::lock;
use crate::route::Route;
use crate::state::{AgentState, pool_key};
use crate::terms;
use http::{Method, StatusCode};
use reqwest::Request;
use solana_signer::Signer;
use tallybook_chain::{Address, BookView, PROGRAM_ID, PageView, address};
use tallybook_rpc::{Chain, View};
use tallybook_rules::signing::{channel_id, page_domain};
use tallybook_rules::{Amount, Slot, Status};
use tallybook_wire::{Channel, Extra, Key, PaymentRequirements, Scheme};
use url::Url;

/// So many pages of a book are looked through, the newest.
const MAX_PAGES: u32 = 4_096;
/// A reservation's length where no server has named one, in seconds: it is not used before a server has.
const NO_TIMEOUT: core::num::NonZeroU32 = core::num::NonZeroU32::MIN;

/// Whom the channels pay, and how to ask there.
struct Place {
    authority: String,
    url: String,
    method: String,
    terms: PaymentRequirements,
}

impl<C: Chain> Agent<C> {
    /// Finds the wallet's channels at the payee that `url` asks money for, when the state directory was lost: asks it for its
    /// price (which pays nothing), and looks through the pages of the book that it names. They pay again, or can be closed.
    /// The session key must be the one that they were opened with; with another one they can only be left through the chain.
    ///
    /// Says which channels were found that this agent did not know.
    pub async fn recover(&self, url: Url) -> Result<Vec<ChannelReport>, AgentError> {
        self.recover_at(Method::GET, url).await
    }

    /// [`Agent::recover`] for a URL that asks money for another method than GET. It is sent without a body, and pays nothing.
    pub async fn recover_at(&self, method: Method, url: Url) -> Result<Vec<ChannelReport>, AgentError> {
        let request = Request::new(method, url);
        let route = Route::of(&request)?;
        self.shared.policy.check_host(route.host(), route.authority())?;
        let response = self.shared.send(&request, None).await?;
        if response.status() != StatusCode::PAYMENT_REQUIRED {
            return Err(AgentError::NothingToRecover(request.url().clone()));
        }
        let required = answer::payment_required(response).await?;
        let offer = self.shared.learn(&route, &required)?;
        let wallet = self.shared.wallet.pubkey();
        let page = offer.extra.page;
        self.shared.check_cluster().await?;
        let confirmed = terms::confirm(&self.shared.chain, &self.shared.policy, &offer, page, &wallet).await?;
        let place = Place {
            authority: route.authority().to_owned(),
            url: request.url().to_string(),
            method: request.method().to_string(),
            terms: offer.as_ref().clone(),
        };
        self.shared.recover(&confirmed.book, &place).await
    }

    /// [`Agent::recover`] for a server that does not answer any more: finds the wallet's channels in the pages of `book`, to
    /// leave them through the chain. They pay no calls.
    pub async fn recover_book(&self, book: Key) -> Result<Vec<ChannelReport>, AgentError> {
        self.shared.check_cluster().await?;
        let address = Address::from(book.0);
        let accounts = self.shared.chain.accounts(&[address], View::CONFIRMED).await?;
        let account = accounts.list.into_iter().next().flatten().filter(|account| account.owner == PROGRAM_ID);
        let account = account.ok_or(AgentError::Terms("book is no account of the program"))?;
        let book = BookView::parse(address, &account.data).map_err(AgentError::Unreadable)?;
        let terms = self.shared.terms_on_chain(&book)?;
        let place = Place { authority: String::new(), url: String::new(), method: String::new(), terms };
        self.shared.recover(&book, &place).await
    }
}

impl<C: Chain> AgentState<C> {
    async fn recover(&self, book: &BookView, place: &Place) -> Result<Vec<ChannelReport>, AgentError> {
        let first = book.state.next_page.saturating_sub(MAX_PAGES);
        let addresses: Vec<Address> =
            (first..book.state.next_page).map(|index| address::page(&PROGRAM_ID, &book.address, index).0).collect();
        let accounts = self.chain.accounts(&addresses, View::CONFIRMED).await?;
        let mut found = Vec::new();
        for (address, account) in addresses.into_iter().zip(accounts.list) {
            // A page that was closed is gone for good; an index is never used again.
            let Some(account) = account.filter(|account| account.owner == PROGRAM_ID) else { continue };
            let page = PageView::parse(address, &account.data).map_err(AgentError::Unreadable)?;
            let domain = page_domain(&PROGRAM_ID.to_bytes(), &self.policy.cluster.genesis_hash.0, &address.to_bytes());
            if page.book() != book.address || page.header.page_domain != domain {
                return Err(AgentError::Terms("a page of the book is of another book, program or cluster"));
            }
            for channel in self.own_channels(&page, place) {
                found.extend(self.take_in(channel).await?);
            }
        }
        Ok(found)
    }

    /// The wallet's channels in a page.
    fn own_channels(&self, page: &PageView, place: &Place) -> Vec<OwnChannel> {
        let wallet = self.wallet.pubkey().to_bytes();
        let slots = page.slots.iter().enumerate();
        let ours = slots.filter(|(_, slot)| slot.payer == wallet && slot.status() != Ok(Status::Free));
        ours.filter_map(|(at, slot)| Some(self.rebuilt(page, u8::try_from(at).ok()?, slot, place))).collect()
    }

    fn rebuilt(&self, page: &PageView, at: u8, slot: &Slot, place: &Place) -> OwnChannel {
        let id = channel_id(&page.header.page_domain, at, slot.generation, &slot.payer, &slot.signer);
        let pays = Key(slot.signer) == self.signer_key() && !place.url.is_empty();
        let phase = match slot.status() {
            Ok(Status::Closing) => Phase::Closing { closing_at: slot.closing_at },
            _ if pays => Phase::Open,
            _ => Phase::GivenUp,
        };
        OwnChannel {
            id: Key(id),
            parts: Channel {
                payer: Key(slot.payer),
                signer: Key(slot.signer),
                book: Key(page.header.book),
                page: Key(page.address.to_bytes()),
                slot: at,
                generation: slot.generation,
            },
            authority: place.authority.clone(),
            url: place.url.clone(),
            method: place.method.clone(),
            terms: place.terms.clone(),
            deposit: slot.deposit,
            charged: slot.settled,
            reserved: slot.deposit,
            ceiling: slot.deposit,
            forgotten: Amount::ZERO,
            settled: slot.settled,
            unsure: true,
            used_at: (self.budget.clock)(),
            top_up: None,
            no_top_up: false,
            rests_until: 0,
            // What was claimed long ago was listed then.
            recorded: slot.settled,
            phase,
        }
    }

    /// Makes a channel that was found known, unless it is already. One that was found without its server, and now with it,
    /// pays again.
    async fn take_in(&self, found: OwnChannel) -> Result<Option<ChannelReport>, AgentError> {
        let known = lock(&self.channels).get(&found.id).map(std::sync::Arc::clone);
        if let Some(known) = known {
            let is_better = {
                let known = lock(&known);
                known.authority.is_empty() && !found.authority.is_empty()
            };
            if !is_better {
                return Ok(None);
            }
            // Out of the pool of no host, into the one of its host.
            let key = pool_key(&lock(&known));
            if let Some(mut lease) = self.pool(&key).take(&found.id) {
                lease.forget_channel();
            }
        }
        let report = ChannelReport::of(&found);
        self.journal.save(&found).await?;
        let channel = self.adopt_from_journal(found);
        self.count(&channel).await?;
        Ok(Some(report))
    }

    /// The terms of a book as an offer without a price: what the chain knows of it.
    fn terms_on_chain(&self, book: &BookView) -> Result<PaymentRequirements, AgentError> {
        let state = &book.state;
        let cluster = &self.policy.cluster;
        if state.mint != cluster.mint.0 || state.genesis_hash != cluster.genesis_hash.0 {
            return Err(AgentError::Terms("the book is of another mint or cluster"));
        }
        let nobody = Key([0; 32]);
        Ok(PaymentRequirements {
            scheme: Scheme,
            network: cluster.network.clone(),
            amount: Amount::ZERO,
            asset: cluster.mint,
            pay_to: Key(state.payee),
            max_timeout_seconds: NO_TIMEOUT,
            extra: Extra {
                book: Key(book.address.to_bytes()),
                book_id: state.book_id,
                page: nobody,
                slot: 0,
                generation: 0,
                fee_payer: nobody,
                withdraw_delay: state.grace_seconds,
                min_deposit: state.min_deposit,
                token_program: Key(state.token_program),
                decimals: state.decimals,
                metered: false,
                recent_blockhash: None,
                channel_state: None,
                voucher_state: None,
                other: serde_json::Map::new(),
            },
            other: serde_json::Map::new(),
        })
    }
}
