//! What was found, for people and programs.

use super::offer::{Offer, shown};
use crate::output::Money;
use serde::Serialize;
use serde_json::Value;
use std::fmt;
use tallybook_agent::Quote;
use tallybook_wire::{Listing, ListingStatus};
use url::Url;

/// The longest description that is shown in a table, in characters.
const MAX_SHOWN_CHARS: usize = 100;

/// What catalogues list.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Found {
    found: Vec<Row>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    /// Who lists it.
    facilitator: String,
    /// As it is listed.
    listing: Listing,
    /// The way to pay that is compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    way: Option<Value>,
    /// What it costs, where it is known how many places the token has.
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<Money>,
    /// What the server says of that now.
    #[serde(skip_serializing_if = "Option::is_none")]
    quote: Option<Quoted>,
    /// What to type to buy it.
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    #[serde(skip)]
    columns: [String; 5],
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Quoted {
    /// `asListed`, `costs`, `notOffered`, `noPayment` or `noAnswer`.
    says: &'static str,
    /// What it costs now, in base units.
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<String>,
    /// The same for people.
    #[serde(skip)]
    text: String,
}

impl Found {
    pub(super) fn new(offers: &[Offer]) -> Self {
        Self { found: offers.iter().map(Row::new).collect() }
    }
}

impl Row {
    fn new(offer: &Offer) -> Self {
        let price = offer.amount().and_then(|amount| offer.money(amount));
        let base = || offer.amount().map_or_else(|| "?".to_owned(), |amount| format!("{amount} units"));
        let standing = offer.listing.standing.as_ref();
        let unknown = || "?".to_owned();
        Self {
            columns: [
                price.map_or_else(base, |price| price.to_string()),
                offer.schemes().join(", "),
                standing.map_or_else(unknown, |standing| standing.payers.to_string()),
                standing.map_or_else(unknown, |standing| standing.recent_paid_calls.to_string()),
                shown(&offer.listing.last_updated),
            ],
            facilitator: offer.facilitator.to_string(),
            listing: offer.listing.clone(),
            way: offer.way.clone(),
            quote: offer.quote.map(|quote| Quoted::new(quote, offer)),
            command: offer.command(),
            price,
        }
    }

    /// What it is, in one line.
    fn what(&self) -> String {
        let listing = &self.listing;
        let (call, resource) = (shown(listing.call().unwrap_or(&listing.kind)), shown(&listing.resource));
        let described = [listing.service_name.as_deref(), listing.description.as_deref()];
        let described: Vec<String> = described.into_iter().flatten().map(shown).collect();
        let described: String = described.join(": ").chars().take(MAX_SHOWN_CHARS).collect();
        if described.is_empty() { format!("{call} {resource}") } else { format!("{call} {resource}  {described}") }
    }
}

impl Quoted {
    fn new(quote: Quote, offer: &Offer) -> Self {
        let (says, amount, text) = match quote {
            Quote::AsListed => ("asListed", None, "asked now: as listed".to_owned()),
            Quote::Costs(amount) => {
                let now = offer.money(amount).map_or_else(|| format!("{amount} units"), |money| money.to_string());
                ("costs", Some(amount.to_string()), format!("asked now: costs {now}"))
            }
            Quote::NotOffered => {
                ("notOffered", None, "asked now: not offered so; another payee, token or scheme is".to_owned())
            }
            Quote::NoPayment(status) => {
                ("noPayment", None, format!("asked now: asks for no payment, answers {status}"))
            }
            Quote::NoAnswer => ("noAnswer", None, "asked now: no answer that can be read".to_owned()),
        };
        Self { says, amount, text }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.found.is_empty() {
            return f.write_str("nothing is listed that answers to this: try fewer words, or another --facilitator");
        }
        let titles = ["price", "scheme", "payers", "calls/30d", "paid last"].map(str::to_owned);
        let rows: Vec<&[String; 5]> =
            std::iter::once(&titles).chain(self.found.iter().map(|row| &row.columns)).collect();
        let width =
            |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|text| text.chars().count()).max().unwrap_or(0);
        let [price, scheme, payers, calls, last] = [0, 1, 2, 3, 4].map(width);
        let mut line = |[a, b, c, d, e]: &[String; 5], what: &str| {
            writeln!(f, "{a:>price$}  {b:<scheme$}  {c:>payers$}  {d:>calls$}  {e:<last$}  {what}")
        };
        line(&titles, "what")?;
        self.found.iter().try_for_each(|row| line(&row.columns, &row.what()))?;
        let is_contested = |row: &&Row| row.listing.standing.as_ref().is_some_and(|standing| standing.contested);
        for row in self.found.iter().filter(is_contested) {
            writeln!(
                f,
                "\n{}: others are paid at this address too; only the server says who is right",
                shown(&row.listing.resource)
            )?;
        }
        let mut commands = self.found.iter().filter(|row| row.command.is_some() || row.quote.is_some()).peekable();
        if commands.peek().is_some() {
            writeln!(f)?;
        }
        for row in commands {
            let text = row.quote.as_ref().map(|quote| format!("  # {}", quote.text)).unwrap_or_default();
            let resource = || format!("# {}", shown(&row.listing.resource));
            writeln!(f, "{}{text}", row.command.clone().unwrap_or_else(resource))?;
        }
        Ok(())
    }
}

/// What catalogues say of one URL.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Status {
    asked: Vec<Asked>,
}

#[derive(Clone, Debug, Serialize)]
struct Asked {
    facilitator: String,
    #[serde(flatten)]
    status: ListingStatus,
}

impl Status {
    pub(super) fn new(asked: Vec<(Url, ListingStatus)>) -> Self {
        let asked =
            asked.into_iter().map(|(facilitator, status)| Asked { facilitator: facilitator.to_string(), status });
        Self { asked: asked.collect() }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Asked { facilitator, status } in &self.asked {
            writeln!(f, "{} at {facilitator}", shown(&status.resource))?;
            for state in &status.states {
                let call = state.call.as_deref().map(|call| format!(" {}", shown(call))).unwrap_or_default();
                let payee =
                    state.pay_to.as_deref().map(|payee| format!(", paid to {}", shown(payee))).unwrap_or_default();
                let at = state.at.as_deref().map(|at| format!(", last {}", shown(at))).unwrap_or_default();
                writeln!(f, "  {}{call}{payee}{at}", if state.listed { "listed" } else { "not listed" })?;
                if let Some(why) = &state.refused {
                    writeln!(
                        f,
                        "  {}{}",
                        if state.listed { "but what was declared since is not: " } else { "" },
                        shown(&why.to_string())
                    )?;
                }
            }
        }
        Ok(())
    }
}
