//! `tallybook find`: what can be bought, by the catalogues of facilitators, compared.

mod offer;
mod report;

use crate::output::{Output, say};
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use offer::Offer;
use report::{Found, Status};
use reqwest::Client;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use tallybook_agent::{FindError, Sample, Wanted, find, listing_status, quote};
use tallybook_rules::Amount;
use tallybook_wire::Listing;
use url::Url;

/// Where the facilitator of `tallybook dev --serve` answers.
const LOCAL_FACILITATOR: &str = "http://127.0.0.1:8402";
/// Places of the tokens that a --max-price is in: of USDC, and of most stablecoins.
const DECIMALS: u8 = 6;

/// Arguments of `tallybook find`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    tallybook find weather --max-price 0.01\n  \
    tallybook find --by price --quote --facilitator https://pay.example.com,https://other.example.com translate\n  \
    tallybook find --why https://api.example.com/weather\n\n\
    A catalogue lists what was paid for through its facilitator. It is a hint: what a call costs and who is paid is what the\n\
    server itself asks for, and `tallybook pay` holds that against your limits, whatever is listed.")]
pub struct Find {
    /// Words of what is looked for; without any, all that is listed.
    words: Vec<String>,
    /// The facilitators whose catalogues are asked.
    #[arg(
        long,
        env = "TALLYBOOK_FACILITATOR",
        hide_env_values = true,
        default_value = LOCAL_FACILITATOR,
        value_delimiter = ',',
        value_name = "URL"
    )]
    facilitator: Vec<Url>,
    /// The most that a call may cost, in whole tokens of six places, as USDC has.
    #[arg(long, value_name = "TOKENS")]
    max_price: Option<String>,
    /// Only what can be paid on this network, such as solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1.
    #[arg(long, value_name = "CAIP-2")]
    network: Option<String>,
    /// Only what can be paid in this token.
    #[arg(long, value_name = "ADDRESS")]
    asset: Option<String>,
    /// Only what can be paid by this scheme, such as @tallybook/channel or exact.
    #[arg(long)]
    scheme: Option<String>,
    /// Only what pays this address.
    #[arg(long, value_name = "ADDRESS")]
    pay_to: Option<String>,
    /// Only HTTP routes, or only tools of MCP servers.
    #[arg(long = "type", value_enum)]
    kind: Option<Kind>,
    /// How many, of each catalogue.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    limit: u32,
    /// What comes first.
    #[arg(long, value_enum, default_value_t = By::Rank)]
    by: By,
    /// Ask each server, unpaid, what it costs now, and say where that is not what is listed.
    #[arg(long)]
    quote: bool,
    /// Say whether this URL is listed, and why not.
    #[arg(long, value_name = "URL", conflicts_with_all = ["words", "max_price", "network", "asset", "scheme", "pay_to", "kind", "quote"])]
    why: Option<Url>,
}

/// What is listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Kind {
    /// Routes.
    Http,
    /// Tools.
    Mcp,
}

/// An order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum By {
    /// As the catalogues rank it: by the words, and by how many pay for it.
    Rank,
    /// The cheapest first.
    Price,
    /// What most wallets pay for first.
    Payers,
}

impl Find {
    /// Prints what was found.
    pub async fn run(self, output: Output) -> Result<()> {
        // Whoever is listed must not send the question on to somebody else.
        let http = Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        if let Some(url) = &self.why {
            return self.say_why(&http, url, output).await;
        }
        let wanted = self.wanted()?;
        let mut offers: Vec<Offer> = self
            .ask_all(&http, &wanted)
            .await?
            .into_iter()
            .map(|(url, listing)| Offer::of(&url, listing, &wanted))
            .collect();
        match self.by {
            By::Rank => {}
            By::Price => offers.sort_by_key(|offer| offer.amount().unwrap_or(Amount::MAX_DEPOSIT)),
            By::Payers => offers.sort_by_key(|offer| Reverse(offer.payers())),
        }
        if self.quote {
            for offer in &mut offers {
                offer.quote = match (Sample::of(&offer.listing), &offer.way) {
                    (Some(sample), Some(way)) => Some(quote(&http, &sample, way).await),
                    _ => None,
                };
            }
        }
        output.report(&Found::new(&offers))
    }

    fn wanted(&self) -> Result<Wanted> {
        let mut wanted = Wanted::words(self.words.join(" "));
        wanted.kind = self.kind.map(|kind| if kind == Kind::Http { "http" } else { "mcp" }.to_owned());
        wanted.scheme.clone_from(&self.scheme);
        wanted.network.clone_from(&self.network);
        wanted.asset.clone_from(&self.asset);
        wanted.pay_to.clone_from(&self.pay_to);
        wanted.limit = self.limit;
        if let Some(text) = &self.max_price {
            let amount = Amount::parse_decimal(text, DECIMALS);
            wanted.max_amount =
                Some(amount.with_context(|| format!("--max-price {text} is no price: write it like 0.01"))?);
        }
        Ok(wanted)
    }

    /// What all catalogues list, in turn the best of each. One that does not answer is named on standard error.
    async fn ask_all(&self, http: &Client, wanted: &Wanted) -> Result<Vec<(Url, Listing)>> {
        let (mut answers, mut failed) = (Vec::new(), None);
        for facilitator in &self.facilitator {
            match find(http, facilitator, wanted).await {
                Ok(listings) => answers.push(listings.into_iter().map(|listing| (facilitator.clone(), listing))),
                Err(error) => {
                    if self.facilitator.len() > 1 {
                        say(format_args!("tallybook: {error}"));
                    }
                    failed = Some(error);
                }
            }
        }
        match failed {
            Some(error) if answers.is_empty() => Err(error.into()),
            _ => Ok(merged(answers)),
        }
    }

    async fn say_why(&self, http: &Client, url: &Url, output: Output) -> Result<()> {
        let mut last = None::<FindError>;
        let mut asked = Vec::new();
        for facilitator in &self.facilitator {
            match listing_status(http, facilitator, url.as_str()).await {
                Ok(status) => asked.push((facilitator.clone(), status)),
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) if asked.is_empty() => Err(error.into()),
            None if asked.is_empty() => bail!("no facilitator is named: see --facilitator"),
            _ => output.report(&Status::new(asked)),
        }
    }
}

/// One list of several: the first of each, then the second of each. What several list is taken once, from who knows of more
/// payers.
fn merged(answers: Vec<impl Iterator<Item = (Url, Listing)>>) -> Vec<(Url, Listing)> {
    let mut answers: Vec<_> = answers.into_iter().map(Iterator::fuse).collect();
    let mut all: Vec<(Url, Listing)> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let payers = |listing: &Listing| listing.standing.as_ref().map_or(0, |standing| standing.payers);
    loop {
        let round: Vec<_> = answers.iter_mut().filter_map(Iterator::next).collect();
        if round.is_empty() {
            return all;
        }
        for (url, listing) in round {
            let payee = listing.accepts.first().and_then(|terms| terms.get("payTo")).map(ToString::to_string);
            let place = format!("{:?} {} {:?}", listing.call(), listing.resource, payee);
            match places.get(&place).and_then(|at| all.get_mut(*at)) {
                Some(known) if payers(&known.1) < payers(&listing) => *known = (url, listing),
                Some(_) => {}
                None => {
                    places.insert(place, all.len());
                    all.push((url, listing));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn listing(resource: &str, payers: u32) -> Listing {
        serde_json::from_value(json!({
            "resource": resource, "type": "http", "x402Version": 2, "lastUpdated": "", "accepts": [{"payTo": "p"}],
            "standing": {"paidCalls": 1, "recentPaidCalls": 1, "payers": payers, "firstPaid": "", "lastPaid": ""},
        }))
        .unwrap()
    }

    #[test]
    fn given_several_catalogues_when_they_are_merged_then_the_best_of_each_come_first_and_doubles_once() {
        let (one, two): (Url, Url) = ("http://one".parse().unwrap(), "http://two".parse().unwrap());
        let of = |url: &Url, listings: &[(&str, u32)]| {
            let all: Vec<_> = listings.iter().map(|(name, payers)| (url.clone(), listing(name, *payers))).collect();
            all.into_iter()
        };
        let answers = vec![of(&one, &[("a", 1), ("b", 1), ("c", 1)]), of(&two, &[("x", 1), ("a", 5)])];
        let merged = merged(answers);
        let names: Vec<_> = merged.iter().map(|(_, listing)| listing.resource.as_str()).collect();
        assert_eq!(names, ["a", "x", "b", "c"]);
        assert_eq!(merged[0].0, two, "from who knows of more payers");
    }
}
